"""A network that reads windows: scores as MONAI blends them, maps summed with the same weights, in the right place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.transforms import Compose, Identity, ResizeWithPadOrCrop
from nibabel.affines import apply_affine
from torch import Tensor, nn

from napari_gradcam import Classifier, GradCamError, Volume, explain, passes
from napari_gradcam.classifiers.classifier import Windows
from napari_gradcam.classifiers.scores import Head
from napari_gradcam.explainer import explain_steps
from napari_gradcam.windows import MOST_WINDOWS, tiling_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

AFFINE = np.array([[1.5, 0, 0, -20], [0, 2.0, 0, 10], [0, 0, 2.5, 5], [0, 0, 0, 1]])


class Net(nn.Module):
    """A convolution of small cells and a linear head after global pooling; a class score is linear in the input."""

    def __init__(self, dims: int, cell: int = 4, *, bent: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cells = (nn.Conv2d, nn.Conv3d)[dims - 2](1, 3, cell, stride=cell, bias=False)
        self.head = nn.Linear(3, 2)
        self.bent = bent

    def forward(self, x: Tensor) -> Tensor:
        x = self.cells(x)
        return self.head((x.relu() if self.bent else x).flatten(2).mean(dim=2))


def scan(*shape: int) -> Volume:
    values = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    return Volume(values, AFFINE, name="noise")


def classifier(dims: int, windows: Windows | None, network: nn.Module | None = None, **more: Any) -> Classifier:
    return Classifier(
        network=network or Net(dims),
        preprocess=more.pop("preprocess", Identity()),
        class_names=("calm", "storm"),
        head=Head(2, more.pop("activation", "softmax")),
        spatial_dims=dims,
        input_shape=(1, *(16,) * dims),
        windows=windows,
        **more,
    )


def windows(roi: tuple[int, ...], overlap: float = 0.25, **more: Any) -> Windows:
    return Windows(roi, (overlap,) * len(roi), **more)


def blended_by_monai(network: nn.Module, inputs: Tensor, how: Windows, activation: str | None = None) -> Tensor:
    """Let MONAI blend class scores that are the same all over a window; ``(class, *spatial)``."""

    def predict(window: Tensor) -> Tensor:
        scores = network(window)
        scores = scores.softmax(dim=1) if activation == "softmax" else scores
        return scores[(..., *(None,) * (window.ndim - 2))].expand(*scores.shape, *window.shape[2:]).clone()

    with torch.no_grad():
        return sliding_window_inference(
            inputs, how.roi, 3, predict, how.overlap, how.mode, how.sigma, how.padding, how.fill
        )[0]


CASES = [
    ((20, 27, 18), windows((8, 8, 8))),
    ((20, 27, 18), windows((8, 12, 16), 0.5, mode="gaussian")),
    ((20, 27, 18), windows((8, 8, 8), 0.6, mode="gaussian", sigma=0.3)),
    ((20, 27, 18), windows((8, -1, 0), 0.1)),
    ((20, 6, 18), windows((8, 8, 8), mode="gaussian")),
    ((20, 6, 5), windows((8, 9, 8), padding="replicate")),
    ((20, 6, 5), windows((8, 8, 8), fill=2.5)),
]


@pytest.mark.parametrize(("shape", "how"), CASES)
def test_the_scores_of_a_volume_are_the_mean_of_the_field_that_monai_blends(
    shape: tuple[int, ...], how: Windows
) -> None:
    volume, network = scan(*shape), Net(3, bent=True)
    result = explain(volume, classifier(3, how, network), "storm")
    inputs = torch.from_numpy(np.ascontiguousarray(volume.array))[None, None]
    for found, activation in ((result.logits, None), (result.scores, "softmax")):
        field = blended_by_monai(network, inputs, how, activation)
        assert field.shape == (2, *shape)
        np.testing.assert_allclose(list(found.values()), field.double().mean(dim=(1, 2, 3)), atol=1e-5)
    assert sum(result.scores.values()) == pytest.approx(1)


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("shape", [(21, 30, 3), (6, 30, 2)], ids=["larger", "smaller along one axis"])
def test_the_scores_of_each_slice_are_the_mean_of_the_field_that_monai_blends(
    shape: tuple[int, ...], mode: Any
) -> None:
    how = windows((8, 12), 0.4, mode=mode)
    volume, network = scan(*shape), Net(2, bent=True)
    result = explain(volume, classifier(2, how, network))
    assert result.slice_scores is not None
    for k in range(shape[2]):
        inputs = torch.from_numpy(np.ascontiguousarray(volume.array[:, :, k]))[None, None]
        field = blended_by_monai(network, inputs, how, "softmax")
        np.testing.assert_allclose(result.slice_scores[k], field.double().mean(dim=(1, 2)), atol=1e-5)
    assert result.scores["storm"] == pytest.approx(float(result.slice_scores[:, 1].mean()), rel=1e-5)


def along_axis(cells: NDArray[Any], axis: int, size: int) -> NDArray[Any]:
    """Interpolate linearly between the middles of cells that share `size` voxels; outermost values to the border."""
    n = cells.shape[axis]
    middles = (np.arange(n) + 0.5) * size / n - 0.5
    return np.apply_along_axis(lambda values: np.interp(np.arange(size), middles, values), axis, cells)


def gaussian(size: tuple[int, ...], share: float) -> NDArray[Any]:
    weights = np.ones(size)
    for axis, n in enumerate(size):
        x = np.arange(n) - (n - 1) / 2
        weights = np.moveaxis(np.moveaxis(weights, axis, -1) * np.exp(-(x**2) / (2 * (share * n) ** 2)), -1, axis)
    return np.maximum(weights, max(weights.min(), 1e-3))


def map_by_hand(
    values: NDArray[Any], network: Net, starts: list[list[int]], size: int, g: NDArray[Any]
) -> NDArray[Any]:
    """Σ_w g_w M_w / Σ_w g_w over a volume, HiResCAM of class 1 in each window of `size` along each axis."""
    kernel = network.cells.weight.detach().numpy()[:, 0]
    head = network.head.weight.detach().numpy()[1]
    cell, dims = kernel.shape[1], values.ndim
    n = size // cell
    summed, total = np.zeros_like(values, dtype=float), np.zeros_like(values, dtype=float)
    for start in np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, dims):
        place = tuple(slice(first, first + size) for first in start)
        boxes = values[place].reshape(*sum(((n, cell) for _ in range(dims)), ()))
        boxes = np.moveaxis(boxes, range(1, 2 * dims, 2), range(dims, 2 * dims))
        # One of n^dims cells adds its activation times the head's weight to the mean.
        cells = np.tensordot(boxes, np.tensordot(head, kernel, 1), dims) / n**dims
        laid = np.maximum(cells, 0)
        for axis in range(dims):
            laid = along_axis(laid, axis, size)
        summed[place] += g * laid
        total[place] += g
    return summed / total


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
def test_the_map_of_a_volume_is_the_sum_by_hand(mode: Any) -> None:
    volume, network = scan(18, 8, 13), Net(3)
    result = explain(volume, classifier(3, windows((8, 8, 8), 0.5, mode=mode), network), "storm", "hirescam")
    g = np.ones((8, 8, 8)) if mode == "constant" else gaussian((8, 8, 8), 0.125)
    expected = map_by_hand(volume.array, network, [[0, 4, 8, 10], [0], [0, 4, 5]], 8, g)
    np.testing.assert_allclose(result.coarse, expected, atol=1e-6)
    np.testing.assert_allclose(result.heatmap, expected, atol=1e-6)
    np.testing.assert_allclose(result.coarse_affine, AFFINE)
    assert result.coarse.dtype == result.heatmap.dtype == np.float32
    assert expected.max() > 10 * 1e-6


def test_the_map_of_slices_is_the_sum_by_hand_in_each() -> None:
    volume, network = scan(14, 8, 3), Net(2)
    result = explain(volume, classifier(2, windows((8, 8), 0.5), network), "storm", "hirescam")
    for k in range(3):
        expected = map_by_hand(volume.array[:, :, k], network, [[0, 4, 6], [0]], 8, np.ones((8, 8)))
        np.testing.assert_allclose(result.heatmap[:, :, k], expected, atol=1e-6)
    assert (result.slice_axis, result.coarse.shape) == (2, (14, 8, 3))


def test_a_cell_is_as_large_as_the_networks_own_and_not_as_a_voxel() -> None:
    alone = explain(scan(16, 16, 16), classifier(3, None), "storm")
    over = explain(scan(16, 16, 24), classifier(3, windows((16, 16, 16))), "storm")
    assert alone.coarse.shape == (4, 4, 4)
    assert over.coarse.shape == (16, 16, 24)
    assert over.cell_size == alone.cell_size == pytest.approx((6, 8, 10))
    assert over.cell_span == (4, 4, 4)
    slices = explain(scan(16, 24, 3), classifier(2, windows((16, 8))), "storm")
    assert slices.cell_size == pytest.approx((6, 8, 2.5))
    assert slices.cell_span == (4, 4, 1)


def test_a_grid_too_coarse_is_told_of_by_the_windows_own_cells() -> None:
    result = explain(scan(16, 24, 16), classifier(3, windows((8, 8, 8))), "storm")
    (told,) = [notice for notice in result.notices if "too coarse" in notice]
    assert told.startswith("The layer “cells” has a grid of only 2 × 2 × 2 cells, each 6.0 × 8.0 × 10.0 mm")


@pytest.mark.parametrize("dims", [2, 3])
def test_one_window_over_a_small_input_is_the_input_filled_up(dims: int) -> None:
    volume, network = scan(7, 10, 5), Net(dims, bent=True)
    how = windows((12, 16, 8)[:dims], fill=0.5)
    result = explain(volume, classifier(dims, how, network), "storm")
    filled = Compose([ResizeWithPadOrCrop(how.roi, value=0.5)])  # which pads half on each side too
    expected = explain(volume, classifier(dims, None, network, preprocess=filled), "storm")
    np.testing.assert_allclose(result.heatmap, expected.heatmap, atol=1e-6)
    np.testing.assert_allclose(result.coarse, expected.coarse, atol=1e-6)
    np.testing.assert_allclose(result.coarse_affine, expected.coarse_affine, atol=1e-9)
    assert result.scores == pytest.approx(expected.scores)
    assert result.cell_size == expected.cell_size
    assert not any("windows" in notice for notice in result.notices)


def test_a_window_as_large_as_the_input_is_no_window() -> None:
    volume, network = scan(16, 16, 16), Net(3)
    result = explain(volume, classifier(3, windows((16, -1, 16)), network), "storm")
    expected = explain(volume, classifier(3, None, network), "storm")
    np.testing.assert_array_equal(result.coarse, expected.coarse)
    assert (result.scores, result.notices) == (expected.scores, expected.notices)


def test_it_is_said_how_many_windows_there_were_and_that_each_is_judged_for_itself() -> None:
    volume = scan(16, 24, 3)
    (told,) = [n for n in explain(volume, classifier(2, windows((8, 8)))).notices if "windows" in n]
    assert told == (
        "The network read each slice in 12 windows of 8 × 8 pixels and judged each window for itself; scores and map "
        "are put together from theirs, and where they overlap each counts the same."
    )
    how = windows((8, 8, 3), mode="gaussian")
    (told,) = [n for n in explain(volume, classifier(3, how, Net(3, 1))).notices if "windows" in n]
    assert "read the scan in 12 windows of 8 × 8 × 3 voxels" in told
    assert "their middle counts more" in told


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "occlusion"])
@pytest.mark.parametrize("dims", [2, 3])
def test_windows_are_batched_with_the_same_result(monkeypatch: pytest.MonkeyPatch, dims: int, method: str) -> None:
    volume, network = scan(*((12, 10, 2) if dims == 2 else (12, 8, 8))), Net(dims, bent=True)
    results = []
    for size in (1, 3, 8):
        monkeypatch.setattr(passes, "samples_at_once", lambda *_, size=size: size)
        how = windows((8, 8, 8)[:dims], 0.5, mode="gaussian", at_once=8)
        results.append(explain(volume, classifier(dims, how, network), None, method))
    for other in results[1:]:
        assert other.target == results[0].target
        np.testing.assert_allclose(other.heatmap, results[0].heatmap, rtol=1e-5, atol=1e-5)
        assert other.scores == pytest.approx(results[0].scores, abs=1e-5)
    assert results[0].heatmap.max() > 1e-3


def test_no_more_windows_are_run_at_once_than_the_bundle_does(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    network = Net(3)
    network.register_forward_pre_hook(lambda _, inputs: sizes.extend([len(inputs[0])] * (not inputs[0].is_meta)))
    monkeypatch.setattr(passes, "samples_at_once", lambda *_: 8)
    explain(scan(16, 24, 16), classifier(3, windows((8, 8, 8), at_once=5), network), "storm", layer="cells")
    assert sizes == [5] * 7 + [1]


def test_several_layers_are_fused_window_by_window() -> None:
    class Two(Net):
        def __init__(self) -> None:
            super().__init__(3, 2)
            self.pool = nn.AvgPool3d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.pool(self.cells(x)).flatten(2).mean(dim=2))

    volume, network = scan(16, 24, 8), Two()
    how = windows((8, 8, 8), 0.5)
    fused = explain(volume, classifier(3, how, network), "storm", layer=["cells", "pool"])
    assert list(fused.parts) == ["cells", "pool"]
    for name, part in fused.parts.items():
        alone = explain(volume, classifier(3, how, network), "storm", layer=name)
        np.testing.assert_allclose(part.coarse, alone.coarse, atol=1e-6)
        assert part.cell_size == alone.cell_size
    assert fused.cell_size == fused.parts["cells"].cell_size
    assert fused.parts["pool"].cell_size == tuple(2 * mm for mm in fused.cell_size)


def test_the_class_explained_is_the_best_of_all_windows_together() -> None:
    class Loud(nn.Module):
        """One bright window is sure of class 1; all others lean to class 0."""

        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.Conv3d(1, 1, 4, stride=4)
            with torch.no_grad():
                self.cells.weight.fill_(1 / 64)
                self.cells.bias.zero_()

        def forward(self, x: Tensor) -> Tensor:
            bright = self.cells(x).flatten(1).mean(dim=1, keepdim=True)
            return torch.cat([torch.ones_like(bright), bright], dim=1)

    values = np.zeros((8, 8, 64), dtype=np.float32)
    values[:, :, :8] = 30
    result = explain(Volume(values, np.eye(4)), classifier(3, windows((8, 8, 8), 0.0), Loud()))
    assert result.logits["storm"] > result.logits["calm"]  # as unbounded scores the one window outvotes the others
    assert result.scores["calm"] > result.scores["storm"]
    assert result.target == "calm"


def test_the_finding_is_marked_where_it_lies_in_a_turned_scan() -> None:
    class Finder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.head = nn.Conv3d(1, 1, 2, stride=2), nn.Linear(1, 2)
            with torch.no_grad():
                self.cells.weight.fill_(1 / 8)
                self.cells.bias.fill_(-1.0)
                self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.cells(x).relu().flatten(1).mean(dim=1, keepdim=True))

    turned = np.array([[0, 2.0, 0, 5], [-2.0, 0, 0, 90], [0, 0, -2.0, 40], [0, 0, 0, 1]])
    values = np.zeros((40, 30, 25), dtype=np.float32)
    values[29:33, 10:14, 3:7] = 5
    where = apply_affine(turned, (30.5, 11.5, 4.5))
    result = explain(Volume(values, turned), classifier(3, windows((12, 16, 12), 0.3, mode="gaussian"), Finder()), 1)
    mass = np.argwhere(result.heatmap > 0)
    centre = np.average(apply_affine(turned, mass), axis=0, weights=result.heatmap[tuple(mass.T)])
    assert np.linalg.norm(centre - where) < 1
    assert np.linalg.norm(np.array(result.peak.position) - where) < 4


@pytest.mark.parametrize("dims", [2, 3])
def test_windows_can_be_cancelled_between_batches_and_progress_stays_within_its_total(dims: int) -> None:
    how = windows((8, 8, 8)[:dims], at_once=2)
    for target in (None, "storm"):
        steps = list(explain_steps(scan(12, 18, 9), classifier(dims, how), target))
        assert all(0 <= step.done < step.total for step in steps)
        assert [step.done for step in steps] == sorted(step.done for step in steps)
        assert len({step.done for step in steps}) > 3
    one = classifier(dims, how)
    steps = explain_steps(scan(12, 18, 9), one, "storm")
    assert any("Running the network" in next(steps).stage for _ in range(5))
    steps.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in one.network.modules())


def test_the_layers_of_a_scan_are_surveyed_in_the_size_of_a_window() -> None:
    one = classifier(3, windows((8, 12, -1)))
    (cells,) = [layer for layer in one.layers(scan(40, 40, 16)) if layer.name == "cells"]
    assert cells.grid == (2, 3, 4)
    assert cells.cell_mm == pytest.approx((6, 8, 10))


# What is refused


def test_windows_that_do_not_fit_the_input_are_refused() -> None:
    volume = scan(12, 12, 12)
    with pytest.raises(GradCamError, match="windows have 2 sizes and 2 overlaps but its input has 3 axes"):
        explain(volume, classifier(3, windows((8, 8))))
    with pytest.raises(GradCamError, match="overlap by 1, 1, 1 of their size"):
        explain(volume, classifier(3, windows((8, 8, 8), 1.0)))
    with pytest.raises(
        GradCamError, match=r"12 × 6 × 12 cannot be filled up to .* 8 × 30 × 8 by the padding “reflect”"
    ):
        explain(scan(12, 6, 12), classifier(3, windows((8, 30, 8), padding="reflect")))


def test_windows_without_end_are_refused_before_they_are_counted_out() -> None:
    with pytest.raises(GradCamError, match=r"in \d+ windows of 2 × 2 × 2, which would not come to an end"):
        tiling_of((512, 512, 512), windows((2, 2, 2), 0.9))
    assert tiling_of((64, 64, 64), windows((32, 32, 32))).count < MOST_WINDOWS


@pytest.mark.parametrize(("shape", "how"), CASES)
def test_the_shares_of_all_windows_sum_to_one(shape: tuple[int, ...], how: Windows) -> None:
    tiling = tiling_of(shape, how)
    assert tiling.count > 1
    assert tiling.shares.sum() == pytest.approx(1)
    assert (tiling.shares > 0).all()

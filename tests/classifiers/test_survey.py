"""The survey on a scan: cells in mm of what the network really reads, whatever the preprocessing did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from monai.transforms import Compose, Orientation, Resize, ResizeWithPadOrCrop, Spacing
from torch import Tensor, nn

from napari_gradcam import Classifier, GradCamError, Volume, load_classifier
from napari_gradcam.classifiers.classifier import SliceRule
from napari_gradcam.classifiers.scores import Head

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Content = dict[str, Any]


class Net(nn.Module):
    """Cells of 4 voxels, then of 16; how often it ran is counted."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv, pool = ((nn.Conv2d, nn.AvgPool2d), (nn.Conv3d, nn.AvgPool3d))[dims - 2]
        self.fine, self.coarse, self.head = conv(1, 2, 4, stride=4), pool(4), nn.Linear(2, 2)
        self.ran = 0

    def forward(self, x: Tensor) -> Tensor:
        self.ran += 1
        return self.head(self.coarse(self.fine(x)).flatten(2).mean(dim=2))


def classifier(dims: int, preprocess: Callable[[Any], Any], shape: tuple[int, ...], **settings: Any) -> Classifier:
    return Classifier(Net(dims), preprocess, ("calm", "storm"), Head(2, "softmax"), dims, shape, **settings)


def scan(shape: tuple[int, int, int], affine: Any) -> Volume:
    return Volume(np.random.default_rng(0).random(shape, dtype=np.float32), np.array(affine, dtype=float), name="noise")


ANISOTROPIC = [[0, 0, 3.0, -20], [0, -0.5, 0, 30], [1.25, 0, 0, 5], [0, 0, 0, 1]]
"""Native axes run to Superior (1.25 mm), Posterior (0.5 mm) and Right (3 mm)."""


def by_name(classifier: Classifier, volume: Volume | None = None) -> dict[str, Any]:
    return {layer.name: layer for layer in classifier.layers(volume)}


def test_in_3d_cells_are_told_in_mm_along_the_axes_of_the_networks_input() -> None:
    volume = scan((48, 64, 32), ANISOTROPIC)
    plain = by_name(classifier(3, lambda image: image, (1, 48, 64, 32)), volume)
    assert plain["fine"].grid == (12, 16, 8)
    assert plain["fine"].cell_mm == pytest.approx((5.0, 2.0, 12.0))
    assert plain["coarse"].grid == (3, 4, 2)
    assert plain["coarse"].warning == "Its cells are 20.0 × 8.0 × 48.0 mm: too coarse to place a finding."
    # Right, Anterior, Superior: the axes change places, and their sizes with them.
    turned = by_name(classifier(3, Orientation("RAS", labels=None), (1, 32, 64, 48)), volume)
    assert turned["fine"].grid == (8, 16, 12)
    assert turned["fine"].cell_mm == pytest.approx((12.0, 2.0, 5.0))


def test_resampling_of_the_preprocessing_is_in_the_sizes() -> None:
    volume = scan((48, 64, 32), ANISOTROPIC)
    chain = Compose([Orientation("RAS", labels=None), Spacing((2.0, 1.0, 1.5)), ResizeWithPadOrCrop((32, 32, 32))])
    layers = by_name(classifier(3, chain, (1, 32, 32, 32)), volume)
    assert layers["fine"].cell_mm == pytest.approx((8.0, 4.0, 6.0))
    # Resized to one shape: 96 × 32 × 60 mm in 32 voxels a side.
    layers = by_name(
        classifier(3, Compose([Orientation("RAS", labels=None), Resize((32, 32, 32))]), (1, 32, 32, 32)), volume
    )
    assert layers["fine"].cell_mm == pytest.approx((12.0, 4.0, 7.5), rel=0.05)


@pytest.mark.parametrize(
    ("plane", "in_plane"), [("axial", (3.0, 0.5)), ("coronal", (3.0, 1.25)), ("sagittal", (0.5, 1.25))]
)
def test_in_2d_cells_are_told_in_mm_within_the_plane_of_the_slices(plane: Any, in_plane: tuple[float, float]) -> None:
    volume = scan((32, 48, 24), ANISOTROPIC)
    chain = ResizeWithPadOrCrop((32, 64))
    layers = by_name(classifier(2, chain, (1, 32, 64), slice_rule=SliceRule(plane)), volume)
    assert layers["fine"].grid == (8, 16)
    assert layers["fine"].cell_mm == pytest.approx(tuple(4 * mm for mm in in_plane))
    a, b = (16 * mm for mm in in_plane)
    assert layers["coarse"].warning == f"Its cells are {a:.1f} × {b:.1f} mm: too coarse to place a finding."
    resampled = classifier(2, Compose([Spacing((1.5, 1.5)), chain]), (1, 32, 64), slice_rule=SliceRule(plane))
    assert by_name(resampled, volume)["fine"].cell_mm == pytest.approx((6.0, 6.0))


def test_an_input_of_another_shape_is_surveyed_anew_and_one_of_the_same_is_not() -> None:
    one = classifier(3, lambda image: image, (1, 64, 64, 64))
    assert by_name(one)["fine"].grid == (16, 16, 16)
    assert by_name(one)["fine"].cell_mm is None
    assert one.network.ran == 1
    assert by_name(one, scan((64, 64, 64), np.eye(4)))["fine"].cell_mm == pytest.approx((4.0, 4.0, 4.0))
    assert one.network.ran == 1
    assert by_name(one, scan((32, 32, 32), np.eye(4)))["fine"].grid == (8, 8, 8)
    assert one.network.ran == 2
    assert one.default_layer == "coarse"  # 4 cells a side at the declared size


def test_a_scan_that_does_not_fit_is_refused() -> None:
    with pytest.raises(GradCamError, match="does not accept an input of 1 × 2 × 2 × 2"):
        classifier(3, lambda image: image, (1, 64, 64, 64)).layers(scan((2, 2, 2), np.eye(4)))
    with pytest.raises(GradCamError, match="preprocessing does not fit the scan “noise”"):
        classifier(3, Resize((8, 8)), (1, 64, 64, 64)).layers(scan((32, 32, 32), np.eye(4)))


def test_a_layer_that_the_bundle_declares_keeps_its_reason_on_every_scan(write_bundle: Callable[..., Path]) -> None:
    def change(_inference: Content, metadata: Content) -> None:
        metadata["explanation"] = {"target_layer": "features.denseblock1"}

    declared = load_classifier(write_bundle(change))
    for volume in (None, scan((20, 24, 28), np.diag([2.0, 2, 2, 1]))):
        reasons = {layer.name: layer.reason for layer in declared.layers(volume) if layer.reason}
        assert reasons == {"features.denseblock1": "The target layer that the model's own metadata name."}
    assert declared.default_layer == "features.denseblock1"

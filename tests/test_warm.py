"""Another class of the last scan costs no pass of the network, and nothing stale is ever answered."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.transforms import Identity, ResizeWithPadOrCrop
from torch import Tensor, nn

from napari_gradcam import Classifier, Volume, explain, passes, warm
from napari_gradcam.classifiers.classifier import SliceRule, Windows
from napari_gradcam.classifiers.scores import Head
from napari_gradcam.explainer import explain_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_gradcam.explanation import Explanation

WAYS = ["whole", "slices", "windows", "windows of slices"]


class Counting(nn.Module):
    """Two layers with grids, batch norm and a head that is not linear; counts the samples it is run on."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
        self.first, self.norm = conv(1, 4, 2, stride=2), norm(4)
        self.second, self.head = conv(4, 4, 3, padding=1), nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        self.samples = 0

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "meta":
            self.samples += len(x)
        x = self.norm(self.first(x)).relu()
        return self.head(self.second(x).relu().flatten(2).mean(dim=2))


def scan(seed: int = 1) -> Volume:
    values = np.random.default_rng(seed).normal(size=(12, 10, 4)).astype(np.float32)
    return Volume(np.asfortranarray(values), np.diag([2.0, 2.0, 3.0, 1.0]), name="noise")


def classifier(way: str = "slices", **more: Any) -> Classifier:
    dims = 3 if way in ("whole", "windows") else 2
    windows = Windows((8, 8, 4)[:dims], (0.5,) * dims) if "windows" in way else None
    more = {"preprocess": ResizeWithPadOrCrop((12, 12, 4)[:dims]), "windows": windows, **more}
    return Classifier(Counting(dims), class_names=("a", "b", "c"), head=Head(3, "softmax"), spatial_dims=dims, **more)


def passes_of(one: Classifier, *given: Any, **how: Any) -> tuple[int, Explanation]:
    """Explain, and count the samples that the network ran on."""
    before = one.network.samples
    result = explain(*given, **how)
    return one.network.samples - before, result


def assert_same(one: Explanation, other: Explanation) -> None:
    np.testing.assert_array_equal(one.heatmap, other.heatmap)
    np.testing.assert_array_equal(one.coarse, other.coarse)
    assert (one.scores, one.logits, one.target, one.layer) == (other.scores, other.logits, other.target, other.layer)
    assert (one.notices, one.completeness, one.cell_size) == (other.notices, other.completeness, other.cell_size)
    assert list(one.parts) == list(other.parts)


@pytest.fixture(autouse=True)
def _cold() -> Iterator[None]:
    warm.let_go()
    yield
    warm.let_go()


@pytest.mark.parametrize("way", WAYS)
def test_another_class_sign_or_method_by_gradients_costs_no_pass(way: str) -> None:
    volume, one = scan(), classifier(way)
    read, first = passes_of(one, volume, one, layer="second")
    assert read > 0
    changes: list[dict[str, Any]] = [
        {"target": "a"},
        {"target": "c"},
        {"target": "b", "signed": True},
        {"method": "gradcam++"},
        {"method": "hirescam", "target": "c", "signed": True},
        {"method": "layercam"},
        {"method": "xgradcam"},
        {"method": "eigencam", "target": "a"},
        {},
    ]
    for how in changes:
        count, result = passes_of(one, volume, one, layer="second", **how)
        assert count == 0, how
        other = classifier(way)
        assert_same(result, explain(volume, other, layer="second", **how))
    assert_same(explain(volume, one, layer="second"), first)


@pytest.mark.parametrize("way", WAYS)
def test_the_default_layer_is_warm_too_whether_or_not_it_is_named(way: str) -> None:
    volume, one = scan(), classifier(way)
    first = explain(volume, one, "a")
    assert passes_of(one, volume, one, "b")[0] == 0
    assert passes_of(one, volume, one, "b", layer=first.layer)[0] == 0
    assert passes_of(one, volume, one, "b", layer=[first.layer])[0] == 0


def test_fused_layers_are_warm() -> None:
    volume, one = scan(), classifier()
    explain(volume, one, "a", layer=["first", "second"])
    count, result = passes_of(one, volume, one, "b", layer=["first", "second"])
    assert count == 0
    assert_same(result, explain(volume, classifier(), "b", layer=["first", "second"]))
    assert passes_of(one, volume, one, "b", layer=["second", "first"])[0] > 0


def test_a_method_that_asks_again_only_asks_and_leaves_what_is_warm() -> None:
    volume, one = scan(), classifier("whole")
    explain(volume, one, "a", layer="second")
    cold = classifier("whole")
    asked, expected = passes_of(cold, volume, cold, "b", "occlusion")
    count, result = passes_of(one, volume, one, "b", "occlusion")
    assert count == asked - 1  # all but the pass that is at hand
    assert_same(result, expected)
    assert passes_of(one, volume, one, "c", layer="second")[0] == 0


def test_a_smooth_map_runs_only_on_the_copies_with_noise() -> None:
    volume, one = scan(), classifier("whole")
    explain(volume, one, "a", layer="second")
    count, result = passes_of(one, volume, one, "b", layer="second", smooth=3)
    assert count == 3
    assert_same(result, explain(volume, classifier("whole"), "b", layer="second", smooth=3))


def test_without_a_class_the_best_one_is_mapped_without_a_second_pass() -> None:
    for way in WAYS:
        volume, one, named = scan(), classifier(way), classifier(way)
        count, result = passes_of(one, volume, one, layer="second")
        asked, expected = passes_of(named, volume, named, result.target, layer="second")
        assert count == asked
        assert_same(result, expected)


# What is not the same


@pytest.mark.parametrize("order", ["C", "F", "strided"])
@pytest.mark.parametrize("way", WAYS)
def test_a_voxel_changed_in_place_is_seen(way: str, order: str) -> None:
    values = np.array(scan().array, order="F" if order == "F" else "C")
    if order == "strided":
        values = np.repeat(values, 2, axis=1)[:, ::2]
    volume, one = Volume(values, np.eye(4)), classifier(way)
    before = explain(volume, one, "a")
    assert passes_of(one, volume, one, "a")[0] == 0
    volume.array[5, 4, 2] += 20
    count, after = passes_of(one, volume, one, "a")
    assert count > 0
    assert after.scores != before.scores
    assert_same(after, explain(Volume(values.copy(), np.eye(4)), classifier(way), "a"))


def through_data(network: Counting) -> None:
    network.head[0].weight.data[0, 0] += 1  # which PyTorch does not count as a change


def in_place(network: Counting) -> None:
    with torch.no_grad():
        network.head[0].bias.add_(1)


def running_mean(network: Counting) -> None:
    network.norm.running_mean += 1


def other_weight(network: Counting) -> None:
    network.head[2].weight = nn.Parameter(network.head[2].weight + 1)


def other_module(network: Counting) -> None:
    network.head[1] = nn.ReLU()


def other_forward(network: Counting) -> None:
    network.forward = lambda x: 2 * Counting.forward(network, x)


def hook(network: Counting) -> None:
    network.second.register_forward_hook(lambda _module, _inputs, output: output * 2)


def setting(network: Counting) -> None:
    network.norm.eps = 1.0


CHANGES = [through_data, in_place, running_mean, other_weight, other_module, other_forward, hook, setting]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_network_that_was_changed_is_run_again(change: Any) -> None:
    volume, one = scan(), classifier()
    before = explain(volume, one, "a", layer="second")
    assert passes_of(one, volume, one, "a", layer="second")[0] == 0
    change(one.network)
    assert warm.find(one, warm.input_of(*_input(volume, one)), _input(volume, one)[3]) is None
    after = explain(volume, one, "a", layer="second")
    assert after.logits != before.logits
    other = classifier()
    change(other.network)
    assert_same(after, explain(volume, other, "a", layer="second"))


def _input(volume: Volume, one: Classifier) -> tuple[Any, ...]:
    from napari_gradcam.classifiers.channels import channels_of
    from napari_gradcam.inference import Request

    return channels_of(volume, one), one, "axial", Request(None, "gradcam", ["second"], False, 0, None)


def test_another_plane_layer_device_or_scan_is_read_anew() -> None:
    volume, one = scan(), classifier()
    explain(volume, one, "a", layer="second")
    for given, how in (
        (volume, {"layer": "second", "plane": "coronal"}),
        (volume, {"layer": "first"}),
        (volume, {"layer": "second", "device": "cpu"}),
        (scan(2), {"layer": "second"}),
        (Volume(volume.array, volume.affine @ np.diag([-1.0, 1, 1, 1])), {"layer": "second"}),
    ):
        count, result = passes_of(one, given, one, "a", **how)
        assert count > 0, how
        assert_same(result, explain(given, classifier(), "a", **how))
    assert passes_of(one, volume, one, "a", layer="second")[0] > 0  # only the last scan is kept


def test_an_equal_scan_is_the_same_scan() -> None:
    volume, one = scan(), classifier()
    explain(volume, one, "a", layer="second")
    again = scan()
    assert passes_of(one, again, one, "b", layer="second")[0] == 0


def test_two_classifiers_each_keep_their_last_scan() -> None:
    volume, one, other = scan(), classifier(), classifier("whole")
    explain(volume, one, "a")
    explain(volume, other, "a")
    assert passes_of(one, volume, one, "b")[0] == 0
    assert passes_of(other, volume, other, "b")[0] == 0


# How long it lasts


def test_what_is_kept_dies_with_the_volume_and_with_the_classifier() -> None:
    volume, one = scan(), classifier()
    explain(volume, one, "a")
    assert len(warm._kept) == 1
    kept = weakref.ref(warm._kept[one].reading)
    del volume
    gc.collect()
    assert kept() is None
    assert len(warm._kept) == 0

    volume = scan()
    explain(volume, one, "a")
    kept, owner = weakref.ref(warm._kept[one].reading), weakref.ref(one)
    del one
    gc.collect()
    assert owner() is None
    assert kept() is None


def test_of_several_volumes_it_dies_with_any() -> None:
    pair, one = [scan(1), scan(2)], None
    network = Counting(2)
    network.first = nn.Conv2d(2, 4, 2, stride=2)
    one = Classifier(network, Identity(), ("a", "b", "c"), Head(3, "softmax"), 2, (2, 12, 10))
    explain(pair, one, "a", layer="second")
    assert passes_of(one, pair, one, "b", layer="second")[0] == 0
    assert passes_of(one, pair[::-1], one, "b", layer="second")[0] > 0
    explain(pair, one, "a", layer="second")
    pair.pop()
    gc.collect()
    assert len(warm._kept) == 0


def test_a_run_that_was_cancelled_leaves_nothing_half_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "samples_at_once", lambda *_: 1)
    volume, one = scan(), classifier()
    for stages in range(1, 7):
        steps = explain_steps(volume, one, "a", layer="second")
        for _ in range(stages):
            next(steps)
        steps.close()
        assert len(warm._kept) == 0 or warm._kept[one].reading.at_hand
        cold = explain(volume, classifier(), "a", layer="second")
        assert_same(explain(volume, one, "a", layer="second"), cold)
        warm.let_go()


def test_mapping_that_was_cancelled_leaves_what_was_read() -> None:
    volume, one = scan(), classifier()
    steps = explain_steps(volume, one, None, "scorecam", layer="second")
    assert any("Score-CAM" in step.stage for step in steps)
    steps.close()
    assert passes_of(one, volume, one, "b", layer="second")[0] == 0


def test_activations_that_would_take_too_much_memory_are_let_go_without_another_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for way in WAYS:
        for target in (None, "a"):
            volume, one = scan(), classifier(way)
            expected = explain(volume, classifier(way), target, layer="second")
            warm.let_go()
            free = iter([1000, *[1000] * 2, *[700] * 500])
            with monkeypatch.context() as patch:
                patch.setattr(passes, "free_bytes", lambda _device, free=free: next(free))
                patch.setattr(passes, "samples_at_once", lambda *_: 1)
                result = explain(volume, one, target, layer="second")
            np.testing.assert_allclose(result.heatmap, expected.heatmap, atol=1e-6)
            assert result.target == expected.target
            assert result.notices == expected.notices
            assert len(warm._kept) == (1 if way == "whole" else 0)  # one batch: enough was free when it was done


def test_a_single_batch_is_not_run_twice_though_it_is_too_large_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, one = scan(), classifier("whole")
    free = iter([1000, *[100] * 500])
    monkeypatch.setattr(passes, "free_bytes", lambda _device: next(free))
    count, _ = passes_of(one, volume, one, None, layer="second")
    assert count == 1
    assert len(warm._kept) == 0


def test_the_last_scan_is_let_go_before_another_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, one = scan(), classifier()
    explain(volume, one, "a")
    held = []
    one.network.register_forward_pre_hook(lambda *_: held.append(len(warm._kept)))
    explain(scan(2), one, "a")
    assert set(held) == {0}


def test_with_little_free_memory_other_classifiers_scans_are_let_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, one, other = scan(), classifier(), classifier()
    explain(volume, one, "a")
    memory = warm.psutil.virtual_memory()
    short = memory._replace(available=int(0.2 * memory.total))
    monkeypatch.setattr(warm.psutil, "virtual_memory", lambda: short)
    held = []
    other.network.register_forward_pre_hook(lambda *_: held.append(len(warm._kept)))
    explain(volume, other, "a")
    assert set(held) == {0}


def test_the_plane_rule_and_notices_are_answered_warm_as_cold() -> None:
    rule = SliceRule("coronal", "top-k", 1, 2)
    volume, one = scan(), classifier(slice_rule=rule)
    explain(volume, one, "a", layer="second")
    count, result = passes_of(one, volume, one, layer="second")
    assert count == 0
    assert_same(result, explain(volume, classifier(slice_rule=rule), layer="second"))
    assert result.plane == "coronal"


# The checksum


def test_the_checksum_knows_values_shape_type_and_order() -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    assert warm.checksum(values) == warm.checksum(values.copy())
    others = [values.reshape(4, 3, 5), values.astype(np.uint16), values[::-1], values.transpose(0, 2, 1), values + 1]
    sums = [warm.checksum(other) for other in (values, *others)]
    assert len({*map(str, sums)}) == len(sums)
    changed = values.copy()
    changed[0, 0, 0], changed[0, 0, 1] = values[0, 0, 1], values[0, 0, 0]
    assert warm.checksum(changed) != warm.checksum(values)


@pytest.mark.parametrize("view", [np.s_[:, :, :], np.s_[::2], np.s_[:, ::-1], np.s_[..., 1::3]])
def test_the_checksum_of_a_view_changes_with_each_value_in_it(view: Any) -> None:
    values = np.random.default_rng(0).normal(size=(4, 6, 7))
    before = warm.checksum(values[view])
    for index in np.ndindex(*values[view].shape):
        values[view][index] += 1
        assert warm.checksum(values[view]) != before
        values[view][index] -= 1

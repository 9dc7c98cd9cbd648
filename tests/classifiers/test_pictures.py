"""Ordinary pictures, without a patient: the network reads them upright, and the map lies on the right pixels."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import PILReader
from monai.transforms import (
    Compose,
    EnsureChannelFirst,
    EnsureChannelFirstd,
    LoadImage,
    LoadImaged,
    Resize,
    ResizeWithPadOrCrop,
    ScaleIntensityRange,
)
from napari.layers import Image, Layer
from PIL import Image as Pillow
from torch import nn

from napari_gradcam import Classifier, Explanation, GradCamError, Volume, explain, load_classifier, words
from napari_gradcam.classifiers.channels import channels_of
from napari_gradcam.classifiers.classifier import SliceRule, Wants
from napari_gradcam.classifiers.preprocessing import cut, prepare_example
from napari_gradcam.export import Manner, save
from napari_gradcam.export.picture import overlay_page
from napari_gradcam.export.scores import scores_record
from napari_gradcam.export.tiles import Stack, tiles_through
from napari_gradcam.viewer.foreign import PICTURE
from napari_gradcam.viewer.layers import heat_layer, read_layer, scan_layer
from napari_gradcam.viewer.look import Look
from napari_gradcam.viewer.readout import result

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

ROWS, COLUMNS = 48, 64
OBJECT = (slice(36, 48), slice(4, 16))
"""A red object in the lower left corner: neither a flip nor a transposition leaves it where it is."""


ORDER_TOLD = {
    True: "The network reads pictures row by row, as numpy and torchvision do; if it was trained otherwise, set "
    "rows_first.",
    False: "The network reads pictures column by column, as MONAI loads them; if it was trained otherwise, set "
    "rows_first.",
}


def road(channels: int = 3) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(0).integers(0, 60, (ROWS, COLUMNS, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[OBJECT] = (255, 20, 20, 255)
    return pixels[..., :channels] if channels > 1 else pixels[..., 0]


class RedFinder(nn.Module):
    """Cells of 4 pixels that are red, weighed by a pattern that a turned picture does not fit."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, 1, 4, stride=4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.conv.weight.mul_(0.1)
            self.conv.weight[:, 0] += 1 / 16
            self.conv.weight[:, 1:] -= 1 / 32
            self.conv.bias.fill_(-90.0)
            self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
            self.head.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu(self.conv(x)).flatten(1).mean(dim=1, keepdim=True))


def classifier(preprocess: Any = None, channels: int = 3, **more: Any) -> Classifier:
    return Classifier(RedFinder(channels), preprocess, ["nothing", "object"], "softmax", **more)


def by_hand(pixels: NDArray[np.uint8], *, rows_first: bool) -> tuple[list[float], NDArray[np.float32]]:
    """Scores and Grad-CAM map of the class “object”, by plain torch, from ``(row, column, channel)``."""
    array = np.moveaxis(pixels.reshape(ROWS, COLUMNS, -1), -1, 0).astype(np.float32)
    inputs = torch.from_numpy(np.ascontiguousarray(array if rows_first else array.transpose(0, 2, 1)))[None]
    network = RedFinder(inputs.shape[1])
    features = network.relu(network.conv(inputs))
    # The score is the mean of the features: the weight of the one channel is one over the number of its cells.
    return network(inputs)[0].tolist(), (features / features.numel())[0, 0].detach().numpy()


@pytest.mark.parametrize("rows_first", [False, True], ids=["MONAI's order", "rows first"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("origin", ["array", "layer"])
def test_scores_and_map_are_those_of_a_plain_run_on_the_array(origin: str, channels: int, rows_first: bool) -> None:
    pixels = road(channels)
    volume = Volume.of_picture(pixels, "road")
    if origin == "layer":
        volume = read_layer(Image(pixels, rgb=channels > 1, name="road"))
    seen = pixels if channels < 4 else pixels[..., :3]
    scores, coarse = by_hand(seen, rows_first=rows_first)
    found = explain(volume, classifier(None, min(channels, 3), wants=Wants(rows_first=rows_first)), "object")
    assert list(found.logits.values()) == pytest.approx(scores, rel=1e-5)
    np.testing.assert_allclose(found.coarse[..., 0], coarse, rtol=1e-4, atol=1e-6)
    # The heat lies on the object's own pixels.
    assert found.heatmap.shape == (1, ROWS, COLUMNS)
    heat = found.heatmap[0]
    assert heat[36:47, 4:15].min() > 0
    assert not heat[:30].any()
    assert not heat[:, 22:].any()
    rows, columns = (np.indices((ROWS, COLUMNS)) * heat).sum(axis=(1, 2)) / heat.sum()
    assert (rows, columns) == (pytest.approx(41.5, abs=1), pytest.approx(9.5, abs=1))


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")  # MONAI's loader looks for a plugin
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rows_first", [False, True], ids=["MONAI's order", "rows first"])
def test_the_network_reads_what_monai_loads_from_the_same_picture(
    tmp_path: Path, rows_first: bool, channels: int
) -> None:
    pixels = road(channels)
    Pillow.fromarray(pixels).save(tmp_path / "road.png")
    loader = LoadImage(reader=PILReader(reverse_indexing=not rows_first), ensure_channel_first=True, image_only=True)
    chain = [ScaleIntensityRange(0, 255, 0, 1), Resize((32, 40))]
    loaded = loader(tmp_path / "road.png")
    for step in chain:
        loaded = step(loaded)
    model = classifier(chain, channels, wants=Wants(rows_first=rows_first))
    given = channels_of(read_layer(Image(pixels, rgb=channels > 1)), model)
    ours = prepare_example(given, model.preprocess, "axial", rows_first=rows_first)
    np.testing.assert_allclose(ours.tensor[0].numpy(), loaded.numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
@pytest.mark.parametrize(
    ("made", "rows_first"),
    [
        (lambda: None, True),
        (lambda: [ScaleIntensityRange(0, 255, 0, 255)], True),
        (lambda: lambda image: image, True),
        (lambda: [LoadImage(), EnsureChannelFirst()], False),
        (lambda: Compose([LoadImage(), EnsureChannelFirst()]), False),
        (lambda: [LoadImaged("image"), EnsureChannelFirstd("image")], False),
        (lambda: [LoadImage(reader="PILReader", reverse_indexing=False)], True),
        (lambda: [LoadImaged("image", reader="PILReader", reverse_indexing=False)], True),
    ],
)
def test_pictures_are_given_as_their_loader_gives_them_and_that_is_said(
    made: Callable[[], Any], rows_first: bool
) -> None:
    """MONAI's loader gives columns first; a network whose preprocessing has none was trained on rows first."""
    chain = made()
    model = classifier(chain)
    assert model.wants.rows_first is rows_first
    assert replace(model, name="copy").wants.rows_first is rows_first  # although the copy's chain has no loader
    found = explain(Volume.of_picture(road(), "road"), model, "object")
    scores, _ = by_hand(road(), rows_first=rows_first)
    assert list(found.logits.values()) == pytest.approx(scores, rel=1e-5)
    told = [notice for notice in found.notices if notice.startswith("The network reads pictures ")]
    assert told == [ORDER_TOLD[rows_first]]
    # What is given counts more than what is concluded, and the heat stays on the object.
    other = classifier(chain, rows_first=not rows_first)
    turned = explain(Volume.of_picture(road(), "road"), other, "object")
    assert ORDER_TOLD[not rows_first] in turned.notices
    assert list(turned.logits.values()) == pytest.approx(by_hand(road(), rows_first=not rows_first)[0], rel=1e-5)
    for one in (found, turned):
        rows, columns = (np.indices((ROWS, COLUMNS)) * one.heatmap[0]).sum(axis=(1, 2)) / one.heatmap.sum()
        assert (rows, columns) == (pytest.approx(41.5, abs=1), pytest.approx(9.5, abs=1))


@pytest.mark.parametrize(
    ("loads", "block", "rows_first"),
    [
        ([], {}, True),
        ([{"_target_": "SaveImaged", "keys": "image"}], {}, True),
        ([{"_target_": "LoadImaged", "keys": "image"}], {}, False),
        ([{"_target_": "LoadImageD", "keys": ["image", "label"], "reader": "PILReader"}], {}, False),
        ([{"_target_": "LoadImaged", "keys": "image", "reverse_indexing": False}], {}, True),
        ([{"_target_": "LoadImaged", "keys": "image"}], {"rows_first": True}, True),
        ([], {"rows_first": False}, False),
        ([], {"rows_first": "perhaps"}, True),
    ],
)
def test_a_bundle_says_by_its_loading_or_in_its_own_block_which_comes_first(
    write_bundle: Callable[..., Path], loads: list[Any], block: dict[str, Any], rows_first: bool
) -> None:
    def change(inference: dict[str, Any], metadata: dict[str, Any]) -> None:
        inference["preprocessing"] = {"_target_": "Compose", "transforms": loads}
        metadata["explanation"] = block

    assert load_classifier(write_bundle(change)).wants.rows_first is rows_first


def test_nothing_is_said_of_rows_where_a_patient_gives_the_order() -> None:
    placed = Volume(road(1)[..., None].astype(np.float32), np.eye(4))
    assert not any("reads pictures" in notice for notice in explain(placed, classifier(None, 1)).notices)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("rows_first", [False, True])
def test_the_heat_stays_in_place_through_a_resize_and_whatever_plane_the_model_reads(
    plane: Any, rows_first: bool
) -> None:
    model = classifier(
        Resize((96, 96), mode="bilinear"), slice_rule=SliceRule(plane), wants=Wants(rows_first=rows_first)
    )
    found = explain(Volume.of_picture(road(), "road"), model, "object")
    rows, columns = (np.indices((ROWS, COLUMNS)) * found.heatmap[0]).sum(axis=(1, 2)) / found.heatmap.sum()
    assert (rows, columns) == (pytest.approx(41.5, abs=1.5), pytest.approx(9.5, abs=1.5))
    assert not any(plane in notice for notice in found.notices)


def test_whole_numbers_stay_what_they_are_unless_the_preprocessing_scales_them() -> None:
    given = channels_of(Volume.of_picture(road(), "road"), classifier())
    tensor = prepare_example(given, classifier().preprocess, "axial").tensor
    assert (float(tensor.min()), float(tensor.max())) == (0, 255)
    grey = Volume.of_picture(road(1), "road")
    assert grey.array.dtype == np.uint8


def test_transparency_is_left_out_and_that_is_said() -> None:
    told = "The colours' transparency is left out."
    model = classifier()
    for volume in (Volume.of_picture(road(4)), read_layer(Image(road(4), rgb=True))):
        assert told in explain(volume, model).notices
    assert told not in explain(Volume.of_picture(road()), model).notices


def test_fractions_from_0_to_1_are_the_colours_that_napari_shows() -> None:
    volume = Volume.of_picture(road() / np.float32(255))
    assert volume.color is not None
    np.testing.assert_array_equal(volume.color[0], road())


@pytest.mark.parametrize(
    "pixels", [np.zeros((3, 4, 2)), np.zeros(5), np.zeros((0, 4)), np.zeros((3, 4, 3), np.uint16), np.full((2, 2), "x")]
)
def test_what_is_no_picture_is_refused(pixels: Any) -> None:
    with pytest.raises(GradCamError, match=r"is not a picture|convert them to uint8"):
        Volume.of_picture(pixels)


def test_a_scan_in_pixels_is_a_picture_and_nothing_else() -> None:
    for array, placed in ((np.zeros((1, 4, 4)), True), (np.zeros((4, 4, 4)), False)):
        with pytest.raises(GradCamError, match="measured in pixels"):
            Volume(array, np.eye(4), in_patient_space=placed, unit="pixels")


# Without a patient, with several slices


def test_slices_without_a_place_in_a_patient_are_not_flipped() -> None:
    """A stack of photographs in napari: every one is read upright, the first one first."""
    frames = np.random.default_rng(0).integers(0, 255, (5, ROWS, COLUMNS), dtype=np.uint8)
    model = classifier(None, 1)
    slices = cut(channels_of(read_layer(Image(frames)), model), "axial")
    np.testing.assert_array_equal(slices.array[0], frames.transpose(2, 1, 0))
    assert (slices.native_axis, slices.native_indices) == (0, range(5))
    turned = cut(channels_of(read_layer(Image(frames)), model), "axial", rows_first=True)
    np.testing.assert_array_equal(turned.array[0], frames.transpose(1, 2, 0))


def test_a_place_in_the_patient_still_turns_slices_to_right_and_front() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    placed = Volume(array, np.diag([-1.0, -1, 1, 1]))
    model = classifier(None, 1)
    for rows_first in (False, True):  # that is for pictures alone
        slices = cut(channels_of(placed, model), "axial", rows_first=rows_first)
        np.testing.assert_array_equal(slices.array[0], array[::-1, ::-1])
    nowhere = Volume(array, np.diag([-1.0, -1, 1, 1]), in_patient_space=False)
    np.testing.assert_array_equal(cut(channels_of(nowhere, model), "axial").array[0], array)


# What is told


@pytest.fixture(scope="module")
def explained() -> tuple[Volume, Explanation]:
    volume = read_layer(Image(road(), rgb=True, name="road"))
    return volume, explain(volume, classifier(ResizeWithPadOrCrop((64, 48))), "object")


def test_a_layer_without_a_unit_is_a_picture_and_says_so_once(explained: tuple[Volume, Explanation]) -> None:
    volume, _ = explained
    assert (volume.unit, volume.in_patient_space, volume.shape) == ("pixels", False, (1, ROWS, COLUMNS))
    assert volume.spacing == (1, 1, 1)
    assert volume.notices == (PICTURE,)
    # Its own scale is for the window: the map lies on the layer's pixels.
    scaled = read_layer(Image(road(), rgb=True, scale=(2, -3), rotate=30))
    assert (scaled.unit, scaled.spacing) == ("pixels", (1, 1, 1))
    assert read_layer(Image(road(1), units=("mm", "mm"), scale=(2, 3))).unit == "mm"


def test_nothing_of_a_picture_is_told_in_mm_or_in_the_patients_directions(
    explained: tuple[Volume, Explanation], tmp_path: Path
) -> None:
    volume, found = explained
    shown = result(found, volume, Look())
    facts = dict(shown.facts)
    row, column = found.peak.index[1:]
    assert facts["Hottest point"] == f"row {row}, column {column}"
    assert facts["Cell"] == "4.0 × 4.0 pixels"
    assert words.extent(volume) == "64 × 48 pixels"
    record = scores_record(found)
    assert record["cell_size_pixels"] == [4, 4]
    assert record["peak"]["position_ras_mm"] is None
    texts = [*facts.values(), *shown.sentences, json.dumps({**record, "peak": record["peak"]["index"]})]
    (tile,) = tiles_through(Stack(found, Manner()), found.peak.index, marked=True)
    assert volume.color is not None
    np.testing.assert_array_equal(tile.grey, volume.color[0])
    assert (tile.caption, set(tile.letters)) == ("road", {""})
    assert not any(" mm" in text or "_mm" in text or "axial" in text.lower() for text in [*texts, tile.caption])
    assert overlay_page(found, Manner())
    heatmap, picture = save(found, tmp_path, ["nifti", "picture"])
    header = nib.load(heatmap).header
    assert (int(header["sform_code"]), int(header["qform_code"]), header.get_xyzt_units()[0]) == (0, 0, "unknown")
    np.testing.assert_array_equal(nib.load(heatmap).get_fdata(), found.heatmap)
    assert picture.stat().st_size > 1000


def test_the_heat_map_in_napari_lies_on_the_layers_own_pixels() -> None:
    layer = Image(road(), rgb=True, scale=(2, -3), translate=(5, 7), rotate=30)
    found = explain(read_layer(layer), classifier(), "object")
    heat = Layer.create(*heat_layer(found, layer, Look()))
    np.testing.assert_array_equal(heat.data, found.heatmap[0])
    for corner in ((0, 0), (36, 4), (ROWS - 1, COLUMNS - 1)):
        np.testing.assert_allclose(heat.data_to_world(corner), layer.data_to_world(corner))
    row, column = np.unravel_index(heat.data.argmax(), heat.data.shape)
    assert (36 <= row < 48, 4 <= column < 16) == (True, True)


def test_a_picture_and_its_mask_are_four_channels() -> None:
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    mask[OBJECT] = 1
    model = classifier(None, 4)
    layers = [Image(road(), rgb=True, name="road"), Image(mask, name="mask")]
    found = explain([read_layer(layer) for layer in layers], model, "object")
    inputs = np.concatenate([np.moveaxis(road(), -1, 0), mask[None]]).astype(np.float32)
    with torch.no_grad():
        expected = RedFinder(4)(torch.from_numpy(np.ascontiguousarray(inputs))[None])[0]
    assert list(found.logits.values()) == pytest.approx(expected.tolist(), rel=1e-5)
    assert found.heatmap[0].shape == (ROWS, COLUMNS)


def test_layers_of_a_picture_are_told_in_voxels_of_the_input(explained: tuple[Volume, Explanation]) -> None:
    volume, _ = explained
    layers = {layer.name: layer for layer in classifier(ResizeWithPadOrCrop((8, 8))).layers(volume)}
    assert layers["relu"].cell == (4, 4)
    assert layers["relu"].cell_mm is None
    assert layers["relu"].warning == "Its cells are 4 × 4 input voxels: too coarse to place a finding."
    (told,) = [one for one in explain(volume, classifier(Resize((8, 8)))).notices if "too coarse" in one]
    assert "a grid of only 2 × 2 cells, each 24.0 × 32.0 pixels" in told


@pytest.mark.parametrize("rows_first", [False, True])
def test_a_cell_of_a_picture_is_told_as_wide_and_high_whatever_was_read_first(rows_first: bool) -> None:
    found = explain(Volume.of_picture(road(), "road"), classifier(Resize((16, 16)), rows_first=rows_first))
    assert words.cell(found) == "16.0 × 12.0 pixels"


def test_a_picture_becomes_a_layer_in_pixels_and_comes_back() -> None:
    data, settings, kind = scan_layer(Volume.of_picture(road(), "road"))
    layer = Image(data, **settings)
    assert kind == "image"
    assert {str(unit) for unit in layer.units} == {"pixel"}
    np.testing.assert_array_equal(layer.data[0], road())
    assert read_layer(layer).unit == "pixels"

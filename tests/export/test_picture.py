"""The overlay picture: right sides, true proportions, one scale, nothing cut off."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_gradcam.errors import GradCamError
from napari_gradcam.export.manner import Manner
from napari_gradcam.export.picture import overlay_page, slice_page, striking_point, write_overlay, write_slice
from napari_gradcam.volumes import Volume
from napari_gradcam.volumes.orientation import Plane

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.page import Page

RAS, LPS = np.diag([2.0, 2, 3, 1]), np.diag([-2.0, -2, 3, 1])
SAGITTAL = np.array([[0.0, 0, 3, 0], [-2, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 1]])
PLANES = ("axial", "coronal", "sagittal")


def texts(page: Page) -> list[str]:
    return [text.get_text() for text in page.figure.texts]


def pixels(page: Page) -> np.ndarray[Any, Any]:
    page.figure.canvas.draw()
    return np.asarray(page.figure.canvas.buffer_rgba())[..., :3].astype(int)


def coloured(page: Page, tile: int) -> tuple[float, float]:
    """Give the middle of what is painted in colour in a tile, as fractions from its left and its top."""
    picture = pixels(page)
    box = page.figure.axes[tile].get_position()
    height, width = picture.shape[:2]
    cut = picture[
        round((1 - box.y1) * height) : round((1 - box.y0) * height), round(box.x0 * width) : round(box.x1 * width)
    ]
    rows, columns = np.nonzero(cut.max(axis=2) - cut.min(axis=2) > 20)
    assert rows.size
    return columns.mean() / cut.shape[1], rows.mean() / cut.shape[0]


@pytest.mark.parametrize("affine", [RAS, LPS, SAGITTAL], ids=["RAS", "LPS", "sagittal"])
def test_heat_at_the_right_front_top_is_painted_at_the_right_front_top(
    affine: Any, make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    """Whatever the file's axes, the patient's right is at the left, the front and the top are up."""
    volume = make_volume(affine)
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in volume.shape), indexing="ij"), axis=-1)
    position = indices @ volume.affine[:3, :3].T
    depth = (position - position.min(axis=(0, 1, 2))) / np.ptp(position, axis=(0, 1, 2))
    heatmap = (depth > 0.7).all(axis=-1).astype(np.float32)
    page = overlay_page(make_explanation(volume, heatmap=heatmap), Manner())
    axial, coronal, sagittal = (coloured(page, tile) for tile in range(3))
    assert axial[0] < 0.35
    assert axial[1] < 0.35
    assert coronal[0] < 0.35
    assert coronal[1] < 0.35
    assert sagittal[0] < 0.35
    assert sagittal[1] < 0.35


@pytest.mark.parametrize("affine", [RAS, LPS, SAGITTAL], ids=["RAS", "LPS", "sagittal"])
def test_the_letters_stand_at_their_sides(
    affine: Any, make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    volume = make_volume(affine)
    page = overlay_page(make_explanation(volume), Manner())
    wanted = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
    for axes, plane in zip(page.figure.axes, PLANES, strict=False):
        sides = {tuple(text.xy): text.get_text() for text in axes.texts}
        assert "".join(sides[xy] for xy in ((0, 0.5), (1, 0.5), (0.5, 1), (0.5, 0))) == wanted[plane]


def test_proportions_are_true_in_mm_and_the_same_for_all_planes(volume: Volume, explanation: Explanation) -> None:
    page = overlay_page(explanation, Manner())
    across, front, up = (n * mm for n, mm in zip(volume.shape, volume.spacing, strict=True))
    boxes = [axes.get_position() for axes in page.figure.axes[:3]]
    sizes = [(box.width * page.width, box.height * page.height) for box in boxes]
    scale = sizes[0][0] / across
    for size, mm in zip(sizes, ((across, front), (across, up), (front, up)), strict=True):
        assert size == pytest.approx((mm[0] * scale, mm[1] * scale))


def test_the_planes_meet_in_the_hottest_voxel_and_say_where_they_lie(volume: Volume, explanation: Explanation) -> None:
    page = overlay_page(explanation, Manner())
    assert {"Axial, S 6.0 mm", "Coronal, A 6.0 mm", "Sagittal, R 4.0 mm"} <= set(texts(page))
    shown = [axes.images[1].get_array() for axes in page.figure.axes[:3]]
    assert [image.max() for image in shown] == pytest.approx([0.083] * 3)


def test_nothing_is_painted_below_the_threshold_and_one_scale_holds_for_all(
    volume: Volume, explanation: Explanation
) -> None:
    page = overlay_page(explanation, Manner(threshold=0.4, opacity=0.5))
    for axes in page.figure.axes[:3]:
        heat = axes.images[1]
        assert heat.get_array().min() >= 0.4 * explanation.peak.value
        assert heat.get_clim() == pytest.approx((0, explanation.peak.value))
        assert heat.get_alpha() == 0.5
        assert heat.get_cmap().name == "inferno"


def test_the_colour_bar_says_the_unit_and_the_raw_maximum(volume: Volume, explanation: Explanation) -> None:
    page = overlay_page(explanation, Manner())
    assert any("Grad-CAM for “lesion” (raw, logit units)" in text for text in texts(page))
    assert [label.get_text() for label in page.figure.axes[4].get_xticklabels()] == ["0", "0.0332", "0.083"]


def test_each_method_is_captioned_with_its_own_unit(volume: Volume, explanation: Explanation) -> None:
    page = overlay_page(replace(explanation, method="eigencam"), Manner())
    assert any("Eigen-CAM for “lesion” (raw, units of the layer's activations)" in text for text in texts(page))
    assert not any("logit units" in text for text in texts(page))


def test_the_text_names_class_probability_layer_method_cells_and_purpose(
    volume: Volume, explanation: Explanation
) -> None:
    said = " ".join(texts(overlay_page(explanation, Manner())))
    for part in (
        "“lesion”: probability 0.987",
        "Scan scan · hottest point R 4.0 A 6.0 S 6.0 mm · raw maximum 0.083",
        "two classes",
        "lesion · Grad-CAM at class_layers.relu",
        "cell 4.0 × 4.0 × 6.0 mm · painted from 0.0332 logit units (40 %, scale of this map)",
        "For research and review, not for diagnosis.",
        "The scan is made by hand.",
    ):
        assert part in said


def test_an_empty_map_paints_nothing_and_says_so(volume: Volume, empty: Explanation) -> None:
    page = overlay_page(empty, Manner())
    assert "No positive evidence for this class: nothing is painted." in texts(page)
    assert len(page.figure.axes) == 4
    assert all(len(axes.images) == 1 and not axes.lines for axes in page.figure.axes[:3])
    assert not page.figure.axes[3].images  # the bar of mm
    picture = pixels(page)
    assert (picture.max(axis=2) == picture.min(axis=2)).all()


LONG = "features.denseblock4.denselayer16.layers.relu2." * 6


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lesion", (10, 12, 8)),
        ("costs $5_ {or} $^6", (40, 40, 1)),
        ("病变", (1, 30, 30)),
        (LONG, (10, 12, 8)),
        (LONG, (3, 4, 90)),
    ],
    ids=["plain", "mathematics, one slice", "no glyphs, narrow", "long", "long, tall"],
)
def test_no_text_is_cut_off_or_runs_into_another(
    name: str, shape: Any, make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    volume = make_volume(shape=shape)
    explanation = make_explanation(
        volume,
        target=name,
        scores={name: 0.9},
        logits={name: 1.0},
        layer=LONG,
        volume_name=name,
        notices=("A sentence that goes on. " * 20, "Another."),
    )
    page = overlay_page(explanation, Manner())
    page.figure.canvas.draw()
    width, height = page.figure.canvas.get_width_height()
    written = [*page.figure.texts, *(text for axes in page.figure.axes for text in axes.texts)]
    boxes = [text.get_window_extent() for text in written]
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
    for number, box in enumerate(boxes):
        for text, other in zip(written[number + 1 :], boxes[number + 1 :], strict=True):
            # Lines of a paragraph touch by the height of their accents.
            overlap = min(box.y1, other.y1) - max(box.y0, other.y0)
            beside = box.x1 <= other.x0 or other.x1 <= box.x0
            assert beside or overlap < 3, (written[number].get_text(), text.get_text())


def test_the_bar_of_mm_is_as_long_as_it_says(volume: Volume, explanation: Explanation) -> None:
    page = overlay_page(explanation, Manner())
    axial, bar = (page.figure.axes[number].get_position().width * page.width for number in (0, 3))
    across = volume.shape[0] * volume.spacing[0]
    (said,) = (text for text in texts(page) if re.fullmatch(r"[\d.]+ mm", text))
    assert bar / axial * across == pytest.approx(float(said.split()[0]))


def test_a_picture_in_pixels_has_neither_letters_nor_mm_and_keeps_its_colours(
    make_explanation: Callable[..., Explanation],
) -> None:
    colours = np.zeros((20, 30, 3), np.uint8)
    colours[..., 2] = 200
    picture = Volume.of_picture(colours, "a photograph")
    heatmap = np.zeros((1, 20, 30), np.float32)
    heatmap[0, 5, 20] = 1
    explanation = make_explanation(picture, heatmap=heatmap, unit="pixels", in_patient_space=False)
    page = overlay_page(explanation, Manner())
    assert not any(text.get_text() for axes in page.figure.axes[:1] for text in axes.texts)
    assert not any(re.search(r"\d mm", text) for text in texts(page))
    assert pixels(page)[round(page.height / 2), 100].tolist() == [0, 0, 200]
    assert "a photograph" not in " ".join(texts(overlay_page(explanation, Manner(deidentified=True))))


def test_a_signed_map_is_blue_and_orange_about_nothing(
    volume: Volume, make_explanation: Callable[..., Explanation]
) -> None:
    heatmap = np.zeros(volume.shape, np.float32)
    heatmap[7, 9, 5], heatmap[3, 9, 5], heatmap[3, 3, 5] = 1.0, -0.8, -0.3
    explanation = make_explanation(volume, heatmap=heatmap, signed=True, against="no lesion")
    page = overlay_page(explanation, Manner(opacity=1))
    heat = page.figure.axes[0].images[1]
    assert heat.get_clim() == (-1, 1)
    assert sorted(heat.get_array().compressed().tolist()) == pytest.approx([-0.8, 1])
    strongest, opposed = (heat.cmap(heat.norm(value))[:3] for value in (1.0, -0.8))
    assert strongest[0] > strongest[2]
    assert opposed[2] > opposed[0]
    assert "← for “no lesion”" in texts(page)
    assert "for “lesion” →" in texts(page)
    assert "“lesion” (0.987) against “no lesion” (0.013)" in texts(page)


def test_evidence_against_alone_is_painted_through_its_strongest(
    volume: Volume, make_explanation: Callable[..., Explanation]
) -> None:
    heatmap = np.zeros(volume.shape, np.float32)
    heatmap[2, 3, 4] = -1.0
    page = overlay_page(make_explanation(volume, heatmap=heatmap, signed=True), Manner())
    assert [axes.images[1].get_array().min() for axes in page.figure.axes[:3]] == [-1.0] * 3
    assert "← against “lesion”" in texts(page)


def test_a_fixed_scale_is_said_and_may_leave_nothing_to_paint(explanation: Explanation) -> None:
    said = " ".join(texts(overlay_page(explanation, Manner(top=0.2))))
    assert "40 % of a fixed scale to 0.2 on" in said
    assert "the map's own maximum is 0.083" in said
    assert "fixed scale)" in said
    weak = overlay_page(explanation, Manner(top=2.0))
    assert "The whole map lies below the threshold: nothing is painted." in texts(weak)
    assert all(len(axes.images) == 1 for axes in weak.figure.axes[:3])


def test_colours_that_do_not_exist_are_refused(explanation: Explanation) -> None:
    with pytest.raises(GradCamError, match="There are no colours “rainbows”: choose one of matplotlib's"):
        overlay_page(explanation, Manner(colormap="rainbows"))


def test_one_slice_is_shown_large_with_its_place_number_and_instance(
    tmp_path: Path, make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    volume = make_volume(instances=tuple(range(11, 19)))
    explanation = make_explanation(volume)
    page = slice_page(explanation, Plane.AXIAL, 2, Manner())
    assert "Axial, S 6.0 mm, slice 3 of 8, image 16" in texts(page)
    assert page.figure.axes[0].images[1].get_array().max() == pytest.approx(0.083)
    assert "Sagittal, R 4.0 mm, slice 3 of 10" in texts(slice_page(explanation, Plane.SAGITTAL, 2, Manner()))
    write_slice(explanation, tmp_path / "slice.png", Manner(), plane=Plane.CORONAL, index=0)
    with Image.open(tmp_path / "slice.png") as picture:
        assert picture.format == "PNG"
    with pytest.raises(GradCamError, match="There is no axial slice 9: the scan has 8; choose 1 to 8"):
        slice_page(explanation, Plane.AXIAL, 8, Manner())


def test_the_pixels_are_those_of_the_file(tmp_path: Path, explanation: Explanation) -> None:
    write_overlay(explanation, tmp_path / "overlay.png", Manner())
    with Image.open(tmp_path / "overlay.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), overlay_page(explanation, Manner()).pixels())


def test_an_oblique_scan_says_how_oblique_instead_of_where(
    make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    turn = np.radians(12)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    volume = make_volume(affine)
    assert "Axial, 12.0° oblique" in texts(overlay_page(make_explanation(volume), Manner()))


def test_a_map_of_another_scan_is_refused(
    tmp_path: Path, explanation: Explanation, make_volume: Callable[..., Volume]
) -> None:
    for other in (make_volume(shape=(4, 4, 4)), make_volume(LPS)):
        with pytest.raises(GradCamError, match="The heat map is not on the grid of “scan”"):
            write_overlay(replace(explanation, volumes=(other,)), tmp_path / "overlay.png", Manner())
    assert not list(tmp_path.iterdir())


def test_the_file_says_in_its_own_text_what_it_is_for(tmp_path: Path, volume: Volume, explanation: Explanation) -> None:
    write_overlay(explanation, tmp_path / "overlay.png", Manner())
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.info["Description"] == "For research and review, not for diagnosis."
        assert picture.info["Title"] == "“lesion”: probability 0.987"


def test_a_signed_map_is_shown_where_its_evidence_is_strongest(
    volume: Volume, make_explanation: Callable[..., Explanation]
) -> None:
    heatmap = np.zeros(volume.shape, dtype=np.float32)
    heatmap[1, 2, 3], heatmap[7, 9, 5] = -0.1, 0.02
    explanation = make_explanation(volume, heatmap=heatmap, signed=True)
    assert striking_point(explanation) == (1, 2, 3)
    assert "strongest against it -0.1" in " ".join(texts(overlay_page(explanation, Manner())))
    assert striking_point(replace(explanation, heatmap=-heatmap)) == (1, 2, 3)
    assert striking_point(replace(explanation, heatmap=np.maximum(heatmap, 0), signed=False)) == (7, 9, 5)

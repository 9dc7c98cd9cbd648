"""The overlay picture: right sides, true proportions, one scale, nothing cut off."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_gradcam.errors import GradCamError
from napari_gradcam.export import write_overlay
from napari_gradcam.export.picture import overlay_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.page import Page
    from napari_gradcam.volumes import Volume

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
    page = overlay_page(make_explanation(volume, heatmap=heatmap), volume)
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
    page = overlay_page(make_explanation(volume), volume)
    wanted = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
    for axes, plane in zip(page.figure.axes, PLANES, strict=False):
        sides = {tuple(text.xy): text.get_text() for text in axes.texts}
        assert "".join(sides[xy] for xy in ((0, 0.5), (1, 0.5), (0.5, 1), (0.5, 0))) == wanted[plane]


def test_proportions_are_true_in_mm_and_the_same_for_all_planes(volume: Volume, explanation: Explanation) -> None:
    page = overlay_page(explanation, volume)
    across, front, up = (n * mm for n, mm in zip(volume.shape, volume.spacing, strict=True))
    boxes = [axes.get_position() for axes in page.figure.axes[:3]]
    sizes = [(box.width * page.width, box.height * page.height) for box in boxes]
    scale = sizes[0][0] / across
    for size, mm in zip(sizes, ((across, front), (across, up), (front, up)), strict=True):
        assert size == pytest.approx((mm[0] * scale, mm[1] * scale))


def test_the_planes_meet_in_the_hottest_voxel_and_say_where_they_lie(volume: Volume, explanation: Explanation) -> None:
    page = overlay_page(explanation, volume)
    assert {"Axial, S 6.0 mm", "Coronal, A 6.0 mm", "Sagittal, R 4.0 mm"} <= set(texts(page))
    shown = [axes.images[1].get_array() for axes in page.figure.axes[:3]]
    assert [image.max() for image in shown] == pytest.approx([0.083] * 3)


def test_nothing_is_painted_below_the_threshold_and_one_scale_holds_for_all(
    volume: Volume, explanation: Explanation
) -> None:
    page = overlay_page(explanation, volume, threshold=0.4, opacity=0.5)
    for axes in page.figure.axes[:3]:
        heat = axes.images[1]
        assert heat.get_array().min() >= 0.4 * explanation.peak.value
        assert heat.get_clim() == pytest.approx((0, explanation.peak.value))
        assert heat.get_alpha() == 0.5
        assert heat.get_cmap().name == "inferno"


def test_the_colour_bar_says_the_unit_and_the_raw_maximum(volume: Volume, explanation: Explanation) -> None:
    page = overlay_page(explanation, volume)
    assert any("Grad-CAM for “lesion” (raw, logit units)" in text for text in texts(page))
    assert [label.get_text() for label in page.figure.axes[3].get_xticklabels()] == ["0", "0.0332", "0.083"]


def test_each_method_is_captioned_with_its_own_unit(volume: Volume, explanation: Explanation) -> None:
    page = overlay_page(replace(explanation, method="eigencam"), volume)
    assert any("Eigen-CAM for “lesion” (raw, units of the layer's activations)" in text for text in texts(page))
    assert not any("logit units" in text for text in texts(page))


def test_the_text_names_class_probability_layer_method_cells_and_purpose(
    volume: Volume, explanation: Explanation
) -> None:
    said = " ".join(texts(overlay_page(explanation, volume)))
    for part in (
        "“lesion”: probability 0.987",
        "Grad-CAM, layer class_layers.relu, cells of 4.0 × 4.0 × 6.0 mm",
        "hottest point R 4.0 A 6.0 S 6.0 mm, raw maximum 0.083",
        "Scan scan, classifier two classes",
        "For research and review, not for diagnosis.",
        "The scan is made by hand.",
    ):
        assert part in said


def test_an_empty_map_paints_nothing_and_says_so(volume: Volume, empty: Explanation) -> None:
    page = overlay_page(empty, volume)
    assert "No positive evidence for this class: nothing is painted." in texts(page)
    assert len(page.figure.axes) == 3
    assert all(len(axes.images) == 1 and not axes.lines for axes in page.figure.axes)
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
    page = overlay_page(explanation, volume)
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


def test_an_oblique_scan_says_how_oblique_instead_of_where(
    make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    turn = np.radians(12)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    volume = make_volume(affine)
    assert "Axial, 12.0° oblique" in texts(overlay_page(make_explanation(volume), volume))


def test_a_map_of_another_scan_is_refused(
    tmp_path: Path, explanation: Explanation, make_volume: Callable[..., Volume]
) -> None:
    for other in (make_volume(shape=(4, 4, 4)), make_volume(LPS)):
        with pytest.raises(GradCamError, match="The heat map is not on the grid of “scan”"):
            write_overlay(explanation, other, tmp_path / "overlay.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [{"threshold": 0}, {"threshold": 1}, {"opacity": 0}, {"opacity": 1.1}])
def test_a_threshold_or_opacity_out_of_range_is_refused(
    given: dict[str, float], volume: Volume, explanation: Explanation
) -> None:
    with pytest.raises(GradCamError, match="give one above 0"):
        overlay_page(explanation, volume, **given)


def test_the_file_says_in_its_own_text_what_it_is_for(tmp_path: Path, volume: Volume, explanation: Explanation) -> None:
    write_overlay(explanation, volume, tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.info["Description"] == "For research and review, not for diagnosis."
        assert picture.info["Title"] == "“lesion”: probability 0.987"

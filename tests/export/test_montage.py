"""The montage: the hottest slices, in order, each with its place and number, on one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_gradcam.export.manner import Manner
from napari_gradcam.export.montage import MOST, choose, montage_page, montage_unfit, write_montage
from napari_gradcam.export.tiles import Stack, reading_plane
from napari_gradcam.volumes import Volume
from napari_gradcam.volumes.orientation import Plane

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.page import Page

EVEN, LPS = np.diag([1.0, 1, 1, 1]), np.diag([-1.0, -1, 1, 1])


def texts(page: Page) -> list[str]:
    return [text.get_text() for text in page.figure.texts]


@pytest.fixture
def hot(make_explanation: Callable[..., Explanation], make_volume: Callable[..., Volume]) -> Callable[..., Explanation]:
    def of(slices: dict[int, float], shape: Any = (10, 12, 40), affine: Any = EVEN, **given: Any) -> Explanation:
        volume = make_volume(affine, shape, **{key: given.pop(key) for key in ("instances",) if key in given})
        heatmap = np.zeros(shape, np.float32)
        for k, value in slices.items():
            heatmap[5, 5, k] = value
        return make_explanation(volume, heatmap=heatmap, **given)

    return of


def test_all_slices_that_reach_the_threshold_are_shown_from_head_to_feet(hot: Callable[..., Explanation]) -> None:
    explanation = hot({3: 1.0, 20: 0.5, 30: 0.39, 33: 0.41})
    page = montage_page(explanation, Manner())
    said = [text for text in texts(page) if text.startswith("S ")]
    assert said == ["S 33.0 mm", "S 20.0 mm", "S 3.0 mm · hottest"]
    numbered = [text for text in texts(page) if text.startswith("slice ")]
    assert numbered == ["slice 7 of 40", "slice 20 of 40", "slice 37 of 40"]
    assert "3 of 40 axial slices, all that reach the threshold" in texts(page)


def test_of_many_hot_slices_the_hottest_of_neighbours_span_all_that_is_hot(hot: Callable[..., Explanation]) -> None:
    slices = {k: 1 - abs(k - 20) * 0.02 for k in range(5, 36)}
    explanation = hot(slices)
    chosen = choose(Stack(explanation, Manner()), explanation, Manner())
    assert chosen.hot == 31
    assert chosen.hottest == 19
    assert 19 in chosen.numbers
    assert 8 <= len(chosen.numbers) <= MOST
    assert np.diff(chosen.numbers).min() >= 3
    assert chosen.numbers[0] <= 7
    assert chosen.numbers[-1] >= 31


def test_one_scale_of_colours_holds_for_all_slices_and_weak_ones_stay_weak(hot: Callable[..., Explanation]) -> None:
    page = montage_page(hot({3: 1.0, 20: 0.5}), Manner())
    shown = [axes.images[1] for axes in page.figure.axes[:2]]
    assert [image.get_clim() for image in shown] == [(0, 1)] * 2
    assert [image.get_array().max() for image in shown] == [0.5, 1.0]


def test_every_slice_has_its_letters_and_the_page_a_bar_of_mm(hot: Callable[..., Explanation]) -> None:
    page = montage_page(hot({3: 1.0, 20: 0.5}, affine=LPS), Manner())
    for axes in page.figure.axes[:2]:
        assert [text.get_text() for text in axes.texts] == ["R", "L", "A", "P"]
    assert any(text.endswith(" mm") and text[0].isdigit() for text in texts(page))


def test_a_scan_without_a_place_has_neither_letters_nor_positions(
    make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    volume = make_volume(in_patient_space=False)
    page = montage_page(make_explanation(volume, in_patient_space=False), Manner())
    assert not any(text.get_text() for text in page.figure.axes[0].texts)
    assert "slice 3 of 8 · hottest" in texts(page)


def test_the_slices_are_those_of_the_files_of_the_2d_model_or_axial(
    make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    coronal = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    assert reading_plane(make_explanation(make_volume(EVEN))) is Plane.AXIAL
    assert reading_plane(make_explanation(make_volume(coronal))) is Plane.AXIAL
    assert reading_plane(make_explanation(make_volume(coronal @ np.diag([1, 1, 4, 1])))) is Plane.CORONAL
    assert reading_plane(make_explanation(make_volume(coronal, instances=tuple(range(8))))) is Plane.CORONAL
    assert reading_plane(make_explanation(make_volume(coronal), plane="sagittal")) is Plane.SAGITTAL


def test_instance_numbers_stand_beside_the_slices_of_the_files(hot: Callable[..., Explanation]) -> None:
    page = montage_page(hot({3: 1.0}, instances=tuple(range(101, 141))), Manner())
    assert "slice 37 of 40, image 104" in texts(page)


def test_evidence_against_counts_as_hot_in_a_signed_map(hot: Callable[..., Explanation]) -> None:
    explanation = hot({3: 1.0, 20: -0.5, 25: 0.1}, signed=True)
    chosen = choose(Stack(explanation, Manner()), explanation, Manner())
    assert chosen.numbers == (19, 36)


def test_a_map_without_evidence_says_so_over_slices_without_heat(empty: Explanation) -> None:
    page = montage_page(empty, Manner())
    assert "No positive evidence for this class: nothing is painted." in texts(page)
    assert any(text.startswith("None of 8 axial slices reaches the threshold") for text in texts(page))
    assert all(len(axes.images) <= 1 for axes in page.figure.axes)


def test_a_picture_has_no_montage_and_says_what_to_take(make_explanation: Callable[..., Explanation]) -> None:
    picture = Volume.of_picture(np.zeros((20, 30), np.uint8), "a photograph")
    explanation = make_explanation(picture, unit="pixels", in_patient_space=False)
    assert (
        montage_unfit(explanation)
        == "The picture is one slice, of which there is no montage: take the overlay picture."
    )


def test_the_file_is_a_picture_and_names_no_scan_where_none_may_be_named(
    tmp_path: Path, explanation: Explanation
) -> None:
    assert montage_unfit(explanation) == ""
    write_montage(explanation, tmp_path / "montage.png", Manner())
    with Image.open(tmp_path / "montage.png") as picture:
        assert (picture.format, picture.width) == ("PNG", 1500)
        assert picture.info["Description"] == "For research and review, not for diagnosis."
    assert any("Scan scan" in text for text in texts(montage_page(explanation, Manner())))
    assert not any("Scan scan" in text for text in texts(montage_page(explanation, Manner(deidentified=True))))


@pytest.mark.parametrize("shape", [(10, 12, 40), (90, 4, 40), (4, 90, 40)])
def test_no_text_of_a_montage_runs_into_another_or_off_the_page(hot: Callable[..., Explanation], shape: Any) -> None:
    slices = dict.fromkeys(range(2, 37, 3), 1.0)
    volume_shape = tuple(max(n, 6) for n in shape)
    page = montage_page(hot(slices, volume_shape, instances=tuple(range(1000, 1040))), Manner())
    page.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in page.figure.texts]
    for number, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= page.width
        for other in boxes[number + 1 :]:
            apart = box.x1 <= other.x0 or other.x1 <= box.x0
            assert apart or min(box.y1, other.y1) - max(box.y0, other.y0) < 3

"""A scan that its file does not place in the patient gets no letters and no patient coordinates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_gradcam import words
from napari_gradcam.export.manner import Manner
from napari_gradcam.export.tiles import NO_LETTERS, Stack, tiles_through

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam import Explanation, Volume


def test_no_letters_and_no_coordinates(
    make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    placed = make_volume()
    unplaced = replace(placed, in_patient_space=False)
    explanation = make_explanation(placed)
    stack = Stack(replace(explanation, volumes=(unplaced,)), Manner())
    i, j, k = explanation.peak.index
    assert words.hottest_point(explanation, unplaced) == f"voxel {i} {j} {k}"
    assert words.hottest_point(explanation, placed).endswith(" mm")
    for tile in tiles_through(stack, (i, j, k), marked=True):
        assert tile.letters == NO_LETTERS
        assert tile.caption.startswith("Plane ")
        assert "mm" not in tile.caption

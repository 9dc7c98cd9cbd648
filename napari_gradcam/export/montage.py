"""The montage: the hottest slices of the plane that a map is read in, side by side on one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_gradcam.export.legend import scale_bar
from napari_gradcam.export.page import Page, line_height, wrapped
from napari_gradcam.export.painting import HeatStyle, paint
from napari_gradcam.export.picture import MARGIN, SMALL, WIDTH, Frame, write_page
from napari_gradcam.export.tiles import Stack, Tile, reading_plane
from napari_gradcam.volumes.orientation import DisplayGrid
from napari_gradcam.volumes.window import grey_limits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner
    from napari_gradcam.volumes.orientation import Plane

MOST, EMPTY = 12, 8
"""So many slices are shown at most, and where no slice is hot."""

_TALLEST = 420.0
"""A slice is never higher than this, in pixels."""

_LETTER, _LETTER_ROOM = 9.5, 22.0
"""Size of the letters in points, and their room at each side in pixels."""

_NARROWEST = 250.0
"""A slice has at least so much room with its captions, in pixels."""

_APART = 40.0
"""Slices are no further apart than this where there is room, in pixels."""

_SCALE_ROOM = 26.0
"""For the bar of mm, in pixels."""


@dataclass(frozen=True)
class Chosen:
    """Which slices a montage shows.

    Attributes
    ----------
    plane
        Their plane.
    numbers
        From 0, in order, as :class:`~napari_gradcam.export.tiles.Stack` counts.
    hot
        How many slices reach the threshold.
    hottest
        The one with the hottest voxel; None where none is hot.
    """

    plane: Plane
    numbers: tuple[int, ...]
    hot: int
    hottest: int | None


def montage_unfit(explanation: Explanation) -> str:
    """Say in a sentence why there can be no montage; "" where there can."""
    return one_slice(explanation, "montage")


def one_slice(explanation: Explanation, what: str) -> str:
    """Say that a map has one slice, so that something cannot be made of its slices; "" where it has more."""
    if not explanation.volumes:
        return f"The map does not say which scan it is of: there is no {what} of its slices."
    if DisplayGrid.of(explanation.volume).shape[reading_plane(explanation).dims_order[0]] > 1:
        return ""
    name = "picture" if explanation.unit == "pixels" else "scan"
    return f"The {name} is one slice, of which there is no {what}: take the overlay picture."


def choose(stack: Stack, explanation: Explanation, manner: Manner) -> Chosen:
    """Choose the hottest slices of the plane that a map is read in.

    All that reach the threshold; of more than :data:`MOST`, those with the most evidence that is painted which are not
    next to one another, so that they span all that is hot. Where none is hot, some that are spread evenly.
    """
    plane, least = reading_plane(explanation), manner.least(explanation)
    evidence, peaks = (stack.in_order(plane, values) for values in strength(explanation, stack.axis(plane), least))
    hot = np.flatnonzero(evidence > 0)
    if not hot.size:
        spread = np.linspace(0, stack.count(plane) - 1, min(EMPTY, stack.count(plane)) + 2)[1:-1]
        return Chosen(plane, tuple(sorted({round(float(number)) for number in spread})), 0, None)
    apart = math.ceil(hot.size / MOST)
    numbers: list[int] = []
    hottest = int(peaks.argmax())
    for number in (hottest, *hot[np.argsort(-evidence[hot], kind="stable")].tolist()):
        if len(numbers) < MOST and all(abs(number - other) >= apart for other in numbers):
            numbers.append(number)
    return Chosen(plane, tuple(sorted(numbers)), int(hot.size), hottest)


def strength(explanation: Explanation, axis: int, least: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Add up the heat that is painted in each slice, and give the strongest; of a signed map on both sides of 0."""
    across = tuple(other for other in range(3) if other != axis)
    heat = np.abs(explanation.heatmap) if explanation.signed else explanation.heatmap
    if not explanation.strongest > 0:
        return np.zeros(heat.shape[axis]), np.zeros(heat.shape[axis])
    sums = np.sum(heat, axis=across, where=heat >= np.float32(least), dtype=np.float64)
    return np.asarray(sums), np.asarray(heat.max(axis=across), dtype=np.float64)


def montage_page(explanation: Explanation, manner: Manner, *, bare: bool = False) -> Page:
    """Compose the montage.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    manner
        How it is painted and told.
    bare
        Leave out what a page that shows the picture tells itself: title, card and notices.

    Returns
    -------
    Page
        1500 pixels wide. Slices in the order of the window's slider, from the head, the front or the right on, with
        place and number; one scale of colours and of mm for all.

    Raises
    ------
    GradCamError
        If the explanation has no scan, or is not of it.
    """
    stack, style = Stack(explanation, manner), HeatStyle.of(explanation, manner)
    chosen = choose(stack, explanation, manner)
    tiles = [stack.tile(chosen.plane, number) for number in chosen.numbers]
    grid = _Grid.of(tiles)
    told = wrapped(said(chosen, stack), WIDTH - 2 * MARGIN, SMALL + 1, bold=True)
    above = len(told) * line_height(SMALL + 1) + 8
    below = _SCALE_ROOM if explanation.unit == "mm" else 0.0
    frame = Frame(explanation, manner, style, WIDTH, above + grid.height + below, bare=bare)
    frame.page.write(MARGIN, frame.top, told, SMALL + 1, bold=True)
    captions = [_captions(stack, chosen, number) for number in chosen.numbers]
    grid.paint(frame.page, frame.top + above, captions, grey_limits(explanation.volume), style)
    if below:
        scale_bar(
            frame.page, MARGIN + _LETTER_ROOM, frame.top + above + grid.height + below / 2, 300, grid.scale, SMALL
        )
    frame.finish()
    return frame.page


def write_montage(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write the montage as PNG, whole or not at all; see :func:`montage_page`.

    Raises
    ------
    GradCamError
        As :func:`montage_page`, and if the file cannot be written.
    """
    write_page(montage_page(explanation, manner), explanation, path)


def said(chosen: Chosen, stack: Stack) -> str:
    """Say which slices are shown."""
    of = f"{stack.count(chosen.plane)} {chosen.plane.value} slices"
    if stack.volume.in_patient_space is False:
        of = f"{stack.count(chosen.plane)} slices"
    shown = len(chosen.numbers)
    if not chosen.hot:
        return f"None of {of} reaches the threshold: {shown} of them, spread evenly, without heat."
    if shown == chosen.hot:
        reach = "all that reach" if shown > 1 else "the only one that reaches"
        return f"{shown} of {of}, {reach} the threshold"
    return f"{shown} of the {chosen.hot} slices that reach the threshold, the hottest among their neighbours, of {of}"


def _captions(stack: Stack, chosen: Chosen, number: int) -> tuple[str, str]:
    """Say where a slice lies, and which it is."""
    numbered = stack.numbered(chosen.plane, number)
    place = stack.position(chosen.plane, number) or numbered
    hottest = " · hottest" if number == chosen.hottest else ""
    return place + hottest, numbered if place != numbered else ""


@dataclass(frozen=True, eq=False)
class _Grid:
    """Tiles of one size in rows and columns; all numbers in pixels."""

    tiles: Sequence[Tile]
    columns: int
    scale: float
    slot: tuple[float, float]

    @classmethod
    def of(cls, tiles: Sequence[Tile]) -> _Grid:
        """Make the tiles as large as the page's width lets them be, a row as full as the next."""
        width, height = tiles[0].size_mm
        room = WIDTH - 2 * MARGIN
        most = max(1, int(room / max(_NARROWEST, _TALLEST * width / height / 1.25)))
        rows = math.ceil(len(tiles) / max(3, min(most, 6)))
        columns = max(2, math.ceil(len(tiles) / rows))
        scale = min((room / columns - 2 * _LETTER_ROOM) / width, _TALLEST / height)
        slot = (
            min(room / columns, max(_NARROWEST, width * scale + 2 * _LETTER_ROOM + _APART)),
            height * scale + 2 * _LETTER_ROOM + 2 * line_height(SMALL) + 14,
        )
        return cls(tiles, columns, scale, slot)

    @property
    def height(self) -> float:
        """Of all rows."""
        return math.ceil(len(self.tiles) / self.columns) * self.slot[1]

    def paint(
        self,
        page: Page,
        top: float,
        captions: Sequence[tuple[str, str]],
        grey: tuple[float, float],
        style: HeatStyle | None,
    ) -> None:
        """Paint the tiles with two lines of caption each; their axes are the page's first ones."""
        width, height = (mm * self.scale for mm in self.tiles[0].size_mm)
        for number, (tile, caption) in enumerate(zip(self.tiles, captions, strict=True)):
            row, column = divmod(number, self.columns)
            middle, upper = MARGIN + (column + 0.5) * self.slot[0], top + row * self.slot[1]
            page.write(middle, upper, caption[:1], SMALL, bold=True, align="center")
            page.write(middle, upper + line_height(SMALL), caption[1:], SMALL, align="center")
            upper += 2 * line_height(SMALL) + _LETTER_ROOM
            paint(page.axes(middle - width / 2, upper, width, height), tile, grey, style, _LETTER)

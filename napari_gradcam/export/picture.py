"""The overlay picture: planes through the hottest point, or any one slice, as a radiologist expects to see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_gradcam import words
from napari_gradcam.errors import GradCamError
from napari_gradcam.export import card
from napari_gradcam.export.files import written_whole
from napari_gradcam.export.legend import GAP, Legend, scale_bar
from napari_gradcam.export.page import Page, line_height, wrapped
from napari_gradcam.export.painting import HeatStyle, paint
from napari_gradcam.export.tiles import Stack, Tile, recaptioned, tiles_through
from napari_gradcam.volumes.orientation import Plane
from napari_gradcam.volumes.window import grey_limits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner
    from napari_gradcam.volumes import Volume

WIDTH, SLICE_WIDTH = 1500, 1100
"""Of a picture of three planes, and of one slice, in pixels; more where narrow planes with their captions need it."""

TALLEST = 1200
"""A plane is never higher than this, in pixels: a whole-body scan stays a picture, not a scroll."""

MARGIN, LETTER_ROOM, CAPTION_ROOM, NARROWEST = 30.0, 34.0, 26.0, 260.0
"""Pixels around the page, beside a plane, above it, and for the narrowest plane with its caption."""

TITLE, BODY, SMALL = 17.0, 12.0, 10.5
"""Sizes of text in points."""


def overlay_page(explanation: Explanation, manner: Manner, *, bare: bool = False) -> Page:
    """Compose the overlay picture.

    Axial, coronal and sagittal plane through the hottest voxel, in mm-true proportions on one scale, the patient's
    right at the picture's left. The scan is grey in the file's window, or in its own colours; the heat has a constant
    opacity, nothing below the threshold, and one scale for the volume, from 0 to its maximum or to a fixed top; of a
    signed map to both sides of 0. Where there is no evidence the planes go through the middle, nothing is painted and
    the picture says so. The card is written on it.

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
        1500 pixels wide or wider; :meth:`Page.save` writes it, :meth:`Page.pixels` gives it.

    Raises
    ------
    GradCamError
        If the explanation has no scan, or is not of it.
    """
    stack, style = Stack(explanation, manner), HeatStyle.of(explanation, manner)
    tiles = tiles_through(stack, striking_point(explanation), marked=style is not None)
    return _page(explanation, manner, tiles, style, WIDTH, bare)


def slice_page(explanation: Explanation, plane: Plane, index: int, manner: Manner, *, bare: bool = False) -> Page:
    """Compose the picture of any one slice, alone and large; see :func:`overlay_page`.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    plane
        The plane; a plain picture has the axial one alone.
    index
        Which slice, from 0, counted as the window's slider does: from the head, the front or the right on.
    manner
        How it is painted and told.
    bare
        See :func:`overlay_page`.

    Raises
    ------
    GradCamError
        If there is no such slice; as :func:`overlay_page` besides.
    """
    stack, style = Stack(explanation, manner), HeatStyle.of(explanation, manner)
    if not 0 <= index < stack.count(plane):
        raise GradCamError(
            f"There is no {plane.value} slice {index + 1}: the scan has {stack.count(plane)}; choose 1 to "
            f"{stack.count(plane)}."
        )
    tile = stack.tile(plane, index)
    if stack.count(plane) > 1:
        tile = recaptioned(tile, f"{tile.caption}, {stack.numbered(plane, index)}")
    return _page(explanation, manner, [tile], style, SLICE_WIDTH, bare)


def write_overlay(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write the overlay picture as PNG, whole or not at all; see :func:`overlay_page`.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    path
        The file; it is PNG whatever its suffix.
    manner
        How it is painted and told.

    Raises
    ------
    GradCamError
        As :func:`overlay_page`, and if the file cannot be written.
    """
    write_page(overlay_page(explanation, manner), explanation, path)


def write_slice(explanation: Explanation, path: Path, manner: Manner, *, plane: Plane, index: int) -> None:
    """Write the picture of one slice as PNG, whole or not at all; see :func:`slice_page`.

    Raises
    ------
    GradCamError
        As :func:`slice_page`, and if the file cannot be written.
    """
    write_page(slice_page(explanation, plane, index, manner), explanation, path)


def write_chosen(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write the picture of the slice that was chosen, or of the hottest axial one; see :func:`write_slice`."""
    hottest = Stack(explanation, manner).number(Plane.AXIAL, striking_point(explanation))
    plane, number = manner.chosen or (Plane.AXIAL, hottest)
    write_slice(explanation, path, manner, plane=plane, index=number)


def write_page(page: Page, explanation: Explanation, path: Path) -> None:
    """Write a page as PNG, whole or not at all, with what it is for in its text chunks."""
    with written_whole(path) as temporary:
        page.save(temporary, title=title(explanation), description=words.PURPOSE)


def title(explanation: Explanation) -> str:
    """Say the class and its score."""
    own, against = explanation.target, explanation.against
    score = words.probability(explanation.scores[own])
    if not against:
        return f"“{own}”: probability {score}"
    return f"“{own}” ({score}) against “{against}” ({words.probability(explanation.scores[against])})"


def facts(explanation: Explanation, manner: Manner) -> list[str]:
    """Say what was explained, where it is hottest, and by what."""
    said = [] if manner.deidentified else [f"Scan {explanation.volume_name or 'without a name'}"]
    if not explanation.is_empty:
        said.append(f"hottest point {words.hottest_point(explanation, explanation.volume)}")
        said.append(f"raw maximum {words.number(explanation.peak.value)}")
    if explanation.peak.value < explanation.strongest:
        said.append(f"strongest against it {words.number(-explanation.strongest)}, where the planes are")
    whole = " · ".join(said)
    return [*filter(None, [whole[:1].upper() + whole[1:]]), *card.card(explanation, manner)[:-1]]


def striking_point(explanation: Explanation) -> tuple[int, int, int]:
    """Give the voxel to look at: the strongest evidence, of a signed map for or against the class; else the middle."""
    if not explanation.is_empty and explanation.peak.value >= explanation.strongest:
        return explanation.peak.index
    if explanation.strongest > 0:
        i, j, k = (int(n) for n in np.unravel_index(int(explanation.heatmap.argmin()), explanation.heatmap.shape))
        return i, j, k
    return _middle(explanation.volume)


def _page(
    explanation: Explanation, manner: Manner, tiles: Sequence[Tile], style: HeatStyle | None, width: float, bare: bool
) -> Page:
    """Put title, tiles and legend below one another."""
    row = _Row.of(tiles, width)
    frame = Frame(explanation, manner, style, row.width, row.height, bare=bare)
    row.paint(frame.page, frame.top, grey_limits(explanation.volume), style, in_mm=explanation.unit == "mm")
    frame.finish()
    return frame.page


class Frame:
    """A page with title and card above its picture, and the legend below it.

    Parameters
    ----------
    explanation, manner, style
        What is shown, and how.
    width, height
        Of the page and of the picture, in pixels.
    bare
        Leave out title, card and notices.
    sizes
        Of title, body and small text, in points.

    Attributes
    ----------
    page
        The page.
    top
        Where the picture begins, in pixels.
    """

    def __init__(
        self,
        explanation: Explanation,
        manner: Manner,
        style: HeatStyle | None,
        width: float,
        height: float,
        *,
        bare: bool = False,
        sizes: tuple[float, float, float] = (TITLE, BODY, SMALL),
    ) -> None:
        large, body, small = sizes
        room = width - 2 * MARGIN
        head = [] if bare else wrapped(title(explanation), room, large, bold=True)
        told = [] if bare else [line for text in facts(explanation, manner) for line in wrapped(text, room, body)]
        self._legend = Legend(explanation, manner, style, room, body=body, small=small, notices=not bare)
        facts_top = MARGIN + len(head) * line_height(large)
        self.top = facts_top + len(told) * line_height(body) + (0 if bare else GAP)
        self._foot_top = self.top + height + GAP
        self.page = Page(width, self._foot_top + self._legend.height + MARGIN)
        self.page.write(MARGIN, MARGIN, head, large, bold=True)
        self.page.write(MARGIN, facts_top, told, body)

    def finish(self) -> None:
        """Draw the legend, after the picture."""
        self._legend.draw(self.page, MARGIN, self._foot_top)


@dataclass(frozen=True, eq=False)
class _Row:
    """Tiles side by side on one scale of mm; all numbers in pixels."""

    tiles: Sequence[Tile]
    scale: float
    width: float
    height: float

    @classmethod
    def of(cls, tiles: Sequence[Tile], width: float) -> _Row:
        """Scale the tiles to the page's width, unless one would become too tall."""
        widths, heights = zip(*(tile.size_mm for tile in tiles), strict=True)
        room = width - 2 * MARGIN - 2 * LETTER_ROOM * len(tiles)
        scale = min(room / sum(widths), TALLEST / max(heights))
        taken = sum(_slot(tile, scale) for tile in tiles) + 2 * MARGIN
        return cls(tiles, scale, max(float(width), taken), max(heights) * scale + CAPTION_ROOM + 2 * LETTER_ROOM)

    def paint(self, page: Page, top: float, grey: tuple[float, float], style: HeatStyle | None, in_mm: bool) -> None:
        """Paint the tiles with their captions, centred on the page and on one another, and the scale under a wide one.

        The axes of the tiles are the page's first ones.
        """
        left = (self.width - sum(_slot(tile, self.scale) for tile in self.tiles)) / 2
        slots = [_slot(tile, self.scale) for tile in self.tiles]
        measured = next(number for number, slot in enumerate(slots) if slot >= max(slots) / 2) if in_mm else None
        middle = top + CAPTION_ROOM + (self.height - CAPTION_ROOM) / 2
        bars = []
        for number, (tile, slot) in enumerate(zip(self.tiles, slots, strict=True)):
            width, height = (mm * self.scale for mm in tile.size_mm)
            caption = wrapped(tile.caption, slot, BODY, bold=True)[:1]
            page.write(left + slot / 2, top, caption, BODY, bold=True, align="center")
            paint(page.axes(left + (slot - width) / 2, middle - height / 2, width, height), tile, grey, style)
            if number == measured:
                start = min((slot - width) / 2, LETTER_ROOM)
                bars.append((left + start, middle + height / 2 + LETTER_ROOM / 2, slot / 2 - start - 24))
            left += slot
        for bar in bars:
            scale_bar(page, *bar, self.scale, BODY)


def _slot(tile: Tile, scale: float) -> float:
    """Give the width that a tile takes with its letters and under its caption."""
    return max(tile.size_mm[0] * scale + 2 * LETTER_ROOM, NARROWEST)


def _middle(volume: Volume) -> tuple[int, int, int]:
    i, j, k = (n // 2 for n in volume.shape)
    return i, j, k

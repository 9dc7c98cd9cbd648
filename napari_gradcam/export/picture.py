"""The overlay picture: three planes through the hottest point, as a radiologist expects to see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_gradcam import words
from napari_gradcam.errors import GradCamError
from napari_gradcam.export.files import written_whole
from napari_gradcam.export.page import Page, line_height, wrapped
from napari_gradcam.export.painting import FONT, INK, HeatStyle, paint
from napari_gradcam.export.tiles import Tile, tiles_through
from napari_gradcam.volumes.window import grey_limits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

WIDTH = 1500
"""Of the picture in pixels; more where very narrow planes with their captions need it."""

TALLEST = 1200
"""A plane is never higher than this, in pixels: a whole-body scan stays a picture, not a scroll."""

MARGIN, GAP, LETTER_ROOM, CAPTION_ROOM, NARROWEST = 30.0, 16.0, 34.0, 26.0, 260.0
"""Pixels around the page, between its parts, beside a plane, above it, and for the narrowest plane with its caption."""

BAR_WIDTH, BAR_HEIGHT, BAR_ROOM = 420.0, 18.0, 50.0
"""The colour bar in pixels, and what it takes with its numbers."""

TITLE, BODY, SMALL = 17.0, 12.0, 10.5
"""Sizes of text in points."""


def overlay_page(explanation: Explanation, volume: Volume, *, threshold: float = 0.4, opacity: float = 0.5) -> Page:
    """Compose the overlay picture.

    Axial, coronal and sagittal plane through the hottest voxel, in mm-true proportions on one scale, the patient's
    right at the picture's left. The scan is grey in the file's window; the heat is inferno at a constant opacity,
    nothing below the threshold, on one scale from 0 to the volume's maximum. Where there is no positive evidence the
    planes go through the middle, nothing is painted and the picture says so.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    volume
        The scan it was asked about.
    threshold
        Fraction of the maximum below which nothing is painted, above 0 and below 1.
    opacity
        Of the heat, above 0 and at most 1.

    Returns
    -------
    Page
        1500 pixels wide or wider; :meth:`Page.save` writes it.

    Raises
    ------
    GradCamError
        If the explanation is not of this scan, or threshold or opacity are out of range.
    """
    _check(explanation, volume, threshold, opacity)
    style = None if explanation.is_empty else HeatStyle(explanation.peak.value, threshold, opacity)
    point = explanation.peak.index if style else _middle(volume)
    tiles = tiles_through(volume, explanation.heatmap, point, marked=style is not None)
    row = _Row.of(tiles)
    room = row.width - 2 * MARGIN

    title = wrapped(_title(explanation), room, TITLE, bold=True)
    facts = [line for text in _facts(explanation, volume) for line in wrapped(text, room, BODY)]
    notices = [line for text in explanation.notices for line in wrapped(text, room, SMALL)]
    facts_top = MARGIN + len(title) * line_height(TITLE)
    row_top = facts_top + len(facts) * line_height(BODY) + GAP
    foot_top = row_top + row.height + GAP
    foot = _legend(explanation, style, room)
    bar_top = foot_top + len(foot) * line_height(BODY)
    notices_top = bar_top + BAR_ROOM + GAP
    page = Page(row.width, notices_top + len(notices) * line_height(SMALL) + MARGIN)

    page.write(MARGIN, MARGIN, title, TITLE, bold=True)
    page.write(MARGIN, facts_top, facts, BODY)
    row.paint(page, row_top, grey_limits(volume), style)
    page.write(MARGIN, foot_top, foot, BODY)
    if style:
        _colour_bar(page, bar_top, style)
    page.write(row.width - MARGIN, bar_top, [words.PURPOSE], BODY, bold=True, align="right")
    page.write(MARGIN, notices_top, notices, SMALL)
    return page


def write_overlay(
    explanation: Explanation, volume: Volume, path: Path, *, threshold: float = 0.4, opacity: float = 0.5
) -> None:
    """Write the overlay picture as PNG, whole or not at all; see :func:`overlay_page`.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    volume
        The scan it was asked about.
    path
        The file; it is PNG whatever its suffix.
    threshold, opacity
        See :func:`overlay_page`.

    Raises
    ------
    GradCamError
        As :func:`overlay_page`, and if the file cannot be written.
    """
    page = overlay_page(explanation, volume, threshold=threshold, opacity=opacity)
    with written_whole(path) as temporary:
        page.save(temporary, title=_title(explanation), description=words.PURPOSE)


@dataclass(frozen=True, eq=False)
class _Row:
    """Tiles side by side on one scale of mm; all numbers in pixels."""

    tiles: Sequence[Tile]
    scale: float
    width: float
    height: float

    @classmethod
    def of(cls, tiles: Sequence[Tile]) -> _Row:
        """Scale the tiles to the page's width, unless one would become too tall."""
        widths, heights = zip(*(tile.size_mm for tile in tiles), strict=True)
        room = WIDTH - 2 * MARGIN - 2 * LETTER_ROOM * len(tiles)
        scale = min(room / sum(widths), TALLEST / max(heights))
        width = sum(_slot(tile, scale) for tile in tiles) + 2 * MARGIN
        return cls(tiles, scale, max(float(WIDTH), width), max(heights) * scale + CAPTION_ROOM + 2 * LETTER_ROOM)

    def paint(self, page: Page, top: float, grey: tuple[float, float], style: HeatStyle | None) -> None:
        """Paint the tiles with their captions, centred on the page and on one another."""
        left = (self.width - sum(_slot(tile, self.scale) for tile in self.tiles)) / 2
        for tile in self.tiles:
            slot, (width, height) = _slot(tile, self.scale), (mm * self.scale for mm in tile.size_mm)
            page.write(left + slot / 2, top, [tile.caption], BODY, bold=True, align="center")
            middle = top + CAPTION_ROOM + (self.height - CAPTION_ROOM) / 2
            paint(page.axes(left + (slot - width) / 2, middle - height / 2, width, height), tile, grey, style)
            left += slot


def _slot(tile: Tile, scale: float) -> float:
    """Give the width that a tile takes with its letters and under its caption."""
    return max(tile.size_mm[0] * scale + 2 * LETTER_ROOM, NARROWEST)


def _colour_bar(page: Page, top: float, style: HeatStyle) -> None:
    """Draw the one scale of the volume: empty below the threshold, as the tiles are, with its raw values."""
    axes = page.axes(MARGIN + 2, top, BAR_WIDTH, BAR_HEIGHT)
    steps = np.linspace(0, style.maximum, 512)[None, :]
    axes.imshow(
        np.ma.masked_less(steps, style.lowest),
        cmap=style.colormap,
        vmin=0,
        vmax=style.maximum,
        extent=(0, style.maximum, 0, 1),
        aspect="auto",
    )
    axes.set_yticks([])
    ticks = {
        0.0: "0",
        style.lowest: words.number(style.lowest),
        style.maximum: words.number(style.maximum),
    }
    axes.set_xticks(list(ticks), list(ticks.values()), fontfamily=FONT, fontsize=SMALL, color=INK, parse_math=False)
    axes.tick_params(color=INK)
    for spine in axes.spines.values():
        spine.set_color(INK)


def _title(explanation: Explanation) -> str:
    score = explanation.scores[explanation.target]
    return f"“{explanation.target}”: probability {words.probability(score)}"


def _facts(explanation: Explanation, volume: Volume) -> list[str]:
    peak = explanation.peak
    layer = f"{words.method(explanation)}, layer {explanation.layer}, cells of {words.cell(explanation)}"
    hottest = f"hottest point {words.hottest_point(explanation, volume)}, raw maximum {words.number(peak.value)}"
    scan, classifier = (name or "without a name" for name in (explanation.volume_name, explanation.classifier_name))
    return [
        f"Scan {scan}, classifier {classifier}",
        layer if explanation.is_empty else f"{layer}, {hottest}",
    ]


def _legend(explanation: Explanation, style: HeatStyle | None, room: float) -> list[str]:
    """Say what the colours mean."""
    if style is None:
        return wrapped("No positive evidence for this class: nothing is painted.", room, BODY)
    text = (
        f"{words.method(explanation)} for “{explanation.target}” (raw, {words.unit(explanation)}), "
        f"painted from {style.threshold:.0%} of the maximum on"
    )
    return wrapped(text, room, BODY)


def _middle(volume: Volume) -> tuple[int, int, int]:
    i, j, k = (n // 2 for n in volume.shape)
    return i, j, k


def _check(explanation: Explanation, volume: Volume, threshold: float, opacity: float) -> None:
    """Refuse what would paint a map in a wrong place, or nothing at all."""
    if explanation.heatmap.shape != volume.shape or not np.allclose(explanation.affine, volume.affine, atol=1e-3):
        raise GradCamError(
            f"The heat map is not on the grid of “{volume.name}”: give the scan that was explained, not another one."
        )
    if not 0 < threshold < 1:
        raise GradCamError(f"The threshold {threshold} is no fraction of the maximum: give one above 0 and below 1.")
    if not 0 < opacity <= 1:
        raise GradCamError(f"The opacity {opacity} is out of range: give one above 0 and at most 1.")

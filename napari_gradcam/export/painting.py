"""One plane of a scan under its heat map, painted on a matplotlib axes: the tile that every picture is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_gradcam.export.tiles import Tile
    from napari_gradcam.volumes.orientation import Letters

FONT = "DejaVu Sans"
"""matplotlib's own font, named so that nobody's matplotlibrc changes the picture."""

LETTER_SIZE = 13
"""Of the letters at a tile's edges, in points."""

INK = "#e8e8e8"
"""The colour of text on black."""


@dataclass(frozen=True)
class HeatStyle:
    """How heat is painted, the same for every tile of a volume.

    Attributes
    ----------
    maximum
        The raw value at the top of the colour scale; the scale begins at 0.
    threshold
        Fraction of `maximum` below which nothing is painted.
    opacity
        Of everything that is painted: constant, so that the anatomy stays visible and the colour alone is the value.
    colormap
        A perceptually uniform one of matplotlib's.
    """

    maximum: float
    threshold: float = 0.4
    opacity: float = 0.5
    colormap: str = "inferno"

    @property
    def lowest(self) -> float:
        """The raw value from which on heat is painted."""
        return self.maximum * self.threshold


def paint(axes: Axes, tile: Tile, grey: tuple[float, float], heat: HeatStyle | None) -> None:
    """Paint the scan, the heat above the threshold, the mark and the letters.

    Parameters
    ----------
    axes
        Where to; it must have the tile's proportions (see :attr:`Tile.size_mm`).
    tile
        What to paint.
    grey
        The values shown black and white.
    heat
        How to paint the heat, or None to paint the scan alone.
    """
    width, height = tile.size_mm
    extent = (0.0, width, height, 0.0)
    axes.set_axis_off()
    axes.imshow(tile.grey, cmap="gray", vmin=grey[0], vmax=grey[1], extent=extent, aspect="equal", origin="upper")
    if heat is not None:
        axes.imshow(
            np.ma.masked_less(tile.heat, heat.lowest),
            cmap=heat.colormap,
            vmin=0,
            vmax=heat.maximum,
            alpha=heat.opacity,
            interpolation="nearest",  # a smoothed edge would show heat below the threshold
            extent=extent,
            aspect="equal",
            origin="upper",
        )
    if tile.mark is not None:
        _mark(axes, tile, tile.mark)
    _letter(axes, tile.letters)


def _mark(axes: Axes, tile: Tile, mark: tuple[int, int]) -> None:
    """Draw thin lines from the edges towards a point, open around it so that they hide nothing there."""
    width, height = tile.size_mm
    x, y = (mark[1] + 0.5) * tile.pixel_mm[1], (mark[0] + 0.5) * tile.pixel_mm[0]
    gap = 0.08 * max(width, height)
    for start, stop in ((0, x - gap), (x + gap, width)):
        if start < stop:
            axes.plot([start, stop], [y, y], color="white", alpha=0.35, linewidth=0.7, scalex=False, scaley=False)
    for start, stop in ((0, y - gap), (y + gap, height)):
        if start < stop:
            axes.plot([x, x], [start, stop], color="white", alpha=0.35, linewidth=0.7, scalex=False, scaley=False)


def _letter(axes: Axes, letters: Letters) -> None:
    """Write the letters just outside of the tile's edges, where no anatomy is."""
    for text, xy, shift, horizontal, vertical in (
        (letters.left, (0, 0.5), (-5, 0), "right", "center"),
        (letters.right, (1, 0.5), (5, 0), "left", "center"),
        (letters.top, (0.5, 1), (0, 3), "center", "bottom"),
        (letters.bottom, (0.5, 0), (0, -3), "center", "top"),
    ):
        axes.annotate(
            text,
            xy,
            xytext=shift,
            xycoords="axes fraction",
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            color=INK,
            fontsize=LETTER_SIZE,
            fontfamily=FONT,
            fontweight="bold",
            annotation_clip=False,
        )

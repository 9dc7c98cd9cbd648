"""One plane of a scan under its heat map, painted on a matplotlib axes: the tile that every picture is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, ListedColormap

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner
    from napari_gradcam.export.tiles import Tile
    from napari_gradcam.volumes.orientation import Letters

FONT = "DejaVu Sans"
"""matplotlib's own font, named so that nobody's matplotlibrc changes the picture."""

LETTER_SIZE = 13.0
"""Of the letters at a tile's edges, in points."""

INK = "#e8e8e8"
"""The colour of text on black."""

AGAINST = ((0.75, 0.92, 1.0), (0.20, 0.55, 1.0), (0.05, 0.20, 0.55))
FOR = ((0.55, 0.20, 0.02), (1.0, 0.50, 0.05), (1.0, 0.90, 0.60))
"""Of a signed map, from the strongest evidence against the class to none, and on to the strongest for it; red, green
and blue. Those who do not tell red from green tell these apart. The window has the same."""

_SHADES = 256


@dataclass(frozen=True)
class HeatStyle:
    """How heat is painted, the same for every tile of a volume.

    Attributes
    ----------
    maximum
        The raw value at the top of the colour scale; the scale begins at 0, of a signed map at ``-maximum``.
    lowest
        The raw value from which on heat is painted; of a signed map on either side of 0.
    opacity
        Of everything that is painted: constant, so that the anatomy stays visible and the colour alone is the value.
    colormap
        One of matplotlib's; a signed map has its own.
    signed
        Whether values below 0 are painted, as evidence against the class.
    """

    maximum: float
    lowest: float
    opacity: float = 0.5
    colormap: str = "inferno"
    signed: bool = False

    @classmethod
    def of(cls, explanation: Explanation, manner: Manner) -> HeatStyle | None:
        """Give how a map is painted; None where nothing of it is.

        Raises
        ------
        GradCamError
            If matplotlib knows no colour map of that name.
        """
        if manner.colormap not in matplotlib.colormaps:
            raise GradCamError(
                f"There are no colours “{manner.colormap}”: choose one of matplotlib's, such as cividis."
            )
        lowest = manner.least(explanation)
        if not explanation.strongest > 0 or explanation.strongest < lowest:
            return None
        return cls(manner.maximum(explanation), lowest, manner.opacity, manner.colormap, explanation.signed)

    @property
    def limits(self) -> tuple[float, float]:
        """The raw values at both ends of the colours."""
        return -self.maximum if self.signed else 0.0, self.maximum

    @property
    def colours(self) -> Colormap:
        """The colours between :attr:`limits`."""
        return opposed_colours() if self.signed else matplotlib.colormaps[self.colormap]

    def painted(self, heat: NDArray[Any]) -> np.ma.MaskedArray[Any, Any]:
        """Mask what is too weak to be painted."""
        return np.ma.MaskedArray(heat, mask=(np.abs(heat) if self.signed else heat) < self.lowest)


@cache
def opposed_colours() -> Colormap:
    """Make the colours of a signed map, from the strongest against the class to the strongest for it."""
    value = np.linspace(-1, 1, _SHADES)
    places = np.array([-1.0, -0.5, 0.0, np.nextafter(0.0, 1.0), 0.5, 1.0])
    ends = np.array([*AGAINST, *FOR])
    shades = np.stack([np.interp(value, places, ends[:, channel]) for channel in range(3)], axis=1)
    return ListedColormap(shades, name="blue to orange")


class Painted(NamedTuple):
    """What a tile consists of, for one who changes it from frame to frame."""

    grey: AxesImage
    heat: AxesImage | None
    mark: list[Artist]


def paint(
    axes: Axes, tile: Tile, grey: tuple[float, float], heat: HeatStyle | None, letter_size: float = LETTER_SIZE
) -> Painted:
    """Paint the scan, the heat above the threshold, the mark and the letters.

    Parameters
    ----------
    axes
        Where to; it must have the tile's proportions (see :attr:`Tile.size_mm`).
    tile
        What to paint.
    grey
        The values shown black and white; a scan in colours has its own.
    heat
        How to paint the heat, or None to paint the scan alone.
    letter_size
        Of the letters, in points.
    """
    width, height = tile.size_mm
    extent = (0.0, width, height, 0.0)
    axes.set_axis_off()
    anatomy = axes.imshow(
        tile.grey, cmap="gray", vmin=grey[0], vmax=grey[1], extent=extent, aspect="equal", origin="upper"
    )
    hot = None
    if heat is not None:
        hot = axes.imshow(
            heat.painted(tile.heat),
            cmap=heat.colours,
            vmin=heat.limits[0],
            vmax=heat.limits[1],
            alpha=heat.opacity,
            interpolation="nearest",  # a smoothed edge would show heat below the threshold
            extent=extent,
            aspect="equal",
            origin="upper",
        )
    mark = _mark(axes, tile, tile.mark) if tile.mark is not None else []
    _letter(axes, tile.letters, letter_size)
    return Painted(anatomy, hot, mark)


def _mark(axes: Axes, tile: Tile, mark: tuple[int, int]) -> list[Artist]:
    """Draw thin lines from the edges towards a point, open around it so that they hide nothing there."""
    width, height = tile.size_mm
    x, y = (mark[1] + 0.5) * tile.pixel_mm[1], (mark[0] + 0.5) * tile.pixel_mm[0]
    gap = 0.08 * max(width, height)
    level = [((start, stop), (y, y)) for start, stop in ((0, x - gap), (x + gap, width)) if start < stop]
    upright = [((x, x), (start, stop)) for start, stop in ((0, y - gap), (y + gap, height)) if start < stop]
    drawn: list[Artist] = []
    for xs, ys in (*level, *upright):
        drawn += axes.plot(xs, ys, color="white", alpha=0.35, linewidth=0.7, scalex=False, scaley=False)
    return drawn


def _letter(axes: Axes, letters: Letters, size: float) -> None:
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
            fontsize=size,
            fontfamily=FONT,
            fontweight="bold",
            annotation_clip=False,
        )

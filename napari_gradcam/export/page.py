"""A black page measured in pixels from its top left corner, for pictures in which no text is cut off."""

from __future__ import annotations

import textwrap
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from napari_gradcam.export.painting import FONT, INK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any, BinaryIO

    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from numpy.typing import NDArray

DPI = 100
LINE_SPACING = 1.4


class Page:
    """A figure without pyplot: no display, no global state, safe in a worker thread.

    Parameters
    ----------
    width, height
        In pixels; parts of a pixel are rounded up.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = float(np.ceil(width)), float(np.ceil(height))
        self.figure = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI, facecolor="black")
        self._canvas: Any = FigureCanvasAgg(self.figure)  # untyped

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes in a box given in pixels."""
        bottom = self.height - top - height
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box, facecolor="black")

    def write(
        self,
        left: float,
        top: float,
        lines: Sequence[str],
        size: float,
        *,
        bold: bool = False,
        align: str = "left",
        color: str = INK,
    ) -> list[Text]:
        """Write lines of text from a point on, in pixels; `size` in points."""
        return [
            self.figure.text(
                left / self.width,
                1 - (top + number * line_height(size)) / self.height,
                line,
                color=color,
                fontsize=size,
                fontfamily=FONT,
                fontweight=_weight(bold),
                ha=align,
                va="top",
                parse_math=False,  # a dollar sign in somebody's class name is a dollar sign
            )
            for number, line in enumerate(lines)
        ]

    def pixels(self) -> NDArray[np.uint8]:
        """Give the page as it looks, ``(rows, columns, 3)``, red, green and blue."""
        self._canvas.draw()
        return self.seen().copy()

    def seen(self) -> NDArray[np.uint8]:
        """View the page as it was drawn last, ``(rows, columns, 3)``."""
        return np.asarray(self._canvas.buffer_rgba())[..., :3]

    def backdrop(self) -> object:
        """Draw the page without its animated artists, for :meth:`lay`."""
        self._canvas.draw()
        backdrop: object = self._canvas.copy_from_bbox(self.figure.bbox)
        return backdrop

    def lay(self, backdrop: object) -> None:
        """Put a backdrop over the page, to draw its animated artists on."""
        self._canvas.restore_region(backdrop)

    def save(self, path: Path | BinaryIO, *, title: str, description: str) -> None:
        """Write the page as PNG; title and description go into its text chunks."""
        self.figure.savefig(
            path, format="png", dpi=DPI, facecolor="black", metadata={"Title": title, "Description": description}
        )


def line_height(size: float) -> float:
    """Height in pixels of a line of text of `size` points."""
    return size * DPI / 72 * LINE_SPACING


def wrapped(text: str, width: float, size: float, *, bold: bool = False) -> list[str]:
    """Break a text into lines that fit.

    Parameters
    ----------
    text
        One paragraph; line breaks in it count as spaces.
    width
        In pixels.
    size
        In points.
    bold
        Whether it is to be written bold.

    Returns
    -------
    list of str
        At least one line.
    """
    text = drawable(text)
    ink = _scratch().text(0, 0, text, fontsize=size, fontfamily=FONT, fontweight=_weight(bold), parse_math=False)

    def fits(line: str) -> bool:
        ink.set_text(line)
        return ink.get_window_extent().width <= width

    if fits(text):
        return [text]
    columns = max(1, int(1.1 * len(text) * width / ink.get_window_extent().width))
    while True:
        lines = textwrap.wrap(text, columns)
        if columns == 1 or all(map(fits, lines)):
            return lines
        columns = max(1, int(columns * 0.97))


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Measure a line of text of `size` points in pixels."""
    ink = _scratch().text(0, 0, text, fontsize=size, fontfamily=FONT, fontweight=_weight(bold), parse_math=False)
    return float(ink.get_window_extent().width)


def drawable(text: str) -> str:
    """Put a text on one line, with a square for each letter that the font does not know."""
    return "".join(letter if _has_glyph(letter) else "\N{WHITE SQUARE}" for letter in " ".join(text.split()))


def _scratch() -> Figure:
    figure = Figure(dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


@cache
def _has_glyph(letter: str) -> bool:
    """Whether the font knows a letter; matplotlib warns of each one it does not and draws a box."""
    return get_font(findfont(FontProperties(family=FONT))).get_char_index(ord(letter)) != 0


def _weight(bold: bool) -> str:
    return "bold" if bold else "normal"

"""What stands under a picture: what its colours mean, how long a millimetre is, and what must be known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_gradcam import words
from napari_gradcam.export import card
from napari_gradcam.export.page import drawable, line_height, width_of, wrapped
from napari_gradcam.export.painting import FONT, INK

if TYPE_CHECKING:
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner
    from napari_gradcam.export.page import Page
    from napari_gradcam.export.painting import HeatStyle

BAR_WIDTH, BAR_HEIGHT = 420.0, 18.0
"""The colour bar in pixels, at most."""

GAP = 16.0
"""Pixels between parts of a page."""

_NICE = (1.0, 2.0, 5.0)


class Legend:
    """The foot of a picture, to be laid out first and drawn when the page is there.

    Parameters
    ----------
    explanation
        The map.
    manner, style
        How it is painted; no style where nothing is.
    room
        Its width in pixels.
    body, small
        Sizes of its text and of the notices, in points.
    notices
        Whether the sentences that a reader must know are told.
    """

    def __init__(
        self,
        explanation: Explanation,
        manner: Manner,
        style: HeatStyle | None,
        room: float,
        *,
        body: float = 12.0,
        small: float = 10.5,
        notices: bool = True,
    ) -> None:
        self._explanation, self._style, self._room = explanation, style, room
        self._body, self._small = body, small
        self._meaning = wrapped(_meaning(explanation, manner, style), room, body)
        self._purpose = wrapped(words.PURPOSE, room, body, bold=True)
        told = card.notices(explanation, manner) if notices else ()
        self._notices = [line for sentence in told for line in wrapped(sentence, room, small)]
        purpose = width_of(words.PURPOSE, body, bold=True)
        # Side by side where both fit, else one below the other.
        self._beside = style is None or BAR_WIDTH + 2 * GAP + purpose <= room
        self._bar_width = min(BAR_WIDTH, room - 4)
        self._sides = style is not None and style.signed

    @property
    def height(self) -> float:
        """Of all of it, in pixels."""
        return self._notices_top + len(self._notices) * line_height(self._small)

    @property
    def _bar_top(self) -> float:
        return len(self._meaning) * line_height(self._body) + 4

    @property
    def _bar_room(self) -> float:
        if self._style is None:
            return 0.0
        return BAR_HEIGHT + (2 if self._sides else 1) * line_height(self._small) + 14

    @property
    def _notices_top(self) -> float:
        purpose = len(self._purpose) * line_height(self._body)
        room = max(self._bar_room, purpose) if self._beside else self._bar_room + purpose
        return self._bar_top + room + (GAP if self._notices else 0)

    def draw(self, page: Page, left: float, top: float) -> None:
        """Draw it from a point on, in pixels."""
        page.write(left, top, self._meaning, self._body)
        if self._style is not None:
            self._colour_bar(page, left + 2, top + self._bar_top, self._style)
        if self._beside and self._style is not None:
            page.write(left + self._room, top + self._bar_top, self._purpose, self._body, bold=True, align="right")
        else:
            page.write(left, top + self._bar_top + self._bar_room, self._purpose, self._body, bold=True)
        page.write(left, top + self._notices_top, self._notices, self._small)

    def _colour_bar(self, page: Page, left: float, top: float, style: HeatStyle) -> None:
        """Draw the one scale of the volume: empty where the tiles are, with its raw values."""
        axes = page.axes(left, top, self._bar_width, BAR_HEIGHT)
        low, high = style.limits
        axes.imshow(
            style.painted(np.linspace(low, high, 1025)[None, :]),
            cmap=style.colours,
            vmin=low,
            vmax=high,
            extent=(low, high, 0, 1),
            aspect="auto",
            interpolation="nearest",
        )
        axes.set_yticks([])
        marks = _ticks(style, self._bar_width, self._small)
        axes.set_xticks(
            list(marks), list(marks.values()), fontfamily=FONT, fontsize=self._small, color=INK, parse_math=False
        )
        axes.tick_params(color=INK)
        for spine in axes.spines.values():
            spine.set_color(INK)
        if self._sides:
            below = top + BAR_HEIGHT + 6 + line_height(self._small)
            half = self._bar_width / 2 - 6
            against, own = _sides(self._explanation)
            page.write(left, below, [_cut(f"← {against}", half, self._small)], self._small)
            page.write(left + self._bar_width, below, [_cut(f"{own} →", half, self._small)], self._small, align="right")


def scale_bar(page: Page, left: float, top: float, room: float, pixels_per_mm: float, size: float) -> None:
    """Draw a bar of a round number of mm, with its length beside it.

    Parameters
    ----------
    page
        Where to.
    left, top
        Its left end and its middle, in pixels.
    room
        How wide it may be with its number, in pixels.
    pixels_per_mm
        How long a millimetre is.
    size
        Of the number, in points.
    """
    number = width_of("100 mm", size) + 8
    length = bar_length(max(room - number, room / 4) / pixels_per_mm)
    width = length * pixels_per_mm
    axes = page.axes(left, top - 5, width, 10)
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.plot([0, 0, 0, 1, 1, 1], [0, 1, 0.5, 0.5, 1, 0], color=INK, linewidth=1.6, clip_on=False)
    page.write(left + width + 8, top - line_height(size) / 2 + 2, [f"{length:g} mm"], size)


def bar_length(most: float) -> float:
    """Give the longest of 1, 2, 5, 10, 20, 50 … mm (and .1, .2 …) that is no longer than so many mm."""
    power = 10.0 ** np.floor(np.log10(max(most, 1e-6)))
    return float(max(nice * power for nice in _NICE if nice * power <= max(most, power) * (1 + 1e-9)))


def _meaning(explanation: Explanation, manner: Manner, style: HeatStyle | None) -> str:
    """Say what the colours mean."""
    if style is None:
        return card.nothing(explanation, manner)
    against = f" against “{explanation.against}”" if explanation.against else ""
    share = f"{100 * manner.threshold:.0f} %"
    of = "the strongest" if style.signed else "the maximum"
    if manner.top is not None:
        of = f"a fixed scale to {words.number(manner.top)}"
    sides = ", to both sides of 0" if style.signed else ""
    text = (
        f"{words.method(explanation)} for “{explanation.target}”{against} (raw, {words.unit(explanation)}), "
        f"painted from {share} of {of} on{sides}, {100 * style.opacity:.0f} % opaque"
    )
    if manner.top is not None:
        text += f"; the map's own maximum is {words.number(explanation.strongest)}"
    return text


def _ticks(style: HeatStyle, width: float, size: float) -> dict[float, str]:
    """Give the values that are written at the colour bar, without those that would run into others."""
    values = [0.0, style.maximum, style.lowest]
    if style.signed:
        values += [-style.maximum, -style.lowest]
    low, high = style.limits
    taken: list[tuple[float, float]] = []
    marks = {}
    for value in values:
        text = words.number(value) if value else "0"
        middle, half = (value - low) / (high - low) * width, width_of(text, size) / 2 + 3
        if all(middle + half <= start or middle - half >= stop for start, stop in taken):
            taken.append((middle - half, middle + half))
            marks[value] = text
    return dict(sorted(marks.items()))


def _sides(explanation: Explanation) -> tuple[str, str]:
    """Say what the two sides of a signed map speak for."""
    own = f"for “{explanation.target}”"
    return (f"for “{explanation.against}”" if explanation.against else f"against “{explanation.target}”"), own


def _cut(text: str, width: float, size: float) -> str:
    """Cut a text with an ellipsis to a width in pixels; what it names is written out elsewhere."""
    text = drawable(text)
    while width_of(text, size) > width and len(text) > 2:
        text = text[: max(1, int(0.9 * len(text)) - 1)].rstrip() + "…"
    return text

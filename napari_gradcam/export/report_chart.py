"""The report's chart: the evidence slice by slice, and of a 2D classifier the score of each slice.

Everything is given as numbers for the page's SVG, so that what is written on it passes through the same escapes as all
else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_gradcam import words
from napari_gradcam.profiles import hot_slices, scores_by_slice, slice_profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner
    from napari_gradcam.export.tiles import Stack
    from napari_gradcam.volumes.orientation import Plane

WIDTH, HEIGHT = 720.0, 240.0
"""Of the whole chart, in its own units."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 50.0, 12.0, 44.0
_FROM = {"axial": "head", "coronal": "front", "sagittal": "right"}
_TO = {"axial": "feet", "coronal": "back", "sagittal": "left"}


class Bar(NamedTuple):
    """A slice: where its bar stands, and which kind it is (``hot``, ``cold``, ``against``, ``cool``)."""

    x: float
    y: float
    width: float
    height: float
    kind: str


class Tick(NamedTuple):
    """A number at an axis."""

    at: float
    text: str


class Chart(NamedTuple):
    """What the chart shows.

    Attributes
    ----------
    bars
        One for each slice that holds evidence, two of a signed map.
    line
        Points of the score by slice, ``"x,y x,y"``, in runs without a gap.
    dots
        The same, where slices are few enough to be told apart.
    slices, shares, scores
        Ticks.
    zero, box
        Where 0 lies, and left, top, right and bottom of the axes.
    caption, below
        What is said in words, and along the axis of slices.
    """

    bars: tuple[Bar, ...]
    line: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    slices: tuple[Tick, ...]
    shares: tuple[Tick, ...]
    scores: tuple[Tick, ...]
    zero: float
    box: tuple[float, float, float, float]
    width: float
    height: float
    caption: str
    below: str
    hot: int
    signed: bool


def chart_of(explanation: Explanation, manner: Manner, stack: Stack, plane: Plane) -> Chart | None:
    """Draw the profile of the plane that a map is read in; None where no slice holds evidence and none has a score."""
    axis, least = stack.axis(plane), manner.least(explanation)
    own = stack.in_order(plane, slice_profile(explanation, axis))
    hot = stack.in_order(plane, hot_slices(explanation, axis, least))
    opposed, cool = np.zeros_like(own), np.zeros_like(hot)
    if explanation.signed:
        turned = replace(explanation, heatmap=-explanation.heatmap)
        opposed = stack.in_order(plane, slice_profile(turned, axis))
        cool = stack.in_order(plane, hot_slices(turned, axis, least))
    scores = scores_by_slice(explanation, explanation.target) if explanation.slice_axis == axis else None
    if scores is not None:
        scores = stack.in_order(plane, scores)
    if scores is None and not own.any() and not opposed.any():
        return None
    right = WIDTH - _RIGHT if scores is not None else WIDTH - 12
    box = (_LEFT, _TOP, right, HEIGHT - _BOTTOM)
    top, low = _round_up(float(own.max())), _round_up(float(opposed.max())) if opposed.any() else 0.0
    per_share = (box[3] - box[1]) / ((top + low) or 1.0)
    zero = box[1] + top * per_share if top + low else box[3]
    step = (right - _LEFT) / len(own)
    bars = [*_bars(own, hot, zero, step, -per_share, ("hot", "cold"))]
    bars += _bars(opposed, cool, zero, step, per_share, ("against", "cool"))
    line, dots = _line(scores, box, step)
    marked = dict.fromkeys((top, 0.0, -low)) if top + low else {}
    probabilities = (0.0, 0.5, 1.0) if scores is not None else ()
    name = plane.value if explanation.in_patient_space else ""
    ends = f", from the {_FROM[name]} to the {_TO[name]}" if name else ""
    return Chart(
        bars=tuple(bars),
        line=line,
        dots=dots,
        slices=_slices(len(own), step),
        shares=tuple(Tick(round(zero - value * per_share, 2), f"{100 * abs(value):.3g} %") for value in marked),
        scores=tuple(Tick(round(box[3] - value * (box[3] - box[1]), 2), f"{value:g}") for value in probabilities),
        zero=zero,
        box=box,
        width=WIDTH,
        height=HEIGHT,
        caption=_caption(own, hot, scores, explanation, name),
        below=f"{name} slice{ends}".strip().capitalize(),
        hot=int(hot.sum()),
        signed=explanation.signed,
    )


def _bars(
    shares: NDArray[np.float64],
    hot: NDArray[np.bool_],
    zero: float,
    step: float,
    per_share: float,
    kinds: tuple[str, str],
) -> list[Bar]:
    """Stand a bar on the line of 0 for each slice with evidence; with gaps where there is room."""
    width = step * (0.86 if step > 4 else 1.0)
    bars = []
    for number in np.flatnonzero(shares):
        tall = float(shares[number]) * per_share
        x, y = _LEFT + (number + 0.5) * step - width / 2, zero + min(tall, 0.0)
        bars.append(Bar(round(x, 2), round(y, 2), round(width, 2), round(abs(tall), 2), kinds[not hot[number]]))
    return bars


def _line(
    scores: NDArray[np.float64] | None, box: tuple[float, float, float, float], step: float
) -> tuple[tuple[str, ...], tuple[tuple[float, float], ...]]:
    """Give the points of the score by slice; slices that nobody read leave a gap."""
    if scores is None:
        return (), ()
    runs: list[list[tuple[float, float]]] = [[]]
    for number, score in enumerate(scores):
        if np.isfinite(score):
            at = round(_LEFT + (number + 0.5) * step, 2), round(box[3] - float(score) * (box[3] - box[1]), 2)
            runs[-1].append(at)
        elif runs[-1]:
            runs.append([])
    dots = tuple(point for run in runs for point in run) if step > 6 else ()
    return tuple(" ".join(f"{x},{y}" for x, y in run) for run in runs if run), dots


def _slices(count: int, step: float) -> tuple[Tick, ...]:
    """Write round numbers at about eight of the slices, which count from 1."""
    apart = next(nice for nice in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, 10_000) if count / nice <= 9)
    numbers = [1, *(n for n in range(apart, count + 1, apart) if n > max(1, apart / 2))]
    return tuple(Tick(round(_LEFT + (number - 0.5) * step, 2), str(number)) for number in numbers)


def _round_up(share: float) -> float:
    """Give the top of an axis that holds a share: 1, 2, 2.5, 5 or 10 times a power of ten."""
    if share <= 0:
        return 0.0
    power = 10.0 ** np.floor(np.log10(share))
    return float(next(nice * power for nice in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if nice * power >= share * 0.999))


def _caption(
    own: NDArray[np.float64],
    hot: NDArray[np.bool_],
    scores: NDArray[np.float64] | None,
    explanation: Explanation,
    plane: str,
) -> str:
    """Say the chart in words."""
    told = []
    if own.any():
        most = int(own.argmax())
        told.append(f"{plane} slice {most + 1} holds most evidence, {100 * own[most]:.2g} % of all.".strip())
    reach = {0: "No slice reaches", 1: "1 slice reaches"}.get(int(hot.sum()), f"{int(hot.sum())} slices reach")
    told.append(f"{reach} the threshold.")
    if scores is not None and np.isfinite(scores).any():
        best = int(np.nanargmax(scores))
        score = words.probability(float(scores[best]))
        told.append(f"“{explanation.target}” is most probable in slice {best + 1}, {score}.")
    said = " ".join(told)
    return said[0].upper() + said[1:]

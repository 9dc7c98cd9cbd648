"""How the numbers of an explanation are said, alike in a window, a picture and a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_gradcam.explanation import METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

PURPOSE = "For research and review, not for diagnosis."

_UNITS = {
    "gradcam++": "units of its own",
    "eigencam": "units of the layer's activations",
    "scorecam": "units of the layer's activations",
    "ablationcam": "logit units times activation",
}

_ENDS = ("RL", "AP", "SI")


def place(position: Sequence[float]) -> str:
    """Say where a point lies in the patient.

    Parameters
    ----------
    position
        RAS+ mm.

    Returns
    -------
    str
        Such as ``"R 32.0 A 14.0 S 50.0 mm"``.
    """
    return " ".join(along_axis(axis, mm) for axis, mm in enumerate(position)) + " mm"


def hottest_point(explanation: Explanation, volume: Volume) -> str:
    """Say where the map is hottest: in the patient, or by voxel where no file places the scan in the patient."""
    peak = explanation.peak
    return place(peak.position) if volume.in_patient_space else "voxel " + " ".join(map(str, peak.index))


def along_axis(axis: int, mm: float) -> str:
    """Say one patient coordinate with its letter, ``"L 12.5"`` for -12.5 mm on axis 0 of RAS+."""
    shown = round(mm, 1)
    return f"{_ENDS[axis][shown < 0]} {abs(shown):.1f}"


def size(lengths_mm: Sequence[float]) -> str:
    """Say the edges of a box in mm, ``"16.0 × 16.0 × 16.0 mm"``."""
    return " × ".join(f"{mm:.1f}" for mm in lengths_mm) + " mm"


def probability(value: float) -> str:
    """Say a probability to three places; never 0 or 1 for one that is neither."""
    if 0 < value < 0.0005:
        return "< 0.001"
    if 0.9995 <= value < 1:
        return "> 0.999"
    return f"{value:.3f}"


def number(value: float) -> str:
    """Say a raw value to three significant digits."""
    return f"{value:.3g}" if math.isfinite(value) else str(value)


def unit(explanation: Explanation) -> str:
    """Say what the raw values of the map are measured in."""
    return _UNITS.get(explanation.method, "logit units")


def method(explanation: Explanation) -> str:
    """Say the method's label; its name where it is none of ours."""
    return METHODS.get(explanation.method, explanation.method)

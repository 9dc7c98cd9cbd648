"""Positions in the patient as numbers, in the convention that a person prefers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.explanation import Explanation, Peak

System = Literal["RAS", "LPS"]
"""The directions that x, y and z run to: RAS+ as NIfTI and neuroimaging have it, LPS+ as DICOM and ITK."""

SYSTEMS: tuple[System, ...] = get_args(System)


def in_system(position: Sequence[float], system: System) -> tuple[float, float, float]:
    """Turn a RAS+ position in mm into a convention's own."""
    x, y, z = (float(mm) for mm in position)
    return (x, y, z) if system == "RAS" else (-x, -y, z)


def coordinates(peak: Peak, explanation: Explanation, system: System) -> str:
    """Say where a voxel lies, ``"32.0, 14.0, 50.0"``; by its index where nothing places the scan in a patient."""
    if not explanation.in_patient_space:
        return ", ".join(map(str, peak.index))
    # A coordinate that rounds to nothing has no sign.
    return ", ".join(f"{round(mm, 1) + 0.0:.1f}" for mm in in_system(peak.position, system))

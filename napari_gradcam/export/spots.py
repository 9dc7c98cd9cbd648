"""Hot spots as a table for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from napari_gradcam import words
from napari_gradcam.coordinates import in_system
from napari_gradcam.explanation import Peak
from napari_gradcam.export.files import written_whole
from napari_gradcam.hotspots import HotSpot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_gradcam.coordinates import System
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

_NONE = HotSpot(0, Peak((0, 0, 0), (0.0, 0.0, 0.0), 0.0), 0.0, 0.0, 0, None)
"""For the headings of a table without rows."""


def spots_table(
    spots: Sequence[HotSpot], explanation: Explanation, volume: Volume, at_least: float, system: System = "RAS"
) -> str:
    """Write hot spots as CSV (RFC 4180), with a line of headings.

    Parameters
    ----------
    spots
        The hot spots.
    explanation
        Whose they are.
    volume
        The scan, for the instance numbers of its slices.
    at_least
        The raw heat from which on a voxel belongs to a hot spot: share and volume follow from it.
    system
        The axes of positions in the patient, ``"RAS"`` or ``"LPS"``, in mm. Where no file places the scan in a
        patient those columns are empty.

    Returns
    -------
    str
        Numbers in full, with a point; ``voxel_i``, ``voxel_j``, ``voxel_k`` count from 0 on the native grid.
    """
    axes = [f"{axis}_{system.lower()}_mm" for axis in "xyz"]
    rows = [_row(spot, explanation, volume, at_least, system, axes) for spot in spots]
    names = list(_row(_NONE, explanation, volume, at_least, system, axes))
    text = io.StringIO()
    table = csv.DictWriter(text, names)
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _row(
    spot: HotSpot, explanation: Explanation, volume: Volume, at_least: float, system: System, axes: Sequence[str]
) -> dict[str, object]:
    placed = in_system(spot.peak.position, system) if explanation.in_patient_space else (None, None, None)
    return {
        "rank": spot.rank,
        "class": explanation.target,
        "against": explanation.against,
        "peak": spot.peak.value,
        "unit": words.unit(explanation),
        "threshold": at_least,
        "evidence": spot.evidence,
        "share": spot.share,
        "voxels": spot.voxels,
        "volume_ml": spot.millilitres,
        **dict(zip(axes, placed, strict=True)),
        **dict(zip(("voxel_i", "voxel_j", "voxel_k"), spot.peak.index, strict=True)),
        "instance_number": volume.instance(spot.peak.index),
    }


def write_spots(
    spots: Sequence[HotSpot],
    explanation: Explanation,
    volume: Volume,
    path: Path,
    at_least: float,
    system: System = "RAS",
) -> None:
    """Write hot spots as CSV, whole or not at all; see :func:`spots_table`.

    Raises
    ------
    GradCamError
        If the file cannot be written.
    """
    with written_whole(path) as temporary:
        temporary.write_text(spots_table(spots, explanation, volume, at_least, system), encoding="utf-8", newline="")

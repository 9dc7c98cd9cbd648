"""Hot spots as a table for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from napari_gradcam import words
from napari_gradcam.coordinates import in_system
from napari_gradcam.export.files import written_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_gradcam.coordinates import System
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.hotspots import HotSpot
    from napari_gradcam.volumes import Volume


def spots_table(
    spots: Sequence[HotSpot], explanation: Explanation, volume: Volume, system: System = "RAS"
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
    system
        The axes of positions in the patient, ``"RAS"`` or ``"LPS"``, in mm. Where no file places the scan in a
        patient those columns are empty.

    Returns
    -------
    str
        Numbers in full, with a point; ``voxel_i``, ``voxel_j``, ``voxel_k`` count from 0 on the native grid.
    """
    text = io.StringIO()
    table = csv.writer(text)
    axes = [f"{axis}_{system.lower()}_mm" for axis in "xyz"]
    table.writerow(
        ("rank", "class", "peak", "unit", "evidence", "share", "voxels", "volume_ml", *axes, "voxel_i", "voxel_j")
        + ("voxel_k", "instance_number")
    )
    for spot in spots:
        instance = volume.instance(spot.peak.index)
        placed = in_system(spot.peak.position, system) if explanation.in_patient_space else ("", "", "")
        table.writerow(
            (spot.rank, explanation.target, spot.peak.value, words.unit(explanation), spot.evidence, spot.share)
            + (spot.voxels, "" if spot.millilitres is None else spot.millilitres, *placed, *spot.peak.index)
            + ("" if instance is None else instance,)
        )
    return text.getvalue()


def write_spots(
    spots: Sequence[HotSpot], explanation: Explanation, volume: Volume, path: Path, system: System = "RAS"
) -> None:
    """Write hot spots as CSV, whole or not at all; see :func:`spots_table`.

    Raises
    ------
    GradCamError
        If the file cannot be written.
    """
    with written_whole(path) as temporary:
        temporary.write_text(spots_table(spots, explanation, volume, system), encoding="utf-8", newline="")

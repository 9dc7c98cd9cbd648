"""The record: everything that somebody else needs to make an explanation again, and to tell whether it is the same.

It is JSON of the schema ``explanation.schema.json`` beside this module. What is measured stands in it in full: a number
that is not finite is null; the map on the network's own grid is packed into a text, since it can have a million cells.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gradcam import words
from napari_gradcam.errors import GradCamError
from napari_gradcam.export.card import notices
from napari_gradcam.export.files import final_folder, written_whole
from napari_gradcam.export.sources import files_told, place_told
from napari_gradcam.export.tables import profile_axis
from napari_gradcam.hotspots import hot_spots
from napari_gradcam.profiles import slice_profile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner
    from napari_gradcam.hotspots import HotSpot
    from napari_gradcam.provenance import Provenance
    from napari_gradcam.volumes import Volume

FORMAT = "napari-gradcam explanation 1"
"""What a record calls itself; the number goes up when an older reader would misunderstand it."""

NAME = "explanation.json"
HEATMAP = "heatmap.nii.gz"
"""Where the heat map lies beside a record."""


def record(explanation: Explanation, manner: Manner, folder: Path) -> dict[str, Any]:
    """Gather all that a record tells.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    manner
        How it is painted; de-identified, names of scans and files, folders and times are left out.
    folder
        Where the record will lie: the scan's files are told as seen from there too, so that both can be moved.

    Raises
    ------
    GradCamError
        If a file of the scan is gone, or the explanation was put together by hand.
    """
    provenance = _provenance(explanation)
    private = manner.deidentified
    return {
        "format": FORMAT,
        "purpose": words.PURPOSE,
        "created": None if private else f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "deidentified": private,
        "scans": [_scan(volume, folder, private=private) for volume in explanation.volumes],
        "model": _model(provenance, folder, private=private),
        "asked": {
            "target": provenance.asked.target,
            "method": provenance.asked.method,
            "layers": None if provenance.asked.layers is None else list(provenance.asked.layers),
            "plane": provenance.asked.plane,
            "against": provenance.asked.against,
            "signed": provenance.asked.signed,
            "smooth": provenance.asked.smooth,
            "device": provenance.asked.device,
        },
        "run": {
            "device": provenance.device,
            "seed": provenance.seed,
            "seconds": {stage: round(seconds, 6) for stage, seconds in provenance.seconds.items()},
            "versions": dict(provenance.versions),
        },
        "manner": {
            "threshold": manner.threshold,
            "opacity": manner.opacity,
            "colormap": manner.colormap,
            "top": manner.top,
            "system": manner.system,
            "style": manner.style,
        },
        "result": result_of(explanation, manner.least(explanation)),
        "notices": list(notices(explanation, manner)),
    }


def result_of(explanation: Explanation, least: float) -> dict[str, Any]:
    """Gather every number of a result.

    Parameters
    ----------
    explanation
        What was found.
    least
        The raw heat from which on a place is a hot spot.
    """
    axis, peak = profile_axis(explanation), explanation.peak
    placed = explanation.in_patient_space
    scores = explanation.slice_scores
    return {
        "target": explanation.target,
        "against": explanation.against or None,
        "layer": explanation.layer,
        "method": explanation.method,
        "signed": explanation.signed,
        "value_unit": words.unit(explanation),
        "scores": _finite(explanation.scores),
        "logits": _finite(explanation.logits),
        "peak": {
            "index": list(peak.index),
            "position_ras_mm": list(peak.position) if placed else None,
            "value": peak.value,
        },
        "strongest": explanation.strongest,
        "length_unit": explanation.unit,
        "cell_size": list(explanation.cell_size),
        "cell_span": list(explanation.cell_span),
        "plane": explanation.plane or None,
        "slice_axis": explanation.slice_axis,
        "slice_indices": None if explanation.slice_indices is None else _range(explanation.slice_indices),
        "slice_scores": None if scores is None else scores.astype(float).tolist(),
        "completeness": explanation.completeness,
        "coarse": packed(explanation.coarse),
        "coarse_affine": explanation.coarse_affine.tolist(),
        "heatmap": {"file": HEATMAP, "sha256": digest(explanation.heatmap)},
        "hot_spots": {
            "least": least,
            "spots": [_spot(spot, explanation, placed=placed) for spot in hot_spots(explanation, least)],
        },
        "profile": {"axis": axis, "shares": [float(share) for share in slice_profile(explanation, axis)]},
        "parts": {
            layer: {"peak": part.peak.value, "coarse": packed(part.coarse), "completeness": part.completeness}
            for layer, part in explanation.parts.items()
        },
    }


def record_unfit(explanation: Explanation) -> str:
    """Say why an explanation has no record; "" where it can have one."""
    if explanation.provenance is None or not explanation.volumes:
        return "The map was put together by hand and cannot be run again: only what explain() gives has a record."
    return ""


def write_record(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write the record, whole or not at all.

    The files that lie in the same folder by then are listed with their SHA-256.

    Raises
    ------
    GradCamError
        As :func:`record`, or if the file cannot be written.
    """
    told = record(explanation, manner, final_folder(path))
    beside = sorted(file for file in path.parent.iterdir() if file.is_file() and not file.name.startswith("."))
    told["files"] = [{"name": file.name, "sha256": _file_digest(file)} for file in beside if file != path]
    with written_whole(path) as temporary:
        text = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def digest(array: NDArray[Any]) -> str:
    """SHA-256 of an array in C order, hexadecimal: of its type, its shape and its values."""
    whole = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    for part in array:  # slice by slice: a Fortran array is not copied whole
        whole.update(np.ascontiguousarray(part).data)
    return whole.hexdigest()


def packed(array: NDArray[np.float32]) -> dict[str, Any]:
    """Pack an array into a text: its values as little-endian float32 in C order, by zlib and base 64."""
    values = np.ascontiguousarray(array, dtype="<f4")
    text = base64.b64encode(zlib.compress(values.tobytes(), 6)).decode("ascii")
    return {"shape": list(array.shape), "float32_zlib_base64": text}


def _provenance(explanation: Explanation) -> Provenance:
    if why := record_unfit(explanation):
        raise GradCamError(why)
    assert explanation.provenance is not None
    return explanation.provenance


def _scan(volume: Volume, folder: Path, *, private: bool) -> dict[str, Any]:
    return {
        "name": "" if private else volume.name,
        "modality": volume.modality,
        "shape": list(volume.shape),
        "affine": volume.affine.tolist(),
        "length_unit": volume.unit,
        "in_patient_space": volume.in_patient_space,
        "frame": volume.frame,
        "resampled": volume.resampled,
        "colors": volume.color is not None,
        "voxels_sha256": digest(volume.array if volume.color is None else volume.color),
        "files": files_told(volume.source, folder, private=private),
    }


def _model(provenance: Provenance, folder: Path, *, private: bool) -> dict[str, Any]:
    model = provenance.model
    return {
        "name": model.name,
        "version": model.version,
        "place": None if model.source is None else place_told(model.source, folder, private=private),
        "contents_sha256": model.contents or None,
        "weights_sha256": model.weights,
        "activation": model.activation,
        "spatial_dims": model.spatial_dims,
        "preprocessing": [dict(step) for step in model.preprocessing],
    }


def _spot(spot: HotSpot, explanation: Explanation, *, placed: bool) -> dict[str, Any]:
    return {
        "rank": spot.rank,
        "peak": spot.peak.value,
        "index": list(spot.peak.index),
        "position_ras_mm": list(spot.peak.position) if placed else None,
        "instance_number": explanation.volume.instance(spot.peak.index),
        "evidence": spot.evidence,
        "share": spot.share,
        "voxels": spot.voxels,
        "millilitres": spot.millilitres,
    }


def _range(indices: range) -> list[int]:
    return [indices.start, indices.stop, indices.step]


def _finite(by_class: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in by_class.items()}


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

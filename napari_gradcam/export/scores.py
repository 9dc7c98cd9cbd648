"""The numbers of an explanation as JSON, for a spreadsheet, a script or the next program."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from napari_gradcam import __version__, words
from napari_gradcam.export.card import notices
from napari_gradcam.export.files import written_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner


def scores_record(explanation: Explanation) -> dict[str, Any]:
    """Gather the numbers of an explanation in what JSON can hold.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.

    Returns
    -------
    dict
        ``scores`` and ``logits`` by class; ``peak`` with the hottest voxel's native index, its position in RAS+ mm
        (None where nothing places the scan in a patient) and its raw value, or None where there is no positive
        evidence; ``cell_size_mm``, or ``cell_size_pixels`` of a plain picture; and what was explained by what. A score
        that is not a number is None.
    """
    peak = explanation.peak
    hottest = {
        "index": list(peak.index),
        "position_ras_mm": [round(mm, 4) for mm in peak.position] if explanation.in_patient_space else None,
        "value": peak.value,
    }
    return {
        "napari_gradcam": __version__,
        "volume": explanation.volume_name,
        "classifier": explanation.classifier_name,
        "target": explanation.target,
        "layer": explanation.layer,
        "method": explanation.method,
        "unit": words.unit(explanation),
        "signed": explanation.signed,
        "completeness_error": explanation.completeness,
        "scores": _numbers(explanation.scores),
        "logits": _numbers(explanation.logits),
        "peak": None if explanation.is_empty else hottest,
        f"cell_size_{explanation.unit}": [round(length, 4) for length in words.cell_lengths(explanation)],
        "notices": list(explanation.notices),
        "purpose": words.PURPOSE,
    }


def write_scores(explanation: Explanation, path: Path, manner: Manner | None = None) -> None:
    """Write the numbers of an explanation as JSON in UTF-8, whole or not at all.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    path
        The file.
    manner
        De-identified, the scan's name is left out.

    Raises
    ------
    GradCamError
        If the file cannot be written.
    """
    told = scores_record(explanation)
    if manner is not None and manner.deidentified:
        told |= {"volume": "", "notices": list(notices(explanation, manner))}
    text = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)
    with written_whole(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def _numbers(by_class: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in by_class.items()}

"""Scores, hot spots and the slice profile as CSV (RFC 4180): numbers in full, with a point, in UTF-8."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gradcam.export.files import written_whole
from napari_gradcam.export.spots import spots_table
from napari_gradcam.hotspots import hot_spots
from napari_gradcam.profiles import hot_slices, scores_by_slice, slice_profile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner


def scores_table(explanation: Explanation) -> str:
    """Give every class with its probability and its score before softmax or sigmoid, as CSV."""
    return _csv(
        [
            {"class": name, "probability": score, "logit": explanation.logits[name], "explained": name == explained}
            for explained in (explanation.target,)
            for name, score in explanation.scores.items()
        ],
        ("class", "probability", "logit", "explained"),
    )


def profile_axis(explanation: Explanation) -> int:
    """Give the native axis that slices are counted along: a 2D classifier's own, else the third, as they are stored."""
    return explanation.slice_axis if explanation.slice_axis is not None else 2


def profile_table(explanation: Explanation, least: float) -> str:
    """Give the evidence of each slice as CSV, and for a 2D classifier the probability of the class in each.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    least
        The raw heat from which on a voxel, and with it its slice, is hot.

    Returns
    -------
    str
        ``index`` counts from 0 along the native axis ``axis`` (``i``, ``j`` or ``k``); ``share`` is that of all
        positive evidence; ``instance_number`` is DICOM's, of slices that have one.
    """
    axis = profile_axis(explanation)
    shares, hot = slice_profile(explanation, axis), hot_slices(explanation, axis, least)
    scores = scores_by_slice(explanation, explanation.target) if explanation.slice_axis == axis else None
    instances = explanation.volume.instances if axis == 2 else ()
    rows = [
        {
            "axis": "ijk"[axis],
            "index": number,
            "instance_number": instances[number] if number < len(instances) else None,
            "share": float(share),
            "hot": bool(hot[number]),
            "probability": None if scores is None or np.isnan(scores[number]) else float(scores[number]),
        }
        for number, share in enumerate(shares)
    ]
    return _csv(rows, tuple(rows[0]))


def write_scores_table(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write :func:`scores_table`, whole or not at all."""
    _write(scores_table(explanation), path)


def write_hot_spots(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write the hot spots, whole or not at all; see :func:`napari_gradcam.export.spots.spots_table`."""
    least = manner.least(explanation)
    spots = hot_spots(explanation, least)
    _write(spots_table(spots, explanation, explanation.volume, least, manner.system), path)


def write_profile(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write :func:`profile_table`, whole or not at all."""
    _write(profile_table(explanation, manner.least(explanation)), path)


def _csv(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, names)
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _write(text: str, path: Path) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")

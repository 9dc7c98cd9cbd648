"""What stands beside a map wherever it is shown: by what it was made, what it is no good for, and what must be known.

The window, the pictures and the report say the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_gradcam import words
from napari_gradcam.bands import BANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner

DIGITS = 12
"""So many of a hash are told: enough to tell two files apart."""

_QUOTED = re.compile(r"“[^”]*”")
_TELLING = re.compile(r"\b\d+(?:\.\d+){5,}\b|\b(?:19|20)\d{6}\b|\b\d{4}-\d\d-\d\d\b|\b\d{1,2}[./]\d{1,2}[./]\d{4}\b")
"""UIDs and dates."""

_PLAIN_WORD = re.compile(r"[a-z]+")


def card(explanation: Explanation, manner: Manner, *, in_bands: bool = False) -> tuple[str, ...]:
    """Say by what a map was made, and what it is no good for.

    Parameters
    ----------
    explanation
        The map.
    manner
        How it is painted.
    in_bands
        Whether it is drawn as bands or contour lines, which stand where they do whatever the threshold.

    Returns
    -------
    tuple of str
        Model, version and the beginning of its weights' SHA-256; class, method and layer; cell and threshold; purpose.
    """
    return (
        model(explanation),
        f"{question(explanation)} · {words.method(explanation)} at {explanation.layer}",
        f"cell {words.cell(explanation)} · {banded(explanation, manner) if in_bands else painted(explanation, manner)}",
        words.PURPOSE,
    )


def painted(explanation: Explanation, manner: Manner) -> str:
    """Say from which value on a map is painted, and on which scale."""
    share = f"{100 * manner.threshold:.0f} %, {scale(manner)}"
    if not explanation.strongest > 0:
        return "nothing is painted"
    sides = " to both sides of 0" if explanation.signed else ""
    return f"painted from {words.number(manner.least(explanation))} {words.unit(explanation)}{sides} ({share})"


def banded(explanation: Explanation, manner: Manner) -> str:
    """Say where the bands of a map begin, and on which scale."""
    edges = ", ".join(f"{100 * edge:.0f}" for edge in BANDS)
    top = f"{words.number(manner.maximum(explanation))} {words.unit(explanation)}"
    return f"bands from {edges} % of {top} ({scale(manner)})"


def model(explanation: Explanation) -> str:
    """Say which model was asked, and the beginning of its weights' hash."""
    made = explanation.provenance
    if made is None:
        return explanation.classifier_name or "a classifier without a name"
    version = f" {made.model.version}" if made.model.version else ""
    return f"{made.model.name}{version}, weights {made.model.weights[:DIGITS]}"


def question(explanation: Explanation) -> str:
    """Say which class the map is of, and against which."""
    return explanation.target + (f" against {explanation.against}" if explanation.against else "")


def scale(manner: Manner) -> str:
    """Say what the colours are scaled by."""
    return "scale of this map" if manner.top is None else "fixed scale"


def nothing(explanation: Explanation, manner: Manner) -> str:
    """Say in a sentence that nothing of a map is painted, and why; "" where something is."""
    if not explanation.strongest > 0:
        if explanation.signed:
            return "No evidence for or against this class: nothing is painted."
        return "No positive evidence for this class: nothing is painted."
    if explanation.strongest < manner.least(explanation):
        return "The whole map lies below the threshold: nothing is painted."
    return ""


def notices(explanation: Explanation, manner: Manner) -> tuple[str, ...]:
    """Give the sentences that a reader of the map must know.

    Where the patient must not be known, names of scans, files and folders in them, UIDs and dates are left out.
    """
    if not manner.deidentified:
        return explanation.notices
    names = sorted(set(_names(explanation)), key=len, reverse=True)
    return tuple(_without(sentence, names) for sentence in explanation.notices)


def _names(explanation: Explanation) -> Iterator[str]:
    """List all names by which a scan or a file could be known."""
    yield explanation.volume_name
    for volume in explanation.volumes:
        yield volume.name
        for path in volume.source:
            yield from (str(path), path.name, path.name.split(".")[0], path.parent.name)


def _without(sentence: str, names: list[str]) -> str:
    """Take names out of a sentence: between quotation marks, and wherever they cannot be mistaken for a word."""
    for name in filter(None, names):
        for quoted in _QUOTED.findall(sentence):
            if name in quoted:
                sentence = sentence.replace(quoted, "“…”")
        if len(name) > 1 and not _PLAIN_WORD.fullmatch(name):
            sentence = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", sentence)
    return _TELLING.sub("…", sentence)

"""An explanation in words and numbers for the dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_gradcam import words
from napari_gradcam.viewer.contract import Result, ScoreRow

if TYPE_CHECKING:
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.viewer.look import Look
    from napari_gradcam.volumes import Volume


def result(explanation: Explanation, volume: Volume, look: Look) -> Result:
    """Say what was found, and how the picture of it must be read.

    Parameters
    ----------
    explanation
        What was found.
    volume
        The scan; the position in the patient is told only where its file gives one.
    look
        How it is painted now.
    """
    peak = explanation.peak
    return Result(
        scores=scores(explanation),
        target=explanation.target,
        against=explanation.against,
        facts=(
            ("Hottest point", "none" if explanation.is_empty else words.hottest_point(explanation, volume)),
            ("Raw maximum", f"{words.number(peak.value)} {words.unit(explanation)}"),
            ("Cell", words.cell(explanation)),
            ("Layer", f"{explanation.layer}, {words.method(explanation)}"),
        ),
        sentences=(*_visibility(explanation, look), *explanation.notices),
        top=look.top(explanation),
        peak=explanation.strongest,
        signed=explanation.signed,
    )


def scores(explanation: Explanation) -> dict[str, ScoreRow]:
    """Say the score of each class, in the classifier's order."""
    return {
        name: ScoreRow(name, value, words.probability(value), words.number(explanation.logits[name]))
        for name, value in explanation.scores.items()
    }


def _visibility(explanation: Explanation, look: Look) -> tuple[str, ...]:
    if not explanation.strongest > 0:
        return (f"Nothing in the scan speaks for “{explanation.target}” at this layer: there is no heat to show.",)
    if not look.paints(explanation):
        return ("The whole map lies below the threshold: nothing is painted.",)
    return ()

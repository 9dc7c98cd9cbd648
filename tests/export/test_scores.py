"""The numbers of an explanation, as the next program reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from napari_gradcam import words
from napari_gradcam.export.scores import write_scores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume


def test_every_number_comes_back(tmp_path: Path, explanation: Explanation) -> None:
    write_scores(explanation, tmp_path / "scores.json")
    record = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert record["scores"] == {"no lesion": 0.0131, "lesion": 0.9869}
    assert record["logits"] == {"no lesion": -2.1, "lesion": 2.2}
    assert record["target"] == "lesion"
    assert record["layer"] == "class_layers.relu"
    assert record["method"] == "gradcam"
    assert record["peak"] == {"index": [7, 9, 5], "position_ras_mm": [4, 6, 6], "value": pytest.approx(0.083)}
    assert record["cell_size_mm"] == [4, 4, 6]
    assert record["notices"] == ["The scan is made by hand."]
    assert (record["volume"], record["classifier"]) == ("scan", "two classes")


def test_an_empty_map_has_no_peak(tmp_path: Path, empty: Explanation) -> None:
    write_scores(empty, tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text("utf-8"))["peak"] is None


def test_a_score_that_is_no_number_leaves_valid_json(
    tmp_path: Path, volume: Volume, make_explanation: Callable[..., Explanation]
) -> None:
    broken = make_explanation(volume, scores={"lesion": float("nan"), "no lesion": 0.5})
    write_scores(broken, tmp_path / "scores.json")
    text = (tmp_path / "scores.json").read_text("utf-8")
    assert json.loads(text, parse_constant=lambda constant: pytest.fail(constant))["scores"]["lesion"] is None


@pytest.mark.parametrize(
    ("position", "said"),
    [((32, 14, 50), "R 32.0 A 14.0 S 50.0 mm"), ((-0.06, -7.25, -1e-9), "L 0.1 P 7.2 S 0.0 mm")],
)
def test_a_place_is_said_with_the_patient_s_letters(position: tuple[float, ...], said: str) -> None:
    assert words.place(position) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.987, "0.987"), (1e-5, "< 0.001"), (0.99999, "> 0.999"), (0, "0.000"), (1, "1.000")]
)
def test_a_probability_is_never_rounded_to_certainty(value: float, said: str) -> None:
    assert words.probability(value) == said

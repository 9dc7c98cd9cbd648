"""The report's tables in words and numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_gradcam import words
from napari_gradcam.coordinates import coordinates
from napari_gradcam.export import card
from napari_gradcam.hotspots import hot_spots
from napari_gradcam.volumes.orientation import DisplayGrid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_gradcam.explanation import Explanation, Peak
    from napari_gradcam.export.manner import Manner
    from napari_gradcam.export.tiles import Stack
    from napari_gradcam.volumes import Volume
    from napari_gradcam.volumes.orientation import Plane

SPOTS = 20
"""So many hot spots are listed at most; the table of hot spots has them all."""

_LONGEST = 400
"""Settings of a preprocessing step are told in so many letters at most."""

_UNSAID = ("name", "allow_missing_keys")

_AXES = {
    "RAS": "x runs to the patient's right, y to the front, z to the head",
    "LPS": "x runs to the patient's left, y to the back, z to the head, as in DICOM",
}


class Score(NamedTuple):
    """A row of the scores: what is said, and the bar's length from 0 to 100."""

    name: str
    probability: str
    logit: str
    share: float
    explained: bool
    opposed: bool


class Spots(NamedTuple):
    """The table of hot spots: headings, rows, and what is said below it."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int
    axes: str
    least: str


def finding(explanation: Explanation) -> list[tuple[str, str]]:
    """Say what was found, in the words of the window."""
    found = (
        []
        if explanation.is_empty
        else [
            ("Hottest point", words.hottest_point(explanation, explanation.volume)),
            ("Raw maximum", f"{words.number(explanation.peak.value)} {words.unit(explanation)}"),
        ]
    )
    return [
        *found,
        ("Method", f"{words.method(explanation)} at {explanation.layer}"),
        ("Cell", words.cell(explanation)),
    ]


def scores(explanation: Explanation) -> list[Score]:
    """List the score of each class, in the classifier's order."""
    return [
        Score(
            name,
            words.probability(value),
            words.number(explanation.logits[name]),
            round(100 * min(max(value, 0.0), 1.0), 2) if math.isfinite(value) else 0.0,
            name == explanation.target,
            name == explanation.against,
        )
        for name, value in explanation.scores.items()
    ]


def overlay_alt(explanation: Explanation, manner: Manner) -> str:
    """Say in words what the overlay picture shows."""
    planes = "The scan" if explanation.unit == "pixels" else "Axial, coronal and sagittal slice of the scan"
    empty = card.nothing(explanation, manner)
    if empty:
        return f"{planes}, without heat. {empty}"
    where = "the strongest point of the heat map"
    if not explanation.is_empty:
        where = f"its hottest point, {words.hottest_point(explanation, explanation.volume)}"
    return f"{planes} under the heat map of “{explanation.target}”, through {where}."


def spots(explanation: Explanation, manner: Manner, stack: Stack, plane: Plane) -> Spots:
    """List the hot spots by rank."""
    found = hot_spots(explanation, manner.least(explanation))
    volume = explanation.volume
    in_mm, instances = explanation.unit == "mm", any(number is not None for number in volume.instances)
    several = stack.count(plane) > 1
    heads = ["#", f"Peak, {words.unit(explanation)}", "Share"]
    heads += ["ml"] * in_mm
    heads.append(_place_head(explanation, manner))
    heads += [f"{plane.value.capitalize()} slice" if explanation.in_patient_space else "Slice"] * several
    heads += ["Instance"] * instances
    rows = []
    for spot in found[:SPOTS]:
        row = [str(spot.rank), words.number(spot.peak.value), share(spot.share)]
        row += [f"{spot.millilitres:.3g}" if spot.millilitres is not None else ""] * in_mm
        row.append(_place(spot.peak, explanation, manner))
        row += [str(stack.number(plane, spot.peak.index) + 1)] * several
        instance = volume.instance(spot.peak.index) if instances else None
        row += ["" if instance is None else str(instance)] * instances
        rows.append(tuple(row))
    axes = _AXES[manner.system] if explanation.in_patient_space else ""
    least = f"{words.number(manner.least(explanation))} {words.unit(explanation)}"
    return Spots(tuple(heads), tuple(rows), max(0, len(found) - SPOTS), axes, least)


def share(value: float) -> str:
    """Say a share of the evidence."""
    return f"{100 * value:.0f} %" if value >= 0.01 else "< 1 %"


def _place_head(explanation: Explanation, manner: Manner) -> str:
    if explanation.unit == "pixels":
        return "Row, column"
    return f"x, y, z in {manner.system}, mm" if explanation.in_patient_space else "Voxel i, j, k"


def _place(peak: Peak, explanation: Explanation, manner: Manner) -> str:
    if explanation.unit == "pixels":
        _, row, column = DisplayGrid.of(explanation.volume).index_to_display(peak.index)
        return f"{row:.0f}, {column:.0f}"
    return coordinates(peak, explanation, manner.system)


def provenance(explanation: Explanation, manner: Manner) -> list[tuple[str, str]]:
    """Say what someone needs to make the map again, name by name."""
    told: list[tuple[str, str]] = []
    if not manner.deidentified:
        told += [("Scan", _scan(volume)) for volume in explanation.volumes]
    told += [("Grid", words.extent(volume)) for volume in explanation.volumes[:1]]
    made = explanation.provenance
    if made is None:
        return told
    model, asked = made.model, made.asked
    told.append(("Model", " ".join(filter(None, (model.name, model.version)))))
    if model.source is not None and not manner.deidentified:
        told.append(("Model's file", model.source.name))
    told += [("SHA-256 of its files", model.contents), ("SHA-256 of its weights", model.weights)]
    told.append(("Reads", f"{model.spatial_dims}D, scores by {model.activation}"))
    wanted = [f"class {asked.target or 'by score'}", f"method {asked.method}"]
    wanted.append(f"layer {' + '.join(asked.layers) if asked.layers else 'by the model'}")
    wanted += [f"plane {asked.plane}"] * bool(asked.plane) + ["signed"] * asked.signed
    wanted += [f"mean of {asked.smooth} noisy runs"] * (asked.smooth > 0)
    told += [("Asked for", ", ".join(wanted)), ("Device", made.device)]
    if made.seed is not None:
        told.append(("Seed", str(made.seed)))
    told.append(("Seconds", ", ".join(f"{name} {seconds:.2f}" for name, seconds in made.seconds.items())))
    told.append(("Versions", ", ".join(f"{name} {version}" for name, version in made.versions.items())))
    return [(name, value) for name, value in told if value]


def preprocessing(explanation: Explanation) -> list[tuple[str, str]]:
    """List the steps that the scan went through before the network read it, each with its settings."""
    if explanation.provenance is None:
        return []
    return [(str(step.get("name", "?")), _settings(step)) for step in explanation.provenance.model.preprocessing]


def _settings(step: Mapping[str, Any]) -> str:
    told = ", ".join(
        f"{name} {said}" for name, value in step.items() if name not in _UNSAID and (said := _value(value))
    )
    return told if len(told) <= _LONGEST else told[: _LONGEST - 1] + "…"


def _value(value: Any) -> str:
    """Say a setting in short; "" where it is empty."""
    if value is None or value == {} or value == []:
        return ""
    if isinstance(value, dict):
        return f"{value.get('name', '')}({_settings(value)})"
    if isinstance(value, list):
        return f"[{', '.join(_value(one) or 'none' for one in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _scan(volume: Volume) -> str:
    """Say a scan's name and its files, without their folders."""
    names = [path.name for path in volume.source]
    kind = f" ({volume.modality})" if volume.modality else ""
    files = ""
    if names:
        files = f": {names[0]}" if len(names) == 1 else f": {len(names)} files, {names[0]} to {names[-1]}"
    return f"{volume.name or 'without a name'}{kind}{files}"

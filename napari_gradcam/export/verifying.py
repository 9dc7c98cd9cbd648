"""Running a record again, to tell whether it comes to the same, and if not, what differs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_gradcam import warm
from napari_gradcam.classifiers.describing import described
from napari_gradcam.classifiers.weights import weights_digest
from napari_gradcam.errors import GradCamError
from napari_gradcam.explainer import explain_steps
from napari_gradcam.export.record import digest, result_of
from napari_gradcam.export.reopening import heatmap_of, unpacked
from napari_gradcam.export.sources import sha256_of
from napari_gradcam.origin import versions
from napari_gradcam.progress import finish

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.channels import Given
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.reopening import Record
    from napari_gradcam.progress import Steps
    from napari_gradcam.volumes import Volume

TOLERANCE = 1e-4
"""Numbers that differ by less are the same up to rounding, which another processor, number of threads or version of
torch changes: of a probability as it is, of a score before softmax of it or 1, of a map as a share of its strongest
value."""

_OF_STRONGEST = " of the strongest value"

_SHORT = 12
"""Digits of a hash that are told."""


@dataclass(frozen=True)
class Verification:
    """What came of running a record again.

    Attributes
    ----------
    verdict
        ``"equal"``: every number and every voxel of the heat map, bit by bit. ``"equal within tolerance"``: none
        differs by more than :data:`TOLERANCE`. ``"different"``: something does, or scan or model are others.
    largest
        The largest difference of the numbers, in the terms of :data:`TOLERANCE`; NaN where they cannot be compared.
    differences
        What differs, one sentence each; empty where nothing does.
    notes
        What differs and need not change anything, such as a version.
    """

    verdict: Literal["equal", "equal within tolerance", "different"]
    largest: float
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def verify(record: Record, volumes: Sequence[Volume], classifier: Classifier) -> Verification:
    """Run a record again, and tell whether it comes to the same; see :func:`verify_steps`.

    >>> verify(read_record(Path("results/explanation.json")), [scan], classifier).verdict  # doctest: +SKIP
    'equal'
    """
    given = volumes[0] if len(volumes) == 1 else list(volumes)
    return finish(verify_steps(record, given, volumes, classifier))


def verify_steps(
    record: Record, given: Given, volumes: Sequence[Volume], classifier: Classifier
) -> Steps[Verification]:
    """Run a record again, and tell whether it comes to the same.

    Parameters
    ----------
    record
        The record.
    given
        The scans as :func:`napari_gradcam.explain` takes them.
    volumes
        The same, in the order of the record.
    classifier
        The model.

    Raises
    ------
    GradCamError
        If memory does not suffice, or the heat map that lies beside the record is damaged.
    """
    inputs = [*_scans(record, volumes), *_model(record, classifier)]
    notes = [*_files(record, volumes), *_versions(record)]
    try:
        again = yield from _again(record, given, classifier)
    except GradCamError as error:
        told = f"It cannot be run again: {str(error)[0].lower()}{str(error)[1:]}"
        return Verification("different", math.nan, (*inputs, told), tuple(notes))
    compared = list(_compared(record, again))
    largest = max((one.size for one in compared), default=0.0)
    found = [one.told for one in compared if not one.size <= TOLERANCE]
    if inputs or found:
        return Verification("different", largest, (*inputs, *found), tuple(notes))
    return Verification("equal" if largest == 0 else "equal within tolerance", largest, (), tuple(notes))


@dataclass(frozen=True)
class _Compared:
    """How far a number, or an array of numbers, is from what was recorded; infinite of what is no number."""

    size: float
    told: str


def _again(record: Record, given: Given, classifier: Classifier) -> Steps[Explanation]:
    """Run it, without what is kept of an earlier run."""
    warm.let_go()
    asked = record.asked
    return (
        yield from explain_steps(
            given,
            classifier,
            asked.target,
            asked.method,
            None if asked.layers is None else list(asked.layers),
            against=asked.against,
            plane=asked.plane,
            signed=asked.signed,
            smooth=asked.smooth,
            device=asked.device,
        )
    )


def _scans(record: Record, volumes: Sequence[Volume]) -> Iterator[str]:
    told = record.told["scans"]
    if len(told) != len(volumes):
        yield f"The record is of {len(told)} scans, and {len(volumes)} were given."
    for one, volume in zip(told, volumes, strict=False):
        name = f"The scan “{volume.name}”"
        if one["shape"] != list(volume.shape):
            yield f"{name} has {_times(volume.shape)} voxels; recorded are {_times(one['shape'])}."
            continue
        voxels = digest(volume.array if volume.color is None else volume.color)
        if one["voxels_sha256"] != voxels:
            yield f"{name} has other voxels: {_hashes(one['voxels_sha256'], voxels)}{_changed_files(one, volume)}."
        if not np.allclose(one["affine"], volume.affine, atol=1e-6):
            yield f"{name} lies elsewhere: its affine differs from the recorded one."


def _changed_files(told: Mapping[str, Any], volume: Volume) -> str:
    """Name the files of a scan that hold something else."""
    if len(told["files"]) != len(volume.source):
        return ""
    changed = [
        f"slice {number}, {path.name}"
        for number, (one, path) in enumerate(zip(told["files"], volume.source, strict=True), start=1)
        if one["sha256"] != sha256_of(path)[0]
    ]
    if not changed or len(volume.source) == 1:
        return ""
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f", in {'; '.join(changed[:3])}{more}"


def _files(record: Record, volumes: Sequence[Volume]) -> Iterator[str]:
    """Tell of files that are others although they hold the same voxels."""
    for told, volume in zip(record.told["scans"], volumes, strict=False):
        hashes = [one["sha256"] for one in told["files"]]
        if hashes != [sha256_of(path)[0] for path in volume.source]:
            yield f"“{volume.name}” was read from other files than those recorded."


def _model(record: Record, classifier: Classifier) -> Iterator[str]:
    told = record.told["model"]
    weights = weights_digest(classifier.network)
    if told["weights_sha256"] != weights:
        yield f"The model has other weights: {_hashes(told['weights_sha256'], weights)}."
    steps, recorded = described(classifier.preprocess), told["preprocessing"]
    names, before = [step["name"] for step in steps], [step["name"] for step in recorded]
    if names != before:
        yield f"The preprocessing has other steps: {', '.join(names)}; recorded are {', '.join(before)}."
    else:
        changed = [one["name"] for one, other in zip(steps, recorded, strict=True) if one != other]
        if changed:
            yield f"The preprocessing has other settings at {', '.join(changed)}."
    if told["activation"] != classifier.head.activation:
        yield f"The model's output is read by {classifier.head.activation}; recorded is {told['activation']}."
    classes = list(record.told["result"]["scores"])
    if classes != list(classifier.class_names):
        yield f"The model's classes are {', '.join(classifier.class_names)}; recorded are {', '.join(classes)}."


def _versions(record: Record) -> Iterator[str]:
    for name, recorded in record.told["run"]["versions"].items():
        now = versions().get(name)
        if now is not None and now != recorded:
            yield f"{name} is {now}; recorded is {recorded}."


def _compared(record: Record, again: Explanation) -> Iterator[_Compared]:
    """Compare every number of a result with the recorded one."""
    told = record.told["result"]
    now = result_of(again, told["hot_spots"]["least"])
    for key, what in _WORDS.items():
        if told[key] != now[key]:
            yield _Compared(math.inf, f"The {what} is “{now[key]}”; recorded is “{told[key]}”.")
    for key, what in (("scores", "probability"), ("logits", "score before softmax")):
        for name in told[key].keys() & now[key].keys():
            yield _number(f"The {what} of “{name}”", told[key][name], now[key][name], relative=key == "logits")
    strongest = max(abs(told["strongest"]), again.strongest) or 1.0
    yield _number("The raw maximum", told["peak"]["value"], again.peak.value, scale=strongest)
    if told["slice_scores"] is not None or now["slice_scores"] is not None:
        yield _array("The probabilities of the slices", told["slice_scores"], now["slice_scores"])
    yield _array("The map on the network's grid", unpacked(told["coarse"]), again.coarse, strongest, _OF_STRONGEST)
    lengths = f" {again.unit}"
    yield _array("The place of the network's cells", told["coarse_affine"], now["coarse_affine"], 1.0, lengths)
    for layer, part in told["parts"].items():
        now_part = again.parts.get(layer)
        other = None if now_part is None else now_part.coarse
        yield _array(f"The map at the layer “{layer}”", unpacked(part["coarse"]), other, strongest, _OF_STRONGEST)
    yield from _heat(record, again, strongest)
    shares = told["profile"]["shares"]
    yield _array("The profile over the slices", shares, now["profile"]["shares"])
    yield from _spots(told, now, strongest)


_WORDS = {
    "target": "class explained",
    "against": "class it is set against",
    "layer": "layer",
    "method": "method",
    "plane": "plane",
    "signed": "sign",
}


def _heat(record: Record, again: Explanation, strongest: float) -> Iterator[_Compared]:
    if digest(again.heatmap) == record.told["result"]["heatmap"]["sha256"]:
        return
    try:
        recorded = heatmap_of(record)
    except GradCamError as error:
        # Of bits that differ nobody can tell by how much without the map itself; its cells were compared above.
        yield _Compared(float(np.finfo(np.float32).tiny), f"The heat map is not the same bit by bit. {error}")
        return
    yield _array("The heat map", recorded, again.heatmap, strongest, _OF_STRONGEST)


def _spots(told: Mapping[str, Any], now: Mapping[str, Any], strongest: float) -> Iterator[_Compared]:
    recorded, found = told["hot_spots"]["spots"], now["hot_spots"]["spots"]
    if len(recorded) != len(found):
        yield _Compared(math.inf, f"There are {len(found)} hot spots; recorded are {len(recorded)}.")
        return
    for one, other in zip(recorded, found, strict=True):
        name = f"Hot spot {one['rank']}"
        yield _number(f"{name}: its peak", one["peak"], other["peak"], scale=strongest)
        yield _number(f"{name}: its share", one["share"], other["share"])


def _number(
    name: str, recorded: float | None, now: float | None, scale: float = 1.0, *, relative: bool = False
) -> _Compared:
    """Compare a number; None is one that is not finite."""
    if recorded is None or now is None:
        return _Compared(0.0 if recorded == now else math.inf, f"{name} is {now}; recorded is {recorded}.")
    scale = max(1.0, abs(recorded)) if relative else scale
    return _Compared(abs(recorded - now) / scale, f"{name} is {now:.6g}; recorded is {recorded:.6g}.")


def _array(name: str, recorded: Any, now: Any, scale: float = 1.0, measure: str = "") -> _Compared:
    """Compare arrays; `measure` says what a difference is of, after it was divided by `scale`."""
    if recorded is None or now is None or np.shape(recorded) != np.shape(now):
        return _Compared(math.inf, f"{name}: the shape is another than the recorded one.")
    size = float(np.max(np.abs(np.subtract(recorded, now, dtype=np.float64)), initial=0.0)) / scale
    return _Compared(size, f"{name}: differs by up to {size:.2g}{measure}.")


def _times(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _hashes(recorded: str, now: str) -> str:
    return f"SHA-256 {now[:_SHORT]}…, recorded is {recorded[:_SHORT]}…"

"""The one use case: a volume and a classifier to an explanation.

Not named ``explain``, as the function is: a submodule of that name would hide the function from ``from napari_gradcam
import explain`` once it was imported.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_gradcam.cam import METHODS as ENGINE_METHODS
from napari_gradcam.cam import Network, capture, maps_of_steps
from napari_gradcam.cam.engine import INPUT, check_method, drained, layers_named
from napari_gradcam.cam.memory import samples_at_once
from napari_gradcam.cam.running import device_called
from napari_gradcam.classifiers.preprocessing import cut, prepare_slices, prepare_volume
from napari_gradcam.classifiers.scores import already_probabilities
from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import METHODS, Explanation, Progress, cell_size
from napari_gradcam.placing import Placed, fields_of, place_slices, place_volume
from napari_gradcam.words import size
from napari_gradcam.worth import worth_notices

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from napari_gradcam.cam import ClassActivationMaps
    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.preprocessing import Prepared
    from napari_gradcam.volumes import Volume

INCOMPLETE = 1e-3
"""Evidence that adds up to the score no better than this is said to be wrong; rounding is a thousand times smaller."""

FUSED = " + "
"""Stands between the names of layers whose maps are fused."""


class Request(NamedTuple):
    """How to map what a network saw; see :func:`explain`."""

    target: int | None
    method: str
    layers: list[str] | None
    signed: bool
    smooth: int
    device: torch.device | None


def explain(
    volume: Volume,
    classifier: Classifier,
    target: str | int | None = None,
    method: str = "gradcam",
    layer: str | Sequence[str] | None = None,
    *,
    signed: bool = False,
    smooth: int = 0,
    device: str | None = None,
) -> Explanation:
    """Map which region of `volume` made `classifier` give a class its score.

    Parameters
    ----------
    volume
        One scalar scan.
    classifier
        A 3D classifier reads the whole volume; a 2D one reads every slice of its plane, and gives one volume on one
        scale.
    target
        Class name or index; None is the class with the highest score.
    method
        A key of :data:`napari_gradcam.explanation.METHODS`.
    layer
        Name of the target layer; None is ``classifier.default_layer``. Several names fuse their maps on one scale
        (:func:`napari_gradcam.cam.engine.fused`) and keep each in ``explanation.parts``.
    signed
        Keep evidence against the class as negative values; only for methods that have a sign.
    smooth
        Take the mean of the maps of so many copies of the input with a little noise, always the same; 0 for none.
    device
        Where the network runs, such as ``"cpu"`` or ``"cuda:0"``; None is where its weights are.

    Returns
    -------
    Explanation
        Its heat map lies on ``volume.array``'s grid.

    Raises
    ------
    GradCamError
        If class, method, layer or device do not exist, or the scan does not fit the classifier or the memory.
    """
    steps = explain_steps(volume, classifier, target, method, layer, signed=signed, smooth=smooth, device=device)
    explanation: Explanation = drained(steps)
    return explanation


def explain_steps(
    volume: Volume,
    classifier: Classifier,
    target: str | int | None = None,
    method: str = "gradcam",
    layer: str | Sequence[str] | None = None,
    *,
    signed: bool = False,
    smooth: int = 0,
    device: str | None = None,
) -> Generator[Progress, None, Explanation]:
    """Do as :func:`explain`, pausing between stages: close the generator there to cancel.

    Yields
    ------
    Progress
        Before each stage; one forward pass cannot be interrupted.
    """
    wanted = None if target is None else classifier.class_index(target)
    of_layer = check_method(method, signed).of_layer
    layers = layers_named(layer) if layer is not None and of_layer else None if of_layer else []
    request = Request(wanted, method, layers, signed, smooth, device_called(device))
    run = _explain_volume if classifier.spatial_dims == 3 else _explain_slices
    return (yield from run(volume, classifier, request))


def _with_layers(request: Request, classifier: Classifier) -> Request:
    """Take the classifier's own layer where none was asked for, which may need a survey."""
    return request if request.layers is not None else request._replace(layers=[classifier.default_layer])


class _Run(NamedTuple):
    """One pass of the network: ``(batch, class)`` twice, and a map of each layer for each of the targets asked for."""

    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    found: ClassActivationMaps
    targets: Sequence[int]
    saturable: bool
    spread: float
    input_shape: tuple[int, ...]

    def maps(self) -> dict[str, NDArray[np.float32]]:
        """Give the maps by layer, ``(batch, target, *grid)``, the fused one of several first."""
        every = {name: layer.maps for name, layer in self.found.layers.items()}
        if len(every) > 1:
            every = {FUSED.join(every): self.found.maps, **every}
        return {name: maps.float().cpu().numpy() for name, maps in every.items()}


def _explain_volume(volume: Volume, classifier: Classifier, request: Request) -> Generator[Progress, None, Explanation]:
    yield Progress(0, 4, "Preparing the scan")
    prepared = prepare_volume(volume, classifier.preprocess)
    yield Progress(1, 4, "Finding the layer")
    request = _with_layers(request, classifier)
    yield Progress(2, 4, "Running the network")
    run = yield from _run(classifier, prepared, request, Progress(2, 4, "Running the network"))
    yield Progress(3, 4, "Placing the map")
    placed = {
        name: place_volume(maps[0, 0], prepared.affines[0], run.input_shape, volume)
        for name, maps in run.maps().items()
    }
    scores = run.probabilities[0], run.logits[0]
    return _explanation(volume, classifier, request, [run], placed, scores, run.targets[0])


def _explain_slices(volume: Volume, classifier: Classifier, request: Request) -> Generator[Progress, None, Explanation]:
    rule = classifier.slice_rule
    slices = cut(volume, rule.plane)
    total = len(slices) + 1
    yield Progress(0, total, "Finding the layer")
    request = _with_layers(request, classifier)
    network = Network(classifier.network, classifier.head.class_scores, request.device)
    runs: list[_Run] = []
    affines: list[NDArray[np.float64]] = []
    stage = f"Running the network on {rule.plane} slices"
    for prepared in prepare_slices(
        slices, classifier.preprocess, volume.name, lambda shape: samples_at_once(network.module, shape, network.place)
    ):
        yield Progress(len(affines), total, stage)
        runs.append((yield from _run(classifier, prepared, request, Progress(len(affines), total, stage))))
        affines += list(prepared.affines)
    yield Progress(len(slices), total, "Placing the map")
    probabilities = np.concatenate([run.probabilities for run in runs])
    logits = np.concatenate([run.logits for run in runs])
    *scores, told = _aggregate(classifier, probabilities, logits)
    target = int(np.argmax(scores[0])) if request.target is None else request.target
    column = list(runs[0].targets).index(target)
    placed = {}
    every = [run.maps() for run in runs]
    for name in every[0]:
        coarse = np.concatenate([maps[name][:, column] for maps in every]).transpose(1, 2, 0)
        placed[name] = place_slices(np.ascontiguousarray(coarse), affines, runs[0].input_shape, slices, volume)
    return _explanation(
        volume,
        classifier,
        request,
        runs,
        placed,
        (scores[0], scores[1]),
        target,
        told=(told,),
        slice_scores=probabilities.astype(np.float32),
        slice_axis=slices.native_axis,
    )


def _explanation(
    volume: Volume,
    classifier: Classifier,
    request: Request,
    runs: Sequence[_Run],
    placed: Mapping[str, Placed],
    scores: tuple[NDArray[np.float64], NDArray[np.float64]],
    target: int,
    told: tuple[str, ...] = (),
    **more: Any,
) -> Explanation:
    """Put together what was found: the first map placed is the answer, the others are its parts."""
    named, name = _by_name(classifier, scores[0]), classifier.class_names[target]
    spread = max(run.spread for run in runs)
    completeness = _completeness(runs)
    answers = {}
    for layer, place in placed.items():
        fields = fields_of(place.coarse.shape, place.coarse_affine)
        notices = (
            *told,
            *worth_notices(volume, place.coarse, fields, spread, place.heatmap, named, name),
            *_method_notices(request, runs[0], name, completeness),
            *_layer_notices(layer, runs[0], place, classifier.spatial_dims),
            *volume.notices,
            *classifier.notices,
        )
        answers[layer] = Explanation(
            heatmap=place.heatmap,
            affine=volume.affine,
            coarse=place.coarse,
            coarse_affine=place.coarse_affine,
            scores=named,
            logits=_by_name(classifier, scores[1]),
            target=name,
            layer=layer,
            method=request.method,
            volume_name=volume.name,
            classifier_name=classifier.name,
            signed=request.signed,
            completeness=completeness,
            notices=notices,
            **more,
        )
    first, *parts = answers.values()
    return replace(first, parts={part.layer: part for part in parts}) if parts else first


def _run(classifier: Classifier, prepared: Prepared, request: Request, at: Progress) -> Generator[Progress, None, _Run]:
    """Run the network once; without a class asked for, map a volume's best and each of a batch of slices."""
    network = Network(classifier.network, classifier.head.class_scores, request.device)
    try:
        captured = capture(network, prepared.tensor, request.layers or [])
    except GradCamError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise _misfit(classifier, prepared, error) from error
    logits = captured.logits.detach()
    saturable = captured.ending is None and already_probabilities(logits)
    probabilities = logits if saturable else classifier.head.probabilities(logits, captured.ending)
    if request.target is not None:
        targets: Sequence[int] = [request.target]
    elif len(logits) == 1 and classifier.spatial_dims == 3:
        targets = [int(logits.argmax())]
    else:
        targets = range(logits.shape[1])
    steps = maps_of_steps(captured, targets, request.method, signed=request.signed, smooth=request.smooth)
    label = METHODS.get(request.method, request.method)
    found = yield from _told(steps, lambda done, total: _within(at, done, total, label, classifier.spatial_dims))
    return _Run(
        logits.double().cpu().numpy(),
        probabilities.double().cpu().numpy(),
        found,
        targets,
        saturable,
        float(prepared.tensor.max() - prepared.tensor.min()),
        tuple(prepared.tensor.shape[2:]),
    )


def _told(
    steps: Generator[tuple[int, int], None, ClassActivationMaps], say: Callable[[int, int], Progress]
) -> Generator[Progress, None, ClassActivationMaps]:
    """Turn the engine's pauses into progress."""
    try:
        while True:
            try:
                done, total = next(steps)
            except StopIteration as stop:
                found: ClassActivationMaps = stop.value
                return found
            yield say(done, total)
    finally:
        steps.close()


def _within(at: Progress, done: int, total: int, label: str, dims: int) -> Progress:
    """Say how far a method has come that asks the network again and again."""
    if dims == 3:
        return Progress(done, total, f"{label}: asking the network again")
    return Progress(at.done, at.total, f"{label}, {100 * done // total} % of this batch")


def _misfit(classifier: Classifier, prepared: Prepared, error: Exception) -> GradCamError:
    """Say why a network did not take its input, from what torch says."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    given = prepared.tensor.shape[1]
    wanted = re.search(rf"to have (\d+) channels, but got {given} channels", reason)
    if wanted:
        return GradCamError(
            f"The model “{classifier.name}” wants {wanted[1]} input channels but its preprocessing gives {given} for "
            "this scan; choose a model made for such scans."
        )
    size = " × ".join(map(str, prepared.tensor.shape[1:]))
    return GradCamError(
        f"The model “{classifier.name}” cannot read its own preprocessed input of {size} (channels first): {reason}; "
        "correct the bundle's preprocessing or network."
    )


def _aggregate(
    classifier: Classifier, probabilities: NDArray[np.float64], logits: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Score a volume from its slices by the classifier's rule, and say by which."""
    rule = classifier.slice_rule
    if rule.aggregation == "max":
        best = int(probabilities[:, rule.positive].argmax())
        name = classifier.class_names[rule.positive]
        count = len(probabilities)
        told = f"The scores are those of the one {rule.plane} slice of {count} where “{name}” is most probable."
        return probabilities[best], logits[best], told
    told = f"The scores are the mean of {len(probabilities)} {rule.plane} slices."
    return probabilities.mean(axis=0), logits.mean(axis=0), told


def _by_name(classifier: Classifier, values: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(classifier.class_names, values, strict=True)}


def _completeness(runs: Sequence[_Run]) -> float | None:
    """Give the worst relative error of all runs in adding up to the class scores, or None where none can tell."""
    worst = None
    for run in runs:
        complete = run.found.completeness
        if complete is not None:
            worst = max(worst or 0.0, complete.relative_error)
    return worst


def _method_notices(request: Request, run: _Run, target: str, completeness: float | None) -> tuple[str, ...]:
    """Say what the method and the network's end mean for the reader."""
    notices = []
    label = METHODS[request.method]
    if ENGINE_METHODS[request.method].needs == "activations":
        notices.append(
            f"{label} shows what the layer holds, the same for every class: it is no evidence for “{target}”."
        )
    if request.smooth > 0:
        notices.append(
            f"The map is the mean of {request.smooth} runs with a little noise on the input, always the same."
        )
    if run.found.ending is not None:
        notices.append(f"The network ends in {run.found.ending}; the map is of the score before it.")
    if run.saturable:
        notices.append(
            "The network returns probabilities instead of scores before softmax: where it is certain, the map vanishes."
        )
    if completeness is not None and completeness > INCOMPLETE:
        notices.append(
            f"The evidence over the layer does not add up to the class score, it is {100 * completeness:.2g} % off: do "
            "not trust this map."
        )
    return tuple(notices)


def _layer_notices(layer: str, run: _Run, placed: Placed, dims: int) -> tuple[str, ...]:
    """Say where the layer's grid is too coarse, or the layer ran more than once."""
    notices = []
    cells = placed.coarse.shape[:dims]
    calls = run.found.layers[layer].calls if layer in run.found.layers else 1
    if calls > 1:
        notices.append(f"The layer “{layer}” runs {calls} times in the network; the map is of its last run.")
    if min(cells) <= 3 and layer != INPUT:
        grid, mm = " × ".join(map(str, cells)), size(cell_size(placed.coarse_affine)[:dims])
        notices.append(
            f"The layer “{layer}” has a grid of only {grid} cells, each {mm}: the map is too coarse to place a finding."
        )
    return tuple(notices)

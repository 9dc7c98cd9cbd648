"""The one use case: a volume and a classifier to an explanation.

Not named ``explain``, as the function is: a submodule of that name would hide the function from ``from napari_gradcam
import explain`` once it was imported.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gradcam.cam import Network
from napari_gradcam.cam.engine import check_method, drained, layers_named
from napari_gradcam.cam.memory import samples_at_once
from napari_gradcam.cam.running import device_called
from napari_gradcam.classifiers.preprocessing import cut, prepare_slices, prepare_volume
from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import Explanation
from napari_gradcam.inference import Answer, Request, run_network
from napari_gradcam.placing import Placed, fields_of, place_slices, place_volume
from napari_gradcam.progress import Progress
from napari_gradcam.worth import answer_notices, layer_notices, worth_notices

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.preprocessing import Prepared
    from napari_gradcam.volumes import Volume


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
        Name of the target layer; None is the one recommended for this scan's input. Several names fuse their maps on
        one scale (:func:`napari_gradcam.cam.results.fused`) and keep each in ``explanation.parts``.
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
    layers = None if layer is None else layers_named(layer)
    if not check_method(method, signed).of_layer:
        layers = []
    request = Request(wanted, method, layers, signed, smooth, device_called(device))
    run = _explain_volume if classifier.spatial_dims == 3 else _explain_slices
    return (yield from run(volume, classifier, request))


def _with_layers(request: Request, classifier: Classifier, prepared: Prepared) -> Request:
    """Take the layer that is best for what was prepared where none was asked for; that may need a survey."""
    if request.layers is not None:
        return request
    try:
        layer = classifier.default_layer_for(tuple(prepared.tensor.shape[1:]))
    except GradCamError as error:
        if error.__cause__ is None:
            raise  # no layer has a grid
        layer = classifier.default_layer  # the network does not take the input: its run says best why
    return request._replace(layers=[layer])


def _explain_volume(volume: Volume, classifier: Classifier, request: Request) -> Generator[Progress, None, Explanation]:
    yield Progress(0, 4, "Preparing the scan")
    prepared = prepare_volume(volume, classifier.preprocess)
    yield Progress(1, 4, "Finding the layer")
    request = _with_layers(request, classifier, prepared)
    yield Progress(2, 4, "Running the network")
    run = yield from run_network(classifier, prepared, request, Progress(2, 4, "Running the network"))
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
    yield Progress(0, total, "Preparing the slices")
    network = Network(classifier.network, classifier.head.class_scores, request.device)
    runs: list[Answer] = []
    affines: list[NDArray[np.float64]] = []
    stage = f"Running the network on {rule.plane} slices"
    for prepared in prepare_slices(
        slices, classifier.preprocess, volume.name, lambda shape: samples_at_once(network.module, shape, network.place)
    ):
        request = _with_layers(request, classifier, prepared)
        yield Progress(len(affines), total, stage)
        runs.append((yield from run_network(classifier, prepared, request, Progress(len(affines), total, stage))))
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
    runs: Sequence[Answer],
    placed: Mapping[str, Placed],
    scores: tuple[NDArray[np.float64], NDArray[np.float64]],
    target: int,
    told: tuple[str, ...] = (),
    **more: Any,
) -> Explanation:
    """Put together what was found: the first map placed is the answer, the others are its parts."""
    named, name = _by_name(classifier, scores[0]), classifier.class_names[target]
    spread = max(run.spread for run in runs)
    answers = {}
    for layer, place in placed.items():
        completeness = _completeness(runs, layer)
        fields = fields_of(place.coarse.shape, place.coarse_affine)
        notices = (
            *told,
            *worth_notices(volume, place.coarse, fields, spread, place.heatmap, named, name),
            *answer_notices(request, runs[0], name, completeness),
            *layer_notices(layer, runs[0], placed, classifier.spatial_dims),
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


def _completeness(runs: Sequence[Answer], layer: str) -> float | None:
    """Give the worst error of all runs in adding up to the class scores at a layer; None where none can tell.

    Of layers that were fused, the worst of those that can tell.
    """
    errors = [
        maps.completeness.relative_error
        for run in runs
        for name, maps in run.found.layers.items()
        if maps.completeness is not None and (name == layer or layer not in run.found.layers)
    ]
    return max(errors, default=None)

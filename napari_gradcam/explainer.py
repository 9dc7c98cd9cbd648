"""The one use case: a volume and a classifier to an explanation.

Not named ``explain``, as the function is: a submodule of that name would hide the function from ``from napari_gradcam
import explain`` once it was imported.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_gradcam import warm
from napari_gradcam.cam.engine import check_method, drained, layers_named
from napari_gradcam.cam.running import device_called
from napari_gradcam.classifiers.channels import channels_of
from napari_gradcam.classifiers.fit import fit_notices
from napari_gradcam.contrast import opposed
from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import Explanation, cell_size
from napari_gradcam.inference import Request
from napari_gradcam.origin import Watch, model_of, provenance
from napari_gradcam.passes import Run
from napari_gradcam.placing import fields_of
from napari_gradcam.provenance import Asked
from napari_gradcam.slicewise import Slicewise, check_plane
from napari_gradcam.told import order_told, shortage_told, unable_told, windows_told
from napari_gradcam.whole import Whole
from napari_gradcam.worth import answer_notices, layer_notices, worth_notices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.channels import Channels, Given
    from napari_gradcam.progress import Steps
    from napari_gradcam.seen import Mapped, Reading
    from napari_gradcam.verdict import Verdict


def explain(
    volume: Given,
    classifier: Classifier,
    target: str | int | None = None,
    method: str = "gradcam",
    layer: str | Sequence[str] | None = None,
    *,
    against: str | int | None = None,
    plane: str | None = None,
    signed: bool = False,
    smooth: int = 0,
    device: str | None = None,
) -> Explanation:
    """Map which region of `volume` made `classifier` give a class its score.

    Parameters
    ----------
    volume
        One scan, or several for the channels of the classifier's input: a sequence in the order of the channels, or a
        mapping ``{channel name: scan}``. The map lies on the grid of the first one that is given.
    classifier
        A 3D classifier reads the whole volume; a 2D one reads every slice of its plane, and gives one volume on one
        scale. Where it reads one window at a time (:class:`napari_gradcam.classifiers.classifier.Windows`), maps and
        scores of the windows are put together with the same weights.
    target
        Class name or index; None is the class with the highest score.
    method
        A key of :data:`napari_gradcam.explanation.METHODS`.
    layer
        Name of the target layer; None is the one recommended for this scan's input. Several names fuse their maps on
        one scale (:func:`napari_gradcam.cam.results.fused`) and keep each in ``explanation.parts``.
    against
        A class that the target is set against: the map shows what speaks for the one rather than for the other, with
        its sign (:func:`napari_gradcam.contrast.opposed`).
    plane
        Which slices a 2D classifier reads, ``"axial"``, ``"coronal"`` or ``"sagittal"``; None is its own plane.
    signed
        Keep evidence against the class as negative values; only for methods that have a sign.
    smooth
        Take the mean of the maps of so many copies of the input with a little noise, always the same; 0 for none.
    device
        Where the network runs, such as ``"cpu"`` or ``"cuda:0"``; ``"auto"`` is the best there is, None where its
        weights are. Where its memory does not suffice, batches become smaller and the rest runs on the CPU; a notice
        says so.

    Returns
    -------
    Explanation
        Its heat map lies on the grid of ``volume.array``, or of the first of several.

    Raises
    ------
    GradCamError
        If class, method, layer, plane or device do not exist, or the scan does not fit the classifier or the memory.

    Notes
    -----
    What the network gave for a classifier's last scan stays at hand while both live (:mod:`napari_gradcam.warm`):
    another class, sign or method by gradients at the same layers takes no pass of the network.
    """
    steps = explain_steps(
        volume,
        classifier,
        target,
        method,
        layer,
        against=against,
        plane=plane,
        signed=signed,
        smooth=smooth,
        device=device,
    )
    explanation: Explanation = drained(steps)
    return explanation


def explain_steps(
    volume: Given,
    classifier: Classifier,
    target: str | int | None = None,
    method: str = "gradcam",
    layer: str | Sequence[str] | None = None,
    *,
    against: str | int | None = None,
    plane: str | None = None,
    signed: bool = False,
    smooth: int = 0,
    device: str | None = None,
) -> Steps[Explanation]:
    """Do as :func:`explain`, pausing between stages: close the generator there to cancel.

    Yields
    ------
    Progress
        Before each stage; one forward pass cannot be interrupted.
    """
    other = None if against is None else classifier.class_names[classifier.class_index(against)]
    asked = Asked(
        None if target is None else classifier.class_names[classifier.class_index(target)],
        method,
        None if layer is None else tuple(layers_named(layer)),
        plane,
        other,
        signed,
        smooth,
        device,
    )
    if other is not None and other == asked.target:
        raise GradCamError(f"“{other}” cannot be set against itself: give another class.")
    if other is None:
        return (yield from _one_class(volume, classifier, asked))
    both = replace(asked, signed=check_method(method, signed).signed)
    first = yield from _one_class(volume, classifier, both)
    second = yield from _one_class(volume, classifier, replace(both, target=other))
    assert first.provenance is not None
    return replace(opposed(first, second), provenance=replace(first.provenance, asked=asked))


def _one_class(volume: Given, classifier: Classifier, asked: Asked) -> Steps[Explanation]:
    """Map what speaks for one class."""
    method, plane, signed = asked.method, asked.plane, asked.signed
    layers = None if asked.layers is None else list(asked.layers)
    wanted = None if asked.target is None else classifier.class_index(asked.target)
    if not check_method(method, signed).of_layer:
        layers = []
    check_plane(plane, classifier)
    request = Request(wanted, method, layers, signed, asked.smooth, device_called(asked.device))
    channels = channels_of(volume, classifier)
    way = _way(channels, classifier, plane)
    what = warm.input_of(channels, classifier, way.plane, request)
    model, watch = model_of(classifier, what.network), Watch()
    kept = warm.find(classifier, what, request)
    if kept is None:
        warm.make_room(classifier)
    run = Run(way, classifier, request, kept, warm.let_go)
    if kept is None:
        reading = yield from run.read()
        watch.stage("network")
        if run.keeps:
            warm.keep(classifier, channels, what, reading)
    reading = run.reading
    verdict = way.verdict(reading.probabilities, reading.logits)
    target_index = verdict.best if wanted is None else wanted
    mapped = yield from run.map(target_index)
    watch.stage("map")
    yield run.placing()
    explanation = _explanation(channels, classifier, request, way, reading, mapped, verdict, target_index)
    watch.stage("placing")
    return replace(explanation, provenance=provenance(model, asked, str(run.device), watch))


def _way(channels: Channels, classifier: Classifier, plane: str | None) -> Whole | Slicewise:
    if classifier.spatial_dims == 3:
        return Whole(channels, classifier)
    return Slicewise(channels, classifier, plane)


def _explanation(
    channels: Channels,
    classifier: Classifier,
    request: Request,
    way: Whole | Slicewise,
    reading: Reading,
    mapped: Mapped,
    verdict: Verdict,
    target: int,
) -> Explanation:
    """Put together what was found: the first map placed is the answer, the others are its parts."""
    volume, name = channels.volume, classifier.class_names[target]
    scores = _by_name(classifier, verdict.probabilities)
    parts = "windows" if reading.tiling.count > 1 else way.parts
    read = (
        way.chosen,
        order_told(volume, classifier),
        windows_told(reading, way.parts),
        verdict.told,
        shortage_told(reading.shortages, parts),
        unable_told(reading.unable, parts),
    )
    spans = {layer: (*canvas.span, 1.0)[:3] for layer, canvas in mapped.canvases.items()}
    placed = {
        layer: way.place(canvas.finished(), reading.affines, reading.tiling.covered)
        for layer, canvas in mapped.canvases.items()
    }
    cells = {layer: cell_size(place.coarse_affine, spans[layer]) for layer, place in placed.items()}
    answers = {}
    for layer, place in placed.items():
        completeness = mapped.completeness(layer)
        fields = fields_of(place.coarse.shape, place.coarse_affine)
        # What makes the map worthless comes first: lists are cut where they do not fit.
        notices = (
            *worth_notices(volume, place.coarse, fields, reading.spread, place.heatmap, scores, name),
            *classifier.notices,
            *fit_notices(channels, reading.example, classifier, reading.values),
            *(sentence for sentence in read if sentence),
            *answer_notices(request, reading, name, completeness),
            *layer_notices(layer, reading, mapped, cells, volume.unit),
            *channels.notices,
            *volume.notices,
        )
        answers[layer] = Explanation(
            heatmap=place.heatmap,
            affine=volume.affine,
            coarse=place.coarse,
            coarse_affine=place.coarse_affine,
            cell_span=spans[layer],
            scores=scores,
            logits=_by_name(classifier, verdict.logits),
            target=name,
            layer=layer,
            method=request.method,
            volume_name=volume.name,
            classifier_name=classifier.name,
            plane=way.plane,
            slice_scores=None if way.slice_axis is None else reading.probabilities.astype(np.float32),
            slice_axis=way.slice_axis,
            slice_indices=way.slice_indices,
            in_patient_space=volume.in_patient_space,
            unit=volume.unit,
            signed=request.signed,
            completeness=completeness,
            notices=notices,
            volumes=tuple({id(one): one for one in (volume, *channels.volumes)}.values()),
        )
    first, *others = answers.values()
    return replace(first, parts={one.layer: one for one in others}) if others else first


def _by_name(classifier: Classifier, values: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(classifier.class_names, values, strict=True)}

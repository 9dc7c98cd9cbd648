"""The one use case: a volume and a classifier to an explanation.

Not named ``explain``, as the function is: a submodule of that name would hide the function from ``from napari_gradcam
import explain`` once it was imported.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from nibabel.affines import from_matvec

from napari_gradcam.cam import capture, maps_of
from napari_gradcam.cam.engine import check_method
from napari_gradcam.classifiers.preprocessing import cut, prepare_slices, prepare_volume
from napari_gradcam.classifiers.scores import already_probabilities
from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import Explanation, Progress
from napari_gradcam.volumes.placement import place_on_grid
from napari_gradcam.worth import worth_notices

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.preprocessing import Prepared, Slices
    from napari_gradcam.volumes import Volume

SLICES_AT_ONCE = 8
"""Slices of a volume that a 2D network reads in one batch; more measured no faster on two cores."""

SAME_GRID_MM = 1e-3
"""Slices whose grids lie closer than this to one another's share one grid."""


def explain(
    volume: Volume,
    classifier: Classifier,
    target: str | int | None = None,
    method: str = "gradcam",
    layer: str | None = None,
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
        Name of the target layer; None is ``classifier.default_layer``.

    Returns
    -------
    Explanation
        Its heat map lies on ``volume.array``'s grid.

    Raises
    ------
    GradCamError
        If class, method or layer do not exist, or the scan does not fit the classifier.
    """
    steps = explain_steps(volume, classifier, target, method, layer)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Explanation = stop.value
            return result


def explain_steps(
    volume: Volume,
    classifier: Classifier,
    target: str | int | None = None,
    method: str = "gradcam",
    layer: str | None = None,
) -> Generator[Progress, None, Explanation]:
    """Do as :func:`explain`, pausing between stages: close the generator there to cancel.

    Yields
    ------
    Progress
        Before each stage; one forward pass cannot be interrupted.
    """
    wanted = None if target is None else classifier.class_index(target)
    check_method(method)
    run = _explain_volume if classifier.spatial_dims == 3 else _explain_slices
    return (yield from run(volume, classifier, wanted, method, layer))


class _Run(NamedTuple):
    """One pass of the network: ``(batch, class)`` twice, and a map for each of the targets asked for."""

    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    maps: NDArray[np.float32]
    targets: Sequence[int]
    calls: int
    saturable: bool
    spread: float
    input_shape: tuple[int, ...]


def _explain_volume(
    volume: Volume, classifier: Classifier, wanted: int | None, method: str, layer: str | None
) -> Generator[Progress, None, Explanation]:
    yield Progress(0, 4, "Preparing the scan")
    prepared = prepare_volume(volume, classifier.preprocess)
    yield Progress(1, 4, "Finding the layer")
    layer = layer or classifier.default_layer
    yield Progress(2, 4, "Running the network")
    run = _run(classifier, prepared, layer, wanted, method)
    target = run.targets[0]
    yield Progress(3, 4, "Placing the map")
    coarse = run.maps[0, 0]
    coarse_affine = _cell_affine(prepared.affines[0], run.input_shape, coarse.shape)
    heatmap = place_on_grid(coarse, coarse_affine, volume.shape, volume.affine)
    scores = _by_name(classifier, run.probabilities[0])
    name = classifier.class_names[target]
    return Explanation(
        heatmap=heatmap,
        affine=volume.affine,
        coarse=coarse,
        coarse_affine=coarse_affine,
        scores=scores,
        logits=_by_name(classifier, run.logits[0]),
        target=name,
        layer=layer,
        method=method,
        volume_name=volume.name,
        classifier_name=classifier.name,
        notices=(
            *worth_notices(volume, coarse, [(coarse.shape, coarse_affine)], run.spread, heatmap, scores, name),
            *_run_notices(run, layer),
            *volume.notices,
            *classifier.notices,
        ),
    )


def _explain_slices(
    volume: Volume, classifier: Classifier, wanted: int | None, method: str, layer: str | None
) -> Generator[Progress, None, Explanation]:
    rule = classifier.slice_rule
    slices = cut(volume, rule.plane)
    total = len(slices) + 1
    yield Progress(0, total, "Finding the layer")
    layer = layer or classifier.default_layer
    runs: list[_Run] = []
    affines: list[NDArray[np.float64]] = []
    for prepared in prepare_slices(slices, classifier.preprocess, volume.name, SLICES_AT_ONCE):
        yield Progress(len(affines), total, f"Running the network on {rule.plane} slices")
        run = _run(classifier, prepared, layer, wanted, method)
        cells = (*run.maps.shape[2:], 1)
        affines += [_cell_affine(affine, (*run.input_shape, 1), cells) for affine in prepared.affines]
        runs.append(run)
    yield Progress(len(slices), total, "Placing the map")
    probabilities = np.concatenate([run.probabilities for run in runs])
    logits = np.concatenate([run.logits for run in runs])
    scores, score_logits, told = _aggregate(classifier, probabilities, logits)
    target = int(np.argmax(scores)) if wanted is None else wanted
    coarse = np.concatenate([run.maps[:, list(run.targets).index(target)] for run in runs]).transpose(1, 2, 0)
    coarse_affine, heatmap = _place_slices(np.ascontiguousarray(coarse), np.stack(affines), slices, volume)
    fields = _fields(coarse.shape, coarse_affine)
    named, name = _by_name(classifier, scores), classifier.class_names[target]
    return Explanation(
        heatmap=heatmap,
        affine=volume.affine,
        coarse=coarse,
        coarse_affine=coarse_affine,
        scores=named,
        logits=_by_name(classifier, score_logits),
        target=name,
        layer=layer,
        method=method,
        volume_name=volume.name,
        classifier_name=classifier.name,
        slice_scores=probabilities.astype(np.float32),
        slice_axis=slices.native_axis,
        notices=(
            told,
            *worth_notices(volume, coarse, fields, max(run.spread for run in runs), heatmap, named, name),
            *_run_notices(runs[0], layer),
            *volume.notices,
            *classifier.notices,
        ),
    )


def _run(classifier: Classifier, prepared: Prepared, layer: str, wanted: int | None, method: str) -> _Run:
    """Run the network once; without a class asked for, map a volume's best and each of a batch of slices."""
    try:
        captured = capture(classifier.network, prepared.tensor, layer, classifier.head.class_scores)
    except GradCamError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise _misfit(classifier, prepared, error) from error
    logits = captured.logits.detach()
    saturable = already_probabilities(logits)
    probabilities = logits if saturable else classifier.head.probabilities(logits)
    if wanted is not None:
        targets: Sequence[int] = [wanted]
    elif len(logits) == 1 and classifier.spatial_dims == 3:
        targets = [int(logits.argmax())]
    else:
        targets = range(logits.shape[1])
    return _Run(
        logits.double().cpu().numpy(),
        probabilities.double().cpu().numpy(),
        maps_of(captured, targets, method).float().cpu().numpy(),
        targets,
        captured.calls,
        saturable,
        float(prepared.tensor.max() - prepared.tensor.min()),
        tuple(prepared.tensor.shape[2:]),
    )


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


def _cell_affine(
    input_affine: NDArray[np.float64], input_shape: Sequence[int], cells: Sequence[int]
) -> NDArray[np.float64]:
    """Affine of the map's own grid: each cell is a box of r input voxels, its centre (r − 1) / 2 after the first."""
    ratio = np.asarray(input_shape, dtype=np.float64) / np.asarray(cells, dtype=np.float64)
    to_input = np.diag([*ratio, 1.0])
    to_input[:3, 3] = (ratio - 1) / 2
    placed: NDArray[np.float64] = input_affine @ to_input
    return placed


def _place_slices(
    coarse: NDArray[np.float32], affines: NDArray[np.float64], slices: Slices, volume: Volume
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Put the maps of all slices, ``(a, b, slice)``, on the native grid; return their affine and the heat map.

    `affines` hold each slice's own ``(a, b, slice number)`` to RAS+ mm. Where they are all one, so is the answer.
    """
    if np.abs(affines - affines[0]).max() <= SAME_GRID_MM:
        return affines[0], place_on_grid(coarse, affines[0], volume.shape, volume.affine)
    heatmap = np.zeros(volume.shape, dtype=np.float32)
    along = np.moveaxis(heatmap, slices.native_axis, 0)
    i, j, k = (1 if axis == slices.native_axis else n for axis, n in enumerate(volume.shape))
    for number, (native, (_, to_cells)) in enumerate(
        zip(slices.native_indices, _fields(coarse.shape, affines), strict=True)
    ):
        to_voxels = volume.affine @ from_matvec(np.eye(3), np.eye(3)[slices.native_axis] * native)
        placed = place_on_grid(coarse[:, :, number : number + 1], to_cells, (i, j, k), to_voxels)
        along[native] = np.moveaxis(placed, slices.native_axis, 0)[0]
    return affines, heatmap


def _fields(cells: tuple[int, ...], affines: NDArray[np.float64]) -> list[tuple[tuple[int, ...], NDArray[np.float64]]]:
    """Give the cells that the network's inputs were mapped to, and where they lie: all at once, or slice by slice."""
    if affines.ndim == 2:
        return [(cells, affines)]
    return [((*cells[:2], 1), affine @ from_matvec(np.eye(3), [0, 0, number])) for number, affine in enumerate(affines)]


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


def _run_notices(run: _Run, layer: str) -> tuple[str, ...]:
    notices = []
    if run.calls > 1:
        notices.append(f"The layer “{layer}” runs {run.calls} times in the network; the map is of its last run.")
    if run.saturable:
        notices.append(
            "The network returns probabilities instead of scores before softmax: where it is certain, the map vanishes."
        )
    if min(run.maps.shape[2:]) <= 3:
        grid = " × ".join(map(str, run.maps.shape[2:]))
        notices.append(
            f"The layer “{layer}” has a grid of only {grid} cells: the map is too coarse to place a finding."
        )
    return tuple(notices)

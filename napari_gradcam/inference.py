"""What a classifier answers about one prepared input: its scores, and its maps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from napari_gradcam.cam import Network, capture, maps_of_steps
from napari_gradcam.classifiers.scores import already_probabilities
from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import METHODS
from napari_gradcam.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from napari_gradcam.cam import ClassActivationMaps
    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.preprocessing import Prepared

FUSED = " + "
"""Stands between the names of layers whose maps are fused."""


class Request(NamedTuple):
    """How to map what a network saw; see :func:`napari_gradcam.explain`."""

    target: int | None
    method: str
    layers: list[str] | None
    signed: bool
    smooth: int
    device: torch.device | None


class Answer(NamedTuple):
    """One pass of the network: ``(batch, class)`` twice, and a map of each layer for each of the targets asked for."""

    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    found: ClassActivationMaps
    targets: Sequence[int]
    returns_probabilities: bool
    spread: float
    input_shape: tuple[int, ...]

    def maps(self) -> dict[str, NDArray[np.float32]]:
        """Give the maps by layer, ``(batch, target, *grid)``, the fused one of several first."""
        every = {name: layer.maps for name, layer in self.found.layers.items()}
        if len(every) > 1:
            every = {FUSED.join(every): self.found.maps, **every}
        return {name: maps.float().cpu().numpy() for name, maps in every.items()}


def run_network(
    classifier: Classifier, prepared: Prepared, request: Request, at: Progress
) -> Generator[Progress, None, Answer]:
    """Run the network once; without a class asked for, map a volume's best and each of a batch of slices."""
    network = Network(classifier.network, classifier.head.class_scores, request.device)
    try:
        captured = capture(network, prepared.tensor, request.layers or [])
    except GradCamError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise _misfit(classifier, prepared, error) from error
    logits = captured.logits.detach()
    returns_probabilities = captured.ending is None and already_probabilities(logits)
    probabilities = logits if returns_probabilities else classifier.head.probabilities(logits, captured.ending)
    if request.target is not None:
        targets: Sequence[int] = [request.target]
    elif len(logits) == 1 and classifier.spatial_dims == 3:
        targets = [int(logits.argmax())]
    else:
        targets = range(logits.shape[1])
    steps = maps_of_steps(captured, targets, request.method, signed=request.signed, smooth=request.smooth)
    label = METHODS.get(request.method, request.method)
    found = yield from _told(steps, lambda done, total: _within(at, done, total, label, classifier.spatial_dims))
    return Answer(
        logits.double().cpu().numpy(),
        probabilities.double().cpu().numpy(),
        found,
        targets,
        returns_probabilities,
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

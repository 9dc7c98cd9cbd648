"""What a classifier answers about one batch of prepared inputs: its scores, and its maps."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from napari_gradcam.cam import METHODS as ENGINE_METHODS
from napari_gradcam.cam import capture, maps_of_steps
from napari_gradcam.cam.memory import activation_bytes, free_bytes, refuse_what_does_not_fit
from napari_gradcam.classifiers.channels import misfit
from napari_gradcam.classifiers.scores import already_probabilities
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from napari_gradcam.cam import Capture, ClassActivationMaps, Network
    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.progress import Progress


class UnableError(GradCamError):
    """A device cannot do all that a network asks for; the CPU can."""


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

    @property
    def of_layer(self) -> bool:
        """Whether the map is of a layer, and not of the input itself."""
        return ENGINE_METHODS[self.method].of_layer


@dataclass(frozen=True, eq=False)
class Batch:
    """One pass of the network over some samples.

    Attributes
    ----------
    first
        Number of the first sample.
    logits, probabilities
        ``(sample, class)``.
    captured
        The activations with their way to the scores; None where they were let go.
    ending
        What the network itself ends in, ``"softmax"``, ``"sigmoid"`` or ``"tanh"``; else None.
    returns_probabilities
        Whether what it returns are probabilities although it ends in none of them.
    spread
        The largest difference between two values of one sample.
    values
        Lowest and highest value of all samples.
    """

    first: int
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    captured: Capture | None
    ending: str | None
    returns_probabilities: bool
    spread: float
    values: tuple[float, float]

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.logits)


def run_network(classifier: Classifier, network: Network, inputs: torch.Tensor, layers: list[str], first: int) -> Batch:
    """Run the network once, on ``(batch, channel, *spatial)``; the first of the batch is sample number `first`."""
    try:
        with refuse_what_does_not_fit(network.module, [inputs], network.place), _able(network.place):
            if first == 0:
                _check_memory(network, inputs)
            captured = capture(network, inputs, layers)
            logits = captured.logits.detach()
            returns_probabilities = captured.ending is None and already_probabilities(logits)
            probabilities = logits if returns_probabilities else classifier.head.probabilities(logits, captured.ending)
    except GradCamError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise _misfit(classifier, inputs, error) from error
    flat = inputs.flatten(1)
    low, high = flat.amin(dim=1), flat.amax(dim=1)
    return Batch(
        first,
        logits.double().cpu().numpy(),
        probabilities.double().cpu().numpy(),
        captured,
        captured.ending,
        returns_probabilities,
        float((high - low).max()),
        (float(low.min()), float(high.max())),
    )


_NEEDED: WeakKeyDictionary[torch.nn.Module, dict[tuple[int, ...], int]] = WeakKeyDictionary()
"""Bytes that a sample of a shape takes in a network; to estimate them takes longer than a look at what is free."""


def _check_memory(network: Network, inputs: torch.Tensor) -> None:
    """Raise MemoryError where a CPU has less memory than a run needs: many systems kill the process instead."""
    if network.place.type != "cpu":
        return
    needed, shape = _NEEDED.setdefault(network.module, {}), tuple(inputs.shape[1:])
    if shape not in needed:
        try:
            needed[shape] = activation_bytes(network.module, shape)
        except Exception:  # a network of one's own may fail in any way without values
            needed[shape] = 0
    if len(inputs) * needed[shape] > free_bytes(network.place):
        raise MemoryError


def map_batch(
    captured: Capture, target: int, request: Request, say: Callable[[int, int], Progress]
) -> Generator[Progress, None, ClassActivationMaps]:
    """Map what spoke for one class in each sample of a batch.

    Parameters
    ----------
    captured
        What the network gave. For a method of the input the layers at which it was cut play no part.
    target, request
        What to map, and how.
    say
        Makes progress of how much of how much is done, for a method that asks the network again and again.
    """
    if not request.of_layer:
        captured = replace(captured, layers={})
    steps = maps_of_steps(captured, [target], request.method, signed=request.signed, smooth=request.smooth)
    with refuse_what_does_not_fit(captured.network.module, [captured.inputs]), _able(captured.network.place):
        return (yield from _told(steps, say))


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


@contextmanager
def _able(device: torch.device) -> Iterator[None]:
    """Tell what another device than the CPU cannot do from what cannot be done at all."""
    try:
        yield
    except NotImplementedError as error:
        if device.type == "cpu":
            raise
        reason = str(error).strip().split(". ")[0]
        raise UnableError(
            f"The device {device} cannot do all that the network asks for ({reason}); choose the device cpu."
        ) from error


def _misfit(classifier: Classifier, inputs: torch.Tensor, error: Exception) -> GradCamError:
    """Say why a network did not take its input, from what torch says."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    told = misfit(classifier, inputs.shape[1], reason)
    if told:
        return GradCamError(told)
    size = " × ".join(map(str, inputs.shape[1:]))
    return GradCamError(
        f"The model “{classifier.name}” cannot read its own preprocessed input of {size} (channels first): {reason}; "
        "correct the bundle's preprocessing or network."
    )

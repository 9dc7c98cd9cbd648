"""One call: network, input, targets, layers and method to raw class activation maps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from napari_gradcam.cam.capture import Capture, capture
from napari_gradcam.cam.memory import SHARE, free_bytes, samples_at_once
from napari_gradcam.cam.methods import METHODS, Method
from napari_gradcam.cam.replay import Replay
from napari_gradcam.cam.running import Network, device_called
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    Pauses = Generator[tuple[int, int], None, "ClassActivationMaps"]
    """Pauses with how much of how much is done, where the work can be given up by closing the generator."""

_T = TypeVar("_T")

INPUT = "input"
"""What stands for the target layer where a method's map is of the input itself."""

NOISE = 0.05
"""Standard deviation of the noise of a smooth map, as a share of the input's range."""

MOST_ABLATED = 64
"""Ablated copies of a layer's output in one batch at most."""


@dataclass(frozen=True, eq=False)
class Completeness:
    """Whether the evidence adds up: Σ HiResCAM = class score − bias, where a linear head alone follows the layer.

    Draelos and Carin 2020. Where it does not hold the engine, the network's numbers or the head are not what they seem.

    Attributes
    ----------
    total
        Sum of gradient times activation over the layer, ``(batch, target)``, float64.
    logit, bias
        The class score and the part of it that comes from the head's bias, ``(batch, target)``, float64.
    """

    total: Tensor
    logit: Tensor
    bias: Tensor

    @property
    def expected(self) -> Tensor:
        """What the sum must be: the class score less the head's bias."""
        return self.logit - self.bias

    @property
    def relative_error(self) -> float:
        """The largest |total − expected|, as a share of the largest number that went into it.

        Not of `expected` alone: where score and bias are nearly the same, their difference is rounding.
        """
        scale = torch.stack([self.expected.abs(), self.logit.abs(), self.bias.abs()]).amax(dim=0)
        off = (self.total - self.expected).abs() / scale.clamp(min=torch.finfo(torch.float32).tiny)
        return float(off.max()) if off.numel() else 0.0


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """The maps of one target layer.

    Attributes
    ----------
    maps
        ``(batch, target, *grid)``.
    calls
        How often the layer ran in the forward pass; the maps are of its last run.
    completeness
        None where more than pooling and one linear layer lies after the layer.
    """

    maps: Tensor
    calls: int = 1
    completeness: Completeness | None = None


@dataclass(frozen=True, eq=False)
class ClassActivationMaps:
    """Raw maps of a batch.

    Attributes
    ----------
    layers
        The maps of each target layer by its name, in the order asked for; of :data:`INPUT` for a method that needs
        none.
    logits
        ``(batch, class)``, the scores before softmax or sigmoid.
    ending
        ``"softmax"``, ``"sigmoid"`` or ``"tanh"`` where the network itself ends in one; the scores before it were
        taken. Else None.
    """

    layers: Mapping[str, LayerMaps]
    logits: Tensor
    ending: str | None = None

    @cached_property
    def maps(self) -> Tensor:
        """The maps, ``(batch, target, *grid)``, in the order of the targets asked for, never normalised.

        Of one layer they lie on its own grid, in units of the class score. Of several they are fused on the finest
        grid: see :func:`fused`.
        """
        return fused([layer.maps for layer in self.layers.values()])

    @property
    def completeness(self) -> Completeness | None:
        """That of the last of the layers that has one."""
        found = [layer.completeness for layer in self.layers.values() if layer.completeness is not None]
        return found[-1] if found else None


def class_activation_map(
    network: nn.Module,
    inputs: Tensor,
    layer: str | Sequence[str],
    targets: Sequence[int],
    method: str = "gradcam",
    *,
    signed: bool = False,
    smooth: int = 0,
    class_scores: Callable[[Any], Tensor] | None = None,
    device: str | torch.device | None = None,
) -> ClassActivationMaps:
    """Run `network` once and map what spoke for each of `targets` at `layer`.

    Parameters
    ----------
    network
        Any ``torch.nn.Module`` in 1D, 2D or 3D, frozen or not, also inside of ``no_grad`` or ``inference_mode``. It is
        run in evaluation mode and handed back untouched. Half precision is run in single precision.
    inputs
        ``(batch, channel, *spatial)``.
    layer
        Name of the target layer in ``network.named_modules()``, or several names, whose maps are fused on one scale.
        Without meaning for a method whose map is of the input.
    targets
        Class indices, the same for each sample of the batch.
    method
        A key of :data:`napari_gradcam.cam.methods.METHODS`.
    signed
        Keep evidence against the class as negative values. Only for methods that have a sign.
    smooth
        Take the mean of the maps of so many copies of the input with Gaussian noise of :data:`NOISE` of its range
        (Smilkov et al., "SmoothGrad", 2017), always the same noise. 0 maps the input itself. The logits are the input's
        own.
    class_scores
        Turns the network's output into ``(batch, class)`` scores before softmax or sigmoid; by default
        :func:`output_scores`.
    device
        Where to run; None is where the network's weights are. The network itself is not moved.

    Raises
    ------
    GradCamError
        If the method, the layer, a class or the device does not exist, the layer cannot be a target, no class is given,
        the method has no sign, the scores are not finite or the memory does not suffice.
    """
    steps = class_activation_steps(
        network, inputs, layer, targets, method, signed=signed, smooth=smooth, class_scores=class_scores, device=device
    )
    answer: ClassActivationMaps = drained(steps)
    return answer


def class_activation_steps(
    network: nn.Module,
    inputs: Tensor,
    layer: str | Sequence[str],
    targets: Sequence[int],
    method: str = "gradcam",
    *,
    signed: bool = False,
    smooth: int = 0,
    class_scores: Callable[[Any], Tensor] | None = None,
    device: str | torch.device | None = None,
) -> Pauses:
    """Do as :func:`class_activation_map`, pausing between forward passes: close the generator there to cancel."""
    check_method(method, signed)
    if isinstance(targets, int) or len(targets) == 0:
        raise GradCamError(f"The targets are {targets!r}; give a list of class indices, such as [0, 2].")
    running = Network(network, class_scores or output_scores, device_called(device))
    captured = capture(running, inputs, layers_named(layer) if METHODS[method].of_layer else [])
    return (yield from maps_of_steps(captured, targets, method, signed=signed, smooth=smooth))


def maps_of(
    captured: Capture, targets: Sequence[int], method: str = "gradcam", *, signed: bool = False, smooth: int = 0
) -> ClassActivationMaps:
    """Map classes of a network that has already run: by gradients each costs only what lies after the target layer."""
    answer: ClassActivationMaps = drained(maps_of_steps(captured, targets, method, signed=signed, smooth=smooth))
    return answer


def maps_of_steps(
    captured: Capture, targets: Sequence[int], method: str = "gradcam", *, signed: bool = False, smooth: int = 0
) -> Pauses:
    """Do as :func:`maps_of`, pausing between forward passes."""
    kind = check_method(method, signed)
    _check_scores(captured, targets)
    ledger = _Ledger(captured, targets)
    if smooth <= 0:
        layers = yield from _layers_maps(captured, targets, kind, ledger)
    else:
        total = None
        for number, inputs in enumerate(noisy_copies(captured.inputs, smooth)):
            yield number, smooth
            again = capture(captured.network, inputs, list(captured.layers))
            one = yield from _nested(_layers_maps(again, targets, kind), number, smooth)
            total = one if total is None else {name: total[name] + maps for name, maps in one.items()}
        layers = {name: maps / smooth for name, maps in (total or {}).items()}
    with torch.inference_mode(False), torch.no_grad():
        complete = ledger.closed()
        answer = {}
        for name, maps in layers.items():
            if not torch.isfinite(maps).all():
                raise GradCamError(
                    f"The map of the layer “{name}” holds values that are not finite, so it cannot be trusted; choose "
                    "another layer or method."
                )
            calls = captured.layers[name].calls if name in captured.layers else 1
            answer[name] = LayerMaps(maps if signed else maps.relu(), calls, complete.get(name))
    return ClassActivationMaps(answer, captured.logits.detach(), captured.ending)


def fused(maps: Sequence[Tensor]) -> Tensor:
    """Fuse the maps of several layers on one scale, on the finest of their grids.

    A cell of a coarse grid stands for many of a fine one, and the evidence of a map is its sum over the cells. So each
    map is brought to the finest grid in the measure of the cells' sizes, which keeps its sum, and the mean is taken. No
    map is scaled by its own maximum: a layer with little evidence stays faint.

    Parameters
    ----------
    maps
        Each ``(batch, target, *grid)``.

    Returns
    -------
    Tensor
        ``(batch, target, *finest grid)``.
    """
    if len(maps) == 1:
        return maps[0]
    grid = tuple(max(sides) for sides in zip(*(one.shape[2:] for one in maps), strict=True))
    mode = ("linear", "bilinear", "trilinear")[len(grid) - 1]
    brought = [
        nn.functional.interpolate(one, grid, mode=mode) * (prod(one.shape[2:]) / prod(grid))
        if one.shape[2:] != grid
        else one
        for one in maps
    ]
    return torch.stack(brought).mean(dim=0)


def noisy_copies(inputs: Tensor, count: int) -> Generator[Tensor, None, None]:
    """Give copies of inputs with noise, the same ones each time and without touching the caller's random numbers."""
    generator = torch.Generator().manual_seed(0)
    flat = inputs.flatten(1)
    spread = (flat.amax(dim=1) - flat.amin(dim=1))[(slice(None), *(None,) * (inputs.ndim - 1))]
    for _ in range(count):
        # One noise for the whole batch, so that a sample's map does not depend on its neighbours.
        noise = torch.randn(inputs.shape[1:], generator=generator).to(inputs)
        yield inputs + NOISE * spread * noise


def check_method(method: str, signed: bool = False) -> Method:
    """Find a method by name, refusing one that does not exist, or a sign it does not have."""
    if method not in METHODS:
        raise GradCamError(f"There is no method “{method}”; choose one of {', '.join(METHODS)}.")
    if signed and not METHODS[method].signed:
        able = ", ".join(name for name, kind in METHODS.items() if kind.signed)
        raise GradCamError(
            f"The method “{method}” has no evidence against a class, so its map cannot be signed; choose one of {able}."
        )
    return METHODS[method]


def layers_named(layer: str | Sequence[str]) -> list[str]:
    """Give the names of layers as a list without repeats; what is no name at all is refused where it is looked for."""
    names = list(layer) if isinstance(layer, list | tuple) else [layer]
    if not names:
        raise GradCamError("No layer is given; name at least one (napari-gradcam layers lists all).")
    return list(dict.fromkeys(cast("list[str]", names)))


def drained(steps: Generator[Any, None, Any]) -> Any:
    """Run a generator to its end and give what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def output_scores(output: Any) -> Tensor:
    """Find the class scores in what a network returned.

    A tuple or list gives its first item, a mapping its ``logits``, ``out`` or first item; trailing axes of length
    one, as of a fully convolutional head ``(batch, class, 1, 1)``, are dropped.

    Returns
    -------
    Tensor
        ``(batch, class)``.

    Raises
    ------
    GradCamError
        If what remains is not one score for each class.
    """
    if isinstance(output, dict) and output:
        output = output.get("logits", output.get("out", next(iter(output.values()))))
    if isinstance(output, tuple | list) and output:
        return output_scores(output[0])
    if not isinstance(output, Tensor):
        raise GradCamError(f"The network returns a {type(output).__name__}, not class scores; give a classifier.")
    if output.ndim < 2 or output.shape[2:].numel() != 1:
        raise GradCamError(
            f"The network returns an array of shape {tuple(output.shape)}, not one score for each class; give a "
            f"classifier."
        )
    return output.flatten(1)


def _layers_maps(
    captured: Capture, targets: Sequence[int], method: Method, ledger: _Ledger | None = None
) -> Generator[tuple[int, int], None, dict[str, Tensor]]:
    """Map all targets at each layer, ``{name: (batch, target, *grid)}``, with their sign."""
    if method.needs == "scores":
        return (yield from _by_scores(captured, targets, method))
    maps: dict[str, list[Tensor]] = {name: [] for name in captured.layers}
    with torch.inference_mode(False), torch.no_grad():
        for target in targets:
            gradients = captured.gradients(target) if method.needs == "gradients" else {}
            if gradients and ledger is not None:
                ledger.enter(target, gradients)
            for name, layer in captured.layers.items():
                arguments = (layer.activations, *([gradients[name]] if gradients else []))
                found = method.function(*arguments)
                assert isinstance(found, Tensor)
                maps[name].append(found)
        return {name: _stacked(found, captured.layers[name].activations) for name, found in maps.items()}


def _stacked(maps: list[Tensor], activations: Tensor) -> Tensor:
    return torch.stack(maps, dim=1) if maps else activations.new_empty(len(activations), 0, *activations.shape[2:])


def _by_scores(
    captured: Capture, targets: Sequence[int], method: Method
) -> Generator[tuple[int, int], None, dict[str, Tensor]]:
    """Map sample by sample by asking the network again."""
    samples, names = len(captured.inputs), list(captured.layers) if method.of_layer else [INPUT]
    rounds = samples * len(names)
    if any(layer.layout.first for layer in captured.layers.values()):
        captured.gradients(targets[0])  # refuses a layer of whose tokens the class token alone reaches the scores
    maps: dict[str, list[Tensor]] = {name: [] for name in names}
    for number in range(rounds):
        name, row = names[number // samples], number % samples
        steps = method.function(_Sample(captured, name, row), targets)
        assert not isinstance(steps, Tensor)
        maps[name].append((yield from _nested(_without_autograd(steps), number, rounds)))
    return {name: torch.stack(found) for name, found in maps.items()}


def _nested(
    steps: Generator[tuple[int, int], None, _T], number: int, rounds: int
) -> Generator[tuple[int, int], None, _T]:
    """Let the pauses of one round count as a part of all rounds."""
    try:
        while True:
            try:
                done, total = next(steps)
            except StopIteration as stop:
                answer: _T = stop.value
                return answer
            yield number * total + done, rounds * total
    finally:
        steps.close()


def _without_autograd(steps: Generator[tuple[int, int], None, Tensor]) -> Generator[tuple[int, int], None, Tensor]:
    """Run a generator without autograd, but leave the caller's mode alone while it pauses."""
    try:
        while True:
            try:
                with torch.inference_mode(False), torch.no_grad():
                    pause = next(steps)
            except StopIteration as stop:
                answer: Tensor = stop.value
                return answer
            yield pause
    finally:
        steps.close()


class _Sample:
    """One sample of a batch that was captured; see :class:`napari_gradcam.cam.methods.Sample`."""

    def __init__(self, captured: Capture, layer: str, row: int) -> None:
        self.inputs = captured.inputs[row : row + 1]
        self.logits = captured.logits[row : row + 1].detach()
        self._network, self._layer = captured.network, layer
        self._replay: Replay | None = None
        if layer in captured.layers:
            self._layout = captured.layers[layer].layout
            self._output = captured.layers[layer].output[row : row + 1].detach()
            self.activations = self._layout.on_grid(self._output)

    def score(self, inputs: Tensor) -> Tensor:
        """Score other inputs by the whole network, ``(n, class)``."""
        return self._network.scores(inputs)

    def score_from(self, activations: Tensor) -> Tensor:
        """Score other activations of the layer by what lies after it, ``(n, class)``."""
        outputs = self._output.expand(len(activations), *self._output.shape[1:]).clone()
        self._layout.on_grid(outputs).copy_(activations)
        return self._from_layer(outputs)

    def at_once(self, inputs: bool) -> int:
        """Tell how many inputs, or how many activations, are scored in one batch."""
        device = self.inputs.device
        if inputs or self._from_layer.runs_whole:
            return samples_at_once(self._network.module, tuple(self.inputs.shape[1:]), device)
        # A copy, what the next layers make of it, and as much again.
        needed = 4 * self._output.numel() * self._output.element_size()
        return max(1, min(MOST_ABLATED, int(SHARE * free_bytes(device)) // needed))

    @property
    def _from_layer(self) -> Replay:
        if self._replay is None:
            self._replay = Replay(self._network, self.inputs, self._layer, self._output, self.logits)
        return self._replay


class _Ledger:
    """Adds up gradient times activation for each layer whose tail is a linear head."""

    def __init__(self, captured: Capture, targets: Sequence[int]) -> None:
        self._captured, self._targets = captured, list(targets)
        biases = {name: captured.head_bias(name, targets) for name in captured.layers} if self._targets else {}
        self._biases = {name: bias for name, bias in biases.items() if bias is not None}
        self._totals: dict[int, dict[str, Tensor]] = {}

    def enter(self, target: int, gradients: Mapping[str, Tensor]) -> None:
        """Add up the evidence for one class from gradients that are at hand."""
        self._totals[target] = {
            name: (gradients[name] * self._captured.layers[name].activations).flatten(1).sum(dim=1, dtype=torch.float64)
            for name in self._biases
        }

    def closed(self) -> dict[str, Completeness]:
        """Give the sums beside the scores that they must come to; classes that were not entered are now."""
        answer = {}
        for target in self._targets if self._biases else ():
            if target not in self._totals:
                self.enter(target, self._captured.gradients(target))
        for name, bias in self._biases.items():
            totals = [self._totals[target][name] for target in self._targets]
            logit = self._captured.logits.detach()[:, self._targets]
            answer[name] = Completeness(torch.stack(totals, dim=1), logit.double(), bias.double())
        return answer


def _check_scores(captured: Capture, targets: Sequence[int]) -> None:
    classes = captured.logits.shape[1]
    for target in targets:
        if not 0 <= target < classes:
            raise GradCamError(
                f"There is no class {target}: the network has {classes}, numbered from 0 to {classes - 1}."
            )
    if torch.isfinite(captured.logits).all():
        return
    for name, parameter in captured.network.module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise GradCamError(
                f"The network's weights hold NaN or infinite values, first in “{name}”, so no score and no map can be "
                "trusted; load its weights again."
            )
    raise GradCamError(
        "The network's scores are not finite numbers although its input and weights are, so no map can be trusted; "
        "look at the range of values that the preprocessing gives."
    )

"""One call: network, input, targets, layers and method to raw class activation maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from napari_gradcam.cam.asking import maps_by_scores, nested
from napari_gradcam.cam.capture import Capture, capture
from napari_gradcam.cam.completeness import Ledger
from napari_gradcam.cam.methods import METHODS, Method
from napari_gradcam.cam.results import ClassActivationMaps, LayerMaps
from napari_gradcam.cam.running import Network, device_called, evaluation_mode
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import nn

    Pauses = Generator[tuple[int, int], None, ClassActivationMaps]
    """Pauses with how much of how much is done, where the work can be given up by closing the generator."""

NOISE = 0.05
"""Standard deviation of the noise of a smooth map, as a share of the input's range."""

NOISE_SEED = 0
"""What that noise is drawn with; nothing else in a run is left to chance."""


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
        Take the mean of the signed maps of so many copies of the input with Gaussian noise of :data:`NOISE` of its
        range (Smilkov et al., "SmoothGrad", 2017), always the same noise. 0 maps the input itself. The logits are the
        input's own.
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
    if isinstance(targets, int) or len(targets) == 0 or not all(hasattr(target, "__index__") for target in targets):
        raise GradCamError(f"The targets are {targets!r}; give a list of class indices, such as [0, 2].")
    if smooth < 0:
        raise GradCamError(f"A map cannot be smoothed over {smooth} copies; give 0 for none, or 8, say.")
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
    ledger = Ledger(captured, targets)
    if smooth <= 0:
        layers = yield from _layers_maps(captured, targets, kind, ledger)
    else:
        total = None
        for number, inputs in enumerate(noisy_copies(captured.inputs, smooth)):
            yield number, smooth
            again = capture(captured.network, inputs, list(captured.layers))
            one = yield from nested(_layers_maps(again, targets, kind), number, smooth)
            total = one if total is None else {name: total[name] + maps for name, maps in one.items()}
        layers = {name: maps / smooth for name, maps in (total or {}).items()}
    with torch.inference_mode(False), torch.no_grad(), evaluation_mode(captured.network.module):
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


def noisy_copies(inputs: Tensor, count: int) -> Generator[Tensor, None, None]:
    """Give copies of inputs with noise, the same ones each time and without touching the caller's random numbers."""
    generator = torch.Generator().manual_seed(NOISE_SEED)
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
    captured: Capture, targets: Sequence[int], method: Method, ledger: Ledger | None = None
) -> Generator[tuple[int, int], None, dict[str, Tensor]]:
    """Map all targets at each layer, ``{name: (batch, target, *grid)}``, with their sign."""
    if method.needs == "scores":
        return (yield from maps_by_scores(captured, targets, method))
    maps: dict[str, list[Tensor]] = {name: [] for name in captured.layers}
    # A network that checkpoints runs parts of itself again for the gradients: in evaluation mode, as the first time.
    with torch.inference_mode(False), torch.no_grad(), evaluation_mode(captured.network.module):
        if method.needs == "activations":  # the same map for every class
            for name, layer in captured.layers.items():
                maps[name] = [cast("Tensor", method.function(layer.activations))] * len(targets)
        for target in targets if method.needs == "gradients" else ():
            gradients = captured.gradients(target)
            if ledger is not None:
                ledger.enter(target, gradients)
            for name, layer in captured.layers.items():
                maps[name].append(cast("Tensor", method.function(layer.activations, gradients[name])))
        return {name: _stacked(found, captured.layers[name].activations) for name, found in maps.items()}


def _stacked(maps: list[Tensor], activations: Tensor) -> Tensor:
    return torch.stack(maps, dim=1) if maps else activations.new_empty(len(activations), 0, *activations.shape[2:])


def _check_scores(captured: Capture, targets: Sequence[int]) -> None:
    classes = captured.logits.shape[1]
    for target in targets:
        if not 0 <= target < classes:
            raise GradCamError(
                f"There is no class {target}: the network has {classes}, numbered from 0 to {classes - 1}."
            )
    if torch.isfinite(captured.logits).all():
        return
    module = captured.network.module
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not torch.isfinite(tensor).all():
            raise GradCamError(
                f"The network's weights hold NaN or infinite values, first in “{name}”, so no score and no map can be "
                "trusted; load its weights again."
            )
    raise GradCamError(
        "The network's scores are not finite numbers although its input and weights are, so no map can be trusted; "
        "look at the range of values that the preprocessing gives."
    )

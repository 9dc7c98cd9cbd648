"""One call: network, input, targets, layer and method to raw class activation maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_gradcam.cam.capture import Capture, capture
from napari_gradcam.cam.methods import METHODS
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn


@dataclass(frozen=True, eq=False)
class ClassActivationMaps:
    """Raw maps of a batch.

    Attributes
    ----------
    maps
        ``(batch, target, *grid)``, in the order of the targets asked for, on the target layer's own grid; in units of
        the class score, never normalised.
    logits
        ``(batch, class)``, the scores before softmax or sigmoid.
    calls
        How often the target layer ran in the forward pass; where it is more than one, the maps are of its last run.
    """

    maps: Tensor
    logits: Tensor
    calls: int


def class_activation_map(
    network: nn.Module,
    inputs: Tensor,
    layer: str,
    targets: Sequence[int],
    method: str = "gradcam",
    class_scores: Callable[[Any], Tensor] | None = None,
) -> ClassActivationMaps:
    """Run `network` once and map what spoke for each of `targets` at `layer`.

    Parameters
    ----------
    network
        Any ``torch.nn.Module`` in 1D, 2D or 3D, frozen or not, also inside of ``no_grad`` or ``inference_mode``. It
        is run in evaluation mode and handed back untouched.
    inputs
        ``(batch, channel, *spatial)``.
    layer
        Name of the target layer in ``network.named_modules()``.
    targets
        Class indices, the same for each sample of the batch.
    method
        A key of :data:`napari_gradcam.cam.methods.METHODS`.
    class_scores
        Turns the network's output into ``(batch, class)`` scores before softmax or sigmoid; by default
        :func:`output_scores`.

    Raises
    ------
    GradCamError
        If the method, the layer or a class does not exist, the layer cannot be a target, or no class is given.
    """
    check_method(method)
    if isinstance(targets, int) or len(targets) == 0:
        raise GradCamError(f"The targets are {targets!r}; give a list of class indices, such as [0, 2].")
    captured = capture(network, inputs, layer, class_scores or output_scores)
    return ClassActivationMaps(maps_of(captured, targets, method), captured.logits.detach(), captured.calls)


def maps_of(captured: Capture, targets: Sequence[int], method: str = "gradcam") -> Tensor:
    """Map classes of a network that has already run: each costs only what lies after the target layer.

    Returns
    -------
    Tensor
        ``(batch, target, *grid)``, detached.
    """
    check_method(method)
    classes = captured.logits.shape[1]
    for target in targets:
        if not 0 <= target < classes:
            raise GradCamError(
                f"There is no class {target}: the network has {classes}, numbered from 0 to {classes - 1}."
            )
    if not torch.isfinite(captured.logits).all():
        raise GradCamError(
            "The network's scores are not finite numbers, so no map can be trusted; look for NaN in the scan or the "
            "weights."
        )
    with torch.inference_mode(False), torch.no_grad():
        activations = captured.activations.detach()
        maps = [METHODS[method](activations, captured.gradients(target)) for target in targets]
        return torch.stack(maps, dim=1) if maps else activations.new_empty(len(activations), 0, *activations.shape[2:])


def check_method(method: str) -> None:
    """Refuse a method that does not exist, naming those that do."""
    if method not in METHODS:
        raise GradCamError(f"There is no method “{method}”; choose one of {', '.join(METHODS)}.")


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

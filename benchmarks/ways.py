"""Ways to run a network: the floor, ours, below the floor, and peers.

A way is prepared with a network and an input, which is not measured, and gives a function that is.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from benchmarks.peers import by_captum, by_monai, by_pytorch_grad_cam, by_torchcam
from napari_gradcam.cam import Network, capture, class_activation_map, maps_of, output_scores
from napari_gradcam.cam.memory import samples_at_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from benchmarks.networks import Case, Setting

    Run = Callable[[], object]

METHODS = {
    "Grad-CAM": "gradcam",
    "HiResCAM": "hirescam",
    "LayerCAM": "layercam",
    "Grad-CAM++": "gradcam++",
    "XGrad-CAM": "xgradcam",
}
HALFWAY = "Grad-CAM at layer2"
FURTHER = "a further class"
FAST_PEERS = ("captum", "torchcam")
SLOW_PEERS = ("MONAI", "pytorch-grad-cam")
BELOW = ("channels last", "folded", "folded, channels last")


def floor(setting: Setting) -> Run:
    """Run the network and nothing else."""
    return partial(_plain, setting.network, setting.inputs)


def _plain(network: nn.Module, inputs: Tensor) -> object:
    with torch.inference_mode():
        return network(inputs)


def ours(setting: Setting, method: str, targets: tuple[int, ...] = (1,)) -> Run:
    """Map classes at the last layer."""
    return partial(
        class_activation_map, setting.network, setting.inputs, setting.last_layer, targets=targets, method=method
    )


def halfway(setting: Setting) -> Run:
    """Map a class at the layer halfway."""
    return partial(class_activation_map, setting.network, setting.inputs, setting.halfway_layer, targets=[1])


def further_class(setting: Setting) -> Run:
    """Map another class from the activations that were kept."""
    captured = capture(Network(setting.network, output_scores), setting.inputs, [setting.last_layer])
    return partial(maps_of, captured, [0], "gradcam")


def all_slices(setting: Setting) -> Run:
    """Map a class of each slice of a stack, as many slices at once as the engine finds right."""
    inputs = setting.inputs

    def run() -> object:
        step = samples_at_once(setting.network, inputs.shape[1:], inputs.device)
        batches = inputs.split(step)
        return [class_activation_map(setting.network, batch, setting.last_layer, targets=[1]).maps for batch in batches]

    return run


def channels_last(setting: Setting) -> Run:
    """Run the network with its channels together in memory, from the first convolution on."""
    return partial(_plain_channels_last, setting.network, setting.inputs)


def _plain_channels_last(network: nn.Module, inputs: Tensor) -> object:
    layout = torch.channels_last if inputs.ndim == 4 else torch.channels_last_3d
    stem = next(module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
    handle = stem.register_forward_hook(lambda _module, _inputs, output: output.contiguous(memory_format=layout))
    try:
        return _plain(network, inputs)
    finally:
        handle.remove()


def folded(setting: Setting, run: Callable[[nn.Module, Tensor], object] = _plain) -> Run:
    """Run a copy of the network whose batch normalisations are folded into its convolutions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch.fx.experimental.optimization import fuse

        return partial(run, fuse(setting.network), setting.inputs)


WAYS: dict[str, Callable[[Setting], Run]] = {
    "floor": floor,
    **{way: partial(ours, method=method) for way, method in METHODS.items()},
    HALFWAY: halfway,
    FURTHER: further_class,
    "captum": by_captum,
    "torchcam": by_torchcam,
    "MONAI": by_monai,
    "pytorch-grad-cam": by_pytorch_grad_cam,
    "channels last": channels_last,
    "folded": folded,
    "folded, channels last": partial(folded, run=_plain_channels_last),
}


def ways_of(case: Case, *names: str) -> list[str]:
    """Pick those of `names` that the case takes."""
    has_halfway = case.network.startswith("ResNet")
    return [name for name in names if name not in case.left_out and (name != HALFWAY or has_halfway)]

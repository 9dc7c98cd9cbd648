"""The networks and inputs that are measured."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from monai.networks.nets import DenseNet121, resnet18, resnet50

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

MAKERS: dict[str, Callable[[int, int], nn.Module]] = {
    "DenseNet121": lambda dims, classes: DenseNet121(spatial_dims=dims, in_channels=1, out_channels=classes),
    "ResNet18": lambda dims, classes: resnet18(spatial_dims=dims, n_input_channels=1, num_classes=classes),
    "ResNet50": lambda dims, classes: resnet50(spatial_dims=dims, n_input_channels=1, num_classes=classes),
}
LAST_LAYERS = {"DenseNet121": "class_layers.relu", "ResNet18": "layer4", "ResNet50": "layer4"}
HALFWAY_LAYERS = {"ResNet18": "layer2", "ResNet50": "layer2"}

SMALL_CELLS = 32
"""Side of the input that a way is warmed up on before its memory is measured."""


@dataclass(frozen=True)
class Setting:
    """A network in evaluation mode, an input and the layers that are explained.

    Attributes
    ----------
    network
        With random weights, the same in every process.
    inputs
        ``(batch, 1, *spatial)``.
    last_layer, halfway_layer
        Names in ``network.named_modules()``; a network may have no layer halfway.
    """

    network: nn.Module
    inputs: Tensor
    last_layer: str
    halfway_layer: str | None

    def small(self) -> Setting:
        """Give a copy of the network and a corner of one input."""
        corner = (slice(0, 1), slice(None), *[slice(SMALL_CELLS)] * (self.inputs.ndim - 2))
        return replace(self, network=copy.deepcopy(self.network), inputs=self.inputs[corner].clone())


@dataclass(frozen=True)
class Case:
    """One network at one size of input, and how much time is spent on it.

    Attributes
    ----------
    network
        A key of :data:`MAKERS`.
    dims, cells
        The input is ``(1, 1, *[cells] * dims)``.
    rounds
        Of timing.
    slow_rounds
        Of timing the peers that run a whole backward pass; they are so far from the rest that few rounds tell.
    repeats
        Of measuring peak memory.
    left_out
        Ways that would take too long.
    classes
        How many scores the network gives.
    """

    network: str
    dims: int
    cells: int
    rounds: int = 3
    slow_rounds: int = 1
    repeats: int = 1
    left_out: tuple[str, ...] = ()
    classes: int = 2

    @property
    def name(self) -> str:
        """Such as ``ResNet18 3D 96³``."""
        return f"{self.network} {self.dims}D {self.cells}{'²' if self.dims == 2 else '³'}"

    def build(self, batch: int = 1) -> Setting:
        """Make the network and an input."""
        torch.manual_seed(0)
        network = MAKERS[self.network](self.dims, self.classes).eval()
        inputs = torch.randn(batch, 1, *[self.cells] * self.dims)
        return Setting(network, inputs, LAST_LAYERS[self.network], HALFWAY_LAYERS.get(self.network))

"""What a network saw of a scan and what it answered, and the maps of a class as they come in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_gradcam.inference import FUSED
from napari_gradcam.windows import Canvas

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_gradcam.cam import ClassActivationMaps
    from napari_gradcam.classifiers.preprocessing import Prepared
    from napari_gradcam.inference import Batch
    from napari_gradcam.windows import Tiling


@dataclass(eq=False)
class Reading:
    """What a network saw of a scan, sample by sample: an input, or a window of one.

    Attributes
    ----------
    tiling
        How each input is read.
    sample_shape
        ``(channel, *spatial)`` of what the network reads at once.
    layers
        Where the network was cut.
    example
        The first input as it was prepared; later the one in the middle.
    inputs
        The inputs by number, ``(channel, *spatial)``, filled up to a window; those that are still needed.
    affines
        Index of each input's voxels to RAS+ mm, where its map lies.
    batches
        The passes, in the order of their samples.
    shortages
        The device on which memory ran short, each time, and how many samples were read at a time from then on; 0 where
        none could be read there.
    unable
        The device that could not do all that the network asks for; empty where there was none.
    """

    tiling: Tiling
    sample_shape: tuple[int, ...]
    layers: list[str]
    example: Prepared
    inputs: dict[int, Tensor] = field(default_factory=dict)
    affines: list[NDArray[np.float64]] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    shortages: list[tuple[str, int]] = field(default_factory=list)
    unable: str = ""

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The probabilities of each input, ``(input, class)``; those of its windows are blended."""
        return self.tiling.blended(np.concatenate([batch.probabilities for batch in self.batches]))

    @property
    def logits(self) -> NDArray[np.float64]:
        """The scores of each input before softmax or sigmoid, ``(input, class)``; those of its windows are blended."""
        return self.tiling.blended(np.concatenate([batch.logits for batch in self.batches]))

    @property
    def spread(self) -> float:
        """The largest difference between two values of one sample."""
        return max(batch.spread for batch in self.batches)

    @property
    def values(self) -> tuple[float, float]:
        """Lowest and highest value that the network read."""
        return min(batch.values[0] for batch in self.batches), max(batch.values[1] for batch in self.batches)

    @property
    def ending(self) -> str | None:
        """What the network itself ends in, ``"softmax"``, ``"sigmoid"`` or ``"tanh"``; else None."""
        return self.batches[0].ending

    @property
    def returns_probabilities(self) -> bool:
        """Whether what the network returns are probabilities although it ends in none of them."""
        return all(batch.returns_probabilities for batch in self.batches)

    @property
    def at_hand(self) -> bool:
        """Whether all activations are kept, so that a further class takes no pass."""
        return all(batch.captured is not None for batch in self.batches)

    def samples(self, first: int, count: int) -> Tensor:
        """Make a batch of some samples, ``(count, channel, *spatial)``."""
        each = self.tiling.count
        numbers = range(first, first + count)
        return torch.stack([self.tiling.window_of(self.inputs[n // each], n % each) for n in numbers])

    def let_go(self) -> bool:
        """Let the activations go; tell whether there were any."""
        held = [number for number, batch in enumerate(self.batches) if batch.captured is not None]
        for number in held:
            self.batches[number] = replace(self.batches[number], captured=None)
        return len(held) > 0


class Mapped:
    """The maps of one class, layer by layer, as they come in.

    Parameters
    ----------
    tiling
        How each input is read.
    inputs
        How many there are.

    Attributes
    ----------
    canvases
        By layer, the fused one of several first.
    calls
        How often each layer ran in a pass.
    """

    def __init__(self, tiling: Tiling, inputs: int) -> None:
        self._tiling, self._inputs = tiling, inputs
        self._errors: dict[str, float] = {}
        self.canvases: dict[str, Canvas] = {}
        self.calls: dict[str, int] = {}

    def add(self, first: int, found: ClassActivationMaps) -> None:
        """Take in the maps of a batch whose first sample has the number `first`."""
        every = {name: layer.maps for name, layer in found.layers.items()}
        if len(every) > 1:
            every = {FUSED.join(every): found.maps, **every}
        for name, maps in every.items():
            if name not in self.canvases:
                self.canvases[name] = Canvas(self._tiling, self._inputs)
            self.canvases[name].add(first, maps[:, 0])
        for name, layer in found.layers.items():
            self.calls[name] = layer.calls
            if layer.completeness is not None:
                self._errors[name] = max(self._errors.get(name, 0.0), layer.completeness.relative_error)

    def completeness(self, layer: str) -> float | None:
        """Give the worst error in adding up to the class scores at a layer; None where nothing can tell.

        Of layers that were fused, the worst of those that can tell.
        """
        return self._errors.get(layer) if layer in self.calls else max(self._errors.values(), default=None)

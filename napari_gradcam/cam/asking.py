"""Methods that ask the network again and again: sample by sample, with pauses in which the work can be given up."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from napari_gradcam.cam.memory import SHARE, Portions, free_bytes, refuse_what_does_not_fit, samples_at_once
from napari_gradcam.cam.replay import Replay
from napari_gradcam.cam.results import INPUT

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_gradcam.cam.capture import Capture
    from napari_gradcam.cam.methods import Method

_T = TypeVar("_T")

MOST_ABLATED = 64
"""Ablated copies of a layer's output in one batch at most."""


def maps_by_scores(
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
        maps[name].append((yield from nested(_without_autograd(steps, captured), number, rounds)))
    return {name: torch.stack(found) for name, found in maps.items()}


def _without_autograd(
    steps: Generator[tuple[int, int], None, Tensor], captured: Capture
) -> Generator[tuple[int, int], None, Tensor]:
    """Run a generator without autograd, but leave the caller's mode alone while it pauses."""
    try:
        while True:
            try:
                fits = refuse_what_does_not_fit(captured.network.module, [captured.inputs])
                with fits, torch.inference_mode(False), torch.no_grad():
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
        self._scored = Portions(self._network.scores)
        self._replay: Replay | None = None
        if layer in captured.layers:
            self._layout = captured.layers[layer].layout
            self._output = captured.layers[layer].output[row : row + 1].detach()
            self.activations = self._layout.on_grid(self._output)

    def score(self, inputs: Tensor) -> Tensor:
        """Score other inputs by the whole network, ``(n, class)``."""
        return self._scored(inputs)

    def score_from(self, activations: Tensor) -> Tensor:
        """Score other activations of the layer by what lies after it, ``(n, class)``."""
        outputs = self._output.expand(len(activations), *self._output.shape[1:]).clone()
        self._layout.on_grid(outputs).copy_(activations)
        return self._scored_from_layer(outputs)

    def at_once(self, inputs: bool) -> int:
        """Tell how many inputs, or how many activations, are scored in one batch."""
        device = self.inputs.device
        if inputs or self._from_layer.runs_whole:
            return samples_at_once(self._network.module, tuple(self.inputs.shape[1:]), device)
        # A copy, what the next layers make of it, and as much again.
        needed = 4 * self._output.numel() * self._output.element_size()
        return max(1, min(MOST_ABLATED, int(SHARE * free_bytes(device)) // needed))

    @cached_property
    def _scored_from_layer(self) -> Portions:
        return Portions(self._from_layer)

    @property
    def _from_layer(self) -> Replay:
        if self._replay is None:
            self._replay = Replay(self._network, self.inputs, self._layer, self._output, self.logits)
        return self._replay


def nested(
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

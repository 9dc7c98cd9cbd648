"""Running again only what lies after the target layer, with other activations in its place.

The network has no button for that. What lies before is skipped instead: every module that had finished before the
target layer ran gives the output it gave then, without running, and so does the target layer with its replacement. What
remains is what comes after it. Functions between skipped modules still run, on outputs that are kept or expanded, and
cost little.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_gradcam.cam.capture import find_layer
from napari_gradcam.cam.memory import Portions
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_gradcam.cam.running import Network


class Replay:
    """The network from one layer on, for one input.

    Parameters
    ----------
    network
        The network; between calls it is as it was.
    inputs
        One sample, ``(1, channel, *spatial)``.
    layer
        Name of the target layer; where it runs more than once, its last run is replaced.
    output
        What the layer gave for these inputs.
    scores
        ``(1, class)`` as the whole network gave them: what the replay of `output` must give too.

    Raises
    ------
    GradCamError
        If the network gives other scores when the layer's own output is put in the layer's place.
    """

    def __init__(self, network: Network, inputs: Tensor, layer: str, output: Tensor, scores: Tensor) -> None:
        self._network, self._inputs = network, network.own(inputs)
        self._target = find_layer(network.module, layer)
        self._calls, self._kept = _finished_before(network, self._inputs, self._target)
        if self._is_true(output, scores):
            return
        self._kept = {}  # a network that cannot be run in parts is run whole
        if not self._is_true(output, scores):
            raise GradCamError(
                f"The network gives other scores when the output of the layer “{layer}” is put back in its place, so "
                "its parts cannot be tried one by one; choose another layer."
            )

    @property
    def runs_whole(self) -> bool:
        """Whether the whole network has to run each time."""
        return not self._kept

    def __call__(self, outputs: Tensor) -> Tensor:
        """Score other outputs of the layer, ``(n, ...)`` in the layer's own layout, as ``(n, class)``."""
        count = len(outputs)
        calls = 0

        def replace(*_: Any) -> Tensor | None:
            nonlocal calls
            calls += 1
            return outputs if calls == self._calls else None

        with ExitStack() as stack:
            for module, kept in self._kept.items():
                stack.enter_context(_giving(module, _expanded(kept, count)))
            if self._calls == 1:
                stack.enter_context(_giving(self._target, outputs))
            else:
                stack.callback(self._target.register_forward_hook(replace).remove)
            return self._network.scores(self._inputs.expand(count, *self._inputs.shape[1:]))

    def _is_true(self, output: Tensor, scores: Tensor) -> bool:
        two = output.expand(2, *output.shape[1:]).clone()
        try:
            again = Portions(self)(two)
        except (RuntimeError, IndexError, TypeError):
            return False
        return torch.allclose(again, scores.expand_as(again), rtol=1e-4, atol=1e-5)


def _finished_before(network: Network, inputs: Tensor, target: nn.Module) -> tuple[int, dict[nn.Module, Any]]:
    """Give how often the target runs, and the outputs of what has finished before its last run.

    A module that runs more than once is not among them: its next run may come after the target. Nor is a module within
    another one that is. The network runs twice, first to see the order, so that only the outputs that matter are held.
    """
    runs: dict[nn.Module, int] = {}
    finished: list[nn.Module] = []
    before = 0

    def started(module: nn.Module, _inputs: Any) -> None:
        nonlocal before
        if module is network.module:  # where the network has to run a second time, all counts begin anew
            runs.clear()
            finished.clear()
        runs[module] = runs.get(module, 0) + 1
        if module is target:
            before = len(finished)

    _run_with(network, inputs, started, lambda module, _inputs, _output: finished.append(module))
    early = {module for module in finished[:before] if runs[module] == 1}
    inner = {part for module in early for part in module.modules() if part is not module}
    outermost = early - inner
    outputs: dict[nn.Module, Any] = {}

    def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
        if module in outermost:
            outputs[module] = output

    _run_with(network, inputs, lambda *_: None, keep)
    return runs.get(target, 0), outputs


def _run_with(network: Network, inputs: Tensor, started: Callable[..., None], finished: Callable[..., None]) -> None:
    with ExitStack() as stack:
        for module in network.module.modules():
            stack.callback(module.register_forward_pre_hook(started).remove)
            stack.callback(module.register_forward_hook(finished).remove)
        network.scores(inputs)


@contextmanager
def _giving(module: nn.Module, output: Any) -> Iterator[None]:
    """Let a module give an output without running."""
    own: Callable[..., Any] | None = module.__dict__.get("forward")
    module.forward = lambda *_args, **_kwargs: output
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _expanded(output: Any, count: int) -> Any:
    """Repeat an output of one sample; a copy where it is one, because what comes after may write into it."""
    if isinstance(output, Tensor):
        if output.ndim == 0 or len(output) != 1:
            return output
        return output.clone() if count == 1 else output.expand(count, *output.shape[1:])
    if isinstance(output, tuple | list):
        return type(output)(_expanded(part, count) for part in output)
    if isinstance(output, dict):
        return {key: _expanded(part, count) for key, part in output.items()}
    return output

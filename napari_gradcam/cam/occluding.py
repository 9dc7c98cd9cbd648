"""MONAI's occlusion sensitivity, made to pause: it is one long call, which runs here in a thread of its own."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence


class _Stopped(Exception):
    """Nobody waits for the answer any more."""


class _TupleIndices(TorchFunctionMode):
    """Reads a list of slices as a tuple: MONAI indexes by lists, which PyTorch warns of and will read otherwise."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[1], list):
            args = (args[0], tuple(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))


class _Scores(nn.Module):
    """What MONAI takes for the network: scores as they are, and a word before each batch."""

    def __init__(self, score: Callable[[Tensor], Tensor], before: Callable[[int], None]) -> None:
        super().__init__()
        self._score, self._before = score, before

    def forward(self, inputs: Tensor) -> Tensor:
        self._before(len(inputs))
        return self._score(inputs)


def occluded_scores(
    score: Callable[[Tensor], Tensor], inputs: Tensor, sizes: Sequence[int], at_once: int
) -> Generator[tuple[int, int], None, Tensor]:
    """Score one input with each box of it filled with its mean.

    Parameters
    ----------
    score
        ``(n, channel, *spatial)`` to ``(n, class)``.
    inputs
        ``(1, channel, *spatial)``.
    sizes
        Of a box along each axis; boxes stand side by side, the last of a row shifted back where it would stick out.
    at_once
        Boxes in one batch.

    Yields
    ------
    tuple of int
        How many boxes of how many are done. Closing the generator stops the work before its next batch.

    Returns
    -------
    Tensor
        At each voxel the score with the voxel's box filled, ``(1, class, *spatial)``.
    """
    from monai.visualize import OcclusionSensitivity

    total = 1
    for side, size in zip(inputs.shape[2:], sizes, strict=True):
        total *= -(-side // size)
    news: SimpleQueue[int | Tensor | BaseException] = SimpleQueue()
    goes_on: SimpleQueue[bool] = SimpleQueue()
    done = 0

    def before(count: int) -> None:
        nonlocal done
        news.put(done)
        done += count
        if not goes_on.get():
            raise _Stopped

    def work() -> None:
        try:
            with torch.no_grad(), _TupleIndices():
                occluding = OcclusionSensitivity(
                    _Scores(score, before),
                    mask_size=tuple(sizes),
                    n_batch=at_once,
                    verbose=False,
                    mode="mean_img",
                    overlap=0.0,
                    activate=False,
                )
                news.put(occluding(inputs)[0].as_subclass(Tensor))
        except BaseException as error:
            news.put(error)

    thread = Thread(target=work, name="occlusion", daemon=True)
    thread.start()
    try:
        while True:
            message = news.get()
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, Tensor):
                return message
            yield message, total
            goes_on.put(True)
    finally:
        goes_on.put(False)
        thread.join()

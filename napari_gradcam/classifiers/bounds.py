"""A bound on the memory that a stranger's sizes may ask for, kept while they are built and tried.

A configuration can ask for a layer of a hundred gigabytes, or for a resize to as many voxels. Many systems promise any
memory and kill the process that uses it, so that there is no error to catch: each tensor's size must be known before it
is made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = 1 << 26
"""Bytes from one look at the free memory to the next."""

SHARE = 0.8
"""Of the memory that is free, so much may be asked for."""

MOST_TENSORS = 1 << 15
"""So many tensors may be made; for the largest classifiers of MONAI it is a few thousand."""


class TooLargeError(MemoryError):
    """More is asked for than there is memory."""


class Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, no operation of torch makes a tensor that the memory cannot hold.

    The size of what an operation gives is found before it runs, on PyTorch's meta device, where tensors have shapes and
    no values; one that the meta device does not know is taken to give no more than it reads.

    Parameters
    ----------
    most
        Bytes that may be made in all, of tensors that are kept and those that are not; by default the memory alone
        sets a bound.

    Raises
    ------
    TooLargeError
        If a tensor does not fit, or too many are made.
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made, self._bytes, self._most = 0, 0, most
        self._since = STEP

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Look before each operation."""
        kwargs = kwargs or {}
        self._made += 1
        if self._made > MOST_TENSORS:
            raise TooLargeError("it is made of too many parts")
        size = _bytes_of(func, args, kwargs)
        self._since += size
        self._bytes += size
        if self._most is not None and self._bytes > self._most:
            raise TooLargeError(f"more than {self._most / 2**30:.1f} GiB are needed, many times what its weights have")
        if self._since >= STEP:
            # What was asked for and is not used yet still looks free.
            free = SHARE * psutil.virtual_memory().available
            if self._since > free:
                raise TooLargeError(f"{self._since / 2**30:.1f} GiB are needed and {free / 2**30:.1f} GiB are there")
            self._since = 0
        return func(*args, **kwargs)


def _bytes_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Tell how large new tensors will be; 0 where that cannot be told, or nothing new is made."""
    if func._schema.is_mutable:
        return 0  # it writes into what is there
    if args and isinstance(args[0], list) and all(isinstance(size, int) for size in args[0]):
        return 8 * math.prod(args[0])  # a new tensor of that size, at its widest: most are made so
    try:
        shapes, names = tree_map_only(Tensor, _shape_of, (args, kwargs))
        if "device" in names or not any(isinstance(leaf, Tensor) for leaf in tree_leaves((args, kwargs))):
            names = {**names, "device": torch.device("meta")}
        made = func(*shapes, **names)
    except Exception:  # an operation that needs values; whatever is wrong with it, it says when it runs
        return 0
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(made) if isinstance(leaf, Tensor))


def _shape_of(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")

"""A bound on the memory that a stranger's sizes may ask for, kept while they are built and tried.

A configuration can ask for a layer of a hundred gigabytes, or for a resize to as many voxels. Many systems promise any
memory and kill the process that uses it, so that there is no error to catch: each tensor's size must be known before it
is made.
"""

from __future__ import annotations

import math
from functools import cache
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

MOST_TENSORS = 1 << 14
"""So many tensors may be made; for the largest classifiers of MONAI it is a few thousand."""

_SMALL = 1 << 12

_REDUCTION = getattr(torch.Tag, "reduction", None)  # newer than the oldest PyTorch that is taken


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
    parts
        Operations that may be done; None where it is not a stranger's choice how many there are.

    Raises
    ------
    TooLargeError
        If a tensor does not fit, or too many are made.
    """

    def __init__(self, most: int | None = None, parts: int | None = MOST_TENSORS) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made, self._bytes, self._most, self._parts = 0, 0, most, parts
        self._since = STEP

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Look before each operation."""
        kwargs = kwargs or {}
        self._made += 1
        if self._parts is not None and self._made > self._parts:
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
    if not _makes_tensors(func) or _is_small(args):
        return 0
    if args and isinstance(args[0], list) and all(isinstance(size, int) for size in args[0]):
        return 8 * math.prod(args[0])  # a new tensor of that size, at its widest: most are made so
    if (told := _told(func, args)) is not None:
        return told
    try:
        shapes, names = tree_map_only(Tensor, _shape_of, (args, kwargs))
        if "device" in names or not any(isinstance(leaf, Tensor) for leaf in tree_leaves((args, kwargs))):
            names = {**names, "device": torch.device("meta")}
        made = func(*shapes, **names)
    except Exception:  # an operation that needs values; whatever is wrong with it, it says when it runs
        return 0
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(made) if isinstance(leaf, Tensor))


@cache
def _makes_tensors(func: Any) -> bool:
    """Tell whether an operation may take memory: not if it writes into what is there, shows it, or gives a number."""
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    returns = (str(one.type) for one in func._schema.returns)
    shows = func.is_view and not composite  # such as a reshape, which copies where it cannot show
    return not func._schema.is_mutable and not shows and any("Tensor" in kind for kind in returns)


def _is_small(args: tuple[Any, ...]) -> bool:
    """Tell at once what cannot be large: whatever an operation makes of so few numbers, it is at most their square."""
    size = 1.0
    for arg in args:
        for one in arg if isinstance(arg, list | tuple) else (arg,):
            if isinstance(one, Tensor):
                size *= 1 + one.numel()
            elif isinstance(one, int | float) and one:
                size *= max(1 + abs(one), 1 / abs(one))
            elif isinstance(one, list | tuple):
                return False
    return size <= _SMALL


def _told(func: Any, args: tuple[Any, ...]) -> int | None:
    """Tell the size of the usual results, for which the meta device takes a hundred times as long as they do."""
    first = args[0] if args else None
    if not isinstance(first, Tensor):
        return None
    if torch.Tag.pointwise in func.tags:
        tensors = [one for one in args if isinstance(one, Tensor)]
        try:
            shape = torch.broadcast_shapes(*(one.shape for one in tensors))  # type: ignore[no-untyped-call]
        except RuntimeError:
            return 0  # it says so when it runs
        return int(max(4, *(one.element_size() for one in tensors)) * math.prod(shape))
    if _REDUCTION in func.tags and first.untyped_storage().nbytes() >= first.numel() * first.element_size():
        return 0  # no more than it reads, unless that repeats what is stored
    if "upsample" in func.name() and isinstance(args[1], list | tuple):
        return int(first.element_size() * math.prod((*first.shape[:2], *args[1])))
    return None


def _shape_of(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")

"""What stays warm: the last scan that each classifier read, so that another class of it costs no pass of the network.

Kept is a :class:`napari_gradcam.seen.Reading` for each classifier. It dies with the classifier, or with any of the
volumes that were read, and it is let go

- when the classifier reads anything else, before it does;
- while it is made, if it takes more than a quarter of the memory that was free
  (:data:`napari_gradcam.passes.KEPT`);
- when another scan is read and less than :data:`LEAST_FREE` of the machine's memory is free, or when memory runs short
  in any run.

It answers only for the very same input, which is checked each time: the scan's voxels and the weights of the network
are summed up (the CRC-32 of 150 MB takes 15 ms), so that a scan or a network that was changed in place is read anew.
The preprocessing is taken to be as it was; it is part of the classifier, which is frozen.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil
import torch
from isal.isal_zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch import nn

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.channels import Channels
    from napari_gradcam.inference import Request
    from napari_gradcam.seen import Reading
    from napari_gradcam.volumes import Volume

LEAST_FREE = 0.25
"""Below this share of free memory only what is needed now is kept."""


class Input(NamedTuple):
    """What a network reads, so that it can be told whether it is still the same.

    Attributes
    ----------
    scan
        The channels' voxels, summed up, and their affine.
    plane
        The plane that they are cut in; empty where they are read whole.
    device
        Where the network was asked to run.
    network
        Its weights, summed up, and its modules.
    """

    scan: tuple[Any, ...]
    plane: str
    device: str
    network: tuple[Any, ...]


class _Kept(NamedTuple):
    what: Input
    reading: Reading
    alive: tuple[weakref.ref[Volume], ...]


_kept: weakref.WeakKeyDictionary[Classifier, _Kept] = weakref.WeakKeyDictionary()


def input_of(channels: Channels, classifier: Classifier, plane: str, request: Request) -> Input:
    """Sum up what a classifier is about to read."""
    volume = channels.volume
    scan = (checksum(channels.array), volume.affine.tobytes(), volume.in_patient_space)
    return Input(scan, plane, str(request.device), _state_of(classifier.network))


def find(classifier: Classifier, what: Input, request: Request) -> Reading | None:
    """Give what is kept of the same input, cut at the layers that are asked for."""
    kept = _kept.get(classifier)
    if kept is None or kept.what != what or not kept.reading.at_hand:
        return None
    if request.of_layer:
        layers = request.layers or [classifier.default_layer_for(kept.reading.sample_shape)]
        if layers != kept.reading.layers:
            return None
    return kept.reading


def at_hand(classifier: Classifier) -> bool:
    """Whether what a classifier read last is kept, so that another class of it takes no pass unless it was changed."""
    kept = _kept.get(classifier)
    return kept is not None and kept.reading.at_hand


def keep(classifier: Classifier, channels: Channels, what: Input, reading: Reading) -> None:
    """Keep what a classifier read, in the place of what is kept of it, for as long as all its volumes live."""
    owner = weakref.ref(classifier)

    def end(_volume: object) -> None:
        of = owner()
        held = _kept.get(of) if of is not None else None
        if of is not None and held is not None and held.reading is reading:
            _kept.pop(of, None)

    volumes = {id(volume): volume for volume in (channels.volume, *channels.volumes)}
    _kept[classifier] = _Kept(what, reading, tuple(weakref.ref(volume, end) for volume in volumes.values()))


def make_room(classifier: Classifier) -> None:
    """Let go what is not needed before a classifier reads a scan: its own last one, and all if memory is short."""
    memory = psutil.virtual_memory()
    if memory.available < LEAST_FREE * memory.total:
        let_go()
    _kept.pop(classifier, None)


def let_go() -> bool:
    """Let go all that is kept; tell whether there was anything."""
    had = len(_kept) > 0
    _kept.clear()
    return had


def checksum(array: NDArray[Any]) -> tuple[Any, ...]:
    """Sum up an array: its shape, its type and the CRC-32 of its values, which any single change changes."""
    code = 0
    for part in _contiguous(array):
        code = crc32(part, code)
    return array.shape, array.dtype.str, code


def _contiguous(array: NDArray[Any]) -> Iterable[NDArray[Any]]:
    """Give the values of an array as pieces of memory; only where they do not lie together they are copied."""
    if array.flags.c_contiguous or array.ndim < 2:
        yield np.ascontiguousarray(array)
    elif array.flags.f_contiguous:
        yield from _contiguous(array.T)
    else:
        longest = int(np.argmax(np.abs(array.strides)))
        for part in np.moveaxis(array, longest, 0):
            yield from _contiguous(part)


def _state_of(network: nn.Module) -> tuple[Any, ...]:
    """Sum up a network: its weights, its modules and what is plugged into them.

    Weights on the CPU are summed up by value. Elsewhere they are taken to be the same while they are the same tensors
    and PyTorch has counted no change of them, since to fetch them would take longer than many a pass.
    """
    tensors = [*network.named_parameters(), *network.named_buffers()]
    return (
        tuple((name, _state_of_tensor(tensor)) for name, tensor in tensors),
        tuple((name, module, *_plugged_in(module)) for name, module in network.named_modules()),
    )


def _state_of_tensor(tensor: torch.Tensor) -> tuple[Any, ...]:
    if tensor.device.type == "cpu" and tensor.layout is torch.strided and not tensor.is_quantized:
        values = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        return tensor.shape, tensor.dtype, crc32(values.numpy())
    return (_Same(tensor), object() if tensor.is_inference() else tensor._version, tensor.data_ptr())


class _Same:
    """A tensor that equals itself alone; held, so that no other one can take its place in memory."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._tensor is self._tensor

    __hash__ = None  # type: ignore[assignment]


def _plugged_in(module: nn.Module) -> tuple[Any, ...]:
    """Give what changes what a module does besides its weights: hooks, plain settings, another forward.

    Of whole numbers only those of PyTorch's own layers are settings: other modules may count with them.
    """
    plain = (bool, float, str, int) if type(module).__module__.startswith("torch.nn.") else (bool, float, str)
    settings = {
        name: value
        for name, value in vars(module).items()
        if name == "forward" or (name != "training" and type(value) in plain)
    }
    hooks = tuple(module._forward_pre_hooks.values()), tuple(module._forward_hooks.values())
    return settings, hooks

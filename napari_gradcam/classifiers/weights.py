"""A file of weights to a state dict.

Nothing from the file runs: ``.safetensors`` holds tensors alone, and a pickle is read by PyTorch's ``weights_only``,
which builds tensors and plain containers. Of what a training script saved beside the weights, averaged copies alone are
kept, under names of their own.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickletools
import re
import struct
import warnings
import zipfile
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from napari_gradcam.classifiers.fitting import load_state
from napari_gradcam.classifiers.pickles import LONGEST, MOST_INSTRUCTIONS, OddPickleError, check_pickles
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["UnsafeWeightsError", "load_state", "read_state"]

_CONTAINERS = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
"""What training scripts call the entry of a checkpoint that holds the weights."""

_COPY = re.compile(r"(?:^|_)(?:ema|swa)(?:_|$)|averaged", re.IGNORECASE)
"""Names of averaged copies of the weights."""

_HARMLESS = re.compile(
    r"torch\.\w+|torch\._utils\..+|torch\.nn\.parameter\.Parameter|collections\.\w+|_codecs\.encode"
    r"|(?:builtins|__builtin__)\.(?:bytearray|complex|set)"
)
"""What a state dict's own pickle asks for."""

_MOST = 4
"""A file's tensors may take so many times the bytes of the file: some share memory, some repeat a value."""

_SMALL = 1 << 20
"""Bytes that tensors may take whatever the file's size."""

MOST_TENSORS = 20_000
"""Tensors of a file; the largest classifiers of MONAI have some thousands, and each takes time however small it is."""

_LONGEST_HEADER = 1 << 23
"""Bytes of the names and shapes in a file of safetensors."""

_ZIP, _NAMED = b"PK\x03\x04", 3

_PICKLES = 5
"""What PyTorch wrote before 1.6: a number, a version, a machine, the content, and the keys of its tensors."""


class UnsafeWeightsError(GradCamError):
    """A file of weights that asks for more than tensors, which could run code.

    Attributes
    ----------
    asks
        The classes and functions that it asks for, as ``module.name``, separated by commas.
    """

    def __init__(self, label: str, asks: str) -> None:
        super().__init__(
            f"The weights in {label} hold more than weights (they ask for {asks}), which could run code, and were not "
            "opened; save the network's state_dict() alone, or as .safetensors."
        )
        self.asks = asks


def read_state(source: Path | BinaryIO, name: str, label: str, *, trusted: bool = False) -> dict[str, Tensor]:
    """Read the weights in a file; no code from it runs unless it is `trusted`.

    Parameters
    ----------
    source
        The file, or its content.
    name
        The file's name, whose ending says how it is read: ``.safetensors``, anything else as ``torch.save`` writes it.
    label
        How sentences call the file.
    trusted
        Whether a person trusts that file, and its pickle may build whatever it asks for.

    Returns
    -------
    dict of Tensor
        The weights on the CPU by their names in the file. Of a file that is a path the tensors may be the file's own
        bytes, read when they are used. Averaged copies beside the weights keep the name of their entry before theirs.

    Raises
    ------
    UnsafeWeightsError
        If it asks for more than tensors.
    GradCamError
        If it is damaged, is TorchScript, or holds no tensors or others than a network's.
    """
    try:
        size = source.stat().st_size if isinstance(source, Path) else source.seek(0, io.SEEK_END)
        if size == 0:
            raise GradCamError(f"The weights in {label} are empty: the file has no bytes; copy it again.")
        safe = name.endswith(".safetensors")
        content = _safetensors(source, label) if safe else _unpickled(source, label, size, trusted)
        state = _state(content, label)
    except GradCamError:
        raise
    except OddPickleError as error:
        raise GradCamError(
            f"The weights in {label} are no state dict as PyTorch writes it ({error}), and were not opened; save the "
            "network's state_dict() alone, or as .safetensors."
        ) from error
    except MemoryError as error:
        raise _too_large(label) from error
    except Exception as error:  # a stranger's bytes can make a reader fail in any way
        raise GradCamError(
            f"The file of weights {label} is damaged or holds no weights of PyTorch; copy it again, or save the "
            "network's state_dict()."
        ) from error
    _check_tensors(state, label, size)
    return state


def _safetensors(source: Path | BinaryIO, label: str) -> Any:
    with _opened(source) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = file.read(min(length, _LONGEST_HEADER + 1))
        if len(header) > _LONGEST_HEADER or len(json.loads(header)) > MOST_TENSORS:
            raise _too_many(label)
    # The reader holds every tensor's shape against the bytes there are before it makes one.
    if isinstance(source, Path):
        return safetensors.load_file(source)
    source.seek(0)
    return safetensors.load(source.read())


def _unpickled(source: Path | BinaryIO, label: str, size: int, trusted: bool) -> Any:
    zipped = _check_zip(source, label, size)
    try:
        if not trusted:
            check_pickles(_instructions(source, zipped), 1 if zipped else _PICKLES)
        if not isinstance(source, Path):
            source.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickle protocols and deprecated storages, for programmers
            return torch.load(
                source, map_location="cpu", weights_only=not trusted, mmap=zipped and isinstance(source, Path)
            )
    except Exception:
        if not trusted and (asks := _asked_for(source, zipped)):
            raise UnsafeWeightsError(label, asks) from None
        raise


def _check_zip(source: Path | BinaryIO, label: str, size: int) -> bool:
    """Tell whether the file is a zip, as PyTorch writes since 1.6, and refuse one that is no state dict or a bomb."""
    with _opened(source) as file:
        if file.read(len(_ZIP)) != _ZIP:
            return False
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    if any(entry.filename.rpartition("/")[2] == "constants.pkl" for entry in entries):
        raise GradCamError(
            f"The file of weights {label} is TorchScript, a program that cannot be looked into; give the network's "
            "state_dict() instead."
        )
    if sum(entry.file_size for entry in entries) > max(_MOST * size, _SMALL):
        raise _too_large(label)
    return True


@contextmanager
def _opened(source: Path | BinaryIO) -> Iterator[IO[bytes]]:
    """Give a file at its beginning; what was handed in open stays open."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        source.seek(0)
        yield source


def _instructions(source: Path | BinaryIO, zipped: bool) -> io.BytesIO:
    """Give the pickles of a file, by the same reader as they are obeyed with later."""
    with _opened(source) as file:
        if not zipped:
            return io.BytesIO(file.read(LONGEST))
        reader = torch._C.PyTorchFileReader(file)
        if reader.get_record_size("data.pkl") > LONGEST:
            raise OddPickleError("it is too long")
        return io.BytesIO(reader.get_record("data.pkl"))


def _asked_for(source: Path | BinaryIO, zipped: bool) -> str:
    """List the classes and functions that a refused pickle asks for, without running it; empty if there are none."""
    instructions = _instructions(source, zipped)
    try:
        with _opened(source) as file:
            asked = torch.serialization.get_unsafe_globals_in_checkpoint(file) if zipped else None
    except Exception:  # instructions that PyTorch never writes
        asked = None
    asked = list(_globals(instructions)) if asked is None else asked
    names = sorted({printable(name)[:80] for name in asked if not _HARMLESS.fullmatch(name)})
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _globals(file: IO[bytes]) -> Iterator[str]:
    """List the names in the pickles that a file begins with, from their instructions alone."""
    said: list[str] = []
    instructions = chain.from_iterable(pickletools.genops(file) for _ in range(_PICKLES))
    try:
        for operation, argument, _ in islice(instructions, MOST_INSTRUCTIONS):
            if operation.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".", 1)
            elif operation.name == "STACK_GLOBAL" and len(said) > 1:
                yield ".".join(said[-2:])
            elif isinstance(argument, str):
                said.append(argument)
    except Exception:  # the end of the pickles: tensors follow, or damage
        return


def _state(content: Any, label: str) -> dict[str, Tensor]:
    """Find the weights in what a file holds."""
    if isinstance(content, nn.Module):
        content = content.state_dict()  # only a trusted file has one
    state: dict[str, Tensor] = {}
    if isinstance(content, dict):
        inside = {str(key): _unwrapped(value) for key, value in dict.items(content)}
        held = {key: value for key, value in inside.items() if value}
        copies = {key: value for key, value in held.items() if _COPY.search(key)}
        chosen = {key: value for key, value in held.items() if key in _CONTAINERS}
        others = {key: value for key, value in held.items() if key not in copies}
        if not chosen and len(others) == 1:
            chosen = others
        if held:
            # Several sets of weights keep the names of their entries, so that none is taken in silence.
            parts = {**chosen, **copies} if chosen else held
            state = {
                name if list(chosen) == [key] else f"{key}.{name}": tensor
                for key, part in parts.items()
                for name, tensor in part.items()
            }
        else:
            state = _tensors(content)
    if not state:
        raise GradCamError(f"The file of weights {label} holds no state dict; save the network's state_dict().")
    return state


def _unwrapped(value: Any) -> dict[str, Tensor]:
    """Give the tensors of an entry, or of an entry in it."""
    if isinstance(value, nn.Module):
        value = value.state_dict()
    if not isinstance(value, dict):
        return {}
    items = dict(dict.items(value))
    inner = next((items[key] for key in _CONTAINERS if isinstance(items.get(key), dict)), None)
    return _tensors(value if inner is None else inner)


def _tensors(mapping: Any) -> dict[str, Tensor]:
    """Keep what is a tensor, as plain ones: a pickle may hang anything on a mapping or a tensor, under any name."""
    return {
        key: Tensor.detach(value)
        for key, value in dict.items(mapping)
        if isinstance(key, str) and isinstance(value, Tensor)
    }


def _check_tensors(state: Mapping[str, Tensor], label: str, size: int) -> None:
    if len(state) > MOST_TENSORS:
        raise _too_many(label)
    for name, tensor in state.items():
        if (
            tensor.layout != torch.strided
            or tensor.is_nested
            or tensor.is_quantized
            or tensor.is_complex()
            or tensor.device.type != "cpu"
        ):
            raise GradCamError(
                f"The weights in {label} hold at {name} a tensor that is sparse, quantised, complex or without values; "
                "save them as plain floating point numbers."
            )
    # A tensor may repeat what is stored, or claim memory that the file does not hold: neither is filled before it is
    # used.
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    stored = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in state.values()}
    if max(claimed, sum(stored.values())) > max(_MOST * size, _SMALL):
        raise _too_large(label)


def _too_large(label: str) -> GradCamError:
    return GradCamError(
        f"The file of weights {label} claims tensors far larger than the file; it is damaged or no "
        "classifier's, do not open it."
    )


def _too_many(label: str) -> GradCamError:
    return GradCamError(
        f"The file of weights {label} holds more than {MOST_TENSORS:,} tensors, more than any classifier; save the "
        "network's state_dict() alone."
    )


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of a network's weights and buffers, hexadecimal: of names, types, shapes and values, by name."""
    whole = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        values = tensor.detach().cpu().contiguous().reshape(-1)
        whole.update(f"{name} {values.dtype} {tuple(tensor.shape)}".encode())
        if values.numel():
            whole.update(values.view(torch.uint8).numpy().data)
    return whole.hexdigest()

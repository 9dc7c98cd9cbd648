"""The bounds of a pickle of weights, known from its instructions before any of them is obeyed.

PyTorch's ``weights_only`` makes nothing but plain values, yet of these as many as a file asks for: a hundred bytes can
nest tuples so that hashing them takes years, or so deeply that the process dies. Here the instructions are followed
with the size and depth of each value in its place.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import IO

__all__ = ["LONGEST", "MOST_INSTRUCTIONS", "OddPickleError", "check_pickles"]

LONGEST = 1 << 24
"""Bytes of the instructions; those of a DenseNet121 take 130,000."""

MOST_INSTRUCTIONS = 1 << 20
"""Instructions of a pickle; a DenseNet121 has 26,000."""

_MOST_TAKEN = 1 << 23
"""Values that instructions take into others, those within them counted each time; a DenseNet121 has 44,000."""

_DEEPEST = 100

_LETTERS = 32
"""So many letters count as one more value."""

_NUMBERS = frozenset(("NONE", "NEWFALSE", "NEWTRUE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"))
_PLAIN = frozenset(("BINUNICODE", "SHORT_BINSTRING", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"))
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}
_FILLS = {"APPEND": 1, "SETITEM": 2, "BUILD": 1, "APPENDS": None, "SETITEMS": None}
"""How many values an instruction takes; None is all since the last mark."""

_BYTES = "_codecs encode"
"""What makes bytes of a text. Other codecs than the one for this make twice as many of each time."""


class OddPickleError(ValueError):
    """A pickle is written as none of a state dict is; says how."""


@dataclass(slots=True)
class _Value:
    """What is known of a value: how many it holds, how deeply, and what a function or the end of a tuple says."""

    size: int = 1
    depth: int = 0
    name: str = ""
    text: object = None
    complete: bool = False


_NUMBER = _Value(complete=True)
"""Any number, since nothing is ever filled into one."""


def check_pickles(file: IO[bytes], count: int) -> None:
    """Check the pickles that a file begins with.

    Parameters
    ----------
    file
        The file, at its beginning.
    count
        How many follow each other.

    Raises
    ------
    OddPickleError
        If one would take much memory or time.
    ValueError, IndexError, KeyError
        If one is cut off or mixed up.
    """
    taken = 0
    for _ in range(count):
        machine = _Machine(taken)
        machine.run(file)
        taken = machine.taken


class _Machine:
    """PyTorch's unpickler without the values; `taken` counts on from an earlier pickle."""

    def __init__(self, taken: int) -> None:
        self.taken = taken
        self._stack: list[_Value] = []
        self._marked: list[list[_Value]] = []
        self._memo: dict[int, _Value] = {}

    def run(self, file: IO[bytes]) -> None:
        """Follow a pickle to its end."""
        for number, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if number > MOST_INSTRUCTIONS:
                raise OddPickleError("it has too many instructions")
            self._follow(operation.name, argument)

    def _follow(self, name: str, argument: object) -> None:
        stack = self._stack
        if name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]  # type: ignore[index]  # a number by its instruction
        elif name in ("BINGET", "LONG_BINGET"):
            value = self._memo[argument]  # type: ignore[index]
            value.complete = True
            stack.append(value)
        elif name in _NUMBERS:
            stack.append(_NUMBER)
        elif name in _PLAIN:
            letters = len(argument) if isinstance(argument, str | bytes) else 0
            stack.append(_Value(1 + letters // _LETTERS, text=argument))
        elif name == "MARK":
            self._marked.append(stack)
            self._stack = []
        elif name in _TUPLES:
            values = self._take(_TUPLES[name])
            self._stack.append(self._filled(_Value(text=values[-1].text if values else None), values))
        elif name in _FILLS:
            values = self._take(_FILLS[name])
            if self._stack[-1].complete:
                raise OddPickleError("it fills what it has used")  # and what was said of its size would be wrong
            self._filled(self._stack[-1], values)
        elif name == "GLOBAL":
            stack.append(_Value(name=str(argument)))
        elif name in ("REDUCE", "NEWOBJ"):
            self._call()
        elif name == "BINPERSID":
            self._filled(_Value(), self._take(1))
            self._stack.append(_Value())
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"PyTorch never writes {name}")

    def _call(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not function.name:
            raise OddPickleError("it calls what has no name")
        if function.name.endswith(" bytearray"):
            raise OddPickleError("it asks for a bytearray, which can be of any size")
        if function.name == _BYTES and (arguments.text != "latin1" or arguments.depth != 1):
            raise OddPickleError("it asks for another codec than that of bytes")
        self._stack.append(self._filled(_Value(), [arguments]))

    def _take(self, count: int | None) -> list[_Value]:
        if count is None:
            values, self._stack = self._stack, self._marked.pop()
        elif count > len(self._stack):
            raise IndexError(count)
        else:
            values = self._stack[-count:]
            del self._stack[-count:]
        return values

    def _filled(self, holder: _Value, values: list[_Value]) -> _Value:
        """Count values into their holder."""
        size, depth = 0, holder.depth
        for value in values:
            size += value.size
            if value.depth >= depth:
                depth = value.depth + 1
        holder.size += size
        holder.depth = depth
        self.taken += size
        if self.taken > _MOST_TAKEN:
            raise OddPickleError("it multiplies what it holds")
        if holder.depth > _DEEPEST:
            raise OddPickleError("it is nested too deeply")
        return holder

"""The expressions of a bundle's configuration that can be computed without running code from it.

MONAI hands each string that begins with ``$`` to ``eval``. Here a small interpreter of its syntax tree computes
references, numbers, lists, arithmetic, comparisons and the few names of :data:`NAMES`; nothing is ever passed to
``eval``.
"""

from __future__ import annotations

import ast
import operator
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REFERENCE = re.compile(r"@((?:#+\w|[A-Za-z_])\w*(?:(?:::|#)\w+)*)")
"""``@a::b``, or ``@##b`` for one that is found from where it stands (MONAI's relative references)."""

LONGEST = 10_000
"""Letters of an expression; a longer one is no harmless one."""

_STAND_IN = "reference_"

NAMES: Mapping[str, Any] = MappingProxyType(
    {
        **{f"torch.{name}": getattr(torch, name) for name in ("float16", "float32", "float64", "float", "double")},
        **{f"torch.{name}": getattr(torch, name) for name in ("int8", "uint8", "int16", "int32", "int64", "long")},
        **{f"torch.{name}": getattr(torch, name) for name in ("bool", "int", "half")},
        **{f"np.{name}": getattr(np, name) for name in ("float16", "float32", "float64", "int8", "uint8", "int16")},
        **{f"np.{name}": getattr(np, name) for name in ("int32", "int64")},
    }
)
"""Names that stand for a type of number; ``numpy.`` is read as ``np.``."""

CALLS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        # The preprocessing runs on the CPU, whatever device the bundle would choose for its network.
        "torch.device": lambda *_: "cpu",
        "torch.cuda.is_available": lambda: False,
    }
)
"""Functions that may be called; they are asked for where a device is chosen."""

_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


class NotAllowedError(Exception):
    """An expression holds more than is computed here; the message names the part."""


def parse(text: str) -> tuple[ast.expr, dict[str, str]]:
    """Read an expression, ``$`` left off, and find its references.

    Returns
    -------
    ast.expr
        With a name of its own in the place of each reference.
    dict of str to str
        What each of these names refers to.

    Raises
    ------
    NotAllowedError
        If it is no single expression.
    """
    names: dict[str, str] = {}

    def keep(match: re.Match[str]) -> str:
        name = f"{_STAND_IN}{len(names)}"
        names[name] = match[1]
        return name

    if len(text) > LONGEST:
        raise NotAllowedError("its length")
    try:
        return ast.parse(REFERENCE.sub(keep, text).strip(), mode="eval").body, names
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotAllowedError("what is no expression of Python's") from error


def check(node: ast.expr, references: Mapping[str, str]) -> None:
    """Refuse an expression that holds more than is computed here, without computing anything.

    Raises
    ------
    NotAllowedError
        Naming the part.
    """
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return
        case ast.Name(id=name) if name in references:
            return
        case ast.Attribute() if _dotted(node) in NAMES:
            return
        case ast.Call(func=ast.Attribute() as function, keywords=[]) if _dotted(function) in CALLS:
            inner = node.args
        case ast.List(elts=inner) | ast.Tuple(elts=inner):
            pass
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            inner = [operand]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            inner = [left, right]
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            inner = [left, right]
        case ast.BoolOp(values=inner):
            pass
        case ast.IfExp(test=test, body=body, orelse=orelse):
            inner = [test, body, orelse]
        case ast.Subscript(value=value, slice=index) if not isinstance(index, ast.Slice):
            inner = [value, index]
        case _:
            raise NotAllowedError(f"“{ast.unparse(node)}”")
    for one in inner:
        check(one, references)


def compute(node: ast.expr, values: Mapping[str, Any]) -> Any:
    """Compute an expression that was checked.

    Parameters
    ----------
    node
        Its syntax tree.
    values
        What its references stand for.

    Raises
    ------
    NotAllowedError
        If it computes with what is no number, which could fill the memory.
    """
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return values[name]
        case ast.Attribute():
            return NAMES[_dotted(node)]
        case ast.Call(func=function, args=arguments):
            return CALLS[_dotted(function)](*(compute(one, values) for one in arguments))
        case ast.List(elts=items):
            return [compute(item, values) for item in items]
        case ast.Tuple(elts=items):
            return tuple(compute(item, values) for item in items)
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_number(compute(operand, values)))
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_number(compute(left, values)), _number(compute(right, values)))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _COMPARE[type(op)](_plain(compute(left, values)), _plain(compute(right, values)))
        case ast.BoolOp(op=op, values=items):
            found = [compute(item, values) for item in items]
            return all(found) if isinstance(op, ast.And) else any(found)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return compute(body if compute(test, values) else orelse, values)
        case ast.Subscript(value=container, slice=index):
            sequence = compute(container, values)
            if isinstance(sequence, list | tuple | dict):
                return sequence[compute(index, values)]
    raise NotAllowedError(f"“{ast.unparse(node)}”")


def _dotted(node: ast.expr) -> str:
    """Write ``a.b.c`` where that is what stands there, else nothing."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join(["np" if node.id == "numpy" else node.id, *reversed(parts)])


def _number(value: Any) -> Any:
    """Arithmetic is for numbers: a list multiplied by a number could fill the memory."""
    if isinstance(value, bool | int | float) and abs(value) < 2**63:
        return value
    raise NotAllowedError("arithmetic with what is no number")


def _plain(value: Any) -> Any:
    """Comparisons are for plain values: an object of a class might answer with code of its own."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise NotAllowedError("a comparison of what is no number or text")

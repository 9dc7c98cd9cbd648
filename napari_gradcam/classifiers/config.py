"""A bundle's configuration, read without running code from it.

MONAI's own ConfigParser calls whatever ``_target_`` names and evaluates each string that begins with ``$``. Here
references (``@a::b``) are followed, ``_target_`` is built from the allow-list alone, and a ``$`` expression may hold
references, numbers, lists, arithmetic and comparisons: a small interpreter of its syntax tree computes it, nothing is
ever passed to ``eval``.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from typing import TYPE_CHECKING, Any

from torch import nn

from napari_gradcam.classifiers.allowlist import allowed_class
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_REFERENCE = re.compile(r"@([A-Za-z_][\w]*(?:(?:::|#)\w+)*)")
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
}


class Config:
    """The parsed JSON or YAML of a bundle's inference configuration.

    Parameters
    ----------
    content
        The mapping as read from the file.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content
        self._open: list[str] = []

    def __contains__(self, key: str) -> bool:
        """Whether the configuration has `key` at its top."""
        return key in self._content

    def raw(self, key: str) -> Any:
        """Return what stands at ``a::b::0``, references followed but nothing built.

        Raises
        ------
        GradCamError
            If nothing stands there.
        """
        node: Any = self._content
        for part in re.split("::|#", key):
            try:
                node = node[int(part)] if isinstance(node, list) else node[part]
            except (KeyError, IndexError, TypeError, ValueError):
                raise GradCamError(f"The bundle's configuration refers to “{key}”, which it does not hold.") from None
            node = self.follow(node)
        return node

    def follow(self, node: Any) -> Any:
        """Return what `node` stands for if it is a reference ``@a::b``, else `node` itself."""
        match = _REFERENCE.fullmatch(node) if isinstance(node, str) else None
        return self._once(match[1], lambda: self.raw(match[1])) if match else node

    def build(self, key: str) -> Any:
        """Build what stands at `key`, references followed.

        Raises
        ------
        GradCamError
            If something in it may not be built, or cannot be built as written; the sentence names its place.
        """
        return self.build_node(self.raw(key), key)

    def build_node(self, node: Any, key: str) -> Any:
        """Build `node`, which stands at `key`."""
        if isinstance(node, str):
            return self._build_string(node, key)
        if isinstance(node, list):
            return [self.build_node(item, f"{key}::{n}") for n, item in enumerate(node)]
        if not isinstance(node, dict):
            return node
        arguments = {
            name: self.build_node(item, f"{key}::{name}")
            for name, item in node.items()
            if not (isinstance(name, str) and name.startswith("_") and name.endswith("_"))
        }
        if "_target_" not in node:
            return arguments
        return self._instantiate(node, arguments, key)

    def _instantiate(self, node: dict[str, Any], arguments: dict[str, Any], key: str) -> Any:
        unknown = {name for name in node if name.startswith("_") and name.endswith("_")} - {
            "_target_",
            "_disabled_",
            "_desc_",
        }
        if unknown:
            raise GradCamError(
                f"The bundle sets {', '.join(sorted(unknown))} at “{key}”, which may run code; remove it."
            )
        if self.build_node(node.get("_disabled_", False), f"{key}::_disabled_") in (True, "True", "true"):
            return None
        built = allowed_class(str(node["_target_"]), f"{key}::_target_")
        if issubclass(built, nn.Module) and arguments.get("pretrained"):
            arguments["pretrained"] = False  # the bundle's own weights follow; nothing is downloaded
        try:
            with warnings.catch_warnings():
                # MONAI tells its callers of defaults that changed, which the person at the scan cannot act on.
                warnings.simplefilter("ignore", FutureWarning)
                return built(**arguments)
        except Exception as error:
            raise GradCamError(
                f"The bundle's “{key}” ({built.__name__}) cannot be built: {_first_line(error)}."
            ) from error

    def _build_string(self, text: str, key: str) -> Any:
        reference = _REFERENCE.fullmatch(text)
        if reference:
            return self._once(reference[1], lambda: self.build(reference[1]))
        if text.startswith("$"):
            return self._evaluate(text, key)
        if text.startswith("%"):
            raise GradCamError(f"The bundle reads another file at “{key}” ({text}); write its content there instead.")
        return text

    def _evaluate(self, text: str, key: str) -> Any:
        values: dict[str, Any] = {}

        def keep(match: re.Match[str]) -> str:
            name = f"reference_{len(values)}"
            values[name] = self._once(match[1], lambda: self.build(match[1]))
            return name

        try:
            tree = ast.parse(_REFERENCE.sub(keep, text[1:]).strip(), mode="eval")
            return _compute(tree.body, values)
        except (_NotAllowedError, SyntaxError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError):
            raise GradCamError(
                f"The bundle holds the expression “{text}” at “{key}”; only references, numbers, arithmetic and "
                "comparisons are computed, code is not run: write the value itself."
            ) from None

    def _once(self, key: str, build: Callable[[], Any]) -> Any:
        """Follow a reference, but never in a circle."""
        if key in self._open:
            raise GradCamError(f"The bundle's configuration refers to “{key}” in a circle.")
        self._open.append(key)
        try:
            return build()
        finally:
            self._open.pop()


class _NotAllowedError(Exception):
    """An expression holds more than references, numbers, arithmetic and comparisons."""


def _compute(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.List(elts=items):
            return [_compute(item, values) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_compute(item, values) for item in items)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_number(_compute(operand, values)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_number(_compute(left, values)), _number(_compute(right, values)))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            return _COMPARE[type(op)](_number(_compute(left, values)), _number(_compute(right, values)))
        case ast.Subscript(value=container, slice=index):
            sequence = _compute(container, values)
            if isinstance(sequence, list | tuple | dict):
                return sequence[_compute(index, values)]
    raise _NotAllowedError


def _number(value: Any) -> Any:
    """Arithmetic is for numbers: a list multiplied by a number could fill the memory."""
    if isinstance(value, bool | int | float):
        return value
    raise _NotAllowedError


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")

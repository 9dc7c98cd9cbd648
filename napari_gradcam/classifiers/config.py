"""A bundle's configuration, read without running code from it.

MONAI's own ConfigParser calls whatever ``_target_`` names and evaluates each string that begins with ``$``. Here
references (``@a::b``) and macros (``%a::b``) are followed within the bundle, ``_target_`` is built from the allow-list
alone, and of expressions those are computed that :mod:`napari_gradcam.classifiers.expressions` knows.
"""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from napari_gradcam.classifiers import expressions
from napari_gradcam.classifiers.bounds import TooLargeError
from napari_gradcam.classifiers.refusing import (
    SEPARATOR,
    NotPlainError,
    RefusedError,
    absent_package,
    absolute,
    check_letters,
    check_mark,
    check_parts,
    check_target,
    checked_arguments,
    first_line,
    is_mark,
    nested_too_deeply,
    refused_expression,
    shortened,
)
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MOST_STEPS = 20_000
"""Steps along all references; references of references can double at each of a few lines."""

_MACRO = re.compile(r"%(?:([\w./-]+\.(?:json|ya?ml))(?:::|#))?([A-Za-z_]\w*(?:(?:::|#)\w+)*)")


class Reader(Protocol):
    """What is asked of a configuration, by whoever makes a classifier of it."""

    def __contains__(self, key: str) -> bool:
        """Whether the configuration has `key` at its top."""

    def raw(self, key: str) -> Any:
        """Return what stands at ``a::b::0``, references followed but nothing built."""

    def follow(self, node: Any, key: str) -> Any:
        """Return what `node` stands for if it is a reference or macro, else `node` itself."""

    def plain(self, node: Any, key: str) -> Any:
        """Give the numbers, texts and lists that `node` stands for, and build no object for them."""

    def build_node(self, node: Any, key: str) -> Any:
        """Build `node`, which stands at `key`."""


class Config:
    """The parsed JSON or YAML of a bundle's inference configuration.

    Parameters
    ----------
    content
        The mapping as read from the file.
    other
        Reads another file of the bundle's ``configs``, which a macro names.
    """

    def __init__(self, content: Mapping[str, Any], other: Callable[[str], Mapping[str, Any]] | None = None) -> None:
        self._content, self._other = content, other and cache(other)
        self._open: list[str] = []
        self._built, self._steps, self._letters = 0, 0, 0
        self._only_plain = False

    def __contains__(self, key: str) -> bool:
        """Whether the configuration has `key` at its top."""
        return key in self._content

    def raw(self, key: str) -> Any:
        """Return what stands at ``a::b::0``, references followed but nothing built.

        Raises
        ------
        GradCamError
            If nothing stands there, or references lead there without an end.
        """
        try:
            return self._walk(self._content, key)
        except RecursionError:
            raise nested_too_deeply(key) from None

    def _walk(self, node: Any, key: str) -> Any:
        check_parts(0, key)
        walked: list[str] = []
        for part in SEPARATOR.split(key):
            self._steps += 1
            if self._steps > _MOST_STEPS:
                raise GradCamError(
                    f"The bundle's configuration has too many references, last “{shortened(key)}”; this is no "
                    "classifier."
                )
            try:
                node = node[int(part)] if isinstance(node, list) else node[part]
            except (KeyError, IndexError, TypeError, ValueError):
                raise GradCamError(
                    f"The bundle's configuration refers to “{shortened(key)}”, which it does not hold; correct it."
                ) from None
            walked.append(part)
            node = self.follow(node, "::".join(walked))
        return node

    def follow(self, node: Any, key: str) -> Any:
        """Return what `node`, which stands at `key`, stands for if it is a reference or macro, else `node` itself."""
        if not isinstance(node, str):
            return node
        if node.startswith("%"):
            return self._once(node, lambda: self._macro(node, key))
        match = expressions.REFERENCE.fullmatch(node)
        if match is None:
            return node
        wanted = absolute(match[1], key)
        return self._once(wanted, lambda: self.raw(wanted))

    def build(self, key: str) -> Any:
        """Build what stands at `key`, references followed.

        Raises
        ------
        GradCamError
            If something in it may not be built, or cannot be built as written; the sentence names its place.
        """
        return self.build_node(self.raw(key), key)

    def plain(self, node: Any, key: str) -> Any:
        """Give the numbers, texts and lists that `node`, which stands at `key`, stands for; nothing is built for them.

        Raises
        ------
        NotPlainError
            If an object is among them.
        """
        kept, self._only_plain = self._only_plain, True
        try:
            return self.build_node(node, key)
        finally:
            self._only_plain = kept

    def build_node(self, node: Any, key: str) -> Any:
        """Build `node`, which stands at `key`."""
        self._built += 1
        check_parts(self._built, key)
        try:
            if isinstance(node, str):
                return self._build_string(node, key)
            if isinstance(node, list):
                return [self.build_node(item, f"{key}::{n}") for n, item in enumerate(node)]
            if not isinstance(node, dict):
                return node
            if "_target_" in node and self._only_plain:
                raise NotPlainError(f"The bundle has an object at “{shortened(key)}”; write its value there.")
            inner = {name: self.build_node(item, f"{key}::{name}") for name, item in node.items() if not is_mark(name)}
            return self._instantiate(node, inner, key) if "_target_" in node else inner
        except RecursionError:
            # Told by the innermost that has room left to tell it.
            raise nested_too_deeply(key) from None

    def _instantiate(self, node: dict[str, Any], arguments: dict[str, Any], key: str) -> Any:
        for mark in filter(is_mark, node):
            check_mark(mark, node[mark], key)
        if self.build_node(node.get("_disabled_", False), f"{key}::_disabled_") in (True, "True", "true"):
            return None
        if "_requires_" in node:
            self.build_node(node["_requires_"], f"{key}::_requires_")
        target = check_target(node["_target_"], f"{key}::_target_")
        if any(not isinstance(name, str) for name in arguments):
            raise GradCamError(f"The bundle's “{key}” has an argument whose name is no text; correct it.")
        arguments = checked_arguments(target, arguments, key)
        try:
            with warnings.catch_warnings():
                # MONAI tells its callers of defaults that changed, which the person at the scan cannot act on.
                warnings.simplefilter("ignore", FutureWarning)
                return target(**arguments)
        except RecursionError:
            raise
        except MemoryError as error:
            raise TooLargeError(f"“{shortened(key)}” ({target.__name__}): {first_line(error)}") from error
        except ImportError as error:
            raise GradCamError(
                f"The bundle's “{key}” ({target.__name__}) needs {absent_package(error)}, which is not installed; "
                "install it."
            ) from error
        except Exception as error:
            raise GradCamError(
                f"The bundle's “{key}” ({target.__name__}) cannot be built: {first_line(error)}; correct it."
            ) from error

    def _build_string(self, text: str, key: str) -> Any:
        if expressions.REFERENCE.fullmatch(text):
            return self._reference(text[1:], key)
        if text.startswith("%"):
            return self.build_node(self.follow(text, key), key)
        if text.startswith("$"):
            return self._evaluate(text, key)
        return text

    def _evaluate(self, text: str, key: str) -> Any:
        self._letters += len(text)
        check_letters(self._letters, key)
        try:
            tree, names = expressions.parse(text[1:])
            expressions.check(tree, names)
            return expressions.compute(tree, {name: self._reference(to, key) for name, to in names.items()})
        except expressions.NotAllowedError as error:
            raise refused_expression(text, key, error) from None
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise GradCamError(
                f"The bundle's expression “{shortened(text)}” at “{key}” cannot be computed: {first_line(error)}; "
                "write the value itself."
            ) from error

    def _reference(self, to: str, key: str) -> Any:
        wanted = absolute(to, key)
        return self._once(wanted, lambda: self.build(wanted))

    def _macro(self, text: str, key: str) -> Any:
        """Read what a macro names, in this file or another one of the bundle's."""
        match = _MACRO.fullmatch(text)
        file = match[1].rsplit("/", 1)[-1] if match and match[1] else ""
        if match is None or (file and self._other is None):
            raise RefusedError(key, text, "a file that is none of its own")
        if not file:
            return self.raw(match[2])
        assert self._other is not None
        return self._walk(self._other(file), match[2])

    def _once(self, key: str, build: Callable[[], Any]) -> Any:
        """Follow a reference, but never in a circle."""
        if key in self._open:
            raise GradCamError(f"The bundle's configuration refers to “{shortened(key)}” in a circle; correct it.")
        self._open.append(key)
        try:
            return build()
        finally:
            self._open.pop()

"""A bundle's configuration, read without running code from it.

MONAI's own ConfigParser calls whatever ``_target_`` names and evaluates each string that begins with ``$``. Here
references (``@a::b``) and macros (``%a::b``) are followed within the bundle, ``_target_`` is built from the allow-list
alone, and of expressions those are computed that :mod:`napari_gradcam.classifiers.expressions` knows.
"""

from __future__ import annotations

import inspect
import re
import warnings
from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from napari_gradcam.classifiers import expressions
from napari_gradcam.classifiers.allowlist import allowed_target
from napari_gradcam.classifiers.bounds import TooLargeError
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_PARTS = 100_000
"""Parts of a configuration that are built; aliases of YAML can multiply a few lines without end."""

KNOWN_MARKS = ("_target_", "_disabled_", "_desc_", "_requires_", "_mode_")
"""What MONAI understands beside the arguments of a class."""

_SEPARATOR = re.compile("::|#")
_MACRO = re.compile(r"%(?:([\w./-]+\.(?:json|ya?ml))(?:::|#))?([A-Za-z_]\w*(?:(?:::|#)\w+)*)")
_DOWNLOADS = ("pretrained", "use_pretrained", "weights", "pretrained_url", "pretrained_path", "url")


class RefusedError(GradCamError):
    """A part of the configuration would run code.

    Attributes
    ----------
    key, asks, reason
        Where it stands, what it is, and why it is refused.
    """

    def __init__(self, key: str, asks: str, reason: str) -> None:
        self.key, self.asks, self.reason = key, shortened(asks), reason
        super().__init__(
            f"The bundle asks at “{key}” for “{self.asks}”, {reason}; open it only where you trust it (trust=True, "
            "--trust), or have it changed."
        )


class Reader(Protocol):
    """What is asked of a configuration, by whoever makes a classifier of it."""

    def __contains__(self, key: str) -> bool:
        """Whether the configuration has `key` at its top."""

    def raw(self, key: str) -> Any:
        """Return what stands at ``a::b::0``, references followed but nothing built."""

    def follow(self, node: Any, key: str) -> Any:
        """Return what `node` stands for if it is a reference or macro, else `node` itself."""

    def build(self, key: str) -> Any:
        """Build what stands at `key`."""

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
        self._content, self._other = content, other
        self._open: list[str] = []
        self._built = 0

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
        walked: list[str] = []
        for part in _SEPARATOR.split(key):
            try:
                node = node[int(part)] if isinstance(node, list) else node[part]
            except (KeyError, IndexError, TypeError, ValueError):
                raise GradCamError(
                    f"The bundle's configuration refers to “{printable(key)}”, which it does not hold; correct it."
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

    def build_node(self, node: Any, key: str) -> Any:
        """Build `node`, which stands at `key`."""
        self._built += 1
        if self._built > MOST_PARTS:
            raise GradCamError(f"The bundle's configuration has too many parts, last “{key}”; this is no classifier.")
        if isinstance(node, str):
            return self._build_string(node, key)
        if isinstance(node, list):
            return [self.build_node(item, f"{key}::{n}") for n, item in enumerate(node)]
        if not isinstance(node, dict):
            return node
        arguments = {name: self.build_node(item, f"{key}::{name}") for name, item in node.items() if not is_mark(name)}
        return self._instantiate(node, arguments, key) if "_target_" in node else arguments

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
        if not (isinstance(target, type) and not issubclass(target, nn.Module)):
            arguments = without_downloads(target, arguments)
        try:
            with warnings.catch_warnings():
                # MONAI tells its callers of defaults that changed, which the person at the scan cannot act on.
                warnings.simplefilter("ignore", FutureWarning)
                return target(**arguments)
        except (TooLargeError, RecursionError, MemoryError):
            raise
        except Exception as error:
            raise GradCamError(
                f"The bundle's “{key}” ({target.__name__}) cannot be built: {_first_line(error)}; correct it."
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
        try:
            tree, names = expressions.parse(text[1:])
            expressions.check(tree, names)
            return expressions.compute(tree, {name: self._reference(to, key) for name, to in names.items()})
        except expressions.NotAllowedError as error:
            raise refused_expression(text, key, error) from None
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise GradCamError(
                f"The bundle's expression “{shortened(text)}” at “{key}” cannot be computed: {_first_line(error)}; "
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
        return Config(self._other(file), self._other).raw(match[2])

    def _once(self, key: str, build: Callable[[], Any]) -> Any:
        """Follow a reference, but never in a circle."""
        if key in self._open:
            raise GradCamError(f"The bundle's configuration refers to “{printable(key)}” in a circle; correct it.")
        self._open.append(key)
        try:
            return build()
        finally:
            self._open.pop()


def is_mark(name: object) -> bool:
    """Whether a key is one of MONAI's own rather than an argument."""
    return isinstance(name, str) and name.startswith("_") and name.endswith("_") and len(name) > 1


def check_mark(mark: str, value: Any, key: str) -> None:
    """Refuse a mark that is not known, or that asks for something else than a plain object.

    Raises
    ------
    RefusedError
        Naming it.
    """
    if mark not in KNOWN_MARKS or (mark == "_mode_" and value != "default"):
        raise RefusedError(f"{key}::{mark}", str(value), "which may run code")


def check_target(target: object, key: str) -> Callable[..., Any]:
    """Find what ``_target_`` names.

    Raises
    ------
    RefusedError
        If a bundle may not build it.
    """
    found = allowed_target(target) if isinstance(target, str) else None
    if found is None:
        raise RefusedError(
            key, str(target), "which is not a network, transform or inferer of MONAI that a bundle may build"
        )
    return found


def refused_expression(text: str, key: str, error: expressions.NotAllowedError) -> RefusedError:
    """Say that an expression holds more than is computed."""
    return RefusedError(
        key,
        text,
        f"an expression with {shortened(str(error))}, and only references, numbers and arithmetic are computed",
    )


def absolute(reference: str, key: str) -> str:
    """Resolve a relative reference, ``##a``, which stands at `key`: one ``#`` is the level of `key` itself."""
    up = len(reference) - len(reference.lstrip("#"))
    if not up:
        return reference
    base = _SEPARATOR.split(key)[:-up]
    return "::".join([*base, reference[up:]])


def without_downloads(target: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Let a network be built without weights from elsewhere, which some load by default: the bundle's own follow."""
    try:
        known = inspect.signature(target).parameters
    except (TypeError, ValueError):
        known = {}  # type: ignore[assignment]
    arguments = {name: value for name, value in arguments.items() if name not in _DOWNLOADS}
    return {**arguments, **({"pretrained": False} if "pretrained" in known else {})}


def shortened(text: str, most: int = 200) -> str:
    """Write what a bundle says on one line, and not more of it than a sentence bears."""
    text = printable(text)
    return text if len(text) <= most else text[:most] + "…"


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return shortened(text.splitlines()[0].rstrip("."))

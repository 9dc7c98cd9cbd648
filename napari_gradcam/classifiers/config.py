"""A bundle's configuration, read without running code from it.

MONAI's own ConfigParser calls whatever ``_target_`` names and evaluates each string that begins with ``$``. Here
references (``@a::b``) and macros (``%a::b``) are followed within the bundle, ``_target_`` is built from the allow-list
alone, and of expressions those are computed that :mod:`napari_gradcam.classifiers.expressions` knows.
"""

from __future__ import annotations

import inspect
import re
import reprlib
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from monai.transforms import Transform
from torch import nn

from napari_gradcam.classifiers import expressions
from napari_gradcam.classifiers.allowlist import allowed_target, check_arguments
from napari_gradcam.classifiers.bounds import TooLargeError
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_PARTS = 20_000
"""Parts of a configuration that are built; aliases of YAML can multiply a few lines without end."""

_BEGINNING = reprlib.Repr()
_BEGINNING.maxlevel = 2

_LONGEST_KEY = 2000
"""Letters of a place in the configuration; each part within keeps its own."""

_MOST_STEPS = 20_000
"""Steps along all references; references of references can double at each of a few lines."""

MOST_LETTERS = 100_000
"""Letters of all expressions that are computed."""

KNOWN_MARKS = ("_target_", "_disabled_", "_desc_", "_requires_", "_mode_")
"""What MONAI understands beside the arguments of a class."""

_SEPARATOR = re.compile("::|#")
_MACRO = re.compile(r"%(?:([\w./-]+\.(?:json|ya?ml))(?:::|#))?([A-Za-z_]\w*(?:(?:::|#)\w+)*)")
_STEP_SIZES = re.compile(
    r".*(?:size|border|pad|bins|repeats|radius|times|num_|order|length|holes|degree).*|k|n", re.ASCII
)
_LARGEST_STEP = 1 << 16
"""Arguments of transforms that are sizes, and the largest: no scan has more voxels along an axis."""

_LARGEST = 1 << 20
"""No size of a layer is larger; lists are made of some of them, which no bound on tensors sees."""

_DOWNLOADS = ("pretrained", "use_pretrained", "weights", "url")
"""How arguments begin that name weights from elsewhere."""

_FROM_VISION = ("TorchVisionFCModel", "MILModel")

_VISION = re.compile(r"(?!get_|list_)[a-z]\w*")
"""Names of torchvision's networks; MONAI calls whatever has the name in its module."""


class RefusedError(GradCamError):
    """A part of the configuration would run code.

    Attributes
    ----------
    key, asks, reason
        Where it stands, what it is, and why it is refused.
    """

    def __init__(self, key: str, asks: str, reason: str) -> None:
        self.key, self.asks, self.reason = shortened(key), shortened(asks), reason
        super().__init__(
            f"The bundle asks at “{self.key}” for “{self.asks}”, {reason}; open it only where you trust it "
            "(trust=True, --trust), or have it changed."
        )


class NotPlainError(GradCamError):
    """Where numbers and texts should stand, an object would have to be built."""


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
        for part in _SEPARATOR.split(key):
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
        check_arguments(arguments, key)
        if not (isinstance(target, type) and not issubclass(target, nn.Module)):
            arguments = without_downloads(target, arguments)
            _check_sizes(arguments, key)
            if target.__name__ in _FROM_VISION:
                _check_vision(arguments, key)
        elif issubclass(target, Transform):
            for name, value in arguments.items():
                if _STEP_SIZES.fullmatch(name):
                    _check_sizes(value, f"{key}::{name}", _LARGEST_STEP)
        try:
            with warnings.catch_warnings():
                # MONAI tells its callers of defaults that changed, which the person at the scan cannot act on.
                warnings.simplefilter("ignore", FutureWarning)
                return target(**arguments)
        except RecursionError:
            raise
        except MemoryError as error:
            raise TooLargeError(f"“{shortened(key)}” ({target.__name__}): {_first_line(error)}") from error
        except ImportError as error:
            raise GradCamError(
                f"The bundle's “{key}” ({target.__name__}) needs {absent_package(error)}, which is not installed; "
                "install it."
            ) from error
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
        raise RefusedError(f"{key}::{mark}", said(value), "which may run code")


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
            key, said(target), "which is not a network, transform or inferer of MONAI that a bundle may build"
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
    arguments = {name: value for name, value in arguments.items() if not name.startswith(_DOWNLOADS)}
    return {**arguments, **({"pretrained": False} if "pretrained" in known else {})}


def absent_package(error: ImportError) -> str:
    """Name the package that an import did not find."""
    match = re.search(r"No module named '(\w+)", str(error))
    return f"the Python package {match[1]}" if match else "a Python package"


def check_parts(parts: int, key: str) -> None:
    """Refuse more parts than any configuration has, or one at a place that takes too long to name.

    Raises
    ------
    GradCamError
        Naming the last.
    """
    if parts > MOST_PARTS or len(key) > _LONGEST_KEY:
        raise GradCamError(
            f"The bundle's configuration has too many parts, last “{shortened(key)}”; this is no classifier."
        )


def nested_too_deeply(key: str) -> GradCamError:
    """Say that what stands at a place is in too many brackets or references of one another to be read."""
    return GradCamError(f"The bundle's configuration is nested too deeply at “{shortened(key)}”; correct it.")


def check_letters(letters: int, key: str) -> None:
    """Refuse more expressions than any configuration has.

    Raises
    ------
    GradCamError
        Naming the last.
    """
    if letters > MOST_LETTERS:
        raise GradCamError(
            f"The bundle's configuration has too many expressions, last “{shortened(key)}”; this is no classifier."
        )


def said(value: object) -> str:
    """Write a value that is asked for; only the beginning of one that aliases of YAML may have multiplied."""
    return shortened(value) if isinstance(value, str) else _BEGINNING.repr(value)


def _check_sizes(value: Any, key: str, largest: int = _LARGEST) -> None:
    """Refuse a number among the arguments of a layer that is no size of any."""
    if isinstance(value, dict | list | tuple):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_sizes(item, f"{key}::{name}", largest)
    elif isinstance(value, int) and abs(value) > largest:
        raise TooLargeError(f"“{key}” is {value:.3g}" if abs(value) < 2**1000 else f"“{key}” is beyond any size")


def _check_vision(arguments: dict[str, Any], key: str) -> None:
    """Refuse what is asked for as a network of torchvision and is none."""
    for argument in ("model_name", "backbone"):
        name = arguments.get(argument)
        if isinstance(name, str) and not _VISION.fullmatch(name):
            raise GradCamError(
                f"The bundle's “{key}::{argument}” is “{shortened(name)}”, which is the name of no network; correct it."
            )


def shortened(text: str, most: int = 200) -> str:
    """Write what a bundle says on one line, and not more of it than a sentence bears."""
    text = printable(text[: 8 * most])
    return text if len(text) <= most else text[:most] + "…"


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return shortened(text.splitlines()[0].rstrip("."))

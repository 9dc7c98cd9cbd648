"""What a stranger's configuration may not ask for: marks, targets, arguments, sizes; and the sentences that say so."""

from __future__ import annotations

import inspect
import re
import reprlib
from typing import TYPE_CHECKING, Any

from monai.transforms import Transform
from torch import nn

from napari_gradcam.classifiers.allowlist import allowed_target, check_arguments
from napari_gradcam.classifiers.bounds import TooLargeError
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam.classifiers import expressions

MOST_PARTS = 20_000
"""Parts of a configuration that are built; aliases of YAML can multiply a few lines without end."""

_BEGINNING = reprlib.Repr()
_BEGINNING.maxlevel = 2

_LONGEST_KEY = 2000
"""Letters of a place in the configuration; each part within keeps its own."""

MOST_LETTERS = 100_000
"""Letters of all expressions that are computed."""

KNOWN_MARKS = ("_target_", "_disabled_", "_desc_", "_requires_", "_mode_")
"""What MONAI understands beside the arguments of a class."""

SEPARATOR = re.compile("::|#")
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
    base = SEPARATOR.split(key)[:-up]
    return "::".join([*base, reference[up:]])


def checked_arguments(target: Callable[..., Any], arguments: dict[str, Any], key: str) -> dict[str, Any]:
    """Refuse arguments that no network or transform has, and leave out those that name weights from elsewhere.

    Raises
    ------
    GradCamError
        Naming the argument.
    TooLargeError
        If one is a size that no memory holds.
    """
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
    return arguments


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


def first_line(error: Exception) -> str:
    """Say what an exception says, on one line."""
    text = str(error).strip() or type(error).__name__
    return shortened(text.splitlines()[0].rstrip("."))

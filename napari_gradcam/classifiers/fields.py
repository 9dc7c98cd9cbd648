"""What a person wrote into a recipe, key by key: of the kind that is needed, or refused in a sentence."""

from __future__ import annotations

import difflib
import math
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

import yaml

from napari_gradcam.classifiers import plain_yaml
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

LARGEST = 1 << 20
"""Bytes of a recipe; a larger one is none."""

MOST_PARTS = 10_000
"""Values in a recipe; aliases of YAML can multiply a few lines without end."""

_PROSE = ("description", "intended_use", "licence", "authors")
_LONGEST_PROSE, _LONGEST = 20_000, 500
"""Letters of what is meant to be read, and of any other text: names and paths, which sentences repeat."""

_BEYOND = 1 << 63
"""No number of a recipe has as many voxels to count; nothing that takes whole numbers takes larger ones."""


class Fields:
    """A mapping of a recipe.

    Parameters
    ----------
    content
        As YAML gives it.
    label
        How sentences call it.
    known
        The keys that it may have.
    needed
        Those that it must have.

    Raises
    ------
    GradCamError
        If it is no mapping, or has a key that is unknown or lacks one that is needed.
    """

    def __init__(self, content: Any, label: str, known: Iterable[str], needed: Iterable[str] = ()) -> None:
        self.label = label
        if not isinstance(content, dict):
            raise GradCamError(f"{label} is no list of keys and values; write lines such as “weights: best.ckpt”.")
        self._content = content
        known = tuple(known)
        for key in content:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean “{close[0]}”?" if close else f"it knows {', '.join(known)}."
                raise GradCamError(f"{label} has the unknown key “{printable(str(key)[:80])}”: {hint}")
        for key in needed:
            if content.get(key) is None:
                raise GradCamError(f"{label} has no “{key}”; add it.")

    def __contains__(self, key: str) -> bool:
        """Whether `key` is given a value."""
        return self._content.get(key) is not None

    def raw(self, key: str) -> Any:
        """Return what stands at `key`, or None."""
        return self._content.get(key)

    def wrong(self, key: str, give: str) -> GradCamError:
        """Make the error that says what stands at `key` and what should."""
        found = printable(str(self.raw(key)))
        found = found if len(found) <= 80 else found[:80] + "…"
        return GradCamError(f"{self.label} gives “{key}” as {found}: give {give}.")

    def text(self, key: str, default: str = "") -> str:
        """Read a text; a number or date is one too."""
        value = self._content.get(key)
        if value is None:
            return default
        if isinstance(value, bool | dict | list):
            raise self.wrong(key, "a text, in quotes where YAML would read something else")
        return str(value).strip()

    def count(self, key: str, default: int) -> int:
        """Read a whole number above zero."""
        value = self._content.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(key, "a whole number above zero")
        return value

    def number(self, key: str, default: float) -> float:
        """Read a number."""
        value = self._content.get(key, default)
        if not _is_number(value):
            raise self.wrong(key, "a number")
        return float(value)

    def flag(self, key: str) -> bool:
        """Read true or false; what is not given is false."""
        value = self._content.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def choice(self, key: str, among: Any) -> str:
        """Read one of some words, given as a ``Literal`` or in a row; empty where nothing is given."""
        words = get_args(among) or tuple(among)
        if key in self and self._content[key] not in words:
            raise self.wrong(key, " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0])
        return str(self._content.get(key) or "")

    def names(self, key: str) -> tuple[str, ...]:
        """Read a list of names, each once."""
        value = self._content.get(key)
        if not isinstance(value, list) or not value or any(isinstance(one, bool | dict | list) for one in value):
            # YAML reads a bare no, off or yes as a truth value.
            raise self.wrong(key, "a list of names, each in quotes where it is a word such as yes or no")
        names = tuple("" if one is None else str(one).strip() for one in value)
        if not all(names) or len(set(names)) < len(names):
            raise self.wrong(key, "a list in which each has a name of its own")
        return names

    def sizes(self, key: str, dims: int) -> list[int]:
        """Read a size along each of `dims` axes; one number is taken for all."""
        value = self._content.get(key)
        sizes = value if isinstance(value, list) else [value] * dims
        found = [n for n in sizes if isinstance(n, int) and not isinstance(n, bool) and n > 0]
        if len(sizes) != dims or len(found) != dims:
            raise self.wrong(key, f"{dims} whole numbers above zero, such as {[96] * dims}")
        return found

    def limits(self, key: str) -> list[float] | None:
        """Read a lowest and a highest value, or None where nothing is given."""
        value = self._content.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)) or value[0] >= value[1]:
            raise self.wrong(key, "the lowest and the highest value, such as [0, 1]")
        return value


def read_yaml(path: Path) -> Any:
    """Read a YAML file of plain values; what asks for objects of Python is not obeyed.

    Raises
    ------
    GradCamError
        If it cannot be read or understood, or multiplies itself.
    """
    name = printable(path.name)
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise GradCamError(
            f"The recipe {name} cannot be read: {error.strerror or error}; check the file and its place."
        ) from error
    if len(text) > LARGEST:
        raise GradCamError(f"The recipe {name} is larger than a recipe can be; give a short YAML file.")
    try:
        content = plain_yaml.read_yaml(text.decode("utf-8-sig"))
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        told = printable(" ".join(str(error).split())[:300]).rstrip(".")
        raise GradCamError(f"The recipe {name} cannot be understood as YAML: {told}; correct it there.") from error
    if sum(1 for _ in islice(leaves(content), MOST_PARTS + 1)) > MOST_PARTS:
        raise GradCamError(f"The recipe {name} has more values than a recipe can have; it is none, do not open it.")
    for key, value in content.items() if isinstance(content, dict) else ():
        _check_values(value, f"The recipe {name} has at “{printable(str(key)[:80])}”", prose=key in _PROSE)
    return content


def _check_values(content: Any, said: str, *, prose: bool) -> None:
    """Refuse texts and numbers that are none of a recipe: sentences repeat them, and files and sizes are made of them.

    Raises
    ------
    GradCamError
        Beginning with what is `said`.
    """
    longest = _LONGEST_PROSE if prose else _LONGEST
    for value in leaves(content):
        for text in value if isinstance(value, dict) else (value,):
            if isinstance(text, str | bytes) and len(text) > longest:
                raise GradCamError(f"{said} a text of {len(text):,} letters, where {longest:,} are enough; shorten it.")
            if isinstance(text, int) and abs(text) >= _BEYOND:
                raise GradCamError(f"{said} a number beyond any size; correct it.")


def leaves(content: Any) -> Iterator[Any]:
    """Walk through all values of a nested content, and the lists and mappings that hold them."""
    left = [content]
    while left:
        value = left.pop()
        yield value
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def described(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was not given."""
    return {key: value for key, value in values.items() if value not in (None, "", False)}

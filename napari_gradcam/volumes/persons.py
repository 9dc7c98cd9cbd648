"""Whose scan it is, kept out of what is said: descriptions, names of files, sentences."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from napari_gradcam.volumes.scan import Person

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

_NO_LETTERS = re.compile(r"[\W_]+")
"""What stands between the words of a name: ^ and =, and in files that break the rules anything else."""
_NO_DIGITS = re.compile(r"\D+")
_DATE_PARTS = re.compile(r"\d+(?:[ ./_-]\d+)*")
_QUOTED = re.compile(r"“([^”]*)”")
_BETWEEN_FOLDERS = re.compile(r"([/\\])")

_LETTERS = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "æ": "a", "œ": "o"})
_UMLAUTS = re.compile("([aou])e")
_LONG_IDENTIFIER = 5
"""An ID of so many letters is looked for without what stands between them; in a shorter one other words may meet."""


def person_of(told: Callable[[str], str]) -> Person:
    """Give whose a DICOM file is, by what its header tells of a keyword."""
    return Person(told("PatientName"), told("PatientID"), told("PatientBirthDate"))


@lru_cache(maxsize=1 << 12)
def impersonal(text: str, person: Person) -> str:
    """Give a text, "" where it holds a part of the patient's name, ID or birth date, however it is written."""
    said = _plain(text)
    found = _holds_name(said, person.name) or _holds_identifier(said, person.identifier)
    return "" if found or _holds_date(said, person.born) else text


def _plain(text: str) -> str:
    """Write a text so that Müller, Mueller and Muller are one."""
    apart = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    letters = "".join(letter for letter in apart if not unicodedata.combining(letter))
    return _UMLAUTS.sub(r"\1", letters)


def _holds_name(said: str, name: str) -> bool:
    words = set(_NO_LETTERS.split(said))
    for part in _NO_LETTERS.split(_plain(name)):
        # Two Latin letters are too many other things to be looked for within words.
        if part and (part in said if len(part) > 2 or not part.isascii() else len(part) == 2 and part in words):
            return True
    return False


def _holds_identifier(said: str, identifier: str) -> bool:
    wanted = _plain(identifier)
    numbers = [number.lstrip("0") for number in re.findall(r"\d{4,}", wanted)]
    parts = [number for number in numbers if len(number) > 3] + ([wanted] if len(wanted) > 2 else [])
    if any(part in said for part in parts):
        return True
    letters = _NO_LETTERS.sub("", wanted)
    return len(letters) >= _LONG_IDENTIFIER and letters in _NO_LETTERS.sub("", said)


def _holds_date(said: str, born: str) -> bool:
    """Whether a text holds a date, its parts in any usual order, of a year of two digits or four."""
    digits = _NO_DIGITS.sub("", born)
    if len(digits) != 8:
        return False
    year, month, day = digits[:4], digits[4:6], digits[6:]
    written = {order for y in (year, year[2:]) for order in (y + month + day, day + month + y, month + day + y)}
    told = ["".join(part.zfill(2) for part in _NO_DIGITS.split(run)) for run in _DATE_PARTS.findall(said)]
    whole = _NO_DIGITS.sub("", said)
    return any(date in run for date in written for run in told) or any(
        date in whole for date in written if len(date) == 8
    )


class Discretion:
    """Keeps out of sentences the names of files and folders that tell whose scan it is.

    Parameters
    ----------
    given
        What a person typed: they know it, and it stays as it is.
    persons
        Whose files were found.
    files
        The files, in order: one whose name is not said is called by its number.
    """

    def __init__(self, given: Iterable[str], persons: Iterable[Person], files: Sequence[Path]) -> None:
        self._given = sorted(given, key=len, reverse=True)
        self._known = {path.name for path in files if str(path) in self._given}
        self._persons = [person for person in dict.fromkeys(persons) if any(person)]
        self._files = files
        self._numbers: dict[str, int] = {}

    def said(self, sentence: str) -> str:
        """Give a sentence, its quoted names and paths without those that tell whose they are."""
        return _QUOTED.sub(lambda quoted: f"“{self._path(quoted[1])}”", sentence) if self._persons else sentence

    def _path(self, text: str) -> str:
        typed = next((one for one in self._given if _begins_with(text, one)), "")
        return typed + "".join(map(self._part, _BETWEEN_FOLDERS.split(text[len(typed) :])))

    def _part(self, name: str) -> str:
        if name in self._known or all(impersonal(name, person) == name for person in self._persons):
            return name
        if not self._numbers:
            self._numbers = {path.name: number for number, path in reversed(list(enumerate(self._files, start=1)))}
        number = self._numbers.get(name)
        return "…" if number is None else f"file {number} of {len(self._files)}"


def _begins_with(path: str, folder: str) -> bool:
    return path == folder or (path.startswith(folder) and path[len(folder)] in "/\\")

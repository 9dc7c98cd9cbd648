"""Parts of the sentences that readers say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def listed(names: Sequence[str], most: int = 5) -> str:
    """Write some names in a row, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def reason(error: Exception) -> str:
    """Give what another library says went wrong in one line without a full stop.

    Where several decoders failed, pydicom's first line says only that, and each further one says why one did: the last
    line is the reason. Its advice after the first sentence is for programmers.
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    said = lines[-1] if lines[0].endswith(":") else " ".join(lines)
    return printable(re.split(r"\. (?=[A-Z])", said)[0].rstrip("."))


def printable(text: str) -> str:
    """Give a text of a file on one line, without what is no letter: a terminal would obey it."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(letter for letter in line if letter.isprintable())


def percent(part: int, whole: int) -> str:
    """Give a share to two digits that count, such as 0.034, 2.5 or 100."""
    return f"{float(f'{100 * part / whole:.2g}'):g}"

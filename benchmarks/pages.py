"""The page of results has parts, each written by a benchmark of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_part(page: Path, title: str, text: str) -> None:
    """Write a part of a page, in the place of the one that had its title; other parts stay as they are.

    Parameters
    ----------
    page
        A Markdown file; its parts begin with headings of the first level.
    title
        The part's heading.
    text
        The part, without its heading.
    """
    parts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in page.read_text(encoding="utf-8").splitlines() if page.exists() else ():
        if line.startswith("# "):
            current = parts.setdefault(line[2:], [])
        else:
            current.append(line)
    parts[title] = ["", *text.strip().splitlines()]
    written = ["\n".join([f"# {name}", *lines]).rstrip() for name, lines in parts.items()]
    page.write_text("\n\n".join(written) + "\n", encoding="utf-8")

"""What the commands print with: tables and sentences, plain where there is no terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_gradcam.progress import Answer, Steps

PIPED_WIDTH = 500
"""Columns where there is no terminal: one record stays one line, whatever reads it."""


def console(*, error: bool = False) -> Console:
    """Give stdout or stderr, plain where it is no terminal."""
    console = Console(stderr=error, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    return console


def progress() -> Progress:
    """Make a bar on stderr that leaves nothing behind, and is not there where nobody would see it move."""
    errors = console(error=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), TimeElapsedColumn())
    return Progress(*columns, console=errors, transient=True, expand=False, disable=not errors.is_terminal)


def tell(sentence: str, *, error: bool = False) -> None:
    """Print a sentence in one line of its own; a terminal wraps it, a pipe does not."""
    line = "".join(letter if letter.isprintable() else " " for letter in sentence)
    console(error=error).print(line, soft_wrap=True)


def table(*headings: str) -> Table:
    """Make a table with a line below its headings."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def row(into: Table, *cells: object, style: str = "") -> None:
    """Add cells as they are: a bracket in a name is no markup."""
    into.add_row(*(Text(str(cell)) for cell in cells), style=style)


def listed(names: Iterable[str]) -> str:
    """Write names in a row."""
    return ", ".join(f"“{name}”" for name in names)


def shown(progress: Progress, steps: Steps[Answer]) -> Answer:
    """Run work to its end, and show how far it has come."""
    task = progress.tasks[0].id if progress.tasks else progress.add_task("", total=None)
    while True:
        try:
            step = next(steps)
        except StopIteration as stop:
            answer: Answer = stop.value
            return answer
        progress.update(task, description=step.stage, completed=step.done, total=step.total)

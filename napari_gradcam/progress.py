"""Work in steps: how far it has come, and how to run it to its end."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Progress:
    """How far a run has come: `done` of `total` equal steps, and what is being done now; `total` 0 is not known yet."""

    done: int
    total: int
    stage: str


Steps = Generator[Progress, None, Answer]
"""Work that pauses between its steps, where it can be shown and cancelled; closing it is the cancel."""


def finish(steps: Steps[Answer]) -> Answer:
    """Run work to its end and give what it answers."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            answer: Answer = stop.value
            return answer

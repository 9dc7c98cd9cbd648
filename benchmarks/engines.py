"""Measure the engine against a plain forward pass and against peers, and write ``docs/performance.md``.

``make bench`` runs it in an environment of its own (``python -m benchmarks.engines``; Linux). ``--quick`` takes a few
minutes over a few cases and writes no page unless ``--out`` names one.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from benchmarks import report, sections
from benchmarks.pages import write_part
from benchmarks.plans import FULL, QUICK

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.plans import Plan
    from benchmarks.results import Section

T = TypeVar("T")

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

BUSY = 0.5
"""A load before the start from which the times are doubtful."""


class Benchmark:
    """A run through a plan; what fails is noted in `problems`, and the rest goes on."""

    def __init__(self, console: Console) -> None:
        self.problems: list[str] = []
        self._console = console
        self._start = time.monotonic()

    @property
    def minutes(self) -> float:
        """Since the start."""
        return (time.monotonic() - self._start) / 60

    def run(self, plan: Plan) -> list[Section]:
        """Measure everything in the plan."""
        measured = [one for case in plan.cases for one in self._try(case.name, partial(sections.measure, case))]
        return [
            *sections.sections_of(measured),
            *self._try("14 classes", partial(sections.many_classes, plan.one_slice)),
            *self._try(
                "slices",
                partial(sections.slices, plan.one_slice, plan.slices, plan.slice_loop, plan.slice_rounds),
            ),
            *self._try("placement", partial(sections.placement, plan.placed, plan.placed_rounds)),
            *self._try("Score-CAM and Ablation-CAM", partial(sections.masking, plan.masked, plan.masked_rounds)),
        ]

    def _try(self, label: str, measure: Callable[[], T]) -> list[T]:
        """Give what was measured as a list of one, or an empty one."""
        self._console.print(f"{self.minutes:5.1f} min  {label}")
        try:
            return [measure()]
        except Exception as error:
            self.problems.append(f"{label}: {type(error).__name__}: {error}".splitlines()[0])
            return []


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few cases with few rounds, in a few minutes")
    parser.add_argument("--out", type=Path, help="write the page here (default: docs/performance.md, unless --quick)")
    options = parser.parse_args()
    console = Console()
    console.print(f"On {report.machine()}. {report.versions()}.")
    if os.getloadavg()[0] > BUSY:
        console.print("[yellow]Other work runs here: threads that wait for it are counted as CPU time.[/yellow]")
    benchmark = Benchmark(console)
    measured = benchmark.run(QUICK if options.quick else FULL)
    for section in measured:
        console.print(report.terminal_table(section))
    for problem in benchmark.problems:
        console.print(f"[red]Not measured:[/red] {problem}")
    out = options.out or (None if options.quick else PAGE)
    if out is not None:
        write_part(out, "Performance", report.page(measured, benchmark.problems, benchmark.minutes))
        console.print(f"The page is written: {out.name}")


if __name__ == "__main__":
    main()

"""The results as tables on the terminal and as a page."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.results import Number, Result, Section

PACKAGES = ("torch", "monai", "captum", "torchcam", "grad-cam", "numpy")

METHOD = """\
- The floor is `network(x)` under `torch.inference_mode()`. Networks have random weights, inputs are batches of one.
- Times are CPU times (`time.process_time`, all threads together). Every way runs right beside a floor in the same
  process, the order turns from round to round, and the median of the ratios to the floor beside it is given. The
  largest cases have two or three rounds, the smallest nine.
- Peak memory is the growth of `VmHWM` over `VmRSS` in a fresh process, after network and input were made, the same way
  was run on a corner of 32 cells a side with a copy of the network, and freed memory was handed back; median of three
  where a case is quick, one run where it is not. The C library is told to give each block of 64 KiB and more pages of
  its own (`M_MMAP_THRESHOLD`), so that the peak is of what is in use: by default it keeps some of what was freed, which
  makes the peaks of small 2D cases a matter of chance.
- Peers run as their own documentation calls them, each on a copy of the network; MONAI without upsampling and
  normalising and torchcam without normalising, as ours gives raw maps too. MONAI and pytorch-grad-cam also fill the
  weights' `.grad`, which counts.
- pytorch-grad-cam imports torchvision, whose wheel does not load beside torch for the CPU ("operator torchvision::nms
  does not exist"); the names it wants, which class activation maps do not use, are stood in for.
"""


def terminal_table(section: Section) -> Table:
    """Draw a section for the terminal; a missed bar is red."""
    header, rows = _grid(section, lambda text: f"[red]{text}[/red]")
    table = Table(*header, title=section.title)
    for row in rows:
        table.add_row(*row)
    return table


def page(sections: Sequence[Section], problems: Sequence[str], minutes: float) -> str:
    """Write the page."""
    parts = [
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}, in {minutes:.0f} minutes.",
        f"{machine()}. {versions()}.",
        "## Bars",
        bars(sections),
        missed(sections),
        *(["These could not be measured:", "\n".join(f"- {problem}" for problem in problems)] if problems else []),
        "## How it was measured",
        METHOD.rstrip(),
        *(part for section in sections for part in (f"## {section.title}", section.lead, markdown(section))),
    ]
    return "\n\n".join(parts) + "\n"


def machine() -> str:
    """Name the processor, never the host."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{os.cpu_count()} cores of {model} ({capability}), {memory:.0f} GiB, {torch.get_num_threads()} threads"


def versions(packages: Sequence[str] = PACKAGES) -> str:
    """Name the versions of what ran."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def bars(sections: Sequence[Section]) -> str:
    """Count for each kind of bar how many were met, and give the number that is worst beside its bar."""
    lines = ["| | bar | met | worst |", "| --- | --- | --- | --- |"]
    for section in sections:
        for kind in ("time", "peak memory"):
            held = [(result, result.numbers[kind]) for result in section.results if kind in result.numbers]
            held = [(result, number) for result, number in held if number.bar is not None]
            for unit in dict.fromkeys(number.unit for _, number in held):
                lines.append(_bar_line(section, kind, [pair for pair in held if pair[1].unit == unit]))
    return "\n".join(lines)


def _bar_line(section: Section, kind: str, held: Sequence[tuple[Result, Number]]) -> str:
    met = sum(bool(number.met) for _, number in held)
    result, worst = max(held, key=lambda pair: pair[1].value / pair[1].bar)
    bars = dict.fromkeys(number.bar_text for _, number in held)
    bar = bars.popitem()[0] if len(bars) == 1 else "each case's own"
    return f"| {section.title}: {kind} | {bar} | {met} of {len(held)} | {worst.text} ({result.case}, {result.way}) |"


def missed(sections: Sequence[Section]) -> str:
    """List the bars that were not met."""
    lines = [
        f"- {section.title}: {result.case}, {result.way}: {kind} {number.value:.3f} {number.unit}, "
        f"the bar is {number.bar_text}{f' ({result.note})' if result.note else ''}"
        for section in sections
        for result in section.results
        for kind, number in result.numbers.items()
        if number.met is False
    ]
    return "\n".join(["Not met in this run:", "", *lines]) if lines else "All bars were met in this run."


def markdown(section: Section) -> str:
    """Write a section's table; a missed bar is bold."""
    header, rows = _grid(section, lambda text: f"**{text}**")
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _grid(section: Section, missed: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    """Lay results out: cases down and ways across, or, with a single case, ways down."""
    cases = list(dict.fromkeys(result.case for result in section.results))
    ways = list(dict.fromkeys(result.way for result in section.results))
    cells = {
        (result.case, result.way): " · ".join(
            missed(number.cell) if number.met is False else number.cell for number in result.numbers.values()
        )
        for result in section.results
    }
    if len(cases) > 1:
        return ["", *ways], [[case, *(cells.get((case, way), "–") for way in ways)] for case in cases]
    bars = {
        result.way: " · ".join(number.bar_text for number in result.numbers.values() if number.bar is not None)
        for result in section.results
    }
    return [cases[0], "measured", "bar"], [[way, cells[cases[0], way], bars[way]] for way in ways]

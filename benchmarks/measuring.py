"""Time as a ratio of neighbours in one process, peak memory in fresh processes."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Run = Callable[[], object]

P = ParamSpec("P")
T = TypeVar("T")

WARM_UP_FROM = 5
"""So many rounds, and one more is run first and dropped; where rounds are few and long, the floor alone is warmed
up."""

_M_MMAP_THRESHOLD = -3

_CONTEXT = multiprocessing.get_context("forkserver")
# A process that has imported everything and run nothing, from which each fresh one is forked.
_CONTEXT.set_forkserver_preload(["benchmarks.sections"])


def fresh(function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """Call `function` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=_CONTEXT) as pool:
        return pool.submit(function, *arguments, **keywords).result()


def cpu_seconds(run: Run) -> float:
    """Tell the CPU time of one call, all threads together."""
    start = time.process_time()
    run()
    return time.process_time() - start


def time_ratios(
    floor: Run, ways: Mapping[str, Run], rounds: int, seconds: Callable[[Run], float] = cpu_seconds
) -> tuple[dict[str, float], float]:
    """Measure ways against a floor that runs right beside each of them.

    `seconds` tells how long one call takes, by default in CPU time. A round is: way, floor, way; way, floor, way; and
    so on, beginning with another way each time.

    Returns
    -------
    dict of str to float
        Each way's median time, as a multiple of that of the floor beside it.
    float
        The noise: the median difference of neighbouring floors, as a share of the floor.
    """
    floor()
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    floors: list[float] = []
    warm_up = 1 if rounds >= WARM_UP_FROM else 0
    for number in range(rounds + warm_up):
        first = number % len(ways)
        order = [*ways][first:] + [*ways][:first]
        for pair in (order[start : start + 2] for start in range(0, len(order), 2)):
            times = {pair[0]: seconds(ways[pair[0]])}
            floors.append(seconds(floor))
            times |= {name: seconds(ways[name]) for name in pair[1:]}
            if number >= warm_up:
                for name, taken in times.items():
                    ratios[name].append(taken / floors[-1])
    differences = [abs(b / a - 1) for a, b in pairwise(floors)]
    return {name: statistics.median(values) for name, values in ratios.items()}, statistics.median(differences or [0])


def peak_growth(prepare: Callable[[], Run], warm_up: Run) -> int:
    """Measure how far the peak of this process's memory grows over what was there before the run, in bytes (Linux).

    Parameters
    ----------
    prepare
        Makes network and input, which are not counted, and gives the run.
    warm_up
        The same on something small, so that the code's own pages and autograd's start are not counted.
    """
    library = ctypes.CDLL(None)
    # Blocks get pages of their own: by default, freed ones are kept by rules that make small peaks a matter of chance.
    library.mallopt(_M_MMAP_THRESHOLD, 1 << 16)
    warm_up()
    run = prepare()
    gc.collect()
    library.malloc_trim(0)  # what lies free would hide growth
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    run()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024

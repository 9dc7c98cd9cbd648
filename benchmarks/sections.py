"""The measurements, each a table of its own."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measuring import cpu_seconds, fresh, peak_growth, time_ratios
from benchmarks.networks import SMALL_CELLS, Case
from benchmarks.peers import by_pytorch_grad_cam
from benchmarks.results import Number, Result, Section
from benchmarks.ways import (
    BELOW,
    FAST_PEERS,
    FURTHER,
    HALFWAY,
    METHODS,
    SLOW_PEERS,
    WAYS,
    all_slices,
    floor,
    ours,
    ways_of,
)
from napari_gradcam.volumes.placement import place_on_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIB = 2**20
FEW_SLICES, MANY_SLICES = 32, 128
PEERS = (*FAST_PEERS, *SLOW_PEERS)
TIME_AND_PEAK = "CPU time · peak memory, as multiples of the floor's."


@dataclass(frozen=True)
class Measured:
    """One case: CPU times and peaks by way, as multiples of the floor's.

    Attributes
    ----------
    noise
        The difference of neighbouring floors, as a share.
    floor_bytes
        The peak growth of the floor.
    """

    case: Case
    times: dict[str, float]
    peaks: dict[str, float]
    noise: float
    floor_bytes: float

    def result(self, way: str, time_bar: float | None = None, memory_bar: float | None = None) -> Result:
        """Hold one way against its bars."""
        time_ratio, peak = self.times.get(way), self.peaks.get(way)
        return Result(
            self.case.name,
            way,
            None if time_ratio is None else Number(time_ratio, time_bar),
            None if peak is None else Number(peak, memory_bar),
            f"neighbouring floors differed by {self.noise:.1%}; the floor's peak is {self.floor_bytes / MIB:.0f} MiB",
        )


def measure(case: Case) -> Measured:
    """Measure every way of a case."""
    timed = ways_of(case, *METHODS, HALFWAY, FURTHER, *FAST_PEERS, *BELOW)
    slow = ways_of(case, *SLOW_PEERS)
    times, noise = fresh(_times, case, timed, case.rounds)
    if slow:
        times |= fresh(_times, case, slow, case.slow_rounds)[0]
    weighed = ["floor", *ways_of(case, *METHODS, HALFWAY, *FAST_PEERS), *slow]
    growth = {way: statistics.median(fresh(_peak, case, way) for _ in range(case.repeats)) for way in weighed}
    peaks = {way: growth[way] / growth["floor"] for way in weighed[1:]}
    return Measured(case, times, peaks, noise, growth["floor"])


def _times(case: Case, ways: Sequence[str], rounds: int) -> tuple[dict[str, float], float]:
    setting = case.build()
    return time_ratios(floor(setting), {way: WAYS[way](setting) for way in ways}, rounds)


def _peak(case: Case, way: str) -> int:
    setting = case.build()
    return peak_growth(lambda: WAYS[way](setting), lambda: WAYS[way](setting.small())())


def sections_of(measured: Sequence[Measured]) -> list[Section]:
    """Sort the cases' numbers into tables."""
    return [
        Section(
            "Five methods at the last layer",
            TIME_AND_PEAK,
            tuple(one.result(way, 1.10, 1.10) for one in measured for way in METHODS),
        ),
        Section(
            "Grad-CAM beside its peers",
            f"{TIME_AND_PEAK} A dash stands where a peer was left out because it takes too long.",
            tuple(one.result(way) for one in measured for way in ("Grad-CAM", *PEERS) if way in one.times),
        ),
        Section(
            "Grad-CAM against the fastest peer",
            "CPU time as a multiple of the fastest peer's. The bar is 1 and the noise of the case, which is how far "
            "floors that ran beside each other differed.",
            tuple(_against_fastest(one) for one in measured if any(peer in one.times for peer in PEERS)),
        ),
        Section(
            "Grad-CAM at a layer halfway",
            f"`layer2`. {TIME_AND_PEAK}",
            tuple(one.result(HALFWAY, 1.25, 1.30) for one in measured if HALFWAY in one.times),
        ),
        Section(
            "A further class of the same input",
            "From the activations that were kept. CPU time as a multiple of the floor's.",
            tuple(one.result(FURTHER, 0.05) for one in measured),
        ),
        Section(
            "Below the floor",
            "The network alone, with its feature maps channels last and with batch normalisation folded into the "
            "convolutions. CPU time as a multiple of the floor's. Ours has channels last for the time of a run; "
            "folding is not taken, because it needs a second copy of the weights.",
            tuple(one.result(way) for one in measured for way in BELOW if way in one.times),
        ),
        Section(
            "The floor itself",
            "How far neighbouring floors differed in time, and how much memory one takes over network and input.",
            tuple(
                Result(
                    one.case.name, "floor", Number(100 * one.noise, unit="%"), Number(one.floor_bytes / MIB, unit="MiB")
                )
                for one in measured
            ),
        ),
    ]


def _against_fastest(one: Measured) -> Result:
    peer = min((peer for peer in PEERS if peer in one.times), key=one.times.__getitem__)
    return Result(
        one.case.name,
        "over the fastest peer",
        Number(one.times["Grad-CAM"] / one.times[peer], 1 + one.noise),
        note=f"the fastest peer is {peer}",
    )


def many_classes(case: Case) -> Section:
    """Map all classes of a network of fourteen at once."""
    fourteen = replace(case, classes=14)
    ratio, noise = fresh(_many_classes, fourteen)
    result = Result(
        fourteen.name, "14 classes", Number(ratio, 1.15), note=f"neighbouring floors differed by {noise:.1%}"
    )
    return Section("All 14 classes of a network", "CPU time as a multiple of the floor's.", (result,))


def _many_classes(case: Case) -> tuple[float, float]:
    setting = case.build()
    ways = {"one": ours(setting, "gradcam"), "all": ours(setting, "gradcam", tuple(range(case.classes)))}
    ratios, noise = time_ratios(floor(setting), ways, case.rounds)
    return ratios["all"], noise


def slices(case: Case, count: int, loop: int, rounds: int) -> Section:
    """Map a class of each slice of a volume by a 2D network.

    Parameters
    ----------
    case
        Of one slice.
    count
        Slices of the volume.
    loop
        Slices that the floor and MONAI are run on, one by one.
    rounds
        Of timing.
    """
    ours_time, monai_time = fresh(_slice_times, case, count, loop, rounds)
    few, many = (fresh(_slice_peak, case, number) for number in (FEW_SLICES, MANY_SLICES))
    name = f"{count} slices of {case.cells}², {case.network}"
    return Section(
        "A volume through a 2D network",
        f"CPU time per slice as a multiple of the floor with one slice. MONAI and the floor ran on {loop} slices, one "
        "by one, ours on all, in batches that it chose by the memory that was free. Peak memory is to stay the same "
        "however many slices there are.",
        (
            Result(name, "ours, a slice", Number(ours_time, 0.75)),
            Result(name, "MONAI's loop, a slice", Number(monai_time)),
            Result(name, "ours over MONAI's loop", Number(ours_time / monai_time, 1 / 4.5, "× MONAI's")),
            Result(name, f"peak of {MANY_SLICES} slices", memory=Number(many / MIB, unit="MiB")),
            Result(
                name,
                f"peak of {MANY_SLICES} slices over that of {FEW_SLICES}",
                memory=Number(many / few, 1.10, f"× that of {FEW_SLICES}"),
            ),
        ),
    )


def _slice_times(case: Case, count: int, loop: int, rounds: int) -> tuple[float, float]:
    one = case.build()
    plain, monai = floor(one), WAYS["MONAI"](one)
    ways = {"ours": all_slices(case.build(batch=count)), "MONAI": lambda: _repeat(monai, loop)}
    ways["ours"]()
    ratios, _ = time_ratios(lambda: _repeat(plain, loop), ways, rounds)
    return ratios["ours"] * loop / count, ratios["MONAI"]


def _repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def _slice_peak(case: Case, count: int) -> int:
    setting = case.build(batch=count)
    return peak_growth(lambda: all_slices(setting), lambda: all_slices(setting.small())())


def placement(shape: tuple[int, int, int], rounds: int) -> Section:
    """Put a map of 8 × 8 × 8 cells on a native grid."""
    ratio, noise, slice_ms = fresh(_placement_times, shape, rounds)
    peak = fresh(_placement_peak, shape)
    size = 4 * math.prod(shape)
    name = f"8 × 8 × 8 cells to {' × '.join(map(str, shape))}"
    return Section(
        "From the network's grid to the scan's",
        "CPU time as a multiple of filling a new array of the result's size, peak memory as a multiple of that size; a "
        "single slice in milliseconds on the clock.",
        (
            Result(
                name,
                "the volume",
                Number(ratio, 2.5, "× writing it"),
                Number(peak / size, 1.2, "× its size"),
                f"neighbouring floors differed by {noise:.1%}",
            ),
            Result(name, "one slice", Number(slice_ms, 5, "ms")),
        ),
    )


def _grids(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give a map, its affine and that of a grid which it covers."""
    coarse = np.random.default_rng(0).random((8, 8, 8), dtype=np.float32)
    affine = np.diag([-0.7, -0.7, 1.0, 1.0])
    ratio = np.array(shape) / 8
    to_voxel = np.diag([*ratio, 1.0])
    to_voxel[:3, 3] = (ratio - 1) / 2
    return coarse, affine @ to_voxel, affine


def _placement_times(shape: tuple[int, int, int], rounds: int) -> tuple[float, float, float]:
    coarse, coarse_affine, affine = _grids(shape)
    ratios, noise = time_ratios(
        lambda: np.empty(shape, np.float32).fill(1),
        {
            "placed": lambda: place_on_grid(coarse, coarse_affine, shape, affine),
            "placed again": lambda: place_on_grid(coarse, coarse_affine, shape, affine),
        },
        rounds,
    )
    clock = []
    for k in range(0, shape[2], max(1, shape[2] // 50)):
        moved = affine.copy()
        moved[:3, 3] += affine[:3, 2] * k
        start = time.perf_counter()
        place_on_grid(coarse, coarse_affine, (*shape[:2], 1), moved)
        clock.append(time.perf_counter() - start)
    return statistics.mean(ratios.values()), noise, 1000 * statistics.median(clock)


def _placement_peak(shape: tuple[int, int, int]) -> int:
    coarse, coarse_affine, affine = _grids(shape)

    def place(to: tuple[int, int, int]) -> Callable[[], object]:
        return lambda: place_on_grid(coarse, coarse_affine, to, affine)

    return peak_growth(lambda: place(shape), place((SMALL_CELLS,) * 3))


def masking(case: Case, rounds: int) -> Section:
    """Run the methods that ask the network again for each channel."""
    times = fresh(_masking_times, case, rounds)
    return Section(
        "Score-CAM and Ablation-CAM",
        "CPU time of a whole run at the last layer, in floors. In 3D those of pytorch-grad-cam fail: Score-CAM with "
        "“Input and output must have the same number of spatial dimensions”, Ablation-CAM with “Number of dimensions "
        "of repeat dims can not be smaller …”, after which the network keeps the layer that was put into it.",
        tuple(Result(case.name, way, Number(value, unit="floors")) for way, value in times.items()),
    )


def _masking_times(case: Case, rounds: int) -> dict[str, float]:
    setting = case.build()
    ways = {
        "Score-CAM, ours": ours(setting, "scorecam"),
        "Score-CAM, pytorch-grad-cam": by_pytorch_grad_cam(setting, "ScoreCAM"),
        "Ablation-CAM, ours": ours(setting, "ablationcam"),
        "Ablation-CAM, pytorch-grad-cam": by_pytorch_grad_cam(setting, "AblationCAM"),
    }
    plain, repeated = floor(setting), 20  # one floor alone is too short beside minutes
    _repeat(plain, repeated)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            seconds = cpu_seconds(run)
            times[way].append(seconds * repeated / cpu_seconds(lambda: _repeat(plain, repeated)))
    return {way: statistics.median(values) for way, values in times.items()}

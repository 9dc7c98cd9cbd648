"""What reading a scan costs, against reading its bytes and against peers: ``python -m benchmarks.reading``.

Times are of the clock on the wall, because threads are part of what is measured. Every way runs right beside a floor in
one process, on warm files; the median of the ratios is given. Peak memory is of fresh processes.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from benchmarks import report
from benchmarks.measuring import peak_growth, time_ratios
from benchmarks.pages import write_part
from benchmarks.results import Number, Result, Section
from benchmarks.scans import SIZE, SLICES, SYNTAXES, phantom, write_nifti, write_series

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
TITLE = "Reading scans"
STORED = SIZE * SIZE * SLICES * 2
LISTED = 1000
TAGS = ["SeriesInstanceUID", "SeriesDescription", "Modality", "ImagePositionPatient", "ImageOrientationPatient"]

LEAD = f"""\
Files are warm. The floor is reading the bytes of the files one after another into one array, which is kept, as a volume
must be; "bytes, let go" reads each into memory that is used again, which is quicker and leaves nothing. Times are wall
clock times, every way right beside a floor in one process; the median of the ratios is given. Peak memory is the growth
of `VmHWM` over `VmRSS` in a fresh process, as a multiple of the {STORED / 2**20:.0f} MiB that are stored. All ways give
the stored values or, as ours does, the values in Hounsfield units; MONAI's gives float32.
"""


def _wall(run: Callable[[], object]) -> float:
    """Time a call that begins as every other does: nothing left behind, and memory that the machine has at hand.

    A virtual machine gives pages that were free for seconds back to its host. Whoever comes first after a slow way
    would pay for getting them again, and the floor beside it would not.
    """
    gc.collect()
    np.ones(2 * STORED, np.uint8)
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _let_go(files: list[Path]) -> None:
    for path in files:
        path.read_bytes()


def _floor(files: list[Path]) -> Any:
    """Read the bytes into one array, as a reader that gives a volume must."""
    kept = np.empty(sum(path.stat().st_size for path in files), np.uint8)
    at = 0
    for path in files:
        with path.open("rb", buffering=0) as file:
            at += file.readinto(memoryview(kept)[at:])
    return kept


def _ours(path: Path) -> Any:
    from napari_gradcam import read_volume

    return read_volume(path)


def _pydicom(files: list[Path]) -> Any:
    """Loop as pydicom's own example of a series does, values in Hounsfield units."""
    import pydicom

    read = sorted(map(pydicom.dcmread, files), key=lambda one: one.ImagePositionPatient[2])
    return np.stack([pydicom.pixels.apply_rescale(one.pixel_array, one) for one in read])


def _simpleitk(files: list[Path]) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in files])
    return sitk.GetArrayViewFromImage(reader.Execute())


def _simpleitk_one(path: Path) -> Any:
    import SimpleITK as sitk

    return sitk.GetArrayViewFromImage(sitk.ReadImage(str(path)))


def _monai(path: Path, reader: str) -> Any:
    from monai.transforms import LoadImage

    return LoadImage(reader=reader, image_only=True)(str(path))


def _nibabel(path: Path) -> Any:
    import nibabel

    return np.asanyarray(nibabel.load(path).dataobj)


def _get_fdata(path: Path) -> Any:
    import nibabel

    return nibabel.load(path).get_fdata()


def _series_ways(folder: Path) -> dict[str, Callable[[], Any]]:
    files = sorted(folder.iterdir())
    return {
        "ours": partial(_ours, folder),
        "SimpleITK": partial(_simpleitk, files),
        "pydicom": partial(_pydicom, files),
        "MONAI PydicomReader": partial(_monai, folder, "PydicomReader"),
        "bytes, let go": partial(_let_go, files),
    }


def _nifti_ways(path: Path) -> dict[str, Callable[[], Any]]:
    return {
        "ours": partial(_ours, path),
        "SimpleITK": partial(_simpleitk_one, path),
        "nibabel dataobj": partial(_nibabel, path),
        "nibabel get_fdata": partial(_get_fdata, path),
        "MONAI NibabelReader": partial(_monai, path, "NibabelReader"),
        "bytes, let go": partial(_let_go, [path]),
    }


def _ways(path: Path) -> dict[str, Callable[[], Any]]:
    return _series_ways(path) if path.is_dir() else _nifti_ways(path)


def _ratios(path: Path, names: list[str], rounds: int) -> tuple[dict[str, float], float]:
    ways = _ways(path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return time_ratios(partial(_floor, files), {name: ways[name] for name in names}, rounds, _wall)


def _peak(path: Path, small: Path, way: str) -> float:
    return peak_growth(lambda: _ways(path)[way], _ways(small)[way]) / STORED


def _listing(folder: Path, rounds: int) -> tuple[dict[str, float], float]:
    """List the headers of many files, against pydicom reading only the needed tags."""
    import pydicom

    from napari_gradcam import find_scans

    files = sorted(folder.iterdir())

    def needed() -> None:
        for path in files:
            pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)

    return time_ratios(needed, {"ours": partial(find_scans, folder)}, rounds, _wall)


def _fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


BARS: Mapping[str, tuple[float | None, Mapping[str, float]]] = {
    # The bar over the floor, and how many times a peer's time ours may be.
    "uncompressed": (5.0, {"SimpleITK": 1 / 3}),
    "RLE": (None, {"the fastest peer": 1.0}),
    "JPEG 2000": (None, {"the fastest peer": 1.0}),
    ".nii.gz": (None, {"SimpleITK": 1.3, "nibabel get_fdata": 1 / 3, "MONAI NibabelReader": 1 / 5}),
}
ROUNDS = {"uncompressed": 3.0, "RLE": 0.5, "JPEG 2000": 0.5, ".nii.gz": 1.0}
"""Shares of the rounds: what is quick is noisy, because memory that is touched for the first time may cost more."""
PEERS = ("SimpleITK", "pydicom", "MONAI PydicomReader", "nibabel dataobj", "nibabel get_fdata", "MONAI NibabelReader")


def measure(name: str, path: Path, small: Path, rounds: int) -> tuple[list[Result], list[Result]]:
    """Measure one form: every way against the floor, and ours against peers."""
    quick = [way for way in _ways(path) if not way.startswith("MONAI") and way != "nibabel get_fdata"]
    slow = [way for way in _ways(path) if way not in quick]
    times, noise = _fresh(_ratios, path, quick, rounds)
    times |= _fresh(_ratios, path, slow, 1)[0]
    floor_bar, over = BARS[name]
    results = []
    for way in _ways(path):
        weighed = None if way == "bytes, let go" else _fresh(_peak, path, small, way)
        peak = None if weighed is None else Number(weighed, 1.3 if way == "ours" else None, "× stored")
        time_bar = floor_bar if way == "ours" else None
        results.append(Result(name, way, Number(times[way], time_bar), peak, f"floors differed by {noise:.1%}"))
    fastest = min(times[peer] for peer in PEERS if peer in times)
    ratios = [
        Result(name, f"ours over {peer}", Number(times["ours"] / times.get(peer, fastest), bar), note=f"{noise:.1%}")
        for peer, bar in over.items()
    ]
    return results, ratios


def main() -> None:
    """Measure, print, and write the part of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dry", action="store_true", help="write no page")
    options = parser.parse_args()
    console, start = Console(), time.monotonic()
    against_floor: list[Result] = []
    against_peers: list[Result] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        voxels = phantom(SLICES)
        for form in (*SYNTAXES, ".nii.gz"):
            path, small = root / form / "all", root / form / "few"
            if form in SYNTAXES:
                write_series(path, voxels, form)
                write_series(small, voxels[:8], form)
            else:
                path, small = path / "scan.nii.gz", small / "scan.nii.gz"
                write_nifti(path, voxels)
                write_nifti(small, voxels[:8])
            rounds = max(3, int(options.rounds * ROUNDS[form]))
            console.print(f"{(time.monotonic() - start) / 60:5.1f} min  {form}")
            found, over = measure(form, path, small, rounds)
            against_floor += found
            against_peers += over
        listed = root / "listed"
        write_series(listed, np.resize(voxels[:, :16, :16], (LISTED, 16, 16)), "uncompressed")
        times, noise = _fresh(_listing, listed, options.rounds)
        against_peers.append(
            Result("1,000 headers", "ours over pydicom's needed tags", Number(times["ours"], 2.0), note=f"{noise:.1%}")
        )
    sections = [
        Section("300 slices of 512 × 512", "Time as a multiple of the floor; peak memory.", tuple(against_floor)),
        Section("Ours over peers", "Time as a multiple of the peer's.", tuple(against_peers)),
    ]
    for section in sections:
        console.print(report.terminal_table(section))
    if not options.dry:
        write_part(PAGE, TITLE, _part(sections, (time.monotonic() - start) / 60))


def _part(sections: list[Section], minutes: float) -> str:
    from datetime import UTC, datetime

    written = f"Written by `make bench-reading` on {datetime.now(UTC):%Y-%m-%d}, in {minutes:.0f} minutes."
    packages = ("pydicom", "SimpleITK", "nibabel", "monai", "isal", "pylibjpeg-rle", "pillow", "numpy")
    lines = [written, f"{report.machine()}. {report.versions(packages)}.", LEAD.rstrip(), report.bars(sections)]
    lines.append(report.missed(sections))
    lines += [part for section in sections for part in (f"## {section.title}", section.lead, report.markdown(section))]
    return "\n\n".join(lines)


if __name__ == "__main__":
    main()

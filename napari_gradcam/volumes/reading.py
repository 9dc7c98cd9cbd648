"""One door for every scan: files, folders and archives to the scans that are in them, and a scan to a volume."""

from __future__ import annotations

import os
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import finish
from napari_gradcam.volumes.scan import Catalogue, Scan
from napari_gradcam.volumes.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_gradcam.progress import Steps
    from napari_gradcam.volumes.archive import Unpacked
    from napari_gradcam.volumes.volume import Volume

    Paths = str | PathLike[str] | Sequence[str | PathLike[str]]

MOST_LISTED = 12
"""So many scans are listed in a sentence."""

MOST_DAMAGED = 3
"""Of so many damaged files beside the scans it is told what is wrong with each."""


def read_volume(
    path: Paths, *, series: int | str | None = None, frame: int | None = None, resample: bool = False
) -> Volume:
    """Read one scan: DICOM or NIfTI, told apart by what the files hold.

    Parameters
    ----------
    path
        A NIfTI file, a DICOM file, a DICOMDIR, a zip archive, a folder (with its sub-folders), or a list of files.
    series
        Which scan, where there are several: its number in the list of :func:`find_scans`, from 1, or a part of its
        name that no other has.
    frame
        Which one of a file that holds several volumes or pictures, from 1; the first where it is None.
    resample
        Interpolate slices that are missing or unevenly spaced, rather than to refuse the scan.

    Returns
    -------
    Volume
        The scan on its own grid, with its affine from voxel index to RAS+ mm.

    Raises
    ------
    GradCamError
        If what was given is not exactly one readable scan; the sentence says what to do.
    """
    return finish(read_steps(path, series=series, frame=frame, resample=resample))


def read_steps(
    path: Paths, *, series: int | str | None = None, frame: int | None = None, resample: bool = False
) -> Steps[Volume]:
    """Read one scan as :func:`read_volume` does, in steps."""
    catalogue = yield from find_scans_steps(path)
    scan, notices = choose(catalogue, series)
    volume = yield from scan.steps(frame, resample=resample)
    return replace(volume, notices=(*volume.notices, *notices, *catalogue.notices))


def find_scans(path: Paths) -> Catalogue:
    """List the scans among files and folders; no voxel is read.

    Parameters
    ----------
    path
        As for :func:`read_volume`.

    Raises
    ------
    GradCamError
        If there is no scan.
    """
    return finish(find_scans_steps(path))


def find_scans_steps(path: Paths) -> Steps[Catalogue]:
    """List the scans among files and folders, in steps."""
    paths = [Path(fspath(path))] if isinstance(path, (str, PathLike)) else [Path(fspath(one)) for one in path]
    if not paths:
        raise GradCamError("The list of files is empty: give a scan file or a folder of DICOM files.")
    for one in paths:
        if not one.exists():
            raise GradCamError(f"“{one}” does not exist: check the path.")
    from napari_gradcam.volumes.archive import is_zip, unpack

    if not any(one.is_file() and is_zip(one) for one in paths):
        return (yield from _found(paths))
    if len(paths) > 1:
        raise GradCamError(f"There is a zip archive among {len(paths)} files: open each archive by itself.")
    unpacked = yield from unpack(paths[0])
    try:
        catalogue = yield from _found([unpacked.folder])
    except GradCamError as error:
        raise GradCamError(unpacked.renamed(str(error))) from error
    scans = tuple(_packed(scan, unpacked) for scan in catalogue.scans)
    notices = tuple(unpacked.renamed(notice) for notice in catalogue.notices)
    return Catalogue(unpacked.renamed(catalogue.label), scans, notices)


def choose(catalogue: Catalogue, wanted: int | str | None) -> tuple[Scan, tuple[str, ...]]:
    """Choose a scan of a list, and say what was set apart.

    Parameters
    ----------
    catalogue
        The list.
    wanted
        Its number from 1, or a part of its name; None for the only scan there is, localizers and the like set apart.

    Raises
    ------
    GradCamError
        If no scan or several can be meant; the sentence lists them.
    """
    scans = catalogue.scans
    if wanted is not None:
        return _named(catalogue, wanted), ()
    candidates = [scan for scan in scans if not scan.aside] or list(scans)
    if all(scan.problem for scan in scans) and len(candidates) > 1:
        raise GradCamError(
            f"{catalogue.label} holds {len(scans)} scans and none can be read as it is; the first: {scans[0].problem}"
        )
    if len(candidates) > 1:
        raise GradCamError(
            f"{catalogue.label} holds {len(scans)} scans ({_lines(scans)}): choose one by its number or its name, or "
            "give its files."
        )
    left = [scan for scan in scans if scan is not candidates[0]]
    if not left:
        return candidates[0], ()
    kinds = dict.fromkeys(scan.aside for scan in left)
    said = [f"{kind.capitalize()} images were left out ({_images(left, kind)})." for kind in kinds]
    return candidates[0], tuple(said)


def _images(scans: Sequence[Scan], kind: str) -> int:
    return sum(scan.images for scan in scans if scan.aside == kind)


def _named(catalogue: Catalogue, wanted: int | str) -> Scan:
    scans = catalogue.scans
    if isinstance(wanted, int) or wanted.isdecimal():
        number = int(wanted)
        if not 1 <= number <= len(scans):
            raise GradCamError(f"{catalogue.label} has no scan number {number}; there are {_lines(scans)}.")
        return scans[number - 1]
    exact = [scan for scan in scans if scan.name == wanted]
    found = exact or [scan for scan in scans if wanted.casefold() in scan.name.casefold()]
    if len(found) != 1:
        many = "no scan" if not found else f"{len(found)} scans"
        raise GradCamError(f"{catalogue.label} has {many} called “{wanted}”; there are {_lines(scans)}.")
    return found[0]


def _lines(scans: Sequence[Scan]) -> str:
    lines = [f"{number}: {describe(scan)}" for number, scan in enumerate(scans, start=1)]
    return "; ".join(lines[:MOST_LISTED]) + (f"; and {len(lines) - MOST_LISTED} more" if lines[MOST_LISTED:] else "")


def describe(scan: Scan) -> str:
    """Describe a scan in a few words, without saying whose it is."""
    number = scan.series.number if scan.series else ""
    parts = [f"“{scan.name}”", f"series {number}" if number else "", scan.modality, scan.aside]
    parts.append("1 image" if scan.images == 1 else f"{scan.images} images")
    return ", ".join(filter(None, parts))


def _packed(scan: Scan, unpacked: Unpacked) -> Scan:
    """Make a scan of an archive speak of the archive, and keep its files for as long as it is there."""

    def reader(frame: int, *, resample: bool) -> Steps[Volume]:
        try:
            volume = yield from scan.reader(frame, resample=resample)
        except GradCamError as error:
            raise GradCamError(unpacked.renamed(str(error))) from error
        return replace(volume, source=(unpacked.archive,))

    problem = unpacked.renamed(scan.problem) if scan.problem else None
    return replace(scan, source=(unpacked.archive,), reader=reader, problem=problem)


def _found(paths: Sequence[Path]) -> Steps[Catalogue]:
    """Find the scans of files and folders that are there."""
    from napari_gradcam.volumes.nifti import NIFTI_ENDINGS, is_nifti, nifti_scan

    label = f"“{paths[0] if len(paths) == 1 else _common_folder(paths)}”"
    nifti: list[Path] = []
    others: list[tuple[Path, bool]] = []
    for path, was_named in walk_files(paths):
        called = path.name.lower().endswith(NIFTI_ENDINGS)
        if called or is_nifti(path) if was_named else called and _speaks_for_nifti(path):
            nifti.append(path)
        else:
            others.append((path, was_named))
    scans: list[Scan] = []
    problems: list[str] = []
    for path in nifti:
        try:
            scans.append(nifti_scan(path))
        except GradCamError as error:
            problems.append(str(error))
    notices: tuple[str, ...] = ()
    if others:
        from napari_gradcam.volumes.dicom.files import find_images
        from napari_gradcam.volumes.dicom.header import quiet
        from napari_gradcam.volumes.dicom.scans import scans_of

        with quiet():
            found = yield from find_images(others)
            scans += scans_of(found.images, found.damaged, label)
        problems += [sentence for _, sentence in found.damaged]
        notices = found.notices
        if not scans and not problems and found.others:
            raise GradCamError(f"{label} holds no pictures, only {listed(found.others)}: give the images of a scan.")
    if not scans:
        raise GradCamError(
            problems[0]
            if problems
            else f"{label} holds no DICOM or NIfTI images: give a scan file or a folder that holds one."
        )
    told = {scan.problem for scan in scans}
    return Catalogue(label, tuple(scans), (*notices, *_shortened([one for one in problems if one not in told])))


def _shortened(problems: Sequence[str]) -> list[str]:
    """Tell of a few damaged files, and how many more there are."""
    more = len(problems) - MOST_DAMAGED
    return [*problems[:MOST_DAMAGED], *([f"{more} more files could not be read either."] if more > 0 else [])]


def _speaks_for_nifti(path: Path) -> bool:
    """Whether a file of a folder is a NIfTI scan: of a pair, whose names other formats have too, the header is."""
    from napari_gradcam.volumes.nifti import is_nifti

    name = path.name.lower()
    return ".img" not in Path(name).suffixes and (".hdr" not in Path(name).suffixes or is_nifti(path))


def walk_files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Go through files and folders in a fixed order, each file once, and say which were given by name."""
    for path in dict.fromkeys(paths):
        if not path.is_dir():
            yield path, True
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
            for name in sorted(names):
                one = Path(folder, name)
                if one.is_file():
                    yield one, False


def _common_folder(paths: Sequence[Path]) -> str:
    try:
        return os.path.commonpath([path.absolute().parent for path in paths])
    except ValueError:  # on different drives
        return "the list of files"

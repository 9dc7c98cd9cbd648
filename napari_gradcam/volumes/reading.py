"""One door for every scan: files, folders and archives to the scans that are in them, and a scan to a volume."""

from __future__ import annotations

import os
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import Progress, finish
from napari_gradcam.volumes.persons import Discretion
from napari_gradcam.volumes.scan import Catalogue, Scan
from napari_gradcam.volumes.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_gradcam.progress import Steps
    from napari_gradcam.volumes.archive import Unpacked
    from napari_gradcam.volumes.dicom.files import FoundFiles
    from napari_gradcam.volumes.volume import Volume

    Paths = str | PathLike[str] | Sequence[str | PathLike[str]]

MOST_LISTED = 12
"""So many scans are listed in a sentence."""

MOST_DAMAGED = 3
"""Of so many damaged files beside the scans it is told what is wrong with each."""

_PAUSE = 50
"""Files from one pause to the next."""


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
    return _saying(scan, unpacked.renamed, (unpacked.archive,))


def _saying(scan: Scan, said: Callable[[str], str], source: tuple[Path, ...] | None = None) -> Scan:
    """Make all that a scan says go through a function, and have it name another source where one is given."""

    def reader(frame: int, *, resample: bool) -> Steps[Volume]:
        try:
            volume = yield from scan.reader(frame, resample=resample)
        except GradCamError as error:
            raise GradCamError(said(str(error))) from error
        return replace(volume, source=source or volume.source, notices=tuple(map(said, volume.notices)))

    problem, notices = said(scan.problem) if scan.problem else None, tuple(map(said, scan.notices))
    return replace(scan, source=source or scan.source, reader=reader, problem=problem, notices=notices)


def _found(paths: Sequence[Path]) -> Steps[Catalogue]:
    """Find the scans of files and folders that are there, and say nobody's name of them."""
    nifti, others = yield from _sorted_files(paths)
    scans, problems = yield from _nifti_scans(nifti)
    label = f"“{paths[0] if len(paths) == 1 else _common_folder(paths)}”"
    notices: tuple[str, ...] = ()
    said: Callable[[str], str] = str
    if others:
        found, dicom = yield from _dicom_scans(others, label)
        # Of a DICOMDIR or a file that was typed, the folder was typed too.
        given = [*map(str, paths), *(str(path.parent) for path in paths if not path.is_dir()), label.strip("“”")]
        said = Discretion(given, found.persons, [path for path, _ in others]).said
        scans += [_saying(scan, said) for scan in dicom] if found.persons else dicom
        problems += [one.sentence for one in found.damaged]
        notices = found.notices
        if not scans and not problems and found.others:
            raise GradCamError(
                said(f"{label} holds no pictures, only {listed(found.others)}: give the images of a scan.")
            )
    problems = [said(one) for one in problems]
    if not scans:
        raise GradCamError(
            problems[0]
            if problems
            else f"{label} holds no DICOM or NIfTI images: give a scan file or a folder that holds one."
        )
    told = {scan.problem for scan in scans}
    left = _shortened([one for one in problems if one not in told])
    return Catalogue(label, tuple(scans), (*map(said, notices), *left))


def _sorted_files(paths: Sequence[Path]) -> Steps[tuple[list[Path], list[tuple[Path, bool]]]]:
    """Sort the files that are there: those that speak for NIfTI, and others with whether they were given by name."""
    from napari_gradcam.volumes.nifti import NIFTI_ENDINGS, is_nifti

    nifti: list[Path] = []
    others: list[tuple[Path, bool]] = []
    for done, (path, was_named) in enumerate(walk_files(paths)):
        if done % _PAUSE == _PAUSE - 1:
            yield Progress(done, 0, "Looking for scans")
        called = path.name.lower().endswith(NIFTI_ENDINGS)
        if called or is_nifti(path) if was_named else called and _speaks_for_nifti(path):
            nifti.append(path)
        else:
            others.append((path, was_named))
    return nifti, others


def _nifti_scans(files: Sequence[Path]) -> Steps[tuple[list[Scan], list[str]]]:
    """Describe NIfTI files, and say what is wrong with those that cannot be read."""
    from napari_gradcam.volumes.nifti import nifti_scan

    scans: list[Scan] = []
    problems: list[str] = []
    for done, path in enumerate(files):
        if done % _PAUSE == _PAUSE - 1:
            yield Progress(done, len(files), "Reading headers")
        try:
            scans.append(nifti_scan(path))
        except GradCamError as error:
            problems.append(str(error))
    return scans, problems


def _dicom_scans(files: Sequence[tuple[Path, bool]], label: str) -> Steps[tuple[FoundFiles, list[Scan]]]:
    from napari_gradcam.volumes.dicom.files import find_images
    from napari_gradcam.volumes.dicom.header import quiet
    from napari_gradcam.volumes.dicom.scans import scans_of

    with quiet():
        found = yield from find_images(files)
        return found, list(scans_of(found.images, found.damaged, label))


def _shortened(problems: Sequence[str]) -> list[str]:
    """Tell of a few damaged files, and how many more there are."""
    more = len(problems) - MOST_DAMAGED
    count = "1 more file" if more == 1 else f"{more} more files"
    return [*problems[:MOST_DAMAGED], *([f"{count} could not be read either."] if more > 0 else [])]


def _speaks_for_nifti(path: Path) -> bool:
    """Whether a file of a folder is a NIfTI scan: of a pair, whose names other formats have too, the header is."""
    from napari_gradcam.volumes.nifti import is_nifti

    name = path.name.lower()
    return ".img" not in Path(name).suffixes and (".hdr" not in Path(name).suffixes or is_nifti(path))


def walk_files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Go through files and folders in a fixed order, each file once, and say which were given by name.

    Links to folders are followed, each folder once: a link may lead back to where it lies.
    """
    for path in dict.fromkeys(paths):
        if not path.is_dir():
            yield path, True
            continue
        seen = {os.path.realpath(path)}
        for folder, folders, names in os.walk(path, followlinks=True):
            inside = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
            folders[:] = [name for name in inside if _is_new(Path(folder, name), seen)]
            for name in sorted(names):
                one = Path(folder, name)
                if one.is_file():
                    yield one, False


def _is_new(folder: Path, seen: set[str]) -> bool:
    """Whether a folder was not come to before, by whatever links; it is noted as seen."""
    real = os.path.realpath(folder)
    if real in seen:
        return False
    seen.add(real)
    return True


def _common_folder(paths: Sequence[Path]) -> str:
    try:
        return os.path.commonpath([path.absolute().parent for path in paths])
    except ValueError:  # on different drives
        return "the list of files"

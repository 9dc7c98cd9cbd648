"""DICOM headers to the scans that can be read: series by series, stack by stack."""

from __future__ import annotations

import filecmp
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.dicom.geometry import TILT_DEGREES, Stack, UnevenSlices, stack
from napari_gradcam.volumes.dicom.header import quiet
from napari_gradcam.volumes.dicom.mosaic import is_mosaic, mosaic_scan
from napari_gradcam.volumes.dicom.slices import NO_SCANS, Slice, slices_of
from napari_gradcam.volumes.dicom.stacks import Pile, piles_of
from napari_gradcam.volumes.dicom.voxels import read_voxels
from napari_gradcam.volumes.orientation import obliquity, obliquity_notices
from napari_gradcam.volumes.scan import Person, Scan, Series
from napari_gradcam.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from pathlib import Path

    from napari_gradcam.progress import Steps
    from napari_gradcam.volumes.dicom.header import Header

_NO_LETTERS = re.compile(r"[\W_]+")
"""What stands between the words of a name: ^ and =, and in files that break the rules anything else."""

_LAY = {
    "HFP": "prone",
    "FFP": "prone",
    "HFDR": "on the right side",
    "FFDR": "on the right side",
    "HFDL": "on the left side",
    "FFDL": "on the left side",
}
"""How a patient lay who did not lie on the back, by Patient Position (0018,5100)."""


def scans_of(images: Sequence[Header], damaged: Sequence[tuple[Path, str]], label: str) -> tuple[Scan, ...]:
    """List the scans that images make, by patient, study and series.

    Classic images are placed by Image Position and Image Orientation (Patient), (0020,0032) and (0020,0037), the
    frames of an Enhanced file by its functional groups, those of a Siemens mosaic by its private header. Values are in
    the units that Rescale Slope (0028,1053) and Intercept (0028,1052) of each slice give; whole numbers stay whole
    where they can. MONOCHROME1 (0028,0004), where low is bright, is turned over so that high is bright in the picture
    and for the network; CT and PET, whose values mean something by themselves, are not.

    Parameters
    ----------
    images
        Headers of files with pixels.
    damaged
        Files that could not be read, and why. One in the folder of a scan may be a slice of it, so that the scan has a
        problem.
    label
        What was searched, as it is called in a sentence.
    """
    groups = _by_series(images)
    scans: list[Scan] = []
    for (series, aside), headers in groups:
        where = label if len(groups) == 1 else f"“{_name(series, headers)}” in {label}"
        scans += _scans_of_series(headers, series, aside, where)
    folders = {path.parent: sentence for path, sentence in reversed(damaged)}
    return tuple(
        replace(scan, problem=problem, resampling=False) if (problem := _maybe_incomplete(scan, folders)) else scan
        for scan in scans
    )


def _maybe_incomplete(scan: Scan, folders: dict[Path, str]) -> str | None:
    return next((folders[path.parent] for path in scan.source if path.parent in folders), None)


def _by_series(images: Sequence[Header]) -> list[tuple[tuple[Series, str], list[Header]]]:
    """Group images by series, and what is set apart within one; number patients and studies as they come."""
    patients: dict[Hashable, int] = {}
    studies: dict[tuple[str, ...], int] = {}
    groups: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for header in images:
        told = header.told
        patient = told("PatientID"), told("PatientName")
        study = *patient, told("StudyInstanceUID")
        patients.setdefault(patient, len(patients) + 1)
        studies.setdefault(study, sum(known[:2] == patient for known in studies) + 1)
        groups[*study, told("SeriesInstanceUID"), _aside(header)].append(header)
    listed = []
    for key, headers in groups.items():
        series = _series(headers[0], patients[key[:2]], studies[key[:3]])
        listed.append(((series, _aside(headers[0])), headers))
    return sorted(listed, key=lambda group: _order(group[0][0]))


def _order(series: Series) -> tuple[int, int, int, str]:
    number = int(series.number) if series.number.removeprefix("-").isdecimal() else 1 << 31
    return series.patient, series.study, number, series.description


def _aside(header: Header) -> str:
    if "LOCALIZER" in header.told("ImageType").upper():
        return "localizer"
    return NO_SCANS.get(header.told("Modality"), "")


def _series(header: Header, patient: int, study: int) -> Series:
    told = header.told
    person = Person(told("PatientName"), told("PatientID"), told("PatientBirthDate"))
    return Series(
        patient=patient,
        study=study,
        study_description=_impersonal(told("StudyDescription"), person),
        description=_impersonal(told("SeriesDescription"), person),
        number=told("SeriesNumber"),
        position=told("PatientPosition"),
        person=person,
    )


def _impersonal(text: str, person: Person) -> str:
    """Give a text, "" where it holds a part of the patient's name, ID or birth date."""
    said = text.casefold()
    words, digits = set(_NO_LETTERS.split(said)), re.sub(r"\D", "", said)
    private = re.findall(r"\d{4,}", person.identifier)
    if len(person.identifier) > 2:
        private.append(person.identifier.casefold())
    for part in _NO_LETTERS.split(person.name.casefold()):
        # Two Latin letters are too many other things to be looked for within words.
        if len(part) > 2 or not part.isascii():
            private.append(part)
        elif len(part) == 2 and part in words:
            return ""
    if len(born := re.sub(r"\D", "", person.born)) == 8:
        year, month, day = born[:4], born[4:6], born[6:]
        if any(date in digits for date in (born, day + month + year, month + day + year)):
            return ""
    return "" if any(part in said for part in private) else text


def _name(series: Series, headers: Sequence[Header]) -> str:
    """Name a series by its description, else by its file or the folder of its files."""
    path = headers[0].path
    named = path.stem if len(headers) == 1 else path.parent.name
    return series.description or _impersonal(named, series.person) or headers[0].told("Modality") or "Scan"


def _scans_of_series(headers: Sequence[Header], series: Series, aside: str, label: str) -> Iterator[Scan]:
    """List the scans of one series; what cannot be one has a problem."""
    name = _name(series, headers)
    first = headers[0]

    def refused(problem: GradCamError, files: Sequence[Header], title: str = name) -> Scan:
        return Scan(
            name=title,
            modality=first.told("Modality"),
            images=len(files),
            shape=None,
            affine=None,
            source=tuple(dict.fromkeys(header.path for header in files)),
            reader=_no_reader,
            series=series,
            aside=aside,
            problem=str(problem),
            resampling=isinstance(problem, UnevenSlices),
        )

    headers, notices = _without_copies(headers)
    mosaics = [header for header in headers if is_mosaic(header)]
    for number, header in enumerate(mosaics, start=1):
        title = name if len(mosaics) == 1 else f"{name}, volume {number} of {len(mosaics)}"
        try:
            yield mosaic_scan(header, title, series)
        except GradCamError as error:
            yield refused(error, [header], title)
    headers = [header for header in headers if not is_mosaic(header)]
    try:
        piles = piles_of([one for header in headers for one in slices_of(header)])
    except GradCamError as error:
        yield refused(error, headers)
        return
    for number, pile in enumerate(piles, start=1):
        # A file that is called after the patient is called by its number.
        apart = (_impersonal(what, series.person) or f"number {number}" for what in pile.told_apart)
        title = ", ".join((name, *apart))
        where = label if len(piles) == 1 else f"“{title}” in {label}"
        try:
            yield _scan(pile, title, where, series, aside, notices)
        except GradCamError as error:
            scan = refused(error, [one.header for one in pile.slices], title)
            reader = _Reader(pile, title, where, notices, series.position) if scan.resampling else _no_reader
            yield replace(scan, images=len(pile.slices), reader=reader)


def _no_reader(frame: int, *, resample: bool) -> Steps[Volume]:
    raise AssertionError("a scan with a problem is not read")


def _without_copies(headers: Sequence[Header]) -> tuple[list[Header], tuple[str, ...]]:
    """Leave out files that are byte by byte the same image as another."""
    kept: list[Header] = []
    known: dict[str, Header] = {}
    copies = 0
    for header in headers:
        uid = header.told("SOPInstanceUID")
        if uid and uid in known and filecmp.cmp(known[uid].path, header.path, shallow=False):
            copies += 1
            continue
        known.setdefault(uid, header)
        kept.append(header)
    if not copies:
        return kept, ()
    many = "1 file is a copy" if copies == 1 else f"{copies} files are copies"
    return kept, (f"{many} of another and {'was' if copies == 1 else 'were'} left out.",)


def _scan(pile: Pile, name: str, label: str, series: Series, aside: str, notices: tuple[str, ...]) -> Scan:
    stacked = stack(pile.slices, label)
    first = stacked.slices[0]
    return Scan(
        name=name,
        modality=first.header.told("Modality"),
        images=len(pile.slices),
        shape=(first.columns, first.rows, stacked.depth),
        affine=stacked.affine,
        source=_sources(pile.slices if pile.pictures else stacked.slices),
        reader=_Reader(pile, name, label, notices, series.position),
        in_patient_space=stacked.placed,
        frames=len(pile.slices) if pile.pictures else 1,
        series=series,
        aside=aside,
        notices=(*_grid_notices(stacked, series.position), *notices),
        unit=stacked.unit,
    )


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads a pile of slices."""

    pile: Pile
    name: str
    label: str
    notices: tuple[str, ...]
    position: str

    def __call__(self, frame: int, *, resample: bool) -> Steps[Volume]:
        with quiet():
            return (yield from self._read(frame, resample))

    def _read(self, frame: int, resample: bool) -> Steps[Volume]:
        slices = self.pile.slices[frame : frame + 1] if self.pile.pictures else self.pile.slices
        stacked = stack(slices, self.label, resample=resample)
        voxels = yield from read_voxels(stacked, self.label)
        middle = stacked.slices[len(stacked.slices) // 2]
        return Volume(
            array=voxels.array,
            affine=stacked.affine,
            modality=middle.header.told("Modality"),
            name=self.name,
            window=middle.window,
            source=_sources(stacked.slices),
            notices=(*_grid_notices(stacked, self.position), *voxels.notices, *self.notices),
            in_patient_space=stacked.placed,
            color=voxels.color,
            unit=stacked.unit,
        )


def _sources(slices: Sequence[Slice]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(one.header.path for one in slices))


def _grid_notices(stacked: Stack, position: str) -> tuple[str, ...]:
    notices = stacked.notices
    # A gantry tilt may have said as much already.
    if stacked.placed and not (stacked.tilt > TILT_DEGREES and obliquity(stacked.affine) < stacked.tilt + 0.5):
        notices += obliquity_notices(stacked.affine)
    if stacked.placed and position in _LAY:
        notices += (
            f"The patient lay {_LAY[position]} ({position}): the picture is turned as if on the back, and its letters "
            "are the patient's own.",
        )
    return notices

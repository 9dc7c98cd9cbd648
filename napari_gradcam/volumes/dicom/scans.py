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
from napari_gradcam.volumes.persons import impersonal, person_of
from napari_gradcam.volumes.scan import Scan, Series
from napari_gradcam.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from pathlib import Path

    from napari_gradcam.progress import Steps
    from napari_gradcam.volumes.dicom.files import Damaged
    from napari_gradcam.volumes.dicom.header import Header

_SCOUT = re.compile(r"(?<![a-z])(scout|locali[sz]er|survey|topogram)s?(?![a-z])", re.IGNORECASE)
"""What a series is called that was made to plan the others, where Image Type does not say it."""

_LAY = {
    "HFP": "prone",
    "FFP": "prone",
    "HFDR": "on the right side",
    "FFDR": "on the right side",
    "HFDL": "on the left side",
    "FFDL": "on the left side",
}
"""How a patient lay who did not lie on the back, by Patient Position (0018,5100)."""


def scans_of(images: Sequence[Header], damaged: Sequence[Damaged], label: str) -> tuple[Scan, ...]:
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
        Files that could not be read, and why. A scan of the series that such a file says it is of has a problem; of a
        file that does not say it, each scan with files in its folder.
    label
        What was searched, as it is called in a sentence.
    """
    groups = _by_series(images)
    scans: list[Scan] = []
    for (series, aside), headers in groups:
        where = label if len(groups) == 1 else f"“{_name(series, headers)}” in {label}"
        uid = headers[0].told("SeriesInstanceUID")
        for scan in _scans_of_series(headers, series, aside, where):
            problem = _maybe_incomplete(scan, uid, damaged)
            scans.append(replace(scan, problem=problem, resampling=False) if problem else scan)
    return tuple(scans)


def _maybe_incomplete(scan: Scan, uid: str, damaged: Sequence[Damaged]) -> str | None:
    """Give what is wrong with a file that may be a slice of the scan."""
    folders = {path.parent for path in scan.source} if damaged else set()
    return next(
        (one.sentence for one in damaged if (one.series == uid if one.series else one.path.parent in folders)), None
    )


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
    if "LOCALIZER" in header.told("ImageType").upper() or _SCOUT.search(header.told("SeriesDescription")):
        return "localizer"
    return NO_SCANS.get(header.told("Modality"), "")


def _series(header: Header, patient: int, study: int) -> Series:
    told = header.told
    person = person_of(told)
    return Series(
        patient=patient,
        study=study,
        study_description=impersonal(told("StudyDescription"), person),
        description=impersonal(told("SeriesDescription"), person),
        number=told("SeriesNumber"),
        position=told("PatientPosition"),
        person=person,
    )


def _name(series: Series, headers: Sequence[Header]) -> str:
    """Name a series by its description, else by its file or the folder of its files."""
    path = headers[0].path
    named = path.stem if len(headers) == 1 else path.parent.name
    return series.description or impersonal(named, series.person) or headers[0].told("Modality") or "Scan"


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
        apart = (impersonal(what, series.person) or f"number {number}" for what in pile.told_apart)
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
    stacked = stack(pile.slices[:1] if pile.pictures else pile.slices, label)
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
        aside=aside or pile.aside,
        notices=(*_grid_notices(stacked, series.position), *_frame_notices(pile), *pile.notices, *notices),
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
            notices=(
                *(f"This frame is that of {name}." for name in self.pile.frames[frame : frame + 1]),
                *_grid_notices(stacked, self.position),
                *self.pile.notices,
                *voxels.notices,
                *self.notices,
            ),
            in_patient_space=stacked.placed,
            color=voxels.color,
            unit=stacked.unit,
            instances=_instances(stacked),
        )


def _instances(stacked: Stack) -> tuple[int | None, ...]:
    """Give the Instance Number of each slice; none where slices are frames of one file, or were interpolated."""
    if stacked.mixture is not None or len({one.header.path for one in stacked.slices}) < len(stacked.slices):
        return ()
    told = [one.header.told("InstanceNumber") for one in stacked.slices]
    return tuple(int(number) if number.removeprefix("-").isdecimal() else None for number in told)


def _sources(slices: Sequence[Slice]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(one.header.path for one in slices))


def _frame_notices(pile: Pile) -> tuple[str, ...]:
    names = pile.frames
    return (f"Its {len(names)} images lie at one position, from {names[0]} to {names[-1]}.",) if names else ()


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

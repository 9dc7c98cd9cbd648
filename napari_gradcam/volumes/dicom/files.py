"""Which files hold DICOM images, and their headers.

Nothing is dropped silently that could be a slice: a file that is DICOM, or that should be, and cannot be read whole is
kept by name and reason. Everyday companions of a scan (a README, thumbnails) are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pydicom.filereader import read_file_meta_info, read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import Progress
from napari_gradcam.volumes.dicom.header import Header, read_header, walked_header
from napari_gradcam.volumes.persons import person_of
from napari_gradcam.volumes.scan import Person
from napari_gradcam.volumes.signs import (
    DICOM_ENDINGS,
    DICOM_HEAD,
    EVERYDAY_ENDINGS,
    EVERYDAY_NAMES,
    begins_as_dataset,
    has_dicom_mark,
    is_something_else,
)
from napari_gradcam.volumes.wording import listed, printable, reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_gradcam.progress import Steps

_PREAMBLE = 128
_DIRECTORY = "Media Storage Directory Storage"
_PAUSE = 20
"""Files from one pause to the next."""
_SERIES = 0x0020000E


class Damaged(NamedTuple):
    """A file that is DICOM, or should be, and cannot be read whole.

    Attributes
    ----------
    path, sentence
        The file, and what is wrong with it.
    series
        Its Series Instance UID (0020,000E), "" where that cannot be read either.
    person
        Whose it is, as far as that can be read.
    """

    path: Path
    sentence: str
    series: str = ""
    person: Person = Person()


@dataclass(frozen=True)
class FoundFiles:
    """The images among the given files and folders, and what was passed over."""

    images: tuple[Header, ...]
    others: tuple[str, ...]
    """DICOM objects that are no images, as ``“name” (kind)``."""
    unknown: tuple[str, ...]
    """Names of files that are not DICOM and are none of a scan's everyday companions."""
    damaged: tuple[Damaged, ...]
    """Files that are DICOM, or should be, and what is wrong with each."""
    missing: tuple[str, ...] = ()
    """Files that a DICOMDIR lists and that are not there."""
    persons: tuple[Person, ...] = ()
    """Whose files these are, for what must not be said."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Say what was passed over."""
        said = []
        if self.missing:
            said.append(f"Files that the DICOMDIR lists are not there: {listed(self.missing)}.")
        if self.others:
            said.append(f"DICOM objects that hold no pictures were left out: {listed(self.others)}.")
        if self.unknown:
            said.append(f"Files that are not DICOM were left out: {listed(self.unknown)}.")
        return tuple(said)


def find_images(files: Sequence[tuple[Path, bool]]) -> Steps[FoundFiles]:
    """Read the headers of all DICOM images among files, in steps.

    Parameters
    ----------
    files
        Each with whether it was given by name. A DICOMDIR that was stands for the files it lists (PS3.10, section 8.6;
        PS3.3, annex F).
    """
    images: list[Header] = []
    others: list[str] = []
    unknown: list[str] = []
    damaged: list[Damaged] = []
    persons: dict[Person, None] = {}
    files, missing = _listed_by_directories(files)
    for done, (path, was_named) in enumerate(files):
        if done % _PAUSE == 0:
            yield Progress(done, len(files), "Reading headers")
        if not was_named and (path.name.startswith(".") or path.name.lower() in EVERYDAY_NAMES):
            continue
        try:
            header = walked_header(path)
            if header is None and not _is_dicom(path):
                if was_named:
                    raise GradCamError(
                        f"“{path}” is neither DICOM nor NIfTI: give a scan file or a folder of DICOM files."
                    )
                if path.suffix.lower() not in EVERYDAY_ENDINGS:
                    unknown.append(f"“{path.name}”")
                continue
            header = header or read_header(path)
            persons.setdefault(person_of(header.told))
            kind = _kind(header)
        except GradCamError as error:
            damaged.append(_damaged(path, str(error)))
            persons.setdefault(damaged[-1].person)
            continue
        if kind is None:
            images.append(header)
        elif kind != _DIRECTORY:
            others.append(f"“{path.name}” ({kind.removesuffix(' Storage')})")
    return FoundFiles(tuple(images), tuple(others), tuple(unknown), tuple(damaged), missing, tuple(persons))


def _damaged(path: Path, sentence: str) -> Damaged:
    """Read of a damaged file which series it is of, if no more: nothing behind it is looked at."""
    behind = False

    def is_behind(tag: int, vr: str | None, length: int) -> bool:
        nonlocal behind
        behind = tag > _SERIES  # a further element proves that the value was not cut short
        return behind

    try:
        if _is_deflated(path):
            return Damaged(path, sentence)
        with path.open("rb") as file:
            dataset = read_partial(file, is_behind, force=True)
        told = {keyword: printable(str(dataset.get(keyword, ""))) for keyword in _WHOSE}
    except Exception:  # pydicom raises a dozen types on damaged files
        return Damaged(path, sentence)
    return Damaged(path, sentence, told["SeriesInstanceUID"] if behind else "", person_of(told.__getitem__))


_WHOSE = ("SeriesInstanceUID", "PatientName", "PatientID", "PatientBirthDate")


def _is_deflated(path: Path) -> bool:
    """Whether a file must be unpacked whole before anything of it is known: one that is damaged may never end."""
    with path.open("rb") as file:
        if not has_dicom_mark(file.read(DICOM_HEAD)):
            return False
    return bool(read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)


def _kind(header: Header) -> str | None:
    """Name the kind of a DICOM object that holds no pictures; None of one that does.

    Raises
    ------
    GradCamError
        If it should hold pictures and does not.
    """
    if header.pixels is not None:
        return None
    sop_class = header.sop_class
    if not sop_class or "Image Storage" in sop_class or header.told("Rows"):
        raise GradCamError(f"“{header.path}” holds no pixel data: it is cut short or a header alone; copy it again.")
    return sop_class


def _listed_by_directories(files: Sequence[tuple[Path, bool]]) -> tuple[list[tuple[Path, bool]], tuple[str, ...]]:
    """Put in place of each DICOMDIR that was given by name the files that it lists."""
    found: list[tuple[Path, bool]] = []
    missing: list[str] = []
    for path, was_named in files:
        header = read_header(path) if was_named and _is_directory(path) else None
        if header is None:
            found.append((path, was_named))
            continue
        for parts in _file_ids(header):
            one = _inside(path.parent, parts)
            if one is None:
                missing.append("“" + "/".join(parts) + "”")
            else:
                found.append((one, False))
    return list(dict.fromkeys(found)), tuple(missing)


def _file_ids(header: Header) -> list[list[str]]:
    """List the files of a DICOMDIR, each by the parts of its path.

    Raises
    ------
    GradCamError
        If the list is damaged.
    """
    try:
        records = header.get("DirectoryRecordSequence") or ()
        listed = [record.get("ReferencedFileID") for record in records]
        return [[parts] if isinstance(parts, str) else [str(part) for part in parts] for parts in listed if parts]
    except Exception as error:  # pydicom reads records only now, and raises a dozen types on damaged ones
        raise GradCamError(f"“{header.path}” is damaged ({reason(error)}): give the folder that it lies in.") from error


def _is_directory(path: Path) -> bool:
    return path.name.upper().startswith("DICOMDIR") and _is_dicom(path)


def _inside(folder: Path, parts: Sequence[str]) -> Path | None:
    """Find a file of a medium, whose names may have become small letters; nothing outside of the folder."""
    for part in parts:
        if part in ("", ".", "..") or set("/\\:") & set(part):
            return None
        here = next((folder / name for name in (part, part.lower(), part.upper()) if (folder / name).exists()), None)
        if here is None:
            return None
        folder = here
    return folder if folder.is_file() else None


def _is_dicom(path: Path) -> bool:
    """Tell whether a file is, or should be, DICOM.

    Raises
    ------
    GradCamError
        If it cannot be read, or must have been cut short.
    """
    try:
        with path.open("rb") as file:
            head = file.read(DICOM_HEAD)
    except OSError as error:
        raise GradCamError(f"“{path}” cannot be read ({error.strerror or error}): check the file.") from error
    if has_dicom_mark(head) or begins_as_dataset(head):
        return True
    ending = path.suffix.lower()
    if ending in DICOM_ENDINGS and not is_something_else(head):
        if len(head) < _PREAMBLE + 4:
            raise GradCamError(f"“{path}” is cut short after {len(head)} bytes: copy or export it again.")
        return True
    if len(head) < _PREAMBLE + 4 and not head.strip(b"\0") and ending not in EVERYDAY_ENDINGS:
        raise GradCamError(f"“{path}” is empty, perhaps a slice whose copy was cut short: copy it again or remove it.")
    return False

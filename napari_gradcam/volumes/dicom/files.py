"""Which files hold DICOM images, and their headers.

Nothing is dropped silently that could be a slice: a file that is DICOM, or that should be, and cannot be read whole is
refused by name. Everyday companions of a scan (a README, thumbnails, the DICOMDIR) are passed over.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import listed, reason, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import FileDataset

DICOM_ENDINGS = (".dcm", ".dicom", ".dic", ".ima")
"""Files so named are DICOM or are refused, whatever they hold."""

_EVERYDAY_ENDINGS = frozenset(
    (
        *(".txt", ".md", ".rst", ".htm", ".html", ".xml", ".json", ".csv", ".tsv", ".yaml"),
        *(".yml", ".toml", ".ini", ".inf", ".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx"),
        *(".rtf", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".svg", ".ico", ".css", ".js"),
        *(".py", ".sh", ".bat", ".exe", ".dll", ".jar", ".db", ".lnk", ".url", ".zip"),
        *(".gz", ".tar", ".md5", ".sha256", ".bval", ".bvec", ".nii", ".hdr", ".img"),
    )
)
_EVERYDAY_NAMES = frozenset(("dicomdir", "readme", "license", "licence", "version", "changes", "lockfile", "thumbs.db"))

_PREAMBLE = 128
_DEFER_BYTES = 1 << 16
"""Elements above this stay in the file until they are asked for, so that a long series is in memory only once."""

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class ImageFile:
    """A DICOM file that holds pictures: where it is, and its header; the pixels are read when they are asked for."""

    path: Path
    dataset: FileDataset


@dataclass(frozen=True)
class FoundFiles:
    """The images among the given files and folders, and what was passed over."""

    images: tuple[ImageFile, ...]
    others: tuple[str, ...]
    """DICOM objects that are no images, as ``“name” (kind)``."""
    unknown: tuple[str, ...]
    """Names of files that are not DICOM and are none of a scan's everyday companions."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Say what was passed over."""
        said = []
        if self.others:
            said.append(f"DICOM objects that hold no pictures were left out: {listed(self.others)}.")
        if self.unknown:
            said.append(f"Files that are not DICOM were left out: {listed(self.unknown)}.")
        return tuple(said)


def find_files(paths: Sequence[Path]) -> FoundFiles:
    """Read the headers of all DICOM images among files and folders, sub-folders included.

    Raises
    ------
    GradCamError
        If a file that is, or by its name should be, DICOM is damaged, or a file given by name is not DICOM.
    """
    images: list[ImageFile] = []
    others: list[str] = []
    unknown: list[str] = []
    for path, was_named in _walk(paths):
        if not was_named and (path.name.startswith(".") or path.name.lower() in _EVERYDAY_NAMES):
            continue
        kind = _look(path)
        if kind == "not DICOM":
            if was_named:
                raise GradCamError(f"“{path}” is neither DICOM nor NIfTI: give a scan file or a folder of DICOM files.")
            if path.suffix.lower() not in _EVERYDAY_ENDINGS:
                unknown.append(f"“{path.name}”")
            continue
        dataset = read_header(path)
        if any(keyword in dataset for keyword in PIXEL_KEYWORDS):
            images.append(ImageFile(path, dataset))
            continue
        sop_class = _sop_class(dataset)
        if sop_class == "Media Storage Directory Storage":
            if was_named:
                raise GradCamError(
                    f"“{path}” is the list of contents of a DICOM medium: give the folder of one series."
                )
        elif not sop_class or "Image Storage" in sop_class or "Rows" in dataset:
            raise GradCamError(f"“{path}” holds no pixel data: it is cut short or a header alone; copy it again.")
        else:
            others.append(f"“{path.name}” ({sop_class.removesuffix(' Storage')})")
    return FoundFiles(tuple(images), tuple(others), tuple(unknown))


def read_header(path: Path) -> FileDataset:
    """Read a DICOM file but for its large elements, which follow when they are asked for.

    Raises
    ------
    GradCamError
        If the file is damaged or shorter than it says.
    """
    from pydicom import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    try:
        dataset = dcmread(path, force=True, defer_size=_DEFER_BYTES)
        if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            dataset = dcmread(path)  # what was deferred could not be found again in the packed file
        else:
            _check_whole(path, dataset)
        if not len(dataset) and _sop_class(dataset) != "Media Storage Directory Storage":
            raise EOFError("it holds no DICOM elements")
    except OSError as error:
        raise GradCamError(f"“{path}” cannot be read ({error.strerror or error}): check the file.") from error
    except Exception as error:  # pydicom raises a dozen types on damaged files
        raise GradCamError(f"“{path}” is cut short or damaged ({reason(error)}): copy or export it again.") from error
    return dataset


def _check_whole(path: Path, dataset: FileDataset) -> None:
    """Prove that the file is as long as its pixel data says; pydicom takes what is there."""
    size = path.stat().st_size
    for keyword in PIXEL_KEYWORDS:
        if keyword in dataset:
            element: Any = dataset.get_item(keyword, keep_deferred=True)
            start, length = getattr(element, "value_tell", 0), getattr(element, "length", _UNDEFINED_LENGTH)
            if length != _UNDEFINED_LENGTH and start + length > size:
                missing = start + length - size
                raise EOFError(f"{missing:,} bytes of its pixel data are missing")


def _sop_class(dataset: FileDataset) -> str:
    """Name the kind of a DICOM object, "" where the file does not say."""
    from pydicom.uid import UID

    return UID(told(dataset, "SOPClassUID") or told(dataset.file_meta, "MediaStorageSOPClassUID")).name


def _look(path: Path) -> str:
    """Tell whether a file is, or should be, DICOM."""
    try:
        with path.open("rb") as file:
            head = file.read(_PREAMBLE + 4)
    except OSError as error:
        raise GradCamError(f"“{path}” cannot be read ({error.strerror or error}): check the file.") from error
    if head[_PREAMBLE:] == b"DICM":
        return "DICOM"
    if path.suffix.lower() in DICOM_ENDINGS:
        if len(head) < _PREAMBLE + 4:
            raise GradCamError(f"“{path}” is cut short after {len(head)} bytes: copy or export it again.")
        return "DICOM"
    if len(head) < _PREAMBLE + 4 and not head.strip(b"\0") and path.suffix.lower() not in _EVERYDAY_ENDINGS:
        raise GradCamError(f"“{path}” is empty, perhaps a slice whose copy was cut short: copy it again or remove it.")
    return "not DICOM"


def _walk(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
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

"""What napari calls to open a file, folder, archive or record: each scan as an Image layer on the display grid.

Reading loads neither torch nor MONAI. Anything that is not ours is refused fast, so that other readers may try.
"""

from __future__ import annotations

import zipfile
import zlib
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error

from napari_gradcam.errors import GradCamError
from napari_gradcam.viewer.current import current_viewer
from napari_gradcam.viewer.opening import Cancelled, open_scans
from napari_gradcam.viewer.reopening import is_record, open_record
from napari_gradcam.volumes.nifti import is_nifti
from napari_gradcam.volumes.reading import walk_files
from napari_gradcam.volumes.signs import DICOM_HEAD, EVERYDAY_ENDINGS, begins_as_dataset, has_dicom_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RECORD_ENDING = ".json"
_ENDINGS = (".nii", ".nii.gz", ".nii.bz2", ".dcm", ".dicom", ".ima")
_FILES_LOOKED_AT = 100
"""How many files of a folder are looked into before it is called one without scans."""
_NAMES_LOOKED_AT = 20_000
"""How many names of files are gone through, those that are plainly no scans among them."""


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[tuple[Any, ...]]] | None:
    """Give the function that reads a scan or a record, or None for what is not ours.

    Parameters
    ----------
    path
        A file or folder; a list, where napari was told to open several files as one stack.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return read if paths and all(_is_ours(Path(one)) for one in paths) else None


def read(path: str | Sequence[str]) -> list[tuple[Any, ...]]:
    """Read the scans, or the record, that a person dropped or opened, each scan as a layer of its own.

    In a window, a file that cannot be used is told in one sentence as napari's notification, and no layer is added:
    of an exception napari would tell that our reader gave an error, and keep the reason to itself.

    Raises
    ------
    GradCamError
        If there is no readable scan, and there is no window.
    """
    try:
        if isinstance(path, str) and path.lower().endswith(RECORD_ENDING):
            return list(open_record(path))
        return list(open_scans(path))
    except Cancelled:
        return [(None,)]
    except GradCamError as error:
        if current_viewer() is None:
            raise
        show_error(str(error))
        return [(None,)]


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return any(map(_is_scan, islice(_candidates(path), _FILES_LOOKED_AT)))
    name = path.name.lower()
    if name.endswith(RECORD_ENDING):
        return is_record(path)
    if name.endswith(".zip"):
        return _holds_scans(path)
    return _is_scan(path) or (is_nifti(path) if name.endswith((".hdr", ".img")) else False)


def _candidates(folder: Path) -> Iterator[Path]:
    """Give the files of a folder that may be scans: not pictures, texts and the like, by their names."""
    for path, _ in islice(walk_files([folder]), _NAMES_LOOKED_AT):
        if path.name.lower().endswith(_ENDINGS) or path.suffix.lower() not in EVERYDAY_ENDINGS:
            yield path


def _is_scan(path: Path) -> bool:
    return path.name.lower().endswith(_ENDINGS) or _is_dicom(path)


def _holds_scans(archive: Path) -> bool:
    """Whether one of the first files of a zip archive is called a scan, or begins as DICOM does."""
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in islice((one for one in packed.infolist() if not one.is_dir()), _FILES_LOOKED_AT):
                if member.filename.lower().endswith(_ENDINGS) or _shows_dicom(packed.open(member).read(DICOM_HEAD)):
                    return True
    except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return False
    return False


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _shows_dicom(file.read(DICOM_HEAD))
    except OSError:
        return False


def _shows_dicom(head: bytes) -> bool:
    return has_dicom_mark(head) or begins_as_dataset(head)

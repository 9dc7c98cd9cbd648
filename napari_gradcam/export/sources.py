"""The files that a scan was read from, as a record tells them: by name, by place and by contents."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.signs import has_dicom_mark

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HEAD = 132
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def files_told(files: Sequence[Path], folder: Path, *, private: bool) -> list[dict[str, Any]]:
    """Tell the files of a scan, in the order of its slices.

    Parameters
    ----------
    files
        The files.
    folder
        Where they are told from.
    private
        Leave out names and places.

    Returns
    -------
    list of dict
        What :func:`place_told` tells, ``sha256``, and ``of``: ``"pixel data"`` of a DICOM file, so that taking the
        patient's name out of it does not change the hash, else ``"file"``.

    Raises
    ------
    GradCamError
        If a file is gone or cannot be read any more.
    """
    return [_told(path, folder, number, private=private) for number, path in enumerate(files, start=1)]


def place_told(path: Path, folder: Path, *, private: bool) -> dict[str, Any]:
    """Tell where a file or folder lies: by its name, its absolute path, and as seen from `folder`."""
    if private:
        return {"name": path.name, "absolute": None, "relative": None}
    whole = path.absolute()
    try:
        relative = os.path.relpath(whole, folder.absolute()).replace(os.sep, "/")
    except ValueError:  # on another drive
        relative = None
    return {"name": path.name, "absolute": str(whole), "relative": relative}


def sha256_of(path: Path) -> tuple[str, str]:
    """Give the SHA-256 of a file of a scan, and of what: ``"pixel data"`` of DICOM, else ``"file"``.

    Raises
    ------
    GradCamError
        If it is gone or cannot be read.
    """
    try:
        with path.open("rb") as file:
            is_dicom = has_dicom_mark(file.read(_HEAD))
            file.seek(0)
            if not is_dicom:
                return hashlib.file_digest(file, "sha256").hexdigest(), "file"
        return _pixels_digest(path), "pixel data"
    except OSError as error:
        raise GradCamError(
            f"“{path}”, which the scan was read from, cannot be read any more ({error.strerror or error}): put it back "
            "and save again."
        ) from error


def _pixels_digest(path: Path) -> str:
    """Hash the pixels as they are stored, decoded or not."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        dataset = pydicom.dcmread(path, specific_tags=list(PIXELS))
    except (InvalidDicomError, EOFError, ValueError, KeyError) as error:
        raise GradCamError(f"“{path}” is no DICOM file any more: put the one that was read back.") from error
    whole = hashlib.sha256()
    for name in PIXELS:
        whole.update(dataset.get(name) or b"")
    return whole.hexdigest()


def _told(path: Path, folder: Path, number: int, *, private: bool) -> dict[str, Any]:
    sha256, of = sha256_of(path)
    place = place_told(path, folder, private=False)
    if private:
        place = {"name": f"file {number}", "absolute": None, "relative": None}
    return {**place, "sha256": sha256, "of": of}

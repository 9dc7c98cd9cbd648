"""The DICOM files behind an explanation: read when they are needed, and why they cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.export.dicom.images import SAME_MM, Source, images_of
from napari_gradcam.progress import finish
from napari_gradcam.volumes.archive import is_zip, unpack
from napari_gradcam.volumes.dicom.header import quiet, read_header
from napari_gradcam.volumes.persons import Discretion, person_of
from napari_gradcam.volumes.signs import DICOM_HEAD, begins_as_dataset, has_dicom_mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

BY_HAND = "The map does not say which scan it is of, so that no DICOM can refer to it: explain a scan of DICOM files."
_INSTEAD = "save as NIfTI, as a picture or as a report instead"

_Signature = tuple[tuple[str, int, int], ...]
_known: WeakKeyDictionary[Volume, tuple[_Signature, Source]] = WeakKeyDictionary()


def source_of(explanation: Explanation) -> Source:
    """Read the headers of the files that an explanation lies on; those of the last scan are kept while they last.

    Raises
    ------
    GradCamError
        If there are none, they are no DICOM, one of them is gone, or they are not what was read.
    """
    if not explanation.volumes:
        raise GradCamError(BY_HAND)
    volume = explanation.volume
    if volume.shape != explanation.heatmap.shape or not np.allclose(volume.affine, explanation.affine, atol=SAME_MM):
        raise GradCamError(
            f"The heat map is not on the grid of “{volume.name}”: give the scan that was explained, not another one."
        )
    signature = tuple(_stated(volume))
    known, source = _known.get(volume, (None, None))
    if source is None or known != signature:
        with quiet():
            source = _read(volume)
        _known[volume] = signature, source
    return source


def unplaced(explanation: Explanation, what: str) -> str:
    """Say why something that must lie in the patient cannot be written; "" where it can."""
    if not explanation.volumes:
        return BY_HAND
    if not explanation.in_patient_space or not explanation.volume.in_patient_space:
        return (
            f"The scan does not say where in the patient it lies, which a DICOM {what} needs: {_INSTEAD}, or as DICOM "
            "secondary capture."
        )
    return unread(explanation)


def unread(explanation: Explanation) -> str:
    """Say why nothing can be written as DICOM; "" where it can."""
    try:
        source_of(explanation)
    except GradCamError as error:
        return str(error)
    return ""


def _stated(volume: Volume) -> Iterator[tuple[str, int, int]]:
    """Tell one version of the files from another."""
    if not volume.source:
        raise GradCamError(f"“{volume.name}” was not read from DICOM files: {_INSTEAD}.")
    for path in volume.source:
        try:
            stated = path.stat()
        except OSError as error:
            sentence = (
                f"“{path}” cannot be read any more ({error.strerror}), and DICOM results are made from the scan's own "
                "headers: put it back where it was and save again."
            )
            raise GradCamError(_discreet(sentence, volume.source)) from error
        yield str(path), stated.st_mtime_ns, stated.st_size


def _discreet(sentence: str, files: Sequence[Path]) -> str:
    """Leave out of a sentence what tells whose scan it is, by what the files say that are still there."""
    for path in files:
        try:
            return Discretion((), [person_of(read_header(path).told)], files).said(sentence)
        except GradCamError:
            continue
    return sentence


def _read(volume: Volume) -> Source:
    if len(volume.source) == 1 and is_zip(volume.source[0]):
        unpacked = finish(unpack(volume.source[0]))
        files = sorted(path for path in unpacked.folder.rglob("*") if path.is_file() and _is_dicom(path))
        try:
            return images_of(volume, files)
        except GradCamError as error:
            raise GradCamError(unpacked.renamed(str(error))) from error
    if not all(map(_is_dicom, volume.source)):
        raise GradCamError(f"“{volume.name}” was not read from DICOM files: {_INSTEAD}.")
    return images_of(volume, volume.source)


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(DICOM_HEAD)
    except OSError:
        return False
    return has_dicom_mark(head) or begins_as_dataset(head)

"""DICOM files to one volume."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.dicom_files import PIXEL_KEYWORDS, FoundFiles, ImageFile, find_files
from napari_gradcam.volumes.dicom_geometry import TILT_DEGREES, Stack, stack
from napari_gradcam.volumes.dicom_slices import frame_count, slices_of
from napari_gradcam.volumes.orientation import obliquity, obliquity_notices
from napari_gradcam.volumes.values import Values, finite
from napari_gradcam.volumes.volume import Volume
from napari_gradcam.volumes.wording import listed, reason, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import FileDataset


def read_dicom(paths: Sequence[Path]) -> Volume:
    """Read one scalar volume from the files of one DICOM series.

    Classic images are placed by Image Position and Image Orientation (Patient), (0020,0032) and (0020,0037), the
    frames of an Enhanced file by its functional groups. Values are in the units that Rescale Slope (0028,1053) and
    Intercept (0028,1052) of each slice give; whole numbers stay whole where they can. MONOCHROME1 (0028,0004), where
    low is bright, is turned over so that high is bright in the picture and for the network; CT and PET, whose values
    mean something by themselves, are not.

    Parameters
    ----------
    paths
        Files, or folders that are searched with their sub-folders.

    Returns
    -------
    Volume
        Axes ``(column, row, slice)``: what is read first in the file varies fastest.

    Raises
    ------
    GradCamError
        If the files hold no image, several series, or no single complete stack of slices, or if one is damaged.
    """
    with _quiet():
        return _read(paths)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's warnings from the person.

    They tell of values that break a rule of the standard (an identifier too long, a character set misspelt) and of
    bytes beyond the pixels. What matters to the picture is checked here and in the modules beside, and refused or said.
    pydicom converts a value when it is first asked for, so that any line that looks into a header may warn.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(paths: Sequence[Path]) -> Volume:
    label = f"“{paths[0] if len(paths) == 1 else _common_folder(paths)}”"
    found = find_files(paths)
    series, notices = _one_series(found, label)
    slices = [one for file in series for one in slices_of(file)]
    stacked = stack(slices, label)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large for float32 is counted as infinite
        array, broken = finite(_values(stacked), label)
    middle = stacked.slices[len(stacked.slices) // 2]
    header = middle.file.dataset
    notices = (*stacked.notices, *_oblique(stacked), *_value_notices(stacked), *broken, *notices)
    return Volume(
        array=array,
        affine=stacked.affine,
        modality=told(header, "Modality"),
        name=_name(header, paths),
        window=middle.window,
        source=tuple(dict.fromkeys(one.file.path for one in stacked.slices)),
        notices=notices,
        in_patient_space=stacked.placed,
    )


def _one_series(found: FoundFiles, label: str) -> tuple[list[ImageFile], tuple[str, ...]]:
    """Choose the only series there is, localizers set apart, or refuse and list what there is."""
    if not found.images:
        if found.others:
            raise GradCamError(f"{label} holds no pictures, only {listed(found.others)}: give the images of a scan.")
        raise GradCamError(f"{label} holds no DICOM images: give a folder of one series or a scan file.")
    images, notices = list(found.images), found.notices
    scans = [image for image in images if not _is_localizer(image)]
    if scans and len(scans) < len(images):
        notices += (f"Localizer images were left out ({len(images) - len(scans)}).",)
        images = scans
    groups: dict[str, list[ImageFile]] = {}
    for image in images:
        groups.setdefault(told(image.dataset, "SeriesInstanceUID"), []).append(image)
    if len(groups) > 1:
        said = "; ".join(_series_line(group) for group in list(groups.values())[:12])
        more = f"; and {len(groups) - 12} more" if len(groups) > 12 else ""
        raise GradCamError(
            f"{label} holds {len(groups)} series ({said}{more}): give the folder or the files of one of them."
        )
    return images, notices


def _is_localizer(image: ImageFile) -> bool:
    return "LOCALIZER" in told(image.dataset, "ImageType").upper()


def _series_line(group: Sequence[ImageFile]) -> str:
    """Describe a series without saying whose it is."""
    header = group[0].dataset
    images = sum(int(count) if (count := told(one.dataset, "NumberOfFrames")).isdigit() else 1 for one in group)
    number, described = told(header, "SeriesNumber"), _description(header)
    parts = [described and f"“{described}”", number and f"number {number}", told(header, "Modality")]
    counted = "1 image" if images == 1 else f"{images} images"
    return f"{', '.join(filter(None, [*parts, counted]))}, such as “{group[0].path.name}”"


def _values(stacked: Stack) -> NDArray[Any]:
    """Read slice after slice into one array, ``(column, row, slice)`` in Fortran order."""
    first = stacked.slices[0]
    shape = (len(stacked.slices), first.rows, first.columns)
    scalings = [one.scaling for one in stacked.slices]
    stored_type = np.result_type(*{one.stored for one in stacked.slices})
    place = {(one.file.path, one.frame): rank for rank, one in enumerate(stacked.slices)}
    files = dict.fromkeys(one.file for one in stacked.slices)
    values: Values | None = None
    for file in files:
        for frame, stored in enumerate(_decoded(file)):
            rank = place[file.path, frame]
            if stored.shape != shape[1:]:
                raise GradCamError(
                    f"“{file.path}” holds a picture of {' × '.join(map(str, stored.shape))} pixels and says "
                    f"{first.rows} × {first.columns}: export it again."
                )
            if values is None:  # only now it is proven that a picture of this size exists
                try:
                    values = Values(shape, stored_type, scalings)
                except MemoryError as error:
                    size = f"{np.prod(shape, dtype=float) * stored_type.itemsize / 2**30:.1f} GiB"
                    raise GradCamError(
                        f"The series of “{file.path}” needs {size} of memory or more, which is not there: read a part."
                    ) from error
            values.put(rank, stored, scalings[rank])
    assert values is not None
    return values.array()


def _decoded(file: ImageFile) -> Iterator[NDArray[Any]]:
    """Decode the pictures of a file one by one, ``(row, column)``, and let go of its pixel data."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    dataset = file.dataset
    syntax = _transfer_syntax(file.path, dataset)
    try:
        decoder = get_decoder(syntax)
        if not decoder.is_available:
            raise GradCamError(
                f"“{file.path}” is compressed as {UID(syntax).name}, which nothing installed here can decode: "
                "export it uncompressed."
            )
        pictures = decoder.iter_array(dataset, raw=True, allow_excess_frames=False)
        for _ in range(frame_count(dataset)):
            picture = next(pictures, None)
            if picture is None:
                raise EOFError("it holds fewer pictures than it says")
            yield picture[0]
    except GradCamError:
        raise
    except Exception as error:  # the decoders raise a dozen types on damaged data
        raise GradCamError(
            f"The pixel data of “{file.path}”, {UID(syntax).name}, cannot be decoded ({reason(error)}): copy or export "
            "it again."
        ) from error
    finally:
        for keyword in PIXEL_KEYWORDS:
            if keyword in dataset:
                delattr(dataset, keyword)


def _transfer_syntax(path: Path, dataset: FileDataset) -> str:
    """Say how the pixels are packed; of a file without a meta header, as the rest of it was found to be."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    syntax = told(dataset.file_meta, "TransferSyntaxUID")
    if syntax:
        return syntax
    if len(dataset.file_meta):
        raise GradCamError(
            f"“{path}” does not say how its pixels are packed (no Transfer Syntax UID): export it again."
        )
    implicit, little = dataset.original_encoding
    if implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def _oblique(stacked: Stack) -> tuple[str, ...]:
    """Say that a stack is oblique, where a gantry tilt does not say as much already."""
    if not stacked.placed or (stacked.tilt > TILT_DEGREES and obliquity(stacked.affine) < stacked.tilt + 0.5):
        return ()
    return obliquity_notices(stacked.affine)


def _value_notices(stacked: Stack) -> tuple[str, ...]:
    asked = [one for one in stacked.slices if one.file.dataset.PhotometricInterpretation == "MONOCHROME1"]
    if not asked:
        return ()
    if asked[0].inverted:
        return ("The file stores bright as low (MONOCHROME1): its values were turned over, so that high is bright.",)
    return ("The file asks to be shown inverted (MONOCHROME1): its values are kept, and high values are shown bright.",)


def _name(header: FileDataset, paths: Sequence[Path]) -> str:
    described = _description(header)
    if described:
        return described
    if len(paths) == 1:
        return paths[0].name if paths[0].is_dir() else paths[0].stem
    return os.path.basename(_common_folder(paths))


def _description(header: FileDataset) -> str:
    """Give Series Description (0008,103E), "" where it is empty or holds a part of the patient's name or ID."""
    described = told(header, "SeriesDescription")
    private = [*told(header, "PatientName").replace("^", " ").split(), told(header, "PatientID")]
    return "" if any(len(part) > 2 and part.casefold() in described.casefold() for part in private) else described


def _common_folder(paths: Sequence[Path]) -> str:
    try:
        return os.path.commonpath([path.absolute().parent for path in paths])
    except ValueError:  # on different drives
        return "the list of files"

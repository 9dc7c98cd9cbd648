"""Heat map, coarse map and bands as NIfTI, in the geometry of the scan: any NIfTI viewer lays them over the source."""

from __future__ import annotations

import gzip
from contextlib import contextmanager
from itertools import product
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.filebasedimages import ImageFileError

from napari_gradcam import words
from napari_gradcam.bands import bands_of
from napari_gradcam.errors import GradCamError
from napari_gradcam.export.files import written_whole
from napari_gradcam.export.manner import Manner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

ALIGNED = 2
"""NIFTI_XFORM_ALIGNED_ANAT, "coordinates aligned to another file's": the map is aligned to the scan, whatever the scan
itself is aligned to."""

SCANNER = 1
"""NIFTI_XFORM_SCANNER_ANAT: coordinates of the scanner, as DICOM's are."""

QFORM_TOLERANCE_MM = 0.01
"""A qform that puts a corner of the grid further off than this is left out."""

_SAME_MM = 1e-3
"""Two affines that differ by less are the same."""


class _Forms(NamedTuple):
    """How a NIfTI file says where it lies, each form with its code, or None."""

    sform: NDArray[np.float64] | None
    sform_code: int
    qform: NDArray[np.float64] | None
    qform_code: int


def heatmap_image(explanation: Explanation) -> nib.Nifti1Image:
    """Give the heat map as a NIfTI image on the scan's native grid.

    The raw values are kept as float32 without slope or intercept; see :func:`grid_image` for where it lies.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.

    Returns
    -------
    nibabel.Nifti1Image
        float32, shape ``(i, j, k)``, affine in RAS+ mm, xyzt units mm.
    """
    told = f"{explanation.method} of '{explanation.target}', raw, {words.unit(explanation)}"
    return on_scan_image(explanation, np.asarray(explanation.heatmap, dtype=np.float32), told)


def bands_image(explanation: Explanation, top: float) -> nib.Nifti1Image:
    """Give the bands of the heat map as a label map on the scan's native grid.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    top
        The raw value at the top of the scale.

    Returns
    -------
    nibabel.Nifti1Image
        uint8, see :func:`napari_gradcam.bands.bands_of`; the intent is a label map.
    """
    bands = bands_of(explanation.heatmap, top, signed=explanation.signed)
    image = on_scan_image(explanation, bands, f"bands of {explanation.method} of '{explanation.target}'")
    image.header.set_intent("label", name="bands")
    return image


def coarse_image(explanation: Explanation) -> nib.Nifti1Image:
    """Give the map on the network's own grid as a NIfTI image, each cell where the network saw it.

    Raises
    ------
    GradCamError
        If its slices do not make one grid.
    """
    affine = _coarse_affine(explanation)
    if affine is None:
        raise GradCamError(coarse_unfit(explanation))
    told = f"{explanation.method} of '{explanation.target}', the network's own cells"
    return grid_image(explanation.coarse, affine, told, unit=explanation.unit)


def coarse_unfit(explanation: Explanation) -> str:
    """Say why the map on the network's own grid is no NIfTI image; "" where it is one."""
    if _coarse_affine(explanation) is None:
        return (
            "The network's slices were cut each in its own way, so that its own grid is no single one: save the heat "
            "map instead."
        )
    return ""


def _coarse_affine(explanation: Explanation) -> NDArray[np.float64] | None:
    """Give one affine for all slices of the network's own grid; None where there is none."""
    affines = explanation.coarse_affine
    if affines.ndim == 2:
        return affines
    # Each is for the slice of its number: index (a, b, number).
    numbers = np.arange(len(affines))
    corners = np.array(list(product((0, explanation.coarse.shape[0]), (0, explanation.coarse.shape[1]))))
    for number in numbers:
        points = np.column_stack([corners, np.full(len(corners), number)])
        if np.abs(apply_affine(affines[number], points) - apply_affine(affines[0], points)).max() > _SAME_MM:
            return None
    return cast("NDArray[np.float64]", affines[0])


def on_scan_image(explanation: Explanation, values: NDArray[Any], told: str) -> nib.Nifti1Image:
    """Give values on the native grid of an explained scan as a NIfTI image; see :func:`grid_image`."""
    forms = source_forms(explanation.volumes[0], explanation.affine) if explanation.volumes else None
    code = SCANNER if explanation.volumes and _is_dicom(explanation.volumes[0]) else ALIGNED
    return grid_image(values, explanation.affine, told, unit=explanation.unit, forms=forms, code=code)


def grid_image(
    values: NDArray[Any],
    affine: NDArray[np.float64],
    told: str,
    *,
    unit: str = "mm",
    forms: _Forms | None = None,
    code: int = ALIGNED,
) -> nib.Nifti1Image:
    """Give values on a grid as a NIfTI image.

    Where the scan was NIfTI both its forms are taken over with their codes, so that a program that puts the one before
    the other does so for both files. Else the sform holds the affine. The qform holds it too, unless the affine is
    sheared (a CT with gantry tilt): a qform knows rotations and spacings alone, and one that is nearly right would show
    the map beside its place in a program that prefers it. Such a map has the sform only (qform code 0). The map of a
    plain picture has neither, and no unit: nothing says how large it is or where.

    Parameters
    ----------
    values
        ``(i, j, k)``.
    affine
        Index to RAS+ mm.
    told
        What it is, in NIfTI's 79 bytes of ASCII.
    unit
        ``"mm"``, or ``"pixels"``.
    forms
        Those of the source, if it has some.
    code
        What the affine is aligned to, where there are none.
    """
    if unit == "pixels":
        image = nib.Nifti1Image(values, None)
    else:
        image = nib.Nifti1Image(values, affine)
        _place(image, affine, forms, code)
        image.header.set_xyzt_units(xyz="mm")
    image.header["descrip"] = told.encode("ascii", "replace")[:79]
    return image


def _place(image: nib.Nifti1Image, affine: NDArray[np.float64], forms: _Forms | None, code: int) -> None:
    if forms is not None:
        image.set_qform(forms.qform, code=forms.qform_code, update_affine=False)
        image.set_sform(forms.sform, code=forms.sform_code, update_affine=False)
        return
    image.set_qform(affine, code=code, strip_shears=True)
    if _farthest_corner(image.get_qform(), affine, image.shape) > QFORM_TOLERANCE_MM:
        image.set_qform(None, code=0, update_affine=False)
    image.set_sform(affine, code=code)


def source_forms(volume: Volume, affine: NDArray[np.float64]) -> _Forms | None:
    """Read the forms of a NIfTI scan; None where it is none, is gone, or lies elsewhere by now."""
    from napari_gradcam.volumes.nifti import is_nifti

    if len(volume.source) != 1 or not volume.source[0].exists() or not is_nifti(volume.source[0]):
        return None
    try:
        header = nib.load(volume.source[0]).header
        sform, sform_code = header.get_sform(coded=True)
        qform, qform_code = header.get_qform(coded=True)
    except (OSError, ValueError, KeyError, AttributeError, ImageFileError):
        return None
    known = [form for form in (sform, qform) if form is not None]
    if not any(np.allclose(form, affine, atol=_SAME_MM) for form in known):
        return None
    return _Forms(sform, int(sform_code), qform, int(qform_code))


def _is_dicom(volume: Volume) -> bool:
    from napari_gradcam.volumes.signs import has_dicom_mark

    if not volume.source:
        return False
    try:
        with volume.source[0].open("rb") as file:
            return has_dicom_mark(file.read(132))
    except OSError:
        return False


def write_heatmap(explanation: Explanation, path: Path, manner: Manner | None = None) -> None:
    """Write the heat map as NIfTI, whole or not at all; see :func:`heatmap_image`.

    The same explanation gives the same bytes: no time and no file name go into the gzip header.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    path
        The file, ``.nii`` or ``.nii.gz``.
    manner
        Without effect: the values are raw.

    Raises
    ------
    GradCamError
        If the suffix is another one or the file cannot be written.
    """
    write_image(heatmap_image(explanation), path)


def write_coarse(explanation: Explanation, path: Path, manner: Manner | None = None) -> None:
    """Write the map on the network's own grid as NIfTI, whole or not at all; see :func:`coarse_image`."""
    write_image(coarse_image(explanation), path)


def write_bands(explanation: Explanation, path: Path, manner: Manner | None = None) -> None:
    """Write the bands of the heat map as NIfTI, whole or not at all; see :func:`bands_image`."""
    write_image(bands_image(explanation, (manner or Manner()).maximum(explanation)), path)


def write_image(image: nib.Nifti1Image, path: Path) -> None:
    """Write a NIfTI image, whole or not at all.

    Raises
    ------
    GradCamError
        If the suffix is neither ``.nii`` nor ``.nii.gz`` or the file cannot be written.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise GradCamError(f"“{path}” is no name for a NIfTI file: end it in .nii.gz or .nii.")
    with written_whole(path) as temporary, _stream(temporary) as stream:
        image.to_stream(stream)


@contextmanager
def _stream(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file to write, through gzip where the suffix says so."""
    with path.open("xb") as raw:
        if path.suffix.lower() == ".gz":
            # Level 1, as nibabel's own default: smooth floats gain little from more effort.
            with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as zipped:
                yield cast("IO[bytes]", zipped)
        else:
            yield raw


def _farthest_corner(one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Give the largest distance in mm between where two affines put the corners of a grid."""
    corners = np.array(list(product(*((0, n - 1) for n in shape))))
    return float(np.linalg.norm(apply_affine(one, corners) - apply_affine(other, corners), axis=1).max())

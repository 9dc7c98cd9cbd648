"""The heat map as NIfTI, in the geometry of the scan: any NIfTI viewer lays it over the source."""

from __future__ import annotations

import gzip
from contextlib import contextmanager
from itertools import product
from typing import IO, TYPE_CHECKING, cast

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from napari_gradcam import words
from napari_gradcam.errors import GradCamError
from napari_gradcam.export.files import written_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation

ALIGNED = 2
"""NIFTI_XFORM_ALIGNED_ANAT, "coordinates aligned to another file's": the map is aligned to the scan, whatever the scan
itself is aligned to."""

QFORM_TOLERANCE_MM = 0.01
"""A qform that puts a corner of the grid further off than this is left out."""


def heatmap_image(explanation: Explanation) -> nib.Nifti1Image:
    """Give the heat map as a NIfTI image on the scan's native grid.

    The raw values are kept as float32 without slope or intercept. The sform always holds the affine. The qform holds
    it too, unless the affine is sheared (a CT with gantry tilt): a qform knows rotations and spacings alone, and one
    that is nearly right would show the map beside its place in a program that prefers it. Such a map has the sform
    only (qform code 0). The map of a plain picture has neither, and no unit: nothing says how large it is or where.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.

    Returns
    -------
    nibabel.Nifti1Image
        float32, shape ``(i, j, k)``, affine in RAS+ mm, xyzt units mm.
    """
    affine, values = explanation.affine, np.asarray(explanation.heatmap, dtype=np.float32)
    if explanation.unit == "pixels":
        image = nib.Nifti1Image(values, None)
        image.header["descrip"] = _description(explanation)
        return image
    image = nib.Nifti1Image(values, affine)
    image.set_qform(affine, code=ALIGNED, strip_shears=True)
    if _farthest_corner(image.get_qform(), affine, explanation.heatmap.shape) > QFORM_TOLERANCE_MM:
        image.set_qform(None, code=0, update_affine=False)
    image.set_sform(affine, code=ALIGNED)
    image.header.set_xyzt_units(xyz="mm")
    image.header["descrip"] = _description(explanation)
    return image


def write_heatmap(explanation: Explanation, path: Path) -> None:
    """Write the heat map as NIfTI, whole or not at all; see :func:`heatmap_image`.

    The same explanation gives the same bytes: no time and no file name go into the gzip header.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    path
        The file, ``.nii`` or ``.nii.gz``.

    Raises
    ------
    GradCamError
        If the suffix is another one or the file cannot be written.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise GradCamError(f"“{path}” is no name for a NIfTI file: end it in .nii.gz or .nii.")
    image = heatmap_image(explanation)
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


def _description(explanation: Explanation) -> bytes:
    """Say in NIfTI's 79 bytes of ASCII what the values are."""
    text = f"{explanation.method} of '{explanation.target}', raw, {words.unit(explanation)}"
    return text.encode("ascii", "replace")[:79]

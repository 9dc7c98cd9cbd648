"""One door for every scan: a file, a folder or a list of files to a volume."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.volumes.volume import Volume


def read_volume(path: str | PathLike[str] | Sequence[str | PathLike[str]]) -> Volume:
    """Read one scan: DICOM or NIfTI, told apart by what the files hold.

    Parameters
    ----------
    path
        A NIfTI file, a DICOM file, a folder (with its sub-folders) that holds one DICOM series, or a list of the
        files of one series.

    Returns
    -------
    Volume
        The scan on its own grid, with its affine from voxel index to RAS+ mm.

    Raises
    ------
    GradCamError
        If what was given is not exactly one readable scalar volume; the sentence says what to do.
    """
    from napari_gradcam.volumes.nifti import NIFTI_ENDINGS, is_nifti, read_nifti

    paths = [Path(fspath(path))] if isinstance(path, (str, PathLike)) else [Path(fspath(one)) for one in path]
    if not paths:
        raise GradCamError("The list of files is empty: give a scan file or a folder of DICOM files.")
    for one in paths:
        if not one.exists():
            raise GradCamError(f"“{one}” does not exist: check the path.")
    nifti = [one for one in paths if one.is_file() and (one.name.lower().endswith(NIFTI_ENDINGS) or is_nifti(one))]
    if len(paths) == 1 and nifti:
        return read_nifti(paths[0])
    if nifti:
        raise GradCamError(f"“{nifti[0]}” is a NIfTI file among {len(paths)} files: open each NIfTI scan by itself.")
    from napari_gradcam.volumes.dicom import read_dicom

    return read_dicom(paths)

"""Siemens mosaics: the slices of a volume tiled in one picture, taken apart by nibabel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.dicom.geometry import LPS_TO_RAS
from napari_gradcam.volumes.dicom.header import Header, parsed, quiet
from napari_gradcam.volumes.orientation import obliquity_notices
from napari_gradcam.volumes.scan import Scan, Series
from napari_gradcam.volumes.volume import Volume, Window
from napari_gradcam.volumes.wording import reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_gradcam.progress import Steps


def is_mosaic(header: Header) -> bool:
    """Whether Image Type (0008,0008) says that the picture is a mosaic."""
    return "MOSAIC" in header.told("ImageType").upper()


def mosaic_scan(header: Header, name: str, series: Series) -> Scan:
    """Describe the volume of a mosaic; where its slices lie stands in Siemens' private header (0029,1010).

    Raises
    ------
    GradCamError
        If there is no such header, or nibabel cannot read it.
    """
    tiled, affine = _opened(header)
    rows, columns, slices = (int(n) for n in tiled.image_shape)
    return Scan(
        name=name,
        modality=header.told("Modality"),
        images=slices,
        shape=(columns, rows, slices),
        affine=affine,
        source=(header.path,),
        reader=_Reader(header, name),
        series=series,
        notices=obliquity_notices(affine),
    )


@dataclass(frozen=True, eq=False)
class _Reader:
    header: Header
    name: str

    def __call__(self, frame: int, *, resample: bool) -> Steps[Volume]:
        yield from ()
        with quiet():
            return self._read()

    def _read(self) -> Volume:
        tiled, affine = _opened(self.header)
        try:
            array = np.asfortranarray(np.asarray(tiled.get_data()).transpose(1, 0, 2))
        except Exception as error:  # nibabel and the decoders raise a dozen types on damaged data
            raise _refused(self.header, error) from error
        return Volume(
            array=array if array.dtype.kind in "iu" else array.astype(np.float32),
            affine=affine,
            modality=self.header.told("Modality"),
            name=self.name,
            window=_window(self.header),
            source=(self.header.path,),
            notices=obliquity_notices(affine),
        )


def _opened(header: Header) -> tuple[Any, NDArray[np.float64]]:
    """Give nibabel's wrapper, and the affine of ``(column, row, slice)`` to RAS+ mm."""
    from nibabel.nicom.dicomwrappers import MosaicWrapper, wrapper_from_data

    try:
        tiled = wrapper_from_data(parsed(header.path))
        if not isinstance(tiled, MosaicWrapper):
            raise ValueError("Siemens' private header is missing")
        # nibabel indexes (row, column, slice) and leaves the axes of the patient as DICOM has them.
        affine = LPS_TO_RAS @ tiled.affine[:, [1, 0, 2, 3]]
    except Exception as error:
        raise _refused(header, error) from error
    return tiled, affine


def _refused(header: Header, error: Exception) -> GradCamError:
    return GradCamError(
        f"“{header.path}” is a Siemens mosaic, many slices tiled in one picture, that cannot be taken apart "
        f"({reason(error)}): export it as single slices or as NIfTI."
    )


def _window(header: Header) -> Window | None:
    from napari_gradcam.volumes.dicom.slices import slices_of

    return slices_of(header)[0].window

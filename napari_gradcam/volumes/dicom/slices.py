"""What one image, or one frame of a multi-frame file, says about its place and its values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.values import Scaling
from napari_gradcam.volumes.volume import Window
from napari_gradcam.volumes.wording import reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset, FileDataset

    from napari_gradcam.volumes.dicom_files import ImageFile

PHYSICAL_VALUES = ("CT", "PT")
"""Modalities whose values mean something by themselves, HU or Bq/ml, and are never inverted."""

_NO_SCANS = {"SEG": "a segmentation", "RTDOSE": "a radiotherapy dose"}


@dataclass(frozen=True, eq=False)
class Slice:
    """One picture of a series, pixels not yet read.

    Attributes
    ----------
    file
        The file it is in.
    frame
        Its frame in that file, from 0.
    rows, columns
        Size in pixels, (0028,0010) and (0028,0011).
    position
        Centre of the first pixel, Image Position (Patient) (0020,0032), LPS+ mm; None where the file does not say.
    orientation
        Unit vectors along a row and down a column, LPS+, ``(2, 3)``, from Image Orientation (Patient) (0020,0037).
    pixel_spacing
        Distance between rows and between columns in mm, (0028,0030); None where the file does not say.
    thickness
        Slice Thickness (0018,0050) in mm or None; says how thick a lone slice is drawn and places nothing.
    stored
        The type of the stored numbers.
    scaling
        Stored numbers to values, inverted where the picture is.
    window
        The first window of the slice in the units of its values.
    inverted
        Whether the values are turned over, because the file is MONOCHROME1.
    """

    file: ImageFile
    frame: int
    rows: int
    columns: int
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    pixel_spacing: tuple[float, float] | None
    thickness: float | None
    stored: np.dtype[Any]
    scaling: Scaling
    window: Window | None
    inverted: bool

    @property
    def label(self) -> str:
        """Name the slice to a person."""
        return f"“{self.file.path.name}”" if self.frames == 1 else f"frame {self.frame + 1} of “{self.file.path.name}”"

    @property
    def frames(self) -> int:
        """Number of pictures in its file."""
        return frame_count(self.file.dataset)


def frame_count(dataset: Dataset) -> int:
    """Give Number of Frames (0028,0008), 1 where it is absent, empty or zero."""
    return int(dataset.get("NumberOfFrames") or 1)


def slices_of(file: ImageFile) -> list[Slice]:
    """List the slices of a file.

    Raises
    ------
    GradCamError
        If its pictures are no scalar slices, or a tag that is needed is missing or makes no sense.
    """
    path, dataset = file.path, file.dataset
    try:
        _refuse_what_is_no_slice(path, dataset)
        return [_slice(file, frame, groups) for frame, groups in enumerate(_frames(path, dataset))]
    except GradCamError:
        raise
    except Exception as error:  # a value that pydicom cannot convert: any type
        raise GradCamError(f"“{path}” has a damaged header ({reason(error)}): export it again.") from error


def _refuse_what_is_no_slice(path: Path, dataset: FileDataset) -> None:
    image_type = [str(part).upper() for part in _several(dataset.get("ImageType"))]
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if dataset.get("Modality") in _NO_SCANS:
        raise GradCamError(f"“{path}” is {_NO_SCANS[dataset.Modality]}, not a scan: give the images it was made on.")
    if int(dataset.get("SamplesPerPixel", 1)) != 1 or photometric == "PALETTE COLOR":
        raise GradCamError(f"“{path}” holds colours ({photometric}), not one value per pixel: give a greyscale image.")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise GradCamError(f"“{path}” does not say how grey is stored (it says “{photometric}”): export it again.")
    if "MOSAIC" in image_type:
        raise GradCamError(
            f"“{path}” is a Siemens mosaic, many slices tiled in one picture: export it as single slices or as NIfTI."
        )
    if dataset.get("ModalityLUTSequence"):
        raise GradCamError(f"“{path}” gives its values by a table (Modality LUT): export it with slope and intercept.")
    if int(dataset.get("Rows") or 0) < 1 or int(dataset.get("Columns") or 0) < 1:
        raise GradCamError(f"“{path}” has no rows or no columns: export it again.")


def _frames(path: Path, dataset: FileDataset) -> Iterator[_Groups]:
    """Give each frame's functional groups (PS3.3 C.7.6.16); of a classic image, the image itself."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    count = frame_count(dataset)
    if not per_frame:
        if count > 1:
            raise GradCamError(
                f"“{path}” holds {count} pictures in one file and does not say where each lies: give single slices."
            )
        yield _Groups((dataset,), classic=True)
        return
    if len(per_frame) != count:
        raise GradCamError(f"“{path}” says {count} frames but places {len(per_frame)}: export it again.")
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for own in per_frame:
        yield _Groups((own, *shared[:1]), classic=False)


@dataclass(frozen=True)
class _Groups:
    """Where a frame's tags stand: in its own functional groups first, then in those it shares."""

    places: tuple[Any, ...]
    classic: bool

    def get(self, group: str, keyword: str) -> Any:
        """Give a value of a functional group, or of a classic image the value by itself; None where there is none."""
        for place in self.places:
            inside = (place,) if self.classic else (place.get(group) or ())
            for item in inside:
                value = item.get(keyword)
                if value is not None and value != "":
                    return value
        return None


def _slice(file: ImageFile, frame: int, groups: _Groups) -> Slice:
    from pydicom.pixels.utils import pixel_dtype

    path, dataset = file.path, file.dataset
    scaling = _scaling(path, dataset, groups)
    window = _window(groups)
    inverted = (
        dataset.PhotometricInterpretation == "MONOCHROME1"
        and dataset.get("Modality") not in PHYSICAL_VALUES
        and "PixelData" in dataset  # floating point pixels have no lowest and highest to turn over
    )
    if inverted:
        if window:
            window = window._replace(center=scaling.of(scaling.lowest) + scaling.of(scaling.highest) - window.center)
        scaling = scaling.inverted()
    return Slice(
        file=file,
        frame=frame,
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        position=_numbers(path, groups.get("PlanePositionSequence", "ImagePositionPatient"), 3, "position"),
        orientation=_orientation(path, groups.get("PlaneOrientationSequence", "ImageOrientationPatient")),
        pixel_spacing=_pixel_spacing(path, groups.get("PixelMeasuresSequence", "PixelSpacing")),
        thickness=_positive(groups.get("PixelMeasuresSequence", "SliceThickness")),
        stored=pixel_dtype(dataset, as_float="PixelData" not in dataset).newbyteorder("="),
        scaling=scaling,
        window=window,
        inverted=inverted,
    )


def _scaling(path: Path, dataset: Dataset, groups: _Groups) -> Scaling:
    """Read Rescale Slope (0028,1053) and Intercept (0028,1052), and the range of what is stored."""
    slope = groups.get("PixelValueTransformationSequence", "RescaleSlope")
    intercept = groups.get("PixelValueTransformationSequence", "RescaleIntercept")
    slope = 1.0 if slope is None else float(slope)
    intercept = 0.0 if intercept is None else float(intercept)
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise GradCamError(f"“{path}” scales its values by {slope:g} and {intercept:g}: export it again.")
    if "PixelData" not in dataset:
        return Scaling(slope, intercept, -math.inf, math.inf)
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    signed = int(dataset.get("PixelRepresentation") or 0)
    lowest = -(2.0 ** (bits - 1)) if signed else 0.0
    return Scaling(slope, intercept, lowest, lowest + 2.0**bits - 1)


def _window(groups: _Groups) -> Window | None:
    """Read the first Window Center (0028,1050) and Width (0028,1051); None where they make no window."""
    try:
        center = float(_several(groups.get("FrameVOILUTSequence", "WindowCenter"))[0])
        width = float(_several(groups.get("FrameVOILUTSequence", "WindowWidth"))[0])
    except (IndexError, TypeError, ValueError):
        return None
    return Window(center, width) if math.isfinite(center) and math.isfinite(width) and width > 0 else None


def _orientation(path: Path, value: Any) -> NDArray[np.float64] | None:
    numbers = _numbers(path, value, 6, "orientation")
    if numbers is None:
        return None
    axes = numbers.reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    # The standard wants unit vectors at right angles; files round them to a few digits.
    if np.abs(lengths - 1).max() > 0.01 or abs(axes[0] @ axes[1]) > 0.01:
        raise GradCamError(
            f"“{path}” has an orientation that is none ({', '.join(f'{n:g}' for n in numbers)}): export it again."
        )
    unit: NDArray[np.float64] = axes / lengths[:, None]
    return unit


def _pixel_spacing(path: Path, value: Any) -> tuple[float, float] | None:
    numbers = _numbers(path, value, 2, "pixel spacing")
    if numbers is None:
        return None
    if (numbers <= 0).any():
        raise GradCamError(f"“{path}” has a pixel spacing of {numbers[0]:g} × {numbers[1]:g} mm: export it again.")
    return float(numbers[0]), float(numbers[1])


def _numbers(path: Path, value: Any, count: int, what: str) -> NDArray[np.float64] | None:
    several = _several(value)
    if not several:
        return None
    numbers = np.array([float(one) for one in several])
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise GradCamError(f"“{path}” gives its {what} by {several} and not by {count} numbers: export it again.")
    return numbers


def _positive(value: Any) -> float | None:
    number = 0.0 if value is None else float(value)
    return number if math.isfinite(number) and number > 0 else None


def _several(value: Any) -> list[Any]:
    """Give the values of a tag that may be absent, empty, single or multiple."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, int, float)) else list(value)

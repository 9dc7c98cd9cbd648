"""What one image, or one frame of a multi-frame file, says about its place and its values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.dicom.groups import Groups, frame_count, frames_of, several
from napari_gradcam.volumes.dicom.header import KEYWORDS, Header
from napari_gradcam.volumes.dicom.marks import marks_of
from napari_gradcam.volumes.dicom.stored import (
    COLORS,
    PHYSICAL_VALUES,
    padding_of,
    photometric_of,
    scaling_of,
    stored_type,
    window_of,
)
from napari_gradcam.volumes.dicom.walk import tags_of
from napari_gradcam.volumes.wording import printable, reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_gradcam.volumes.values import Scaling
    from napari_gradcam.volumes.volume import Window


NO_SCANS = {"SEG": "segmentation", "RTDOSE": "radiotherapy dose"}
"""Modalities of what is made on scans and is none: what it is called."""
_CENTIMETRES = 3
"""Physical Units X Direction (0018,6024) of an ultrasound region that can be measured in."""

_OWN = frozenset(
    (
        *("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "AcquisitionDateTime", "AcquisitionDate"),
        *("AcquisitionTime", "ContentDate", "ContentTime"),
    )
)
"""What differs from slice to slice, and shapes none."""

_SHAPING = tuple(tags_of(keyword for keyword in KEYWORDS if keyword not in _OWN))


@dataclass(frozen=True, eq=False)
class Slice:
    """One picture of a series, pixels not yet read.

    Attributes
    ----------
    header
        The header of its file.
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
        The type of the stored numbers; of what the table gives, where there is one.
    scaling
        Stored numbers to values, inverted where the picture is.
    window
        The first window of the slice in the units of its values.
    inverted
        Whether the values are turned over, because the file is MONOCHROME1.
    in_color
        Whether it has red, green and blue in place of one value.
    padding
        The lowest and the highest stored number that mark what was not measured, Pixel Padding Value (0028,0120); None
        where the file marks nothing.
    marks
        What tells it from others at its place, from :data:`MARKS`.
    stack
        Stack ID (0020,9056) of an Enhanced file.
    """

    header: Header
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
    in_color: bool
    padding: tuple[float, float] | None
    marks: Mapping[str, Any]
    stack: str

    @property
    def label(self) -> str:
        """Name the slice to a person."""
        name = f"“{self.header.path.name}”"
        return name if self.frames == 1 else f"frame {self.frame + 1} of {name}"

    @property
    def frames(self) -> int:
        """Number of pictures in its file."""
        return frame_count(self.header)

    @property
    def is_placed(self) -> bool:
        """Whether the file says where in the patient it lies."""
        return self.position is not None and self.orientation is not None

    @property
    def when(self) -> tuple[str, ...]:
        """When it was acquired, as texts that sort by time; several clocks, "" where one is not written."""
        of = self.header.told
        return (
            str(self.marks.get("when", "")) or of("AcquisitionDateTime"),
            of("AcquisitionDate") + of("AcquisitionTime"),
            of("ContentDate") + of("ContentTime"),
        )


def slices_of(header: Header) -> list[Slice]:
    """List the slices of a file.

    Raises
    ------
    GradCamError
        If its pictures are no slices of a scan, or a tag that is needed is missing or makes no sense.
    """
    try:
        like = _like_another(header)
        if like is not None:
            position = _numbers(header, header.get("ImagePositionPatient"), 3, "position")
            return [replace(like, header=header, position=position)]
        _refuse_what_is_no_slice(header)
        return [_slice(header, frame, groups) for frame, groups in enumerate(frames_of(header))]
    except GradCamError:
        raise
    except Exception as error:  # a value that pydicom cannot convert: any type
        raise GradCamError(f"“{header.path}” has a damaged header ({reason(error)}): export it again.") from error


def _like_another(header: Header) -> Slice | None:
    """Give a slice that differs from that of a header in nothing but its file and its position.

    The slices of a series are mostly that, and what they say is converted and checked once. A header that is new is
    converted as every other; its slice is kept for those that follow.
    """
    stored = header.same(_SHAPING)
    if stored is None or header.pixels is None or frame_count(header) != 1:
        return None
    return _first_like(_Alike(stored, header))


class _Alike:
    """A header that equals another where what shapes a slice is stored alike."""

    def __init__(self, stored: tuple[Any, ...], header: Header) -> None:
        assert header.pixels is not None
        self.key = stored, header.syntax, header.pixels.keyword
        self.header = header

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Alike) and self.key == other.key


@lru_cache(maxsize=64)
def _first_like(alike: _Alike) -> Slice:
    _refuse_what_is_no_slice(alike.header)
    return _slice(alike.header, 0, next(frames_of(alike.header)))


def _refuse_what_is_no_slice(header: Header) -> None:
    path, photometric = header.path, photometric_of(header)
    modality, samples = header.get("Modality"), int(header.get("SamplesPerPixel", 1))
    if modality in NO_SCANS:
        raise GradCamError(f"“{path}” is a {NO_SCANS[modality]}, not a scan: give the images it was made on.")
    if photometric in COLORS:
        if samples != (1 if photometric == "PALETTE COLOR" else 3):
            raise GradCamError(f"“{path}” gives {samples} numbers per pixel for {photometric}: export it again.")
    elif photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise GradCamError(
            f"“{path}” does not say how grey is stored (it says “{printable(photometric)}”): export it again."
        )
    elif samples != 1:
        raise GradCamError(f"“{path}” gives {samples} numbers per pixel for one grey: export it again.")
    if int(header.get("Rows") or 0) < 1 or int(header.get("Columns") or 0) < 1:
        raise GradCamError(f"“{path}” has no rows or no columns: export it again.")


def _slice(header: Header, frame: int, groups: Groups) -> Slice:
    scaling, window, in_color = scaling_of(header, groups), window_of(groups), photometric_of(header) in COLORS
    pixels = header.pixels
    whole = pixels is not None and pixels.keyword == "PixelData"
    inverted = (
        photometric_of(header) == "MONOCHROME1"
        and header.get("Modality") not in PHYSICAL_VALUES
        and whole  # floating point pixels have no lowest and highest to turn over
    )
    if inverted:
        if window:
            window = window._replace(center=scaling.of(scaling.lowest) + scaling.of(scaling.highest) - window.center)
        scaling = scaling.inverted()
    position = groups.get("PlanePositionSequence", "ImagePositionPatient") if groups.placed else None
    return Slice(
        header=header,
        frame=frame,
        rows=int(header.get("Rows")),
        columns=int(header.get("Columns")),
        position=_numbers(header, position, 3, "position"),
        orientation=_orientation(header, groups.get("PlaneOrientationSequence", "ImageOrientationPatient")),
        pixel_spacing=_pixel_spacing(header, groups.get("PixelMeasuresSequence", "PixelSpacing")),
        thickness=_positive(groups.get("PixelMeasuresSequence", "SliceThickness")),
        stored=stored_type(header),
        scaling=scaling,
        window=None if in_color else window,
        inverted=inverted,
        in_color=in_color,
        padding=padding_of(header),
        marks=marks_of(header, groups),
        stack=str(groups.get("FrameContentSequence", "StackID") or "") if not groups.classic else "",
    )


def _orientation(header: Header, value: Any) -> NDArray[np.float64] | None:
    numbers = tuple(several(value))
    if not numbers:
        return None
    axes = _unit_axes(numbers)
    if axes is None:
        raise GradCamError(
            f"“{header.path}” has an orientation that is none ({', '.join(map(str, numbers))}): export it again."
        )
    return axes


@lru_cache(maxsize=64)
def _unit_axes(values: tuple[Any, ...]) -> NDArray[np.float64] | None:
    """Give two unit vectors at right angles, or None where the six numbers are none."""
    numbers = np.array([float(one) for one in values])
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        return None
    axes = numbers.reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    # The standard wants unit vectors at right angles; files round them to a few digits.
    if np.abs(lengths - 1).max() > 0.01 or abs(axes[0] @ axes[1]) > 0.01:
        return None
    unit: NDArray[np.float64] = axes / lengths[:, None]
    unit.setflags(write=False)
    return unit


def _pixel_spacing(header: Header, value: Any) -> tuple[float, float] | None:
    numbers = _numbers(header, value, 2, "pixel spacing")
    if numbers is None:
        return None
    if (numbers <= 0).any():
        raise GradCamError(
            f"“{header.path}” has a pixel spacing of {numbers[0]:g} × {numbers[1]:g} mm: export it again."
        )
    return float(numbers[0]), float(numbers[1])


def own_spacing(one: Slice) -> tuple[tuple[float, float] | None, str]:
    """Give the distance between rows and columns of a picture without a place, and what it was measured by.

    Pixel Spacing, else Imager Pixel Spacing (0018,1164), else the one ultrasound region that can be measured in.
    """
    if one.pixel_spacing is not None:
        return one.pixel_spacing, "Pixel Spacing"
    try:
        imager = [float(mm) for mm in several(one.header.get("ImagerPixelSpacing"))]
        if len(imager) == 2 and min(imager) > 0 and max(imager) < math.inf:
            return (imager[0], imager[1]), "Imager Pixel Spacing"
        sizes = {
            (abs(float(region.PhysicalDeltaY)) * 10, abs(float(region.PhysicalDeltaX)) * 10)
            for region in one.header.get("SequenceOfUltrasoundRegions") or ()
            if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == _CENTIMETRES
        }
        size = sizes.pop() if len(sizes) == 1 else (0.0, 0.0)
        return (size, "the ultrasound region") if min(size) > 0 and max(size) < math.inf else (None, "")
    except Exception:  # damaged values, of which pydicom raises any type, measure nothing
        return None, ""


def _numbers(header: Header, value: Any, count: int, what: str) -> NDArray[np.float64] | None:
    given = several(value)
    if not given:
        return None
    numbers = np.array([float(one) for one in given])
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise GradCamError(f"“{header.path}” gives its {what} by {given} and not by {count} numbers: export it again.")
    return numbers


def _positive(value: Any) -> float | None:
    number = 0.0 if value is None else float(value)
    return number if math.isfinite(number) and number > 0 else None

"""What one image, or one frame of a multi-frame file, says about its place and its values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.dicom.header import KEYWORDS, Header
from napari_gradcam.volumes.dicom.walk import tags_of
from napari_gradcam.volumes.values import Scaling
from napari_gradcam.volumes.volume import Window
from napari_gradcam.volumes.wording import printable, reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray


PHYSICAL_VALUES = ("CT", "PT")
"""Modalities whose values mean something by themselves, HU or Bq/ml, and are never inverted."""

COLORS = frozenset(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"))
"""Photometric Interpretations (0028,0004) of pictures in colours."""

NO_SCANS = {"SEG": "segmentation", "RTDOSE": "radiotherapy dose"}
"""Modalities of what is made on scans and is none: what it is called."""
_PARAMETRIC_MAP = "Parametric Map Storage"
_CENTIMETRES = 3
"""Physical Units X Direction (0018,6024) of an ultrasound region that can be measured in."""

MARKS = (
    ("kind", "MRImageFrameTypeSequence", "ComplexImageComponent"),
    ("echo time", "MREchoSequence", "EffectiveEchoTime"),
    ("inversion time", "MRModifierSequence", "InversionTimes"),
    ("flip angle", "MRTimingAndRelatedParametersSequence", "FlipAngle"),
    ("b-value", "MRDiffusionSequence", "DiffusionBValue"),
    ("trigger time", "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("cardiac phase", "CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    ("time", "FrameContentSequence", "TemporalPositionIndex"),
    ("acquisition", "FrameContentSequence", "FrameAcquisitionNumber"),
)
"""What tells images of one place apart: what it is called, and where an Enhanced file keeps it."""

_OWN = frozenset(
    (
        *("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "AcquisitionDateTime", "AcquisitionDate"),
        *("AcquisitionTime", "ContentDate", "ContentTime"),
    )
)
"""What differs from slice to slice, and shapes none."""

_SHAPING = tuple(tags_of(keyword for keyword in KEYWORDS if keyword not in _OWN))

_CLASSIC_MARKS = (
    *("ComplexImageComponent", "EchoTime", "InversionTime", "FlipAngle", "DiffusionBValue", "TriggerTime"),
    *("NominalPercentageOfCardiacPhase", "TemporalPositionIdentifier", "AcquisitionNumber"),
)


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
    padding: tuple[int, int] | None
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


def frame_count(header: Header) -> int:
    """Give Number of Frames (0028,0008), 1 where it is absent, empty or zero."""
    return int(header.get("NumberOfFrames") or 1)


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
        return [_slice(header, frame, groups) for frame, groups in enumerate(_frames(header))]
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
    return _slice(alike.header, 0, next(_frames(alike.header)))


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


def photometric_of(header: Header) -> str:
    """Give Photometric Interpretation (0028,0004)."""
    return str(header.get("PhotometricInterpretation", ""))


def _frames(header: Header) -> Iterator[_Groups]:
    """Give each frame's functional groups (PS3.3 C.7.6.16); of a classic image, the image itself."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    count = frame_count(header)
    if not 1 <= count <= _most_frames(header):
        raise GradCamError(f"“{header.path}” says {count:,} frames and cannot hold them: copy or export it again.")
    if not per_frame:
        for _ in range(count):
            yield _Groups((header,), classic=True, placed=count == 1)
        return
    if len(per_frame) != count:
        raise GradCamError(f"“{header.path}” says {count} frames but places {len(per_frame)}: export it again.")
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    for own in per_frame:
        yield _Groups((own, *shared[:1]), classic=False)


def _most_frames(header: Header) -> int:
    """Give how many pictures the pixels of a file can be at most, before a number in the header is believed."""
    pixels = header.pixels
    if pixels is None or pixels.is_encapsulated:
        return pixels.fragments if pixels else 1
    bits = int(header.get("Rows")) * int(header.get("Columns")) * int(header.get("BitsAllocated") or 1)
    return max(pixels.length * 8 // bits, 1)  # one that is too short is refused when it is read


@dataclass(frozen=True)
class _Groups:
    """Where a frame's tags stand: in its own functional groups first, then in those it shares."""

    places: tuple[Any, ...]
    classic: bool
    placed: bool = True
    """Whether the position of the file is that of the frame."""

    def get(self, group: str, keyword: str) -> Any:
        """Give a value of a functional group, or of a classic image the value by itself; None where there is none."""
        for place in self.places:
            inside = (place,) if self.classic else (place.get(group) or ())
            for item in inside:
                value = item.get(keyword)
                if value is not None and value != "":
                    return value
        return None


def _slice(header: Header, frame: int, groups: _Groups) -> Slice:
    scaling, window, in_color = _scaling(header, groups), _window(groups), photometric_of(header) in COLORS
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
        padding=_padding(header) if whole and not in_color and not header.get("ModalityLUTSequence") else None,
        marks=_marks(header, groups),
        stack=str(groups.get("FrameContentSequence", "StackID") or "") if not groups.classic else "",
    )


def bits_of(header: Header) -> tuple[int, int, int]:
    """Give Bits Allocated, Bits Stored and High Bit, (0028,0100) to (0028,0102).

    A High Bit that cannot be is taken to be that of numbers in the lowest bits, where all but old files have them.
    """
    allocated = int(header.get("BitsAllocated") or 0)
    stored = int(header.get("BitsStored") or allocated)
    high = int(header.get("HighBit") or 0)
    return allocated, stored, high if stored <= high + 1 <= allocated else stored - 1


def stored_type(header: Header) -> np.dtype[Any]:
    """Give the type of the numbers that decoding gives: of colours bytes, of a Modality LUT those in its table."""
    if photometric_of(header) in COLORS:
        return np.dtype(np.uint8)
    if table := header.get("ModalityLUTSequence"):
        return np.dtype(np.uint8 if int(table[0].LUTDescriptor[2]) <= 8 else np.uint16)
    keyword = header.pixels.keyword if header.pixels else "PixelData"
    if keyword != "PixelData":
        return np.dtype(np.float32 if keyword == "FloatPixelData" else np.float64)
    bits = int(header.get("BitsAllocated", 0))
    if bits not in (1, 8, 16, 32, 64):
        raise ValueError(f"its pixels have {bits} bits")
    signed = int(header.get("PixelRepresentation") or 0) == 1
    return np.dtype(f"{'i' if signed else 'u'}{max(1, bits // 8)}")


def _scaling(header: Header, groups: _Groups) -> Scaling:
    """Read Rescale Slope (0028,1053) and Intercept (0028,1052), and the range of what is stored."""
    if photometric_of(header) in COLORS:
        return Scaling(1.0, 0.0, 0.0, 255.0)
    if table := header.get("ModalityLUTSequence"):
        return Scaling(1.0, 0.0, 0.0, 2.0 ** int(table[0].LUTDescriptor[2]) - 1)
    slope = groups.get("PixelValueTransformationSequence", "RescaleSlope")
    intercept = groups.get("PixelValueTransformationSequence", "RescaleIntercept")
    if slope is None and intercept is None and header.sop_class == _PARAMETRIC_MAP:
        slope = groups.get("RealWorldValueMappingSequence", "RealWorldValueSlope")
        intercept = groups.get("RealWorldValueMappingSequence", "RealWorldValueIntercept")
        if slope is None and groups.get("RealWorldValueMappingSequence", "RealWorldValueLUTData") is not None:
            raise GradCamError(
                f"“{header.path}” gives its values by a table (Real World Value LUT): export it with a slope."
            )
    slope = 1.0 if slope is None else float(slope)
    intercept = 0.0 if intercept is None else float(intercept)
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise GradCamError(f"“{header.path}” scales its values by {slope:g} and {intercept:g}: export it again.")
    if header.pixels is None or header.pixels.keyword != "PixelData":
        return Scaling(slope, intercept, -math.inf, math.inf)
    allocated, bits, _ = bits_of(header)
    if not 1 <= bits <= allocated:
        raise ValueError(f"it stores {bits} bits in {allocated}")
    lowest = -(2.0 ** (bits - 1)) if int(header.get("PixelRepresentation") or 0) else 0.0
    return Scaling(slope, intercept, lowest, lowest + 2.0**bits - 1)


def _window(groups: _Groups) -> Window | None:
    """Read the first Window Center (0028,1050) and Width (0028,1051); None where they make no window."""
    try:
        center = float(_several(groups.get("FrameVOILUTSequence", "WindowCenter"))[0])
        width = float(_several(groups.get("FrameVOILUTSequence", "WindowWidth"))[0])
    except (IndexError, TypeError, ValueError):
        return None
    return Window(center, width) if math.isfinite(center) and math.isfinite(width) and width > 0 else None


def _padding(header: Header) -> tuple[int, int] | None:
    """Read Pixel Padding Value (0028,0120) and Range Limit (0028,0121)."""
    value = header.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = header.get("PixelPaddingRangeLimit")
    other = limit if isinstance(limit, int) else value
    return min(value, other), max(value, other)


def _marks(header: Header, groups: _Groups) -> dict[str, Any]:
    """Collect what tells the image from others at its place; kinds of image are the third and further ImageTypes."""
    found: dict[str, Any] = {}
    for (name, group, keyword), classic in zip(MARKS, _CLASSIC_MARKS, strict=True):
        value = groups.get(group, classic if groups.classic else keyword)
        if value is not None:
            found[name] = value if isinstance(value, str) else tuple(_several(value))
    kinds = header.get("ImageType") if groups.classic else groups.get("MRImageFrameTypeSequence", "FrameType")
    kind = [str(part) for part in _several(kinds)[2:]] + ([found["kind"]] if found.get("kind") else [])
    if kind:
        found["kind"] = " ".join(dict.fromkeys(kind))
    if not groups.classic:
        found["when"] = groups.get("FrameContentSequence", "FrameAcquisitionDateTime") or ""
        direction = groups.get("MRDiffusionSequence", "DiffusionGradientDirectionSequence")
        if direction:
            found["direction"] = tuple(_several(direction[0].get("DiffusionGradientOrientation")))
    return found


def _orientation(header: Header, value: Any) -> NDArray[np.float64] | None:
    several = tuple(_several(value))
    if not several:
        return None
    axes = _unit_axes(several)
    if axes is None:
        raise GradCamError(
            f"“{header.path}” has an orientation that is none ({', '.join(map(str, several))}): export it again."
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
    imager = _several(one.header.get("ImagerPixelSpacing"))
    if len(imager) == 2 and min(imager) > 0:
        return (float(imager[0]), float(imager[1])), "Imager Pixel Spacing"
    sizes = {
        (abs(float(region.PhysicalDeltaY)) * 10, abs(float(region.PhysicalDeltaX)) * 10)
        for region in one.header.get("SequenceOfUltrasoundRegions") or ()
        if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == _CENTIMETRES
    }
    size = sizes.pop() if len(sizes) == 1 else (0.0, 0.0)
    return (size, "the ultrasound region") if min(size) > 0 else (None, "")


def _numbers(header: Header, value: Any, count: int, what: str) -> NDArray[np.float64] | None:
    several = _several(value)
    if not several:
        return None
    numbers = np.array([float(one) for one in several])
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise GradCamError(
            f"“{header.path}” gives its {what} by {several} and not by {count} numbers: export it again."
        )
    return numbers


def _positive(value: Any) -> float | None:
    number = 0.0 if value is None else float(value)
    return number if math.isfinite(number) and number > 0 else None


def _several(value: Any) -> list[Any]:
    """Give the values of a tag that may be absent, empty, single or multiple."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, int, float)) else list(value)

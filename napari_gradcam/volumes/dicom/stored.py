"""What the stored numbers of a picture mean: their type, their values, their window, and which mark nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.dicom.groups import several
from napari_gradcam.volumes.values import Scaling
from napari_gradcam.volumes.volume import Window

if TYPE_CHECKING:
    from napari_gradcam.volumes.dicom.groups import Groups
    from napari_gradcam.volumes.dicom.header import Header

PHYSICAL_VALUES = ("CT", "PT")
"""Modalities whose values mean something by themselves, HU or Bq/ml, and are never inverted."""

COLORS = frozenset(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"))
"""Photometric Interpretations (0028,0004) of pictures in colours."""

_PARAMETRIC_MAP = "Parametric Map Storage"


def photometric_of(header: Header) -> str:
    """Give Photometric Interpretation (0028,0004)."""
    return str(header.get("PhotometricInterpretation", ""))


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


def scaling_of(header: Header, groups: Groups) -> Scaling:
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


def window_of(groups: Groups) -> Window | None:
    """Read the first Window Center (0028,1050) and Width (0028,1051); None where they make no window."""
    try:
        center = float(several(groups.get("FrameVOILUTSequence", "WindowCenter"))[0])
        width = float(several(groups.get("FrameVOILUTSequence", "WindowWidth"))[0])
    except (IndexError, TypeError, ValueError):
        return None
    return Window(center, width) if math.isfinite(center) and math.isfinite(width) and width > 0 else None


_PADDING = {"PixelData": "Pixel", "FloatPixelData": "FloatPixel", "DoubleFloatPixelData": "DoubleFloatPixel"}


def padding_of(header: Header) -> tuple[float, float] | None:
    """Read Pixel Padding Value (0028,0120) and Range Limit (0028,0121), or those of floating point pixels.

    Those are (0028,0122) and (0028,0124) of 32 bits, (0028,0123) and (0028,0125) of 64.
    """
    if header.pixels is None or photometric_of(header) in COLORS or header.get("ModalityLUTSequence"):
        return None
    kind = _PADDING[header.pixels.keyword]
    number = int if kind == "Pixel" else float
    value, limit = header.get(f"{kind}PaddingValue"), header.get(f"{kind}PaddingRangeLimit")
    if not isinstance(value, number):
        return None
    other = limit if isinstance(limit, number) else value
    return min(value, other), max(value, other)

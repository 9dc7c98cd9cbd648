"""What tells images of one place apart: echo, time, kind and the like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_gradcam.volumes.dicom.groups import several

if TYPE_CHECKING:
    from napari_gradcam.volumes.dicom.groups import Groups
    from napari_gradcam.volumes.dicom.header import Header

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

_CLASSIC_MARKS = (
    *("ComplexImageComponent", "EchoTime", "InversionTime", "FlipAngle", "DiffusionBValue", "TriggerTime"),
    *("NominalPercentageOfCardiacPhase", "TemporalPositionIdentifier", "AcquisitionNumber"),
)
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")


def marks_of(header: Header, groups: Groups) -> dict[str, Any]:
    """Collect what tells the image from others.

    The first value of Image Type (0008,0008) is its origin, ORIGINAL or DERIVED, the third and further ones its kind.
    """
    found: dict[str, Any] = {}
    for (name, group, keyword), classic in zip(MARKS, _CLASSIC_MARKS, strict=True):
        value = groups.get(group, classic if groups.classic else keyword)
        if value is not None:
            found[name] = value if isinstance(value, str) else tuple(several(value))
    types = [str(part) for part in several(_types(header, groups))]
    if types[:1]:
        found["origin"] = types[0]
    kind = types[2:] + ([found["kind"]] if found.get("kind") else [])
    if kind:
        found["kind"] = " ".join(dict.fromkeys(kind))
    if not groups.classic:
        found["when"] = groups.get("FrameContentSequence", "FrameAcquisitionDateTime") or ""
        direction = groups.get("MRDiffusionSequence", "DiffusionGradientDirectionSequence")
        if direction:
            found["direction"] = tuple(several(direction[0].get("DiffusionGradientOrientation")))
    return found


def _types(header: Header, groups: Groups) -> Any:
    if groups.classic:
        return header.get("ImageType")
    return next(filter(None, (groups.get(sequence, "FrameType") for sequence in _FRAME_TYPES)), None)

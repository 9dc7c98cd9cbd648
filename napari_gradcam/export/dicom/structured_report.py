"""What was measured, as a DICOM structured report: TID 1500 (PS3.16) in a Comprehensive 3D SR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_gradcam import words
from napari_gradcam.export.card import notices
from napari_gradcam.export.dicom.making import MAKER, making, refuse
from napari_gradcam.export.dicom.measurements import class_groups, scheme, spot_groups
from napari_gradcam.export.dicom.source import unplaced
from napari_gradcam.hotspots import hot_spots

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.dicom.images import Reference
    from napari_gradcam.export.dicom.making import Making
    from napari_gradcam.export.manner import Manner

DEVICE_UID = "2.25.227283042412459254243213029711213459061"
"""Stands for this program as the observer of what it reports, in all its versions."""


def unfit(explanation: Explanation) -> str:
    """Say why it cannot be written; "" where it can, even if there is no hot spot: the report says so."""
    return unplaced(explanation, "structured report")


def write_structured_report(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write scores and hot spots as a DICOM structured report, whole or not at all.

    What must be known of the map stands first, the purpose and every notice as a comment of its own. For each class
    there is a group with its probability, under a code of ours, since it is no certainty of a finding; the group of the
    class that was explained says whether there are hot spots. For each hot spot there is a group of its volume (TID
    1411), which refers to its segment of the segmentation that was written into the same folder, and one with its peak
    as a point in the patient (TID 1501), which refers to the frame of the parametric map. The observer is the program,
    the report preliminary and unverified.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered of a scan of DICOM files.
    path
        The file.
    manner
        Its threshold makes the hot spots.

    Raises
    ------
    GradCamError
        If :func:`unfit` says so, a file of the scan is gone, or it cannot be written.
    """
    refuse(unfit(explanation))
    with making(explanation, path, manner, "structured report") as made:
        made.write(_report(made))


def _report(made: Making) -> Dataset:
    from highdicom.sr import Comprehensive3DSR, MeasurementReport, ObservationContext
    from pydicom.sr.codedict import codes

    spots = hot_spots(made.explanation, made.manner.least(made.explanation))
    images = _images(made)
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer()),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[*class_groups(made, len(spots)), *spot_groups(made, spots)],
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=images if _known(images) else None,
    )
    _add_comments(report[0], made)
    dataset: Dataset = Comprehensive3DSR(
        evidence=[*images, *_results(made)],
        content=report[0],
        is_complete=True,
        coding_schemes=[scheme()],
        **made.common(),
    )
    return dataset


def _add_comments(report: Dataset, made: Making) -> None:
    """Put purpose and notices before the images and the measurements; TID 1500 may be extended."""
    from highdicom.sr import RelationshipTypeValues, TextContentItem
    from pydicom.sr.codedict import codes

    items = report.ContentSequence
    first = next(number for number, item in enumerate(items) if item.ValueType == "CONTAINER")
    told = (words.PURPOSE, *notices(made.explanation, made.manner))
    for number, sentence in enumerate(told, start=first):
        items.insert(number, TextContentItem(codes.DCM.Comment, sentence, RelationshipTypeValues.CONTAINS))


def _observer() -> Any:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
    from pydicom.sr.codedict import codes

    who = DeviceObserverIdentifyingAttributes(DEVICE_UID, name=MAKER, manufacturer_name=MAKER, model_name=MAKER)
    return ObserverContext(codes.DCM.Device, who)


def _known(images: list[Dataset]) -> bool:
    """Whether highdicom can list the images in a library: it has to know what kind of images they are."""
    from highdicom.sr import ImageLibrary

    try:
        ImageLibrary(images[:1])
    except ValueError:
        return False
    return True


def _images(made: Making) -> list[Dataset]:
    """Describe the source's images, for the library and as evidence.

    Their places are not told once more: of a long series that takes most of the report, and most of its time.
    """
    return [_image(made, one) for one in made.source.all_references]


def _image(made: Making, one: Reference) -> Dataset:
    image = _evidence(made, one.sop_class, made.identity.uid(one.sop_instance), made.identity.uid(one.series))
    image.Rows, image.Columns = made.explanation.heatmap.shape[1::-1]
    image.FrameOfReferenceUID = made.identity.frame_of_reference
    image.Modality = "OT"  # the library goes by it for places; what it tells as modality is that of the SOP Class
    return image


def _results(made: Making) -> list[Dataset]:
    """Give the results that were written beside the report, as evidence."""
    found = (made.beside(kind) for kind in ("segmentation", "parametric map"))
    return [_evidence(made, one.sop_class, one.sop_instance, one.series) for one in found if one is not None]


def _evidence(made: Making, sop_class: str, sop_instance: str, series: str) -> Dataset:
    image = made.identity.blank()
    image.SOPClassUID, image.SOPInstanceUID, image.SeriesInstanceUID = sop_class, sop_instance, series
    return image

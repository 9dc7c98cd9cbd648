"""The hot spots as a DICOM Segmentation (PS3.3, A.51): one binary segment for each, on the scan's own slices."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.sr.codedict import codes

from napari_gradcam import words
from napari_gradcam.export.dicom.making import algorithm, making, refuse, short
from napari_gradcam.export.dicom.parametric_map import model_equipment
from napari_gradcam.export.dicom.references import refer, stand_ins
from napari_gradcam.export.dicom.segments import segments
from napari_gradcam.export.dicom.source import unplaced
from napari_gradcam.export.dicom.uids import new_uid

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.dicom.making import Making
    from napari_gradcam.export.manner import Manner

LABEL = "HOT_SPOTS"
"""Content Label (0070,0080)."""
_TURN = 0.618034
"""The golden section of the circle of colours: neighbours in rank are never alike."""


def unfit(explanation: Explanation) -> str:
    """Say why it cannot be written; "" where it can."""
    if not explanation.strongest > 0:
        return "The map holds no evidence and so no hot spot, and a DICOM segmentation without a segment is not legal."
    return unplaced(explanation, "segmentation")


def write_segmentation(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write the hot spots as a DICOM Segmentation, whole or not at all.

    Segment *n* is hot spot *n*, at most :data:`napari_gradcam.hotspots.MOST`. What a network looked at is no lesion and
    no organ: the segments' category is (309825002, SCT, "Spatial and Relational Concept"), their type (130402, DCM,
    "Class activation"). Where a fixed scale leaves the whole map below the threshold there is one segment that says so
    and has no voxels, since a segmentation must have one.

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
    with making(explanation, path, manner, "segmentation") as made:
        made.write(*_segmentation(made))


def _segmentation(made: Making) -> tuple[Dataset, tuple[int, ...], tuple[str, ...]]:
    from highdicom.seg import Segmentation

    explanation, images = made.explanation, stand_ins(made)
    least = made.manner.least(explanation)
    spots, labels = segments(explanation, least)
    tracking = tuple(new_uid() for _ in spots)
    descriptions = [
        _description(made, spot.rank, spot_label(explanation, spot.rank, spot.peak.value), uid)
        for spot, uid in zip(spots, tracking, strict=True)
    ]
    nothing = f"No hot spot: all below {words.number(least)} {words.unit(explanation)}"
    dataset = Segmentation(
        source_images=images,
        pixel_array=np.ascontiguousarray(labels.transpose(2, 1, 0)),
        segmentation_type="BINARY",
        segment_descriptions=descriptions or [_description(made, 1, nothing, new_uid())],
        omit_empty_frames=bool(spots),
        content_label=LABEL,
        content_description=short(made.title),
        contributing_equipment=[model_equipment(explanation)],
        **made.common(),
    )
    dataset.ContentQualification = "RESEARCH"
    return dataset, refer(dataset, images, made), tracking


def spot_label(explanation: Explanation, rank: int, peak: float) -> str:
    """Name a hot spot, ``"Hot spot 1: lesion"``; of a signed map also ``"Hot spot 2: against lesion"``."""
    side = "against " if peak < 0 else ""
    return short(f"Hot spot {rank}: {side}{explanation.target}")


def _description(made: Making, rank: int, label: str, tracking: str) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription

    by = algorithm(made.explanation, made.manner.least(made.explanation))
    return SegmentDescription(
        segment_number=rank,
        segment_label=label,
        segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
        segmented_property_type=codes.DCM.ClassActivation,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            by.name, codes.DCM.ArtificialIntelligence, by.version, parameters=by.parameters
        ),
        tracking_uid=tracking,
        tracking_id=label,
        display_color=_colour(rank),
    )


def _colour(rank: int) -> Any:
    """Give a bright colour that differs from those of the ranks beside it."""
    from highdicom.color import CIELabColor

    red, green, blue = colorsys.hsv_to_rgb((rank - 1) * _TURN % 1, 0.8, 1.0)
    return CIELabColor.from_rgb(round(255 * red), round(255 * green), round(255 * blue))

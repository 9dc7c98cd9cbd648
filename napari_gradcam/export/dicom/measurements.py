"""The groups of measurements of a structured report: the classes and their scores, and the hot spots."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from napari_gradcam.coordinates import in_system
from napari_gradcam.export.dicom.making import MAKER, algorithm, short
from napari_gradcam.export.dicom.segmentation import spot_label
from napari_gradcam.export.dicom.uids import new_uid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.dicom.making import Making
    from napari_gradcam.hotspots import HotSpot

SCHEME = "99GRADCAM"
"""The coding scheme for what has no code: the classes of somebody's model, and measures of ours."""
SHARE = Code("share", SCHEME, "Share of the evidence of its sign in the map")
CLASS = Code("class", SCHEME, "Class whose evidence the map shows")
PROBABILITY = Code("probability", SCHEME, "Class probability by the network")
"""Not (111012, DCM, "Certainty of Finding"): a network's softmax is no certainty, and its class no finding."""
FOUND = Code("hot-spots", SCHEME, "Hot spots at or above the threshold")

MOST_CLASSES = 20
"""So many classes are told at most, the one that was explained and the most probable."""


def scheme() -> Any:
    """Give the coding scheme, for Coding Scheme Identification Sequence (0008,0110)."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return CodingSchemeIdentificationItem(SCHEME, name=MAKER, responsible_organization=MAKER)


def class_code(explanation: Explanation, name: str) -> Code:
    """Give the code of a class: the same for the same class of a model of the same name."""
    told = algorithm(explanation).parameters
    whose = "\0".join((told.get("model", ""), told.get("model version", ""), name))
    return Code(hashlib.sha256(whose.encode()).hexdigest()[:16], SCHEME, short(name))


def class_groups(made: Making, spots: int) -> list[Any]:
    """Give a group for each class with its probability; that of the class explained says whether there are hot spots.

    Parameters
    ----------
    made
        The report.
    spots
        How many hot spots there are.
    """
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, QualitativeEvaluation, TrackingIdentifier

    explanation = made.explanation
    ranked = sorted(explanation.scores, key=lambda name: (name != explanation.target, -explanation.scores[name]))
    groups = []
    for name in ranked[:MOST_CLASSES]:
        score, asked = explanation.scores[name], name == explanation.target
        found = codes.SCT.Present if spots else codes.SCT.Absent
        known = math.isfinite(score)
        percent = [_measure(PROBABILITY, 100 * score, codes.UCUM.Percent)] if known else None
        groups.append(
            MeasurementsAndQualitativeEvaluations(
                tracking_identifier=TrackingIdentifier(new_uid(), short(f"Class {name}")),
                finding_type=class_code(explanation, name),
                algorithm_id=_algorithm(made),
                measurements=percent,
                qualitative_evaluations=[QualitativeEvaluation(FOUND, found)] if asked else None,
            )
        )
    return groups


def spot_groups(made: Making, spots: Sequence[HotSpot]) -> list[Any]:
    """Give two groups for each hot spot: its volume, and its peak as a point in the patient."""
    segmentation = made.beside("segmentation")
    tracking = segmentation.tracking if segmentation is not None else tuple(new_uid() for _ in spots)
    groups = []
    for spot, uid in zip(spots, tracking, strict=True):
        groups += [_volume(made, spot, uid), _peak(made, spot, uid)]
    return groups


def _volume(made: Making, spot: HotSpot, uid: str) -> Any:
    """Give what is measured of a hot spot as a whole, with its segment if that was written."""
    from highdicom.sr import (
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    explanation, segmentation = made.explanation, made.beside("segmentation")
    measures = [
        _measure(codes.DCM.ClassActivation, spot.peak.value, codes.UCUM.NoUnits, codes.SCT.Maximum),
        _measure(codes.DCM.ClassActivation, spot.evidence, codes.UCUM.NoUnits, codes.SCT.Total),
        _measure(SHARE, 100 * spot.share, codes.UCUM.Percent),
    ]
    if spot.millilitres is not None:
        measures.append(_measure(codes.SCT.Volume, spot.millilitres, codes.UCUM.CubicCentimeter))
    told = {
        "tracking_identifier": _tracking(made, spot, uid),
        "finding_type": codes.DCM.ClassActivation,
        "algorithm_id": _algorithm(made),
        "measurements": measures,
        "qualitative_evaluations": [QualitativeEvaluation(CLASS, class_code(explanation, explanation.target))],
    }
    if segmentation is None:
        return MeasurementsAndQualitativeEvaluations(**told)
    series = made.identity.uid(made.source.references[0][0].series)
    segment = ReferencedSegment(
        segmentation.sop_class,
        segmentation.sop_instance,
        spot.rank,
        source_series=SourceSeriesForSegmentation(series),
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **told)


def _peak(made: Making, spot: HotSpot, uid: str) -> Any:
    """Give the peak of a hot spot: its value, its place, and the frame of the parametric map that it is in.

    What made it stands in the group of the same tracking identifier.
    """
    from highdicom.sr import (
        CoordinatesForMeasurement3D,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        SourceImageForMeasurement,
    )

    point = np.array([in_system(spot.peak.position, "LPS")])
    where = CoordinatesForMeasurement3D("POINT", point, made.identity.frame_of_reference)
    written = made.beside("parametric map")
    frames = [] if written is None else [written.slices.index(spot.peak.index[2]) + 1]
    images = (
        [SourceImageForMeasurement(written.sop_class, written.sop_instance, frames)] if written is not None else None
    )
    value = Measurement(
        codes.DCM.ClassActivation,
        float(spot.peak.value),
        codes.UCUM.NoUnits,
        derivation=codes.SCT.Maximum,
        referenced_images=images,
        referenced_coordinates=[where],
    )
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(made, spot, uid),
        finding_type=codes.DCM.ClassActivation,
        measurements=[value],
    )


def _tracking(made: Making, spot: HotSpot, uid: str) -> Any:
    from highdicom.sr import TrackingIdentifier

    return TrackingIdentifier(uid, spot_label(made.explanation, spot.rank, spot.peak.value))


def _measure(name: Code, value: float, unit: Code, derivation: Code | None = None) -> Any:
    from highdicom.sr import Measurement

    return Measurement(name, float(value), unit, derivation=derivation)


def _algorithm(made: Making) -> Any:
    from highdicom.sr import AlgorithmIdentification

    by = algorithm(made.explanation, made.manner.least(made.explanation))
    told = [f"{name}={value}" for name, value in by.parameters.items()]
    return AlgorithmIdentification(
        by.name, by.version, parameters=told, family=codes.DCM.ArtificialIntelligence, manufacturer=MAKER
    )

"""The heat map as a DICOM Parametric Map (PS3.3, A.75): its raw values, on the scan's own slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from napari_gradcam import words
from napari_gradcam.export.dicom.making import MAKER, algorithm, making, refuse, short
from napari_gradcam.export.dicom.references import refer, stand_ins
from napari_gradcam.export.dicom.source import unplaced

if TYPE_CHECKING:
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.dicom.making import Making
    from napari_gradcam.export.manner import Manner

LABEL = "CLASS_ACTIVATION"
"""Content Label (0070,0080)."""
LARGEST = 0xFFFFFFFE
"""No element of a DICOM file is longer, in bytes (PS3.5, 7.1.1)."""


def unfit(explanation: Explanation) -> str:
    """Say why it cannot be written; "" where it can."""
    if explanation.heatmap.size * 4 > LARGEST:
        return "The map is larger than the 4 GiB that a DICOM file can hold: save it as NIfTI instead."
    return unplaced(explanation, "parametric map")


def write_parametric_map(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write the heat map as a DICOM Parametric Map, whole or not at all.

    Each frame is a slice of the map, all of them are there, float32 and raw, at the place of the image it belongs to
    and with a reference to it; a signed map keeps its negative values. The quantity is (130402, DCM, "Class
    activation"); algorithm, model with its hashes, class and layer stand with it and as contributing equipment.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered of a scan of DICOM files.
    path
        The file.
    manner
        Whether the patient is hidden; nothing else of it matters here.

    Raises
    ------
    GradCamError
        If :func:`unfit` says so, a file of the scan is gone, or it cannot be written.
    """
    refuse(unfit(explanation))
    with making(explanation, path, manner, "parametric map") as made:
        made.write(*_parametric_map(made))


def _parametric_map(made: Making) -> tuple[Dataset, tuple[int, ...]]:
    from highdicom.pm import ParametricMap

    explanation, images = made.explanation, stand_ins(made)
    # (column, row, slice) as it lies in memory; DICOM has (slice, row, column).
    frames = np.ascontiguousarray(explanation.heatmap.astype(np.float32, copy=False).transpose(2, 1, 0))
    dataset = ParametricMap(
        source_images=images,
        pixel_array=frames,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(explanation)],
        voi_lut_transformations=[_window(explanation)],
        content_label=LABEL,
        content_description=short(made.title),
        derivation=codes.DCM.UnspecifiedMethodOfCalculation,
        contributing_equipment=[model_equipment(explanation)],
        **made.common(),
    )
    return dataset, refer(dataset, images, made)


def _mapping(explanation: Explanation) -> Any:
    """Say what the numbers are: the values themselves, of the quantity class activation, by this algorithm."""
    from highdicom.pm import RealWorldValueMapping

    heat = explanation.heatmap
    mapping = RealWorldValueMapping(
        lut_label="class activation",
        lut_explanation=short(f"raw {words.method(explanation)}, {words.unit(explanation)}"),
        unit=codes.UCUM.NoUnits,
        value_range=(float(heat.min()), float(heat.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.DCM.ClassActivation,
    )
    by = algorithm(explanation)
    for code, value in (
        (codes.DCM.AlgorithmName, by.name),
        (codes.DCM.AlgorithmVersion, by.version),
        (codes.DCM.AlgorithmParameters, by.told),
    ):
        mapping.QuantityDefinitionSequence.append(_text(code, value))
    return mapping


def _text(code: Any, value: str) -> Dataset:
    """Give a content item of a text (PS3.3, 10.2)."""
    name, item = Dataset(), Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = code.value, code.scheme_designator, code.meaning
    item.ValueType, item.ConceptNameCodeSequence, item.TextValue = "TEXT", [name], value
    return item


def _window(explanation: Explanation) -> Any:
    """Show all values, of a signed map with 0 in the middle; a width below 1 asks for LINEAR_EXACT (C.11.2.1.3.2)."""
    from highdicom import VOILUTTransformation

    top = explanation.strongest or 1.0
    low = -top if explanation.signed else 0.0
    return VOILUTTransformation(window_center=(top + low) / 2, window_width=top - low, voi_lut_function="LINEAR_EXACT")


def model_equipment(explanation: Explanation) -> Any:
    """Give the model as Contributing Equipment (0018,A001): it is what processed the images."""
    from highdicom import ContributingEquipment

    by, model = algorithm(explanation), explanation.provenance.model if explanation.provenance else None
    return ContributingEquipment(
        manufacturer="unknown",
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=short(by.parameters.get("model") or "a classifier without a name"),
        software_versions=short(model.version) if model is not None and model.version else None,
        contribution_description=f"Asked by {MAKER}; {by.told}"[:1024],
    )

"""The overlay picture as a DICOM Secondary Capture (PS3.3, A.8.1), its card burnt in: any viewer shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian

from napari_gradcam import words
from napari_gradcam.errors import GradCamError
from napari_gradcam.export.dicom.making import algorithm, making, refuse
from napari_gradcam.export.dicom.parametric_map import model_equipment
from napari_gradcam.export.dicom.references import add_sources
from napari_gradcam.export.dicom.source import unread

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.dicom.making import Making
    from napari_gradcam.export.manner import Manner

_TEXT = 1024
"""So many characters fit into a value of ST (PS3.5, table 6.2-1)."""


def unfit(explanation: Explanation) -> str:
    """Say why it cannot be written; "" where it can. It needs no place in the patient."""
    return unread(explanation)


def write_capture(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write the overlay picture as a DICOM Secondary Capture, whole or not at all.

    It is the picture of :func:`napari_gradcam.export.picture.overlay_page`, in colours, with the card that tells model,
    hash, class, method, layer, cell, threshold and purpose, and nobody's name. Burned In Annotation (0028,0301) is YES
    for the text in it; of a deidentified one NO, since whose it is cannot be read in it.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered of a scan of DICOM files.
    path
        The file.
    manner
        How it is painted.

    Raises
    ------
    GradCamError
        If :func:`unfit` says so, a file of the scan is gone, the scan's own pictures hold burnt-in text and the patient
        is to be hidden, or it cannot be written.
    """
    refuse(unfit(explanation))
    with making(explanation, path, manner, "secondary capture") as made:
        if manner.deidentified and made.source.dataset.get("BurnedInAnnotation") == "YES":
            raise GradCamError(
                f"The pictures of “{explanation.volume.name}” have text burnt in, which may tell whose they are "
                "(Burned In Annotation), so that no picture of them is deidentified: save formats without pictures of "
                "the scan, or without hiding the patient."
            )
        made.write(_capture(made))


def _capture(made: Making) -> Dataset:
    from highdicom.sc import SCImage

    explanation, identity = made.explanation, made.identity
    dataset: Dataset = SCImage(
        pixel_array=_picture(made),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        study_instance_uid=identity.elements.StudyInstanceUID,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        contributing_equipment=[model_equipment(explanation)],
        **made.common(),
    )
    dataset.PatientOrientation = None  # of several planes there is not one
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "NO" if identity.hidden else "YES"
    date, time = identity.now()
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = date, time
    if identity.hidden:
        del dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture
    dataset.SecondaryCaptureDeviceManufacturer = dataset.Manufacturer
    dataset.SecondaryCaptureDeviceManufacturerModelName = dataset.ManufacturerModelName
    dataset.SecondaryCaptureDeviceSoftwareVersions = list(dataset.SoftwareVersions)
    dataset.ImageComments = f"{words.PURPOSE} {made.title}"
    by = algorithm(explanation, made.manner.least(explanation))
    dataset.DerivationDescription = f"{by.name} {by.version}; {by.told}"[:_TEXT]
    add_sources(dataset, made.source.all_references, identity)
    del dataset.ReferencedSeriesSequence  # no module of a secondary capture
    return dataset


def _picture(made: Making) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Paint the overlay, ``(row, column, 3)``."""
    from napari_gradcam.export.picture import overlay_page

    pixels = np.asarray(overlay_page(made.explanation, made.manner).pixels())
    return np.ascontiguousarray(pixels[..., :3], dtype=np.uint8)

"""From which image each frame of a result comes, and where it lies.

highdicom takes rows, place and patient of a result from its source images. What it is given here are stand-ins, one
for each slice of the map, with the geometry of that slice: it reads classic images of one orientation alone, and ours
may be frames, tiles of a mosaic, or slices of which one was written with another digit. What it then writes of the
stand-ins as sources is replaced by the images themselves.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage
from pydicom.valuerep import format_number_as_ds

from napari_gradcam.export.dicom.uids import new_uid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_gradcam.export.dicom.identity import Identity
    from napari_gradcam.export.dicom.images import Reference, Source
    from napari_gradcam.export.dicom.making import Making

_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def stand_ins(making: Making) -> list[Dataset]:
    """Give an image for each slice of the map, in its order, for highdicom to lay a result over."""
    source = making.source
    rows, columns = making.explanation.heatmap.shape[1::-1]
    series = new_uid()
    images = []
    for number in range(len(source.references)):
        image = making.identity.blank()  # the patient's own elements are written in the end
        image.SOPClassUID, image.SOPInstanceUID, image.SeriesInstanceUID = CTImageStorage, new_uid(), series
        image.Modality = "CT"
        image.Rows, image.Columns = rows, columns
        for keyword in _LOSSY:
            if source.dataset.get(keyword):
                image.add(deepcopy(source.dataset[keyword]))
        if source.positions is not None:
            image.FrameOfReferenceUID = making.identity.frame_of_reference
            if source.dataset.get("PositionReferenceIndicator") and not making.identity.hidden:
                image.PositionReferenceIndicator = source.dataset.PositionReferenceIndicator
            _place(image, source, number)
        images.append(image)
    return images


def _place(image: Dataset, source: Source, number: int) -> None:
    """Say where a slice of the map lies and how large its pixels are, as a classic image does."""
    assert source.positions is not None
    image.ImagePositionPatient = [_number(mm) for mm in source.positions[number]]
    image.ImageOrientationPatient = [_number(cosine) for cosine in source.orientation.ravel()]
    image.PixelSpacing = [_number(mm) for mm in source.pixel_spacing]
    image.SliceThickness = _number(source.thickness or source.spacing or 1.0)
    if source.spacing is not None:
        image.SpacingBetweenSlices = _number(source.spacing)


def _number(value: float) -> str:
    """Write a number in the 16 letters of a Decimal String (PS3.5, 6.2)."""
    return format_number_as_ds(float(value) + 0.0)


def refer(dataset: Dataset, images: Sequence[Dataset], making: Making) -> tuple[int, ...]:
    """Put the source's images in the place of the stand-ins.

    Parameters
    ----------
    dataset
        What highdicom made; its Derivation Image and Source Image Sequences (PS3.3 C.7.6.16.2.6, C.7.6.1) and
        Referenced Series Sequence (C.12.2) are rewritten.
    images
        What :func:`stand_ins` gave for it.
    making
        What is made.

    Returns
    -------
    tuple of int
        The slice of the map that each frame is, from 0.
    """
    source, identity = making.source, making.identity
    slices = {str(image.SOPInstanceUID): number for number, image in enumerate(images)}
    order = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in frame.DerivationImageSequence:
            number = slices[str(derivation.SourceImageSequence[0].ReferencedSOPInstanceUID)]
            order.append(number)
            derivation.SourceImageSequence = [_derived(one, identity) for one in source.references[number]]
    add_sources(dataset, (one for number in sorted(set(order)) for one in source.references[number]), identity)
    return tuple(order)


def add_sources(dataset: Dataset, references: Iterable[Reference], identity: Identity) -> None:
    """Say from which images a result as a whole comes."""
    files = {one.sop_instance: one._replace(frame=0) for one in references}
    dataset.SourceImageSequence = [_item(one, identity) for one in files.values()]
    by_series: dict[str, list[Dataset]] = {}
    for one in files.values():
        by_series.setdefault(one.series, []).append(_item(one, identity))
    dataset.ReferencedSeriesSequence = []
    for series, items in by_series.items():
        group = Dataset()
        group.SeriesInstanceUID = identity.uid(series)
        group.ReferencedInstanceSequence = items
        dataset.ReferencedSeriesSequence.append(group)


def _item(one: Reference, identity: Identity) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = one.sop_class
    item.ReferencedSOPInstanceUID = identity.uid(one.sop_instance)
    if one.frame:
        item.ReferencedFrameNumber = one.frame
    return item


def _derived(one: Reference, identity: Identity) -> Dataset:
    item = _item(one, identity)
    item.SpatialLocationsPreserved = "YES" if one.congruent else "NO"
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code.value, "DCM", code.meaning
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item

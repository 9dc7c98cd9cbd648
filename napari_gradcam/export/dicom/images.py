"""Which image each slice of a scan comes from, and where it lies: found in the scan's DICOM files once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info

from napari_gradcam.errors import GradCamError
from napari_gradcam.export.dicom.uids import stand_in_uid
from napari_gradcam.volumes.dicom.geometry import LPS_TO_RAS, Stack, stack
from napari_gradcam.volumes.dicom.header import Header, read_header
from napari_gradcam.volumes.dicom.mosaic import is_mosaic
from napari_gradcam.volumes.dicom.slices import Slice, slices_of
from napari_gradcam.volumes.dicom.stacks import Pile, piles_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import FileDataset

    from napari_gradcam.volumes import Volume

SAME_MM = 1e-3
"""Two grids whose affines differ by less are the same."""
_NOTHING = 1e-6
"""A share of a slice that is rounding."""
_DIGITS = 1e-4
"""Direction cosines are written with so few digits."""


class Reference(NamedTuple):
    """A picture that a slice of the map comes from.

    Attributes
    ----------
    sop_class, sop_instance, series
        SOP Class UID, SOP Instance UID and Series Instance UID of its file; of a series without a UID one that stands
        for it.
    frame
        Its frame, from 1, of a file that holds several; 0 for the file as a whole.
    congruent
        Whether it has the slice's own rows, columns and place.
    """

    sop_class: str
    sop_instance: str
    series: str
    frame: int = 0
    congruent: bool = True


@dataclass(frozen=True, eq=False)
class Source:
    """The images that a map lies on.

    Attributes
    ----------
    dataset
        The header of the first one, without its pixels.
    references
        For each slice, along the third axis of the map, the pictures that it comes from: one as a rule, two where the
        slices were resampled.
    positions
        Centre of each slice's first pixel, Image Position (Patient) (0020,0032), ``(slices, 3)``, LPS+ mm: that of
        the image itself, where it is one. None where the files do not say where in the patient they lie.
    orientation
        Unit vectors along a row and down a column, LPS+, ``(2, 3)``.
    pixel_spacing
        Distance between rows and between columns in mm.
    thickness
        Slice Thickness (0018,0050) in mm, None where the files have none.
    spacing
        Distance between slices along their normal in mm; None of a single one, and where it is not even.
    """

    dataset: FileDataset
    references: tuple[tuple[Reference, ...], ...]
    positions: NDArray[np.float64] | None
    orientation: NDArray[np.float64]
    pixel_spacing: tuple[float, float]
    thickness: float | None
    spacing: float | None

    @property
    def all_references(self) -> tuple[Reference, ...]:
        """Each file once, in the order of the slices."""
        files = (one._replace(frame=0) for slice_ in self.references for one in slice_)
        return tuple({one.sop_instance: one for one in files}.values())


def images_of(volume: Volume, files: Sequence[Path]) -> Source:
    """Find the images of a volume in its files, as the reader stacks them.

    Raises
    ------
    GradCamError
        If a file is damaged, the files are not what the volume was read from, or do not say which images they are.
    """
    headers = {header.told("SOPInstanceUID") or str(path): header for path in files if (header := read_header(path))}
    images = [header for header in headers.values() if header.pixels is not None]
    mosaics = [header for header in images if is_mosaic(header)]
    if mosaics:
        return _mosaic(volume, mosaics)
    found = list(_stacks(volume, images))
    if not found:
        raise GradCamError(
            f"The files of “{volume.name}” are not what was read from them before: read and explain the scan again."
        )
    # Of several that lie alike (echoes, times), the volume's name or a notice says which one it is.
    said = "\n".join((volume.name, *volume.notices))
    named = [stack_ for pile, stack_ in found if all(what in said for what in _told_apart(pile, stack_))]
    return _stacked(volume, named[0] if len(named) == 1 else found[0][1], known=len(named) == 1 or len(found) == 1)


def _told_apart(pile: Pile, stack_: Stack) -> tuple[str, ...]:
    """Give what tells the slices of a stack from others, as the reader says it."""
    if pile.frames:
        return (f"This frame is that of {pile.frames[pile.slices.index(stack_.slices[0])]}.",)
    return pile.told_apart


def _stacks(volume: Volume, images: Sequence[Header]) -> Iterator[tuple[Pile, Stack]]:
    """Find the stacks that make a volume's own grid, as the reader makes them."""
    series: dict[str, list[Header]] = {}
    for header in images:
        series.setdefault(header.told("SeriesInstanceUID"), []).append(header)
    for headers in series.values():
        for pile in piles_of([one for header in headers for one in slices_of(header)]):
            for slices in ([one] for one in pile.slices) if pile.pictures else (pile.slices,):
                made = _made(volume, slices)
                if made is not None:
                    yield pile, made


def _made(volume: Volume, slices: Sequence[Slice]) -> Stack | None:
    for resample in (False, True):
        try:
            made = stack(slices, f"“{volume.name}”", resample=resample)
        except GradCamError:
            continue
        shape = made.slices[0].columns, made.slices[0].rows, made.depth
        if shape == volume.shape and np.allclose(made.affine, volume.affine, atol=SAME_MM):
            return made
    return None


def _stacked(volume: Volume, made: Stack, *, known: bool) -> Source:
    """Describe the slices of a stack; `known` is False where it may be other frames of their file."""
    slices, affine = made.slices, LPS_TO_RAS @ volume.affine
    axes = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    positions = None
    if made.placed:
        even = affine[:3, 3] + np.arange(made.depth)[:, None] * affine[:3, 2]
        positions = even if made.mixture else np.array([one.position for one in slices])
    mixture = made.mixture or tuple((rank, rank, 0.0) for rank in range(len(slices)))
    references = []
    for lower, upper, share in mixture:
        mixed = [rank for rank, part in ((lower, 1 - share), (upper, share)) if part > _NOTHING]
        whole = len(mixed) == 1 or lower == upper
        references.append(tuple(_reference(slices[rank], whole, known) for rank in dict.fromkeys(mixed)))
    dataset = _dataset(slices[0].header)
    return Source(
        dataset=dataset,
        references=_of_one_series(references),
        positions=positions,
        orientation=_as_written(dataset, axes.T),
        pixel_spacing=slices[0].pixel_spacing or (1.0, 1.0),
        thickness=slices[0].thickness,
        spacing=_spacing(positions, axes.T),
    )


def _as_written(dataset: Dataset, axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the orientation as a classic image writes it: other programs compare the digits."""
    written = np.array([float(one) for one in dataset.get("ImageOrientationPatient") or ()])
    return written.reshape(2, 3) if written.size == 6 and np.allclose(written, axes.ravel(), atol=_DIGITS) else axes


def _of_one_series(references: Sequence[tuple[Reference, ...]]) -> tuple[tuple[Reference, ...], ...]:
    first = references[0][0]
    series = first.series or stand_in_uid(f"series of {first.sop_instance}")
    return tuple(tuple(one._replace(series=one.series or series) for one in slice_) for slice_ in references)


def _spacing(positions: NDArray[np.float64] | None, axes: NDArray[np.float64]) -> float | None:
    """Give the distance between slices along their normal, where it is even to a thousandth."""
    if positions is None or len(positions) < 2:
        return None
    between = np.diff(positions @ np.cross(*axes))
    return float(between.mean()) if np.ptp(between) < SAME_MM else None


def _reference(one: Slice, congruent: bool, known: bool) -> Reference:
    frame = one.frame + 1 if one.frames > 1 and known else 0
    return _whole(one.header)._replace(frame=frame, congruent=congruent and (known or one.frames == 1))


def _whole(header: Header) -> Reference:
    told = header.told
    kind, instance = told("SOPClassUID"), told("SOPInstanceUID")
    if not (kind and instance):  # blanked out by hand, as a rule, and forgotten in the meta header
        meta = _meta(header.path)
        kind = kind or str(meta.get("MediaStorageSOPClassUID", ""))
        instance = instance or str(meta.get("MediaStorageSOPInstanceUID", ""))
    if not (kind and instance):
        raise GradCamError(
            f"“{header.path.name}” does not say which image it is (SOP Instance UID), so that no DICOM can refer to "
            "it: export it again."
        )
    return Reference(kind, instance, told("SeriesInstanceUID"))


def _meta(path: Path) -> Dataset:
    try:
        return read_file_meta_info(path)
    except Exception:  # a file without a meta header, of which pydicom raises several types
        return Dataset()


def _mosaic(volume: Volume, headers: Sequence[Header]) -> Source:
    """Describe the slices of a Siemens mosaic: they have places of their own, and no frames to refer to."""
    named = [header for header in headers if header.path in volume.source] or list(headers)
    if len(named) > 1:
        raise GradCamError(
            f"“{volume.name}” is one of several mosaics in an archive, and which one is not known: unpack it, and "
            "explain the mosaic itself."
        )
    affine = LPS_TO_RAS @ volume.affine
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    axes = (affine[:3, :2] / lengths[:2]).T
    positions = affine[:3, 3] + np.arange(volume.shape[2])[:, None] * affine[:3, 2]
    return Source(
        dataset=_dataset(named[0]),
        references=_of_one_series([(_whole(named[0])._replace(congruent=False),)] * volume.shape[2]),
        positions=positions,
        orientation=axes,
        pixel_spacing=(float(lengths[1]), float(lengths[0])),
        thickness=None,
        spacing=_spacing(positions, axes),
    )


def _dataset(header: Header) -> FileDataset:
    try:
        dataset = dcmread(header.path, stop_before_pixels=True, force=True)
        dataset.decode()
    except Exception as error:  # pydicom raises a dozen types on damaged files
        raise GradCamError(f"“{header.path.name}” has a damaged header ({error}): export it again.") from error
    return dataset

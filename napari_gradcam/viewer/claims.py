"""What the metadata of a foreign layer say about its place in the patient, where that can be read in one way only.

Three forms are understood: an ``affine`` as nibabel, MONAI and TorchIO give it, nibabel's NIfTI images and headers, and
the DICOM attributes of every slice. Anything else is left alone: ITK's ``direction`` and ``origin`` stand in the order
of the array or of the file, by the plugin that wrote them, and do not say which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes

from napari_gradcam.viewer.world import PICTURE_MM, usable

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME_SIZE = 1e-3
"""Largest relative difference between voxel sizes that are called the same."""

SAME_PLACE = 0.05
"""Largest distance in voxels between positions that are called the same."""

EVEN_MM = 0.01
"""Slices this near to an even grid are even: positions are written with a few digits."""

SAME_DIRECTION = 1e-3
"""Largest difference between direction cosines that are called the same: 0.06°."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS_TO_RAS.setflags(write=False)

_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


class Claim(NamedTuple):
    """A place in the patient that metadata give."""

    affine: NDArray[np.float64]
    """Index of the layer's data, ``(axis 0, 1, 2)``, to RAS+ mm, 4 × 4; a single picture has an axis 0 of one voxel."""
    told: str
    """Where that is from, one sentence."""


class Claims(NamedTuple):
    """The place that metadata give, and what must be said where they were not believed."""

    claim: Claim | None
    notices: tuple[str, ...] = ()


def patient_claim(
    metadata: Mapping[Any, Any], shape: tuple[int, int, int], drawn: NDArray[np.float64], *, picture: bool
) -> Claims:
    """Find the place in the patient that metadata give.

    Parameters
    ----------
    metadata
        The layer's.
    shape
        Voxels along the layer's data axes.
    drawn
        Index of the layer's data to napari's world in mm, 4 × 4: a place that contradicts it is not believed.
    picture
        Whether the layer has two axes only, the last two of `shape`.

    Returns
    -------
    Claims
        Without a claim where there is none, where two differ, or where the layer's own transforms contradict it.
    """
    found = [*_bare_affine(metadata, picture), *_nifti(metadata, shape, picture), *_dicom(metadata, shape)]
    believed = [claim for claim in found if _agrees(claim.affine, drawn, picture)]
    if not found:
        return Claims(None)
    if len(believed) < len(found):
        return Claims(None, ("The layer's scale and translate contradict its metadata, which were not used.",))
    first = believed[0]
    if not all(np.allclose(first.affine, other.affine, atol=EVEN_MM) for other in believed):
        return Claims(None, ("The layer's metadata place it in the patient in two ways, so that neither was used.",))
    return Claims(first)


def _agrees(claimed: NDArray[np.float64], drawn: NDArray[np.float64], picture: bool) -> bool:
    """Whether transforms say the same as a claim, or nothing; cropped or transposed data are found out here."""
    if np.array_equal(drawn, np.eye(4)):
        return True
    axes = slice(1, 3) if picture else slice(0, 3)
    sizes, shown = voxel_sizes(claimed), voxel_sizes(drawn)
    if not np.allclose(sizes[axes], shown[axes], rtol=SAME_SIZE):
        return False
    origin, place = drawn[:3, 3], claimed[:3, 3]
    # The display may be turned or mirrored against the patient; plugins also copy the patient's origin as it is.
    turned = drawn[:3, :3] @ np.linalg.inv(claimed[:3, :3]) @ place
    near = SAME_PLACE * float(shown[axes].min())
    return picture or not origin.any() or any(np.abs(origin - known).max() <= near for known in (place, turned))


def _picture_first(affine: NDArray[np.float64], picture: bool) -> NDArray[np.float64]:
    """Put the third axis of a file in front, where the one slice of a picture is counted."""
    return affine[:, [2, 0, 1, 3]] if picture else affine


def _bare_affine(metadata: Mapping[Any, Any], picture: bool) -> list[Claim]:
    affine = usable(metadata.get("affine"))
    # The identity is what a library writes that knows nothing.
    if affine is None or np.array_equal(affine, np.eye(4)):
        return []
    if str(getattr(metadata.get("space", "RAS"), "value", metadata.get("space", "RAS"))).upper() != "RAS":
        return []
    told = "The “affine” in the layer's metadata is taken as voxel index to RAS+ mm, as NIfTI has it."
    return [Claim(_picture_first(affine, picture), told)]


def _nifti(metadata: Mapping[Any, Any], shape: tuple[int, int, int], picture: bool) -> list[Claim]:
    """Read nibabel's NIfTI images and headers, of files that have the layer's shape and say where they lie."""
    from nibabel.nifti1 import Nifti1Header, Nifti1Pair

    claims = []
    for value in metadata.values():
        header = value.header if isinstance(value, Nifti1Pair) else value
        if not isinstance(header, Nifti1Header) or not (header["sform_code"] or header["qform_code"]):
            continue
        try:
            stored = tuple(int(n) for n in header.get_data_shape())
            affine = usable(value.affine if isinstance(value, Nifti1Pair) else header.get_best_affine())
            unit = _MM_PER_UNIT[header.get_xyzt_units()[0]]
        except Exception:  # nibabel raises a dozen types on headers of nonsense
            continue
        held = shape[1:] if picture else shape
        if affine is None or stored[: len(held)] != held or any(n != 1 for n in stored[len(held) :]):
            continue
        affine[:3] *= unit
        told = "The NIfTI header in the layer's metadata says where it lies in the patient."
        claims.append(Claim(_picture_first(affine, picture), told))
    return claims


class _Slice(NamedTuple):
    """What DICOM says of a slice, LPS+ mm."""

    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    down_column: NDArray[np.float64]
    spacing: NDArray[np.float64]


def _dicom(metadata: Mapping[Any, Any], shape: tuple[int, int, int]) -> list[Claim]:
    """Read DICOM attributes, kept as pydicom's data sets or under DICOM's own names: one for each slice."""
    claims = []
    for value in (metadata, *metadata.values()):
        listed = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        if len(listed) != shape[0]:
            continue
        slices = [_slice(one, shape[1:]) for one in listed]
        placed = [one for one in slices if one is not None]
        affine = _stacked(placed) if len(placed) == len(slices) else None
        if affine is not None:
            told = "The DICOM attributes in the layer's metadata say where it lies in the patient."
            claims.append(Claim(affine, told))
    return claims


def _slice(dataset: Any, shape: tuple[int, ...]) -> _Slice | None:
    """Read one slice of ``(rows, columns)``; None where it is none."""
    get = getattr(dataset, "get", None)
    if not callable(get):
        return None
    try:
        size = get("Rows", shape[0]), get("Columns", shape[1])
        position, orientation, spacing = (
            np.array(get(name), dtype=np.float64)
            for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        )
        fits = tuple(int(n) for n in size) == shape
    except Exception:  # whatever has a method of this name may raise whatever it likes
        return None
    if not fits or (position.shape, orientation.shape, spacing.shape) != ((3,), (6,), (2,)):
        return None
    along_row, down_column = orientation.reshape(2, 3)
    unit = np.allclose(orientation.reshape(2, 3) @ orientation.reshape(2, 3).T, np.eye(2), atol=SAME_DIRECTION)
    known = np.isfinite(position).all() and unit and (spacing > 0).all()
    return _Slice(position, along_row, down_column, spacing) if known else None


def _stacked(slices: list[_Slice]) -> NDArray[np.float64] | None:
    """Give the affine of slices in the order of the layer's axis 0; None where they make no even grid."""
    first, last = slices[0], slices[-1]
    step = np.cross(first.along_row, first.down_column) * PICTURE_MM
    if len(slices) > 1:
        step = (last.position - first.position) / (len(slices) - 1)
    for number, one in enumerate(slices):
        turned = max(np.abs(one.along_row - first.along_row).max(), np.abs(one.down_column - first.down_column).max())
        off = np.abs(one.position - (first.position + number * step)).max()
        if turned > SAME_DIRECTION or off > EVEN_MM or not np.allclose(one.spacing, first.spacing):
            return None
    between_rows, between_columns = first.spacing
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = first.down_column * between_rows
    affine[:3, 2] = first.along_row * between_columns
    affine[:3, 3] = first.position
    return usable(LPS_TO_RAS @ affine)

"""Slices to one grid in patient space: by position and orientation alone.

DICOM positions are LPS+ mm (PS3.3 C.7.6.2.1.1); the affines given here are RAS+. Neither Instance Number nor Slice
Thickness nor Spacing Between Slices places anything: all three are wrong in real files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_gradcam.volumes.dicom_slices import Slice

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference between the direction cosines of slices of one stack: 0.06°."""

SPACING_TOLERANCE = 1e-3
"""Largest relative difference between the pixel spacings of slices of one stack."""

SAME_POSITION_MM = 1e-3
"""Slices nearer than this along their normal lie in one plane."""

EVEN_MM = 0.01
"""Slices this near to an even grid are even: positions are written with a few digits."""

UNEVEN_STEPS = 0.1
"""Slices this far from an even grid, in steps, are put on the grid, with a notice; further off they are refused."""

TILT_DEGREES = 0.1
"""A stack that leans further than this against its slices' normal has a gantry tilt worth a notice."""

LARGEST_TILT_DEGREES = 45.0
"""A stack that leans further is no stack: gantries tilt by 30° at most."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS_TO_RAS.setflags(write=False)


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in the order of the volume's last axis, and the grid they make.

    Attributes
    ----------
    slices
        In order along the normal, row direction × column direction.
    affine
        Index ``(column, row, slice)`` to RAS+ mm.
    notices
        What the person must know about the grid.
    placed
        Whether the files say where in the patient the slices lie.
    tilt
        Degrees by which the stack leans against its slices' normal.
    """

    slices: tuple[Slice, ...]
    affine: NDArray[np.float64]
    notices: tuple[str, ...]
    placed: bool
    tilt: float = 0.0


def stack(slices: Sequence[Slice], label: str) -> Stack:
    """Put the slices of a series in order and find their affine.

    Parameters
    ----------
    slices
        At least one, in any order.
    label
        What to call the series in an error.

    Raises
    ------
    GradCamError
        If the slices make no single, complete volume.
    """
    without = [one for one in slices if one.position is None or one.orientation is None]
    if without:
        if len(slices) == 1:
            return _unplaced(slices[0])
        raise GradCamError(
            f"{label} holds {len(slices)} pictures and {without[0].label} does not say where it lies in the patient: "
            "open the pictures one by one."
        )
    if any(one.pixel_spacing is None for one in slices):
        nameless = next(one for one in slices if one.pixel_spacing is None)
        raise GradCamError(f"{nameless.label} in {label} does not say how large its pixels are: export it again.")
    _refuse_mixed(slices, label)
    if len(slices) == 1:
        return _single(slices[0])
    return _series(slices, label)


def _placement(one: Slice) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """Give position, orientation and pixel spacing of a slice that has all three."""
    assert one.position is not None
    assert one.orientation is not None
    assert one.pixel_spacing is not None
    return one.position, one.orientation, one.pixel_spacing


def _affine(one: Slice, origin: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Build the RAS+ affine from the first slice's position and the step from slice to slice, both LPS+ mm."""
    _, (along_row, down_column), (between_rows, between_columns) = _placement(one)
    affine = np.eye(4)
    affine[:3, 0] = along_row * between_columns
    affine[:3, 1] = down_column * between_rows
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return LPS_TO_RAS @ affine


def _single(one: Slice) -> Stack:
    position, (along_row, down_column), _ = _placement(one)
    thickness = one.thickness or 1.0
    why = "its Slice Thickness" if one.thickness else "for want of a Slice Thickness"
    notice = f"This is a single slice: it is drawn {thickness:g} mm thick, {why}."
    return Stack((one,), _affine(one, position, np.cross(along_row, down_column) * thickness), (notice,), placed=True)


def _unplaced(one: Slice) -> Stack:
    """Show a picture without a place, such as an X-ray, as it is stored: rows downwards, columns to the right."""
    rows, columns, notices = 1.0, 1.0, []
    spacing, kind = one.pixel_spacing, "Pixel Spacing"
    if spacing is None:
        value = one.file.dataset.get("ImagerPixelSpacing")
        if value and len(value) == 2 and min(value) > 0:
            spacing, kind = (float(value[0]), float(value[1])), "Imager Pixel Spacing"
    if spacing is None:
        notices.append("The file does not say how large its pixels are: lengths are in pixels, not mm.")
    else:
        rows, columns = spacing
    if kind == "Imager Pixel Spacing":
        notices.append("Lengths are measured at the detector, where the body appears larger than it is.")
    notices.append(
        "The file does not say where in the patient the picture lies: left and right, and every position, are unknown."
    )
    # Identity in LPS+ is what the display grid shows unturned and unflipped in its axial plane.
    affine = LPS_TO_RAS @ np.diag([columns, rows, one.thickness or 1.0, 1.0])
    return Stack((one,), affine, tuple(notices), placed=False)


def _refuse_mixed(slices: Sequence[Slice], label: str) -> None:
    kinds: list[list[Slice]] = []
    for one in slices:
        for kind in kinds:
            if _alike(kind[0], one):
                kind.append(one)
                break
        else:
            kinds.append([one])
    if len(kinds) > 1:
        said = "; ".join(
            f"{len(kind)} {_plane_name(kind[0])} of {kind[0].columns} × {kind[0].rows}" for kind in kinds[:6]
        )
        more = f" and {len(kinds) - 6} more" if len(kinds) > 6 else ""
        example = ", ".join(kind[0].label for kind in kinds[:6])
        raise GradCamError(
            f"{label} mixes {len(kinds)} stacks of different orientation, pixel spacing or size ({said}{more}, such as "
            f"{example}): give the files of one of them."
        )


def _alike(one: Slice, other: Slice) -> bool:
    _, orientation, spacing = _placement(one)
    _, other_orientation, other_spacing = _placement(other)
    frames = {told(each.file.dataset, "FrameOfReferenceUID") for each in (one, other)}
    return (
        (one.rows, one.columns) == (other.rows, other.columns)
        and bool(np.abs(orientation - other_orientation).max() <= ORIENTATION_TOLERANCE)
        and bool(np.allclose(spacing, other_spacing, rtol=SPACING_TOLERANCE, atol=0))
        and len(frames - {""}) < 2
    )


def _plane_name(one: Slice) -> str:
    _, orientation, _ = _placement(one)
    return ("sagittal", "coronal", "axial")[int(np.abs(np.cross(*orientation)).argmax())]


def _series(slices: Sequence[Slice], label: str) -> Stack:
    _, orientation, _ = _placement(slices[0])
    normal = np.cross(*orientation)
    normal /= np.linalg.norm(normal)
    ordered = sorted(slices, key=lambda one: float(_placement(one)[0] @ normal))
    positions = np.array([_placement(one)[0] for one in ordered])
    _refuse_duplicates(ordered, positions @ normal, label)

    # The straight, even line of positions that lies nearest to those given.
    rank = np.arange(len(ordered)) - (len(ordered) - 1) / 2
    step = rank @ positions / (rank @ rank)
    grid = positions.mean(axis=0) + rank[:, None] * step
    distance = float(np.linalg.norm(step))
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal)))
    off = np.linalg.norm(positions - grid, axis=1)
    if off.max() > max(UNEVEN_STEPS * distance, EVEN_MM):
        _refuse_uneven(ordered, positions, normal, off, label)
    if tilt > LARGEST_TILT_DEGREES:
        raise GradCamError(
            f"The slices of {label} lie side by side rather than one behind the other (the stack leans by "
            f"{tilt:.0f}°): give the files of one stack."
        )
    notices = []
    if off.max() > EVEN_MM:
        between = np.diff(positions @ normal)
        notices.append(
            f"The slices are unevenly spaced ({between.min():.2f} to {between.max():.2f} mm): they are drawn "
            f"{distance:.2f} mm apart, which moves a slice by up to {off.max():.2f} mm."
        )
    if tilt > TILT_DEGREES:
        notices.append(
            f"The slices lean by {tilt:.1f}° against the direction they are stacked in (gantry tilt): the picture is "
            "drawn without this shear; positions and exported files keep it."
        )
    return Stack(tuple(ordered), _affine(ordered[0], grid[0], step), tuple(notices), placed=True, tilt=tilt)


def _refuse_duplicates(ordered: Sequence[Slice], along: NDArray[np.float64], label: str) -> None:
    same = np.flatnonzero(np.diff(along) < SAME_POSITION_MM)
    if not len(same):
        return
    one, other = ordered[same[0]], ordered[same[0] + 1]
    uids = [told(each.file.dataset, "SOPInstanceUID") for each in (one, other)]
    if one.file is not other.file and uids[0] and uids[0] == uids[1]:
        raise GradCamError(f"{one.label} and {other.label} in {label} are the same image twice: remove one of them.")
    places = len(ordered) - len(same)
    where = "one position" if places == 1 else f"{places} positions"
    raise GradCamError(
        f"{label} is not one volume: its {len(ordered)} images lie at {where} (such as {one.label} and {other.label}), "
        "as in a series over time, of several echoes or repeats; give the images of one of them."
    )


def _refuse_uneven(
    ordered: Sequence[Slice],
    positions: NDArray[np.float64],
    normal: NDArray[np.float64],
    off: NDArray[np.float64],
    label: str,
) -> None:
    between = np.diff(positions @ normal)
    usual = float(np.median(between))
    worst = int(np.abs(between - usual).argmax())
    gap, pair = float(between[worst]), f"{ordered[worst].label} and {ordered[worst + 1].label}"
    missing = round(gap / usual) - 1
    if abs(gap - usual) <= UNEVEN_STEPS * usual:
        shifted = ordered[int(off.argmax())]
        raise GradCamError(
            f"The slices of {label} do not lie on a straight line: {shifted.label} is {off.max():.1f} mm off it; give "
            "the files of one stack."
        )
    if missing >= 1 and abs(gap / usual - missing - 1) <= 2 * UNEVEN_STEPS:
        many = "1 slice is" if missing == 1 else f"{missing} slices are"
        raise GradCamError(
            f"{label} has a gap: {pair} lie {gap:.2f} mm apart where {usual:.2f} mm is usual, so {many} missing "
            "between them; add what is missing or give the files on one side of the gap."
        )
    raise GradCamError(
        f"The slices of {label} are too unevenly spaced to be one volume: {pair} lie {gap:.2f} mm apart where "
        f"{usual:.2f} mm is usual; give the files of an evenly spaced part."
    )

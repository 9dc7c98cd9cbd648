"""Slices to one grid in patient space: by position and orientation alone.

DICOM positions are LPS+ mm (PS3.3 C.7.6.2.1.1); the affines given here are RAS+. Neither Instance Number nor Slice
Thickness nor Spacing Between Slices places anything: all three are wrong in real files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.dicom.slices import own_spacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_gradcam.volumes.dicom.slices import Slice
    from napari_gradcam.volumes.volume import Unit

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

MOST_INTERPOLATED = 4
"""A gap is interpolated over so many steps at most, and no volume grows to more than so many times its slices."""

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
    mixture
        Of slices on an even grid that they do not have themselves: for each slice of the volume the two that it is
        interpolated between, by their ranks in `slices`, and the share of the second. None where the slices stand
        as they are.
    unit
        What lengths are measured in: ``"pixels"`` of a picture that does not say its size.
    """

    slices: tuple[Slice, ...]
    affine: NDArray[np.float64]
    notices: tuple[str, ...]
    placed: bool
    tilt: float = 0.0
    mixture: tuple[tuple[int, int, float], ...] | None = None
    unit: Unit = "mm"

    @property
    def depth(self) -> int:
        """How many slices the volume has."""
        return len(self.slices if self.mixture is None else self.mixture)


class UnevenSlices(GradCamError):
    """Slices are missing, or are too unevenly spaced to be put on a grid without interpolation."""


def stack(slices: Sequence[Slice], label: str, *, resample: bool = False) -> Stack:
    """Put the slices of a series in order and find their affine.

    Parameters
    ----------
    slices
        At least one, in any order.
    label
        What to call the series in an error.
    resample
        Whether slices that are missing or unevenly spaced are interpolated from their neighbours.

    Raises
    ------
    UnevenSlices
        If slices are missing or unevenly spaced, and `resample` is not asked for.
    GradCamError
        If the slices make no single volume.
    """
    if not slices[0].is_placed:
        return _unplaced(slices[0])
    if slices[0].pixel_spacing is None:
        raise GradCamError(f"{slices[0].label} in {label} does not say how large its pixels are: export it again.")
    if len(slices) == 1:
        return _single(slices[0])
    return _series(slices, label, resample)


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
    spacing, measured_by = own_spacing(one)
    if spacing is None:
        notices.append("The file does not say how large its pixels are: lengths are in pixels, not mm.")
    else:
        rows, columns = spacing
    if measured_by == "Imager Pixel Spacing":
        notices.append("Lengths are measured at the detector, where the body appears larger than it is.")
    elif measured_by == "the ultrasound region":
        notices.append("Lengths hold inside of the ultrasound picture, not for the text and scales around it.")
    where = "The file does not say where in the patient the picture lies"
    if one.header.told("Modality") == "NM":
        # Its Detector Information Sequence (0054,0022) may say it, but for the first of its slices alone.
        where = "Where in the patient the picture lies is not read from a file of nuclear medicine"
    notices.append(f"{where}: left and right, and every position, are unknown.")
    # Identity in LPS+ is what the display grid shows unturned and unflipped in its axial plane.
    affine = LPS_TO_RAS @ np.diag([columns, rows, one.thickness or 1.0, 1.0])
    return Stack((one,), affine, tuple(notices), placed=False, unit="pixels" if spacing is None else "mm")


def _series(slices: Sequence[Slice], label: str, resample: bool) -> Stack:
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
    mixture, notices = None, []
    if off.max() > max(UNEVEN_STEPS * distance, EVEN_MM):
        if not resample:
            _refuse_uneven(ordered, positions, normal, off, label)
        grid, step, mixture, told = _even(ordered, positions, normal, label)
        distance = float(np.linalg.norm(step))
        tilt = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal)))
        notices.append(told)
    if tilt > LARGEST_TILT_DEGREES:
        raise GradCamError(
            f"The slices of {label} lie side by side rather than one behind the other (the stack leans by "
            f"{tilt:.0f}°): give the files of one stack."
        )
    if mixture is None and off.max() > EVEN_MM:
        notices.append(_uneven(np.diff(positions @ normal), distance, float(off.max())))
    if tilt > TILT_DEGREES:
        notices.append(
            f"The slices lean by {tilt:.1f}° against the direction they are stacked in (gantry tilt): the picture is "
            "drawn without this shear; positions and exported files keep it."
        )
    return Stack(
        tuple(ordered), _affine(ordered[0], grid[0], step), tuple(notices), placed=True, tilt=tilt, mixture=mixture
    )


def _uneven(between: NDArray[np.float64], distance: float, moved: float) -> str:
    """Say how slices are off the even grid that they are put on: along the stack, or sideways alone."""
    if np.ptp(between) > EVEN_MM:
        ends = f"{between.min():.2f} to {between.max():.2f} mm"
        spaced = f"are unevenly spaced ({ends}): they are drawn {distance:.2f} mm apart"
    else:
        spaced = "lie a little beside one another: they are drawn on one straight line"
    return f"The slices {spaced}, which moves a slice by up to {moved:.2f} mm."


def _refuse_duplicates(ordered: Sequence[Slice], along: NDArray[np.float64], label: str) -> None:
    same = np.flatnonzero(np.diff(along) < SAME_POSITION_MM)
    if not len(same):
        return
    one, other = ordered[same[0]], ordered[same[0] + 1]
    uids = [each.header.told("SOPInstanceUID") for each in (one, other)]
    if one.header is not other.header and uids[0] and uids[0] == uids[1]:
        raise GradCamError(
            f"{one.label} and {other.label} in {label} call themselves the same image and differ: remove one of them."
        )
    places = len(ordered) - len(same)
    if places == 1:
        raise GradCamError(
            f"{label} is not a volume: its {len(ordered)} images lie at one position (such as {one.label} and "
            f"{other.label}), as in a series over time; give one of them by itself to see it."
        )
    raise GradCamError(
        f"{label} is not one volume: its {len(ordered)} images lie at {places} positions (such as {one.label} and "
        f"{other.label}), and nothing in their headers tells repeats, echoes or times apart; give the images of one of "
        "them."
    )


def _refuse_uneven(
    ordered: Sequence[Slice],
    positions: NDArray[np.float64],
    normal: NDArray[np.float64],
    off: NDArray[np.float64],
    label: str,
) -> None:
    between = np.diff(positions @ normal)
    usual = _usual(between)
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
        gaps = _gaps(between, usual)
        count = sum(gaps.values())
        many = "1 slice is" if count == 1 else f"{count} slices are"
        others = f", and at {len(gaps) - 1} more places" if len(gaps) > 1 else ""
        raise UnevenSlices(
            f"{label} has a gap: {pair} lie {gap:.2f} mm apart where {usual:.2f} mm is usual{others}, so {many} "
            "missing between them; add what is missing, give the files on one side of the gap, or have it resampled."
        )
    raise UnevenSlices(
        f"The slices of {label} are too unevenly spaced to be one volume: {pair} lie {gap:.2f} mm apart where "
        f"{usual:.2f} mm is usual; give the files of an evenly spaced part, or have it resampled."
    )


def _usual(between: NDArray[np.float64]) -> float:
    """Give the usual distance between slices: the median, and of two in the middle the smaller."""
    return float(np.quantile(between, 0.5, method="lower"))


def _gaps(between: NDArray[np.float64], usual: float) -> dict[int, int]:
    """Give how many slices are missing behind which."""
    missing = np.round(between / usual).astype(int) - 1
    return {int(rank): int(missing[rank]) for rank in np.flatnonzero(missing > 0)}


def _even(
    ordered: Sequence[Slice], positions: NDArray[np.float64], normal: NDArray[np.float64], label: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[tuple[int, int, float], ...], str]:
    """Lay an even grid through uneven slices: its positions, its step, how its slices are mixed, and what to say.

    The grid runs from the first slice to the last in steps of the usual distance. A slice of the grid is linear
    between the two that it lies between.
    """
    along = positions @ normal
    usual = _usual(np.diff(along))
    count = round(float(along[-1] - along[0]) / usual) + 1
    if np.diff(along).max() > MOST_INTERPOLATED * usual * (1 + UNEVEN_STEPS) or count > MOST_INTERPOLATED * len(along):
        raise GradCamError(
            f"{label} has gaps of up to {np.diff(along).max():.1f} mm where {usual:.2f} mm is usual: too wide to be "
            "interpolated; give the files on one side of the gap."
        )
    step = (positions[-1] - positions[0]) / (count - 1)
    # Slices that do not follow one line cannot be mixed without shifting them against one another.
    line = positions[0] + ((along - along[0]) / (along[-1] - along[0]))[:, None] * (positions[-1] - positions[0])
    astray = np.linalg.norm(positions - line, axis=1)
    if astray.max() > max(UNEVEN_STEPS * usual, EVEN_MM):
        raise GradCamError(
            f"The slices of {label} do not lie on a straight line: {ordered[int(astray.argmax())].label} is "
            f"{astray.max():.1f} mm off it; give the files of one stack."
        )
    wanted = np.linspace(along[0], along[-1], count)
    upper = np.clip(np.searchsorted(along, wanted), 1, len(along) - 1)
    share = (wanted - along[upper - 1]) / (along[upper] - along[upper - 1])
    mixture = tuple((int(rank) - 1, int(rank), float(part)) for rank, part in zip(upper, share, strict=True))
    made = sum(EVEN_MM / usual < part < 1 - EVEN_MM / usual for _, _, part in mixture)
    told = (
        f"The slices are unevenly spaced or some are missing: {made} of {count} slices are interpolated between their "
        "neighbours, and show nothing that was measured there."
    )
    return positions[0] + np.arange(count)[:, None] * step, step, mixture, told

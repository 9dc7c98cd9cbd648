"""The slices of a series, sorted into stacks: what lies in one grid, at one time, of one kind."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.dicom.geometry import ORIENTATION_TOLERANCE, SAME_POSITION_MM, SPACING_TOLERANCE, stack
from napari_gradcam.volumes.dicom.marks import MARKS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from napari_gradcam.volumes.dicom.slices import Slice

_UNITS = {"echo time": " ms", "inversion time": " ms", "trigger time": " ms", "flip angle": "°"}
_KINDS = ("kind", "origin")
_MARKED = (*(name for name, _, _ in MARKS), "direction", "origin")
_FRAMED = tuple(name for name in _MARKED if name != "acquisition")
"""What makes frames of images at one position. The number of an acquisition says nothing of what differs."""
_TELLING = ("echo time", "inversion time", "b-value")
_MOST_TELLING = 3
"""So many values of one of these among slices at different places hint at several series, more are of each slice."""


_Groups = list[tuple[tuple[str, ...], list["Slice"]]]
"""Slices that are told apart, and what by."""


class Pile(NamedTuple):
    """Slices that make one volume, or would if none were missing.

    Attributes
    ----------
    slices
        In any order.
    told_apart
        What tells it from other piles of its series, such as ``("sagittal", "echo time 4.6 ms")``.
    pictures
        Whether these are pictures one after another and no stack: without a place, or all at one.
    frames
        What each of the pictures is, where their headers tell them apart, such as ``"echo time 4.6 ms"``.
    aside
        What it is where it was made of the others: ``"derived"``, such as a projection; else "".
    notices
        What must be known of its slices.
    """

    slices: tuple[Slice, ...]
    told_apart: tuple[str, ...] = ()
    pictures: bool = False
    frames: tuple[str, ...] = ()
    aside: str = ""
    notices: tuple[str, ...] = ()


def piles_of(slices: Sequence[Slice]) -> list[Pile]:
    """Sort the slices of one series.

    Slices of other orientation, pixel spacing, size, kind or stack go into piles of their own; then those that lie at
    the same positions, told apart by what their headers say (:data:`~napari_gradcam.volumes.dicom.marks.MARKS`), else
    by when they were acquired. Where nothing tells them apart they stay together, to be refused as no volume. Last,
    those of another kind that lie between or behind the others (a projection, phase images) are set apart. Images that
    all lie at one position and are told apart are frames.
    """
    placed = [one for one in slices if one.is_placed]
    grids = _alike(placed)
    piles = [pile for name, grid in zip(_grid_names(grids), grids, strict=True) for pile in _piles_of_grid(grid, name)]
    loose: dict[Any, list[Slice]] = defaultdict(list)
    for one in slices:
        if not one.is_placed:
            loose[one.header.path].append(one)
    several = len(loose) + len(piles) > 1
    return piles + [
        Pile(tuple(pictures), (f"picture “{pictures[0].header.path.name}”",) if several else (), pictures=True)
        for pictures in loose.values()
    ]


def plane_of(one: Slice) -> str:
    """Name the plane that a slice's normal is nearest to."""
    assert one.orientation is not None
    normal = np.abs(np.cross(*one.orientation))
    return ("sagittal", "coronal", "axial")[int(normal.argmax())]


def along_normal(slices: Sequence[Slice]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Give where slices of one orientation lie along its normal, row direction × column direction, in mm."""
    assert slices[0].orientation is not None
    normal = np.cross(*slices[0].orientation)
    along: np.ndarray[Any, np.dtype[np.float64]] = np.array([one.position for one in slices]) @ (
        normal / np.linalg.norm(normal)
    )
    return along


def _alike(slices: Iterable[Slice]) -> list[list[Slice]]:
    """Put slices together that can be of one grid."""
    rough: dict[Hashable, list[list[Slice]]] = defaultdict(list)
    for one in slices:
        frame = one.header.told("FrameOfReferenceUID")
        for kind in rough[one.rows, one.columns, one.in_color, one.stack, frame, one.pixel_spacing is None]:
            if _same_grid(kind[0], one):
                kind.append(one)
                break
        else:
            rough[one.rows, one.columns, one.in_color, one.stack, frame, one.pixel_spacing is None].append([one])
    return [kind for kinds in rough.values() for kind in kinds]


def _same_grid(one: Slice, other: Slice) -> bool:
    assert one.orientation is not None
    assert other.orientation is not None
    if one.orientation is not other.orientation and (
        np.abs(one.orientation - other.orientation).max() > ORIENTATION_TOLERANCE
    ):
        return False
    if one.pixel_spacing is None or other.pixel_spacing is None:
        return True
    return all(
        abs(here - there) <= SPACING_TOLERANCE * here
        for here, there in zip(one.pixel_spacing, other.pixel_spacing, strict=True)
    )


def _grid_names(grids: Sequence[Sequence[Slice]]) -> list[tuple[str, ...]]:
    """Name grids by their planes; those of one plane by their sizes too, and by a number where these are the same."""
    if len(grids) < 2:
        return [()] * len(grids)
    planes = [plane_of(grid[0]) for grid in grids]
    sized = [f"{plane} {grid[0].columns} × {grid[0].rows}" for plane, grid in zip(planes, grids, strict=True)]
    count, counted = Counter(planes), Counter(sized)
    names: list[tuple[str, ...]] = []
    seen = Counter[str]()
    for plane, size in zip(planes, sized, strict=True):
        seen[size] += 1
        name = plane if count[plane] == 1 else size if counted[size] == 1 else f"{size}, stack {seen[size]}"
        names.append((name,))
    return names


def _piles_of_grid(grid: Sequence[Slice], grid_name: tuple[str, ...]) -> list[Pile]:
    frames = _frames(grid)
    if frames:
        names = tuple(", ".join(name) for name, _ in frames)
        return [Pile(tuple(one for _, (one,) in frames), grid_name, pictures=True, frames=names)]
    piles = [
        Pile(tuple(part), (*grid_name, *name, *kind), notices=(*together, *_telling(part)))
        for name, one_of_repeats in _without_repeats(grid)
        for kind, part, together in _without_other_kinds(one_of_repeats)
    ]
    return [_derived_aside(pile, piles) for pile in piles]


def _frames(slices: Sequence[Slice]) -> _Groups:
    """Tell images apart that all lie at one position; nothing where they do not, or cannot be told apart."""
    if len(slices) < 2 or len(set(_places(slices))) > 1:
        return []
    return _by_marks(slices, len(slices), _FRAMED)


def _without_repeats(slices: Sequence[Slice]) -> _Groups:
    """Tell apart what lies at the same positions."""
    places = _places(slices)
    count = Counter(places)
    repeats = max(count.values())
    if repeats == 1 or len(count) == 1:
        return [((), list(slices))]
    groups = _by_marks(slices, repeats, _MARKED) or _by_time(slices, places, repeats)
    return _with_b_values(groups) or [((), list(slices))]


def _by_marks(slices: Sequence[Slice], repeats: int, marks: Sequence[str]) -> _Groups:
    """Tell repeats apart by as few marks as do it; nothing where none do."""
    # What has more values than there are repeats, such as a time of each slice, tells no repeats apart.
    varying = [name for name in marks if 1 < len({one.marks.get(name) for one in slices}) <= repeats]
    for number in range(1, len(varying) + 1):
        for names in combinations(varying, number):
            groups = _grouped(slices, names)
            if len(groups) == repeats and not any(_repeats(group) for group in groups.values()):
                return _named(names, groups)
    return []


def _named(names: Sequence[str], groups: dict[tuple[Any, ...], list[Slice]]) -> _Groups:
    """Name groups by their marks, in order of their values where these can be compared: echoes and times."""
    keys = sorted(groups, key=_sortable)
    return [(tuple(_said(n, v) for n, v in zip(names, key, strict=True)), groups[key]) for key in keys]


def _with_b_values(groups: _Groups) -> _Groups:
    """Say the b-value too of repeats that differ in it and are told apart by another mark: it is what they are for."""
    values = [{one.marks.get("b-value") for one in part} for _, part in groups]
    if any(len(own) > 1 for own in values) or len(set.union(*values, set())) < 2:
        return groups
    said = [_said("b-value", next(iter(own))) for own in values]
    return [(name if b in name else (*name, b), part) for (name, part), b in zip(groups, said, strict=True)]


def _without_other_kinds(slices: Sequence[Slice]) -> list[tuple[tuple[str, ...], list[Slice], tuple[str, ...]]]:
    """Set apart slices of another kind, however evenly they lie; ``[(name, slices, notices)]``.

    They stay together, which is said, where they lie on one grid as a whole and not each kind by itself: of such a
    series a slice in the middle was worked on.
    """
    groups = _grouped(slices, _KINDS)
    if len(groups) == 1:
        return [((), list(slices), ())]
    enough = next(names for names in (*zip(_KINDS), _KINDS) if len(_grouped(slices, names)) == len(groups))
    named = _named(enough, _grouped(slices, enough))
    single = sum(len(part) == 1 for _, part in named)
    if _is_even(slices) and (single > 1 or not all(_is_even(part) for _, part in named)):
        kinds = "; ".join(", ".join(name) for name, _ in named)
        told = (
            f"The slices are not all of one kind ({kinds}): they are drawn as one volume because they lie on one grid."
        )
        return [((), list(slices), (told,))]
    return [(name, part, ()) for name, part in named]


def _is_even(slices: Sequence[Slice]) -> bool:
    try:
        stack(slices, "")
    except GradCamError:
        return False
    return True


def _derived_aside(pile: Pile, piles: Sequence[Pile]) -> Pile:
    """Set a single image aside that was computed from the originals beside it, such as a projection."""
    originals = any(one.marks.get("origin") == "ORIGINAL" for other in piles for one in other.slices)
    single = len(pile.slices) == 1 and pile.slices[0].marks.get("origin") == "DERIVED"
    return pile._replace(aside="derived") if single and originals else pile


def _telling(slices: Sequence[Slice]) -> tuple[str, ...]:
    """Say what a few values of among slices at different places may mean: two series drawn as one volume."""
    told = []
    for name in _TELLING:
        values = sorted({one.marks.get(name) for one in slices}, key=lambda value: _sortable((value,)))
        # To three digits: scanners write one echo time in a slightly different way from slice to slice.
        said = list(dict.fromkeys(_said(name, value, digits=3) for value in values))
        if 1 < len(said) <= _MOST_TELLING:
            told.append(f"The slices of this one volume differ: {' and '.join(said)}.")
    return tuple(told)


def _places(slices: Sequence[Slice]) -> list[int]:
    """Give each slice the number of its place along the normal."""
    along = along_normal(slices)
    order = np.argsort(along, kind="stable")
    numbers = np.concatenate([[0], np.cumsum(np.diff(along[order]) >= SAME_POSITION_MM)])
    places = np.empty(len(slices), dtype=int)
    places[order] = numbers
    return [int(place) for place in places]


def _repeats(slices: Sequence[Slice]) -> bool:
    return max(Counter(_places(slices)).values()) > 1


def _grouped(slices: Iterable[Slice], names: Sequence[str]) -> dict[tuple[Any, ...], list[Slice]]:
    groups: dict[tuple[Any, ...], list[Slice]] = defaultdict(list)
    for one in slices:
        groups[tuple(one.marks.get(name) for name in names)].append(one)
    return groups


def _by_time(slices: Sequence[Slice], places: Sequence[int], repeats: int) -> _Groups:
    """Tell repeats apart by the order in which they were acquired, where every position has them all."""
    if set(Counter(places).values()) != {repeats}:
        return []
    for clock in range(len(slices[0].when)):
        at: dict[int, list[tuple[str, Slice]]] = defaultdict(list)
        for one, place in zip(slices, places, strict=True):
            at[place].append((one.when[clock], one))
        if all("" not in (times := {time for time, _ in here}) and len(times) == repeats for here in at.values()):
            ordered = [[one for _, one in sorted(here, key=lambda pair: pair[0])] for here in at.values()]
            return [((f"repeat {rank + 1} of {repeats}",), [here[rank] for here in ordered]) for rank in range(repeats)]
    return []


def _sortable(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((0, value, "") if isinstance(value, tuple) else (1, (), str(value)) for value in key)


def _said(name: str, value: Any, digits: int = 6) -> str:
    if value is None:
        return f"no {name}"
    if name == "kind":
        return str(value)
    if name == "origin":
        return str(value).lower()
    parts = value if isinstance(value, tuple) else (value,)
    said = ", ".join(f"{one:.{digits}g}" if isinstance(one, (int, float)) else str(one) for one in parts)
    return f"{name} {said}{_UNITS.get(name, '')}"

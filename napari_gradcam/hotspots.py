"""Hot spots: the connected parts of a heat map above a threshold, ranked by the evidence they hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from napari_gradcam.explanation import Peak

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_gradcam.explanation import BySlice, Explanation

MOST = 50
"""So many hot spots are listed at most: a map that falls into more places none."""

_TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a corner belong together."""

_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class HotSpot:
    """One connected part of a heat map.

    Attributes
    ----------
    rank
        From 1, by evidence.
    peak
        Its hottest voxel.
    evidence
        Sum of its raw heat over its voxels; of a signed map also negative, where it speaks against the class.
    share
        Its evidence as a share of all of its sign in the map, 0 to 1; what lies below the threshold counts there.
    voxels
        How many voxels it has.
    millilitres
        Their volume; None where the scan does not say its size in mm.
    """

    rank: int
    peak: Peak
    evidence: float
    share: float
    voxels: int
    millilitres: float | None


def hot_spots(explanation: Explanation, at_least: float) -> tuple[HotSpot, ...]:
    """Find the hot spots of a heat map.

    Parameters
    ----------
    explanation
        Its heat map on the native grid.
    at_least
        The raw heat a voxel must have to belong to a hot spot; it must be positive, else nothing is found. In a signed
        map, places with as much against the class are hot spots as well.

    Returns
    -------
    tuple of HotSpot
        The one with the most evidence first, :data:`MOST` at most. Voxels that touch by a side, an edge or a corner
        belong together.
    """
    found = _spots(explanation, 1, at_least)
    if explanation.signed:
        found += _spots(explanation, -1, at_least)
    ranked = sorted(found, key=lambda spot: -abs(spot.evidence))[:MOST]
    return tuple(replace(spot, rank=rank) for rank, spot in enumerate(ranked, start=1))


def _spots(explanation: Explanation, sign: int, at_least: float) -> list[HotSpot]:
    """Find what is positive and hot in a map, or with `sign` -1 negative, the most evidence first."""
    heat = explanation.heatmap
    box = _box(_hottest_by_slice(explanation, sign), at_least) if at_least > 0 else None
    if box is None:
        return []
    # In the order of memory, which all that follows is several times faster in.
    turned = heat.flags.f_contiguous and not heat.flags.c_contiguous
    grid, box = (heat.T, box[::-1]) if turned else (heat, box)
    inside = grid[box] if sign > 0 else -grid[box]
    hot = inside >= np.float32(at_least)
    labelled, count = ndimage.label(hot, structure=_TOUCHING)
    labels, values, places = labelled[hot] - 1, inside[hot], np.flatnonzero(hot)
    voxels = np.bincount(labels, minlength=count)
    evidence = np.bincount(labels, weights=values, minlength=count)
    ranked = np.argsort(-evidence, kind="stable")[:MOST]
    peaks = _hottest(labels, values, places, count)[ranked]
    total = _evidence(explanation, sign)
    voxel = abs(float(np.linalg.det(explanation.affine[:3, :3]))) / _MM3_PER_ML
    found = []
    for rank, (number, at) in enumerate(zip(ranked, peaks, strict=True), start=1):
        place = [int(n) + part.start for n, part in zip(np.unravel_index(at, hot.shape), box, strict=True)]
        i, j, k = reversed(place) if turned else place
        x, y, z = (float(mm) for mm in apply_affine(explanation.affine, (i, j, k)))
        found.append(
            HotSpot(
                rank,
                Peak((i, j, k), (x, y, z), float(heat[i, j, k])),
                sign * float(evidence[number]),
                float(evidence[number]) / total,
                int(voxels[number]),
                int(voxels[number]) * voxel if explanation.unit == "mm" else None,
            )
        )
    return found


def _hottest(
    labels: NDArray[np.integer[Any]], values: NDArray[np.float32], places: NDArray[np.intp], count: int
) -> NDArray[np.intp]:
    """Give the place of the largest value of each label, the first of several.

    In time that grows with the number of voxels alone: ndimage.maximum_position sorts them.
    """
    largest = np.full(count, -np.inf, dtype=values.dtype)
    np.maximum.at(largest, labels, values)
    found = np.flatnonzero(values == largest[labels])[::-1]
    hottest = np.empty(count, dtype=np.intp)
    hottest[labels[found]] = places[found]  # of several the last one that is written stays, which is the first
    return hottest


def _hottest_by_slice(explanation: Explanation, sign: int) -> BySlice:
    if sign > 0:
        return explanation.hottest_by_slice
    i, j, k = explanation.coldest_by_slice
    return -i, -j, -k


def _evidence(explanation: Explanation, sign: int) -> float:
    """Add up all values of a map that have one sign, without it."""
    if sign > 0:
        return float(explanation.evidence_by_slice[0].sum())
    return -float(np.sum(explanation.heatmap, where=explanation.heatmap < 0, dtype=np.float64))


def _box(hottest: BySlice, at_least: float) -> tuple[slice, slice, slice] | None:
    """Give the smallest box that holds all that is hot enough; None where nothing is."""
    sides = []
    for slices in hottest:
        found = np.flatnonzero(slices >= np.float32(at_least))
        if len(found) == 0:
            return None
        sides.append(slice(int(found[0]), int(found[-1]) + 1))
    i, j, k = sides
    return i, j, k

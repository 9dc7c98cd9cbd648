"""Hot spots as segments: which voxels each of them has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from napari_gradcam.hotspots import hot_spots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.hotspots import HotSpot

_TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""As :func:`napari_gradcam.hotspots.hot_spots` takes voxels together."""


class Segments(NamedTuple):
    """The hot spots of a map.

    Attributes
    ----------
    spots
        The hot spots by rank.
    labels
        The rank of the hot spot that each voxel belongs to, 0 for none, uint8 on the native grid ``(i, j, k)``.
    """

    spots: tuple[HotSpot, ...]
    labels: NDArray[np.uint8]


def segments(explanation: Explanation, least: float) -> Segments:
    """Find the hot spots of a map and their voxels.

    Parameters
    ----------
    explanation
        The map.
    least
        The raw heat from which on a voxel belongs to one; see :func:`napari_gradcam.hotspots.hot_spots`.
    """
    spots = hot_spots(explanation, least)
    heat = explanation.heatmap
    labels = np.zeros_like(heat, dtype=np.uint8)
    for ones, hot in (
        ([spot for spot in spots if spot.peak.value > 0], heat >= np.float32(least)),
        ([spot for spot in spots if spot.peak.value < 0], heat <= np.float32(-least)),
    ):
        if not ones:
            continue
        box = _box(hot)
        # In the order of memory, which is several times faster.
        turned = heat.flags.f_contiguous
        parts, count = ndimage.label(hot[box].T if turned else hot[box], _TOUCHING)
        parts = parts.T if turned else parts
        ranks = np.zeros(count + 1, dtype=np.uint8)
        for spot in ones:
            i, j, k = (index - side.start for index, side in zip(spot.peak.index, box, strict=True))
            ranks[parts[i, j, k]] = spot.rank
        labels[box] += ranks[parts]
    return Segments(spots, labels)


def _box(hot: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Give the smallest box that holds all that is hot, of which there must be something."""
    flat = np.asarray(hot.any(axis=2))
    found = [np.flatnonzero(side) for side in (flat.any(axis=1), flat.any(axis=0), hot.any(axis=(0, 1)))]
    i, j, k = (slice(int(side[0]), int(side[-1]) + 1) for side in found)
    return i, j, k

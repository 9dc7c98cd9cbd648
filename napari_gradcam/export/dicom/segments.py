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
    labels = np.zeros(explanation.heatmap.shape, dtype=np.uint8, order="F")
    for sign in (1.0, -1.0):
        ones = [spot for spot in spots if np.sign(spot.peak.value) == sign]
        if ones:
            parts, count = ndimage.label(np.float32(sign) * explanation.heatmap >= np.float32(least), _TOUCHING)
            ranks = np.zeros(count + 1, dtype=np.uint8)
            for spot in ones:
                ranks[parts[spot.peak.index]] = spot.rank
            labels += ranks[parts]
    return Segments(spots, labels)

"""A heat map in bands: a label map, for contour lines and for programs that count voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BANDS = (0.4, 0.6, 0.8)
"""Lower edges of the bands as shares of the scale's top."""


def bands_of(heat: NDArray[np.float32], top: float, *, signed: bool = False) -> NDArray[np.uint8]:
    """Count the bands of a heat map.

    Parameters
    ----------
    heat
        Raw values, of any shape.
    top
        The raw value at the top of the scale, positive.
    signed
        Whether negative values are evidence too.

    Returns
    -------
    ndarray
        uint8 of the same shape: 0 below the first edge, then 1, 2 and 3; of a signed map 4, 5 and 6 for what is as
        strong on the negative side.
    """
    bands = np.zeros_like(heat, dtype=np.uint8)
    # np.digitize gives the same numbers ten times slower: it searches, and makes int64.
    for edge in BANDS:
        bands += heat >= np.float32(edge * top)
    if signed:
        for number, edge in enumerate(BANDS, start=len(BANDS) + 1):
            bands[heat <= np.float32(-edge * top)] = number
    return bands

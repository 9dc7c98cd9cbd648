"""Which grey values of a scan are shown black and white."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_gradcam.volumes.volume import Volume

HEADROOM = 0.25
"""How far white lies above the 99.5th percentile, as a fraction of the range from the 0.5th: a small bright finding is
less than half a percent of a scan and must not drown in white."""


def grey_limits(volume: Volume) -> tuple[float, float]:
    """Give the values shown black and white: the file's window, or the bulk of the volume with some headroom.

    Parameters
    ----------
    volume
        The scan; of a large one every nth voxel along each axis is looked at.

    Returns
    -------
    tuple of float
        Lowest and highest, in the scan's units; they always differ.
    """
    if volume.window is not None and volume.window.width > 0:
        low, high = volume.window.limits
        return float(low), float(high)
    step = max(1, round((volume.array.size / 1e6) ** (1 / 3)))
    values = np.asarray(volume.array[::step, ::step, ::step], dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    lowest, highest = float(values.min()), float(values.max())
    low, high = (low, min(highest, high + HEADROOM * (high - low))) if low < high else (lowest, highest)
    return (low, high) if low < high else (low - 0.5, low + 0.5)

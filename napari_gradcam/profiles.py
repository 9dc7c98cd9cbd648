"""The evidence of a heat map slice by slice, and which slices are hot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation


def slice_profile(explanation: Explanation, axis: int) -> NDArray[np.float64]:
    """Add up the positive evidence in each slice.

    Parameters
    ----------
    explanation
        Its heat map on the native grid.
    axis
        The native axis that the slices are counted along, 0, 1 or 2.

    Returns
    -------
    ndarray
        Each slice's share of all positive evidence, ``(slices,)``, in the order of that axis; they sum to 1, or are all
        0 where there is no positive evidence.
    """
    sums = explanation.evidence_by_slice[axis]
    total = float(sums.sum())
    return sums / total if total > 0 else sums


def scores_by_slice(explanation: Explanation, target: str) -> NDArray[np.float64] | None:
    """Give the probability of a class in each slice that a 2D classifier read.

    Parameters
    ----------
    explanation
        What was found.
    target
        The class.

    Returns
    -------
    ndarray or None
        In the order of the native axis ``explanation.slice_axis``; None where the classifier read the scan whole.
    """
    if explanation.slice_scores is None or explanation.slice_indices is None or explanation.slice_axis is None:
        return None
    scores = np.full(explanation.heatmap.shape[explanation.slice_axis], np.nan)
    scores[np.asarray(explanation.slice_indices)] = explanation.slice_scores[:, list(explanation.scores).index(target)]
    return scores


def hot_slices(explanation: Explanation, axis: int, at_least: float) -> NDArray[np.bool_]:
    """Tell which slices hold a voxel that is hot.

    Parameters
    ----------
    explanation
        Its heat map on the native grid.
    axis
        The native axis that the slices are counted along.
    at_least
        The raw heat from which on a voxel is hot.
    """
    hot: NDArray[np.bool_] = explanation.hottest_by_slice[axis] >= np.float32(at_least)
    return hot if at_least > 0 else np.zeros_like(hot)

"""How alike two heat maps of one scan are: by the order of their values, and by where they are hot."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation

SAMPLES = 200_000
"""Voxels that the rank correlation is taken over at most, on a coarser grid: all of a large scan would take seconds."""


@dataclass(frozen=True)
class Comparison:
    """Two heat maps side by side.

    Attributes
    ----------
    rank_correlation
        Spearman's ρ of the raw values, -1 to 1, over the voxels where either map is not zero (Adebayo et al. 2018
        compare maps so); None where there are none, or one of the maps is the same everywhere.
    overlap
        Dice coefficient of the two hot regions, 0 to 1; None where neither map is hot anywhere.
    """

    rank_correlation: float | None
    overlap: float | None


def compare(first: Explanation, second: Explanation, first_hot: float, second_hot: float) -> Comparison:
    """Compare two heat maps of the same scan.

    Parameters
    ----------
    first, second
        Two explanations on one native grid.
    first_hot, second_hot
        The raw heat from which on a voxel of each is called hot, positive.

    Raises
    ------
    GradCamError
        If the maps do not lie on the same grid.
    """
    a, b = first.heatmap, second.heatmap
    if a.shape != b.shape or not np.allclose(first.affine, second.affine):
        raise GradCamError("The two heat maps are not of the same scan: explain one scan twice to compare them.")
    return Comparison(_rank_correlation(a, b), _overlap(a >= np.float32(first_hot), b >= np.float32(second_hot)))


def _rank_correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float | None:
    each = (slice(None, None, ceil((a.size / SAMPLES) ** (1 / 3))),) * 3
    a, b = a[each], b[each]
    told = (a != 0) | (b != 0)
    first, second = a[told], b[told]
    if len(first) < 2 or first.min() == first.max() or second.min() == second.max():
        return None
    return float(spearmanr(first, second).statistic)


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float | None:
    hot = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return None if hot == 0 else 2 * int(np.count_nonzero(a & b)) / hot

"""What explain() answers: maps on the native grid, scores, and where the map is hottest."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from nibabel.affines import apply_affine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


METHODS: Mapping[str, str] = MappingProxyType(
    {
        "gradcam": "Grad-CAM",
        "gradcam++": "Grad-CAM++",
        "hirescam": "HiResCAM",
        "layercam": "LayerCAM",
        "xgradcam": "XGrad-CAM",
        "eigencam": "Eigen-CAM",
        "scorecam": "Score-CAM",
        "ablationcam": "Ablation-CAM",
        "occlusion": "Occlusion",
    }
)
"""The methods on offer, ``{name: label}``; here rather than in the engine, so that a list of them needs no torch."""


@dataclass(frozen=True)
class Peak:
    """The hottest voxel of a heat map."""

    index: tuple[int, int, int]
    """Voxel on the native grid, ``(i, j, k)``."""
    position: tuple[float, float, float]
    """Its centre in patient space, RAS+ mm."""
    value: float
    """The raw heat there."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a classifier gave a class its score, as a heat map in patient space.

    Attributes
    ----------
    heatmap
        float32 on the volume's native grid ``(i, j, k)``: raw values in the method's own unit, for most that of the
        class score before softmax or sigmoid, never scaled by their own maximum, so that two runs can be compared; zero
        outside of what the network saw. Negative values, in a signed map alone, are evidence against the class.
    affine
        The volume's affine: voxel index to RAS+ mm.
    coarse
        The map on the network's own grid, ``(a, b, c)``, float32. For a 2D classifier the last axis counts the slices.
    coarse_affine
        Index on that grid to RAS+ mm, 4 × 4; for a 2D classifier whose preprocessing cut each slice differently,
        one for each slice, ``(slices, 4, 4)``.
    scores, logits
        ``{class name: probability}`` and ``{class name: score before softmax or sigmoid}``, in the classifier's order.
    target, layer, method
        The class explained, the layer the map was taken at, and the method's name. Of several layers that were fused
        the names are joined by “ + ”; a map of the input itself has the layer “input”.
    volume_name, classifier_name
        What was explained, and by what.
    slice_scores
        For a 2D classifier, the probabilities of every slice, ``(slices, classes)``, in the order of `coarse`'s last
        axis.
    slice_axis
        For a 2D classifier, the axis of the native grid that the slices were cut along.
    signed
        Whether negative values, evidence against the class, were kept.
    completeness
        How far Σ gradient × activation over the layer is from class score − bias, as a share: rounding, below 1e-4,
        unless something is wrong. None where more than pooling and one linear layer lies after the layer, so that
        nothing can be said.
    parts
        Where several layers were fused, the explanation by each of them, ``{layer: Explanation}``.
    notices
        Whole sentences a reader of the map must know, the volume's own included.
    """

    heatmap: NDArray[np.float32]
    affine: NDArray[np.float64]
    coarse: NDArray[np.float32]
    coarse_affine: NDArray[np.float64]
    scores: Mapping[str, float]
    logits: Mapping[str, float]
    target: str
    layer: str
    method: str
    volume_name: str = ""
    classifier_name: str = ""
    slice_scores: NDArray[np.float32] | None = None
    slice_axis: int | None = None
    signed: bool = False
    completeness: float | None = None
    parts: Mapping[str, Explanation] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @cached_property
    def peak(self) -> Peak:
        """The hottest voxel of the heat map; the first one where several are equally hot."""
        i, j, k = (int(n) for n in np.unravel_index(int(self.heatmap.argmax()), self.heatmap.shape))
        x, y, z = (float(mm) for mm in apply_affine(self.affine, (i, j, k)))
        return Peak((i, j, k), (x, y, z), float(self.heatmap[i, j, k]))

    @property
    def is_empty(self) -> bool:
        """Whether there is no positive evidence for the class anywhere: nothing to show, and no noise to paint."""
        return not self.peak.value > 0

    @property
    def cell_size(self) -> tuple[float, float, float]:
        """Size of one cell of the network's own grid in mm, along the axes of `coarse`: nothing finer can be placed."""
        return cell_size(self.coarse_affine)


def cell_size(coarse_affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Size of one cell in mm along the axes of a map's own grid, from its affine or from those of its slices."""
    affine = coarse_affine if coarse_affine.ndim == 2 else coarse_affine[0]
    a, b, c = (float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return a, b, c

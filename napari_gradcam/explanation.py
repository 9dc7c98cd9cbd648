"""What explain() answers: maps on the native grid, scores, and where the map is hottest."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from nibabel.affines import apply_affine

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_gradcam.export.manner import Manner
    from napari_gradcam.provenance import Provenance
    from napari_gradcam.volumes.volume import Unit, Volume


BySlice = tuple["NDArray[np.float32]", "NDArray[np.float32]", "NDArray[np.float32]"]

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
    """Its centre in patient space, RAS+ mm; without meaning where no file places the scan there."""
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
    cell_span
        How many cells of `coarse` one cell of the network's own grid covers, along its axes. More than 1 where the
        network read window by window: those maps were summed at the resolution of its input.
    scores, logits
        ``{class name: probability}`` and ``{class name: score before softmax or sigmoid}``, in the classifier's order.
    target, layer, method
        The class explained, the layer the map was taken at, and the method's name. Of several layers that were fused
        the names are joined by “ + ”; a map of the input itself has the layer “input”.
    volume_name, classifier_name
        What was explained, and by what.
    plane
        For a 2D classifier on a volume, the slices it read: ``"axial"``, ``"coronal"`` or ``"sagittal"``; else empty.
    slice_scores
        For a 2D classifier, the probabilities of every slice, ``(slices, classes)``, in the order of `coarse`'s last
        axis.
    slice_axis
        For a 2D classifier, the axis of the native grid that the slices were cut along.
    slice_indices
        For a 2D classifier, where each slice stands along it, in the order of `slice_scores`.
    in_patient_space
        Whether the scan says where in the patient it lies; else positions are those of a convention for the screen, and
        none may be told.
    unit
        What lengths and positions are measured in: ``"mm"``, or ``"pixels"`` of a picture that does not say its size.
    signed
        Whether negative values, evidence against the class, were kept.
    against
        The class whose evidence was taken off (:func:`napari_gradcam.contrast.opposed`): positive values speak for
        `target` rather than for it, negative ones for it rather than for `target`. Empty as a rule.
    completeness
        How far Σ gradient × activation over the layer is from class score − bias, as a share: rounding, below 1e-4,
        unless something is wrong. None where more than pooling and one linear layer lies after the layer, so that
        nothing can be said.
    parts
        Where several layers were fused, the explanation by each of them, ``{layer: Explanation}``.
    notices
        Whole sentences a reader of the map must know, the volume's own included.
    volumes
        The scans that were read, in the order of the network's channels; the map lies on the grid of the first.
    provenance
        How it was made; None of a map that was put together by hand.
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
    cell_span: tuple[float, ...] = (1.0, 1.0, 1.0)
    plane: str = ""
    slice_scores: NDArray[np.float32] | None = None
    slice_axis: int | None = None
    slice_indices: range | None = None
    in_patient_space: bool = True
    unit: Unit = "mm"
    signed: bool = False
    against: str = ""
    completeness: float | None = None
    parts: Mapping[str, Explanation] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = field(default=(), repr=False)
    provenance: Provenance | None = None

    @property
    def volume(self) -> Volume:
        """The scan that the map lies on.

        Raises
        ------
        GradCamError
            If the map was put together by hand, without one.
        """
        if not self.volumes:
            raise GradCamError("The map does not say which scan it is of: give its volumes, as explain() does.")
        return self.volumes[0]

    @cached_property
    def peak(self) -> Peak:
        """The hottest voxel of the heat map; the first one in memory where several are equally hot."""
        # NumPy copies a Fortran array to search it, which takes longer than the search.
        heat = self.heatmap.T if self.heatmap.flags.f_contiguous else self.heatmap
        place = np.unravel_index(int(heat.argmax()), heat.shape)
        i, j, k = (int(n) for n in (place[::-1] if heat is not self.heatmap else place))
        x, y, z = (float(mm) for mm in apply_affine(self.affine, (i, j, k)))
        return Peak((i, j, k), (x, y, z), float(self.heatmap[i, j, k]))

    def save(
        self,
        folder: Path | str,
        formats: Sequence[str] | None = None,
        manner: Manner | None = None,
        *,
        overwrite: bool = False,
    ) -> list[Path]:
        """Save it as files; see :func:`napari_gradcam.export.save`."""
        from napari_gradcam.export import DEFAULT, save

        return save(self, folder, DEFAULT if formats is None else formats, manner, overwrite=overwrite)

    @property
    def is_empty(self) -> bool:
        """Whether there is no positive evidence for the class anywhere: nothing to show, and no noise to paint."""
        return not self.peak.value > 0

    @cached_property
    def strongest(self) -> float:
        """The largest raw value, of a signed map for or against the class; 0 where there is nothing to show."""
        opposed = -float(self.heatmap.min()) if self.signed else 0.0
        return max(self.peak.value, opposed, 0.0)

    @cached_property
    def hottest_by_slice(self) -> BySlice:
        """The largest raw value in each slice along each axis of the native grid, three arrays ``(slices,)``."""
        along_ij = self.heatmap.max(axis=2)
        return along_ij.max(axis=1), along_ij.max(axis=0), self.heatmap.max(axis=(0, 1))

    @cached_property
    def coldest_by_slice(self) -> BySlice:
        """The smallest raw value in each slice, likewise."""
        along_ij = self.heatmap.min(axis=2)
        return along_ij.min(axis=1), along_ij.min(axis=0), self.heatmap.min(axis=(0, 1))

    @cached_property
    def evidence_by_slice(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The sum of the positive values in each slice along each axis, likewise."""
        heat = self.heatmap
        along_ij = np.sum(heat, axis=2, where=heat > 0, dtype=np.float64)
        along_k: NDArray[np.float64] = np.sum(heat, axis=(0, 1), where=heat > 0, dtype=np.float64)
        return along_ij.sum(axis=1), along_ij.sum(axis=0), along_k

    @property
    def cell_size(self) -> tuple[float, float, float]:
        """Size of one cell of the network's own grid in `unit`, along the axes of `coarse`; it places nothing finer."""
        return cell_size(self.coarse_affine, self.cell_span)


def cell_size(
    coarse_affine: NDArray[np.float64], span: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[float, float, float]:
    """Size of one cell of the network's own grid along the axes of a map.

    Parameters
    ----------
    coarse_affine
        Index on the map to RAS+ mm, or one for each of its slices.
    span
        How many cells of the map it covers along each axis.
    """
    affine = coarse_affine if coarse_affine.ndim == 2 else coarse_affine[0]
    a, b, c = (float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0) * np.asarray(span))
    return a, b, c

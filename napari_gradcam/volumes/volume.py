"""A scan in patient space.

Vocabulary of this package
--------------------------
native grid
    The voxel grid as stored, indices ``(i, j, k)``. Heat maps are given on it; nothing is ever resampled to display it.
affine
    4 × 4, voxel index to patient position in mm, axes RAS+ (+x to the patient's Right,
    +y to Anterior, +z to Superior), NIfTI's and nibabel's convention. DICOM's own is LPS+.
display grid
    The native grid with its axes reordered and flipped, never resampled, so that they run to the patient's Inferior,
    Posterior and Left: what napari shows upright (see :mod:`napari_gradcam.volumes.orientation`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class Window(NamedTuple):
    """How grey values are shown: DICOM Window Center (0028,1050) and Window Width (0028,1051), in the scan's units."""

    center: float
    width: float

    @property
    def limits(self) -> tuple[float, float]:
        """The values shown black and white, lowest first."""
        return self.center - self.width / 2, self.center + self.width / 2


@dataclass(frozen=True, eq=False)
class Volume:
    """One scalar scan on its native grid.

    Attributes
    ----------
    array
        Values, shape ``(i, j, k)``, in the scan's own units (HU for CT) after rescale slope and intercept; of a scan
        in colours, their brightness.
    affine
        Voxel index to RAS+ mm, 4 × 4 float64; a gantry tilt keeps its shear here.
    modality
        DICOM Modality (0008,0060) such as ``"CT"`` or ``"MR"``; empty where the file does not say.
    name
        What a person may call it by; holds no patient name, birth date or ID.
    window
        The window of the file, or None where it has none.
    source
        The files it was read from, in slice order for a series.
    notices
        Whole sentences that a reader of the picture must know (a tilt, an obliquity, a choice between two forms).
    in_patient_space
        Whether the file says where in the patient the scan lies. Where it does not, the affine's directions are a
        convention for the screen: no orientation letter may be shown and no position may be named.
    color
        The colours of a scan that has some, ``(i, j, k, 3)``, red, green and blue from 0 to 255; else None.

    Raises
    ------
    GradCamError
        If the array is not three-dimensional, is empty, or the affine is not an invertible 4 × 4, or the colours are
        not those of the array.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    modality: str = ""
    name: str = ""
    window: Window | None = None
    source: tuple[Path, ...] = ()
    notices: tuple[str, ...] = field(default=())
    in_patient_space: bool = True
    color: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        """Refuse what is no volume; keep the affine as float64."""
        affine = np.array(self.affine, dtype=np.float64)
        label = f"“{self.name}”" if self.name else "The array"
        if self.array.ndim != 3 or self.array.size == 0:
            shape = " × ".join(map(str, self.array.shape)) or "a single number"
            raise GradCamError(
                f"{label} is not a volume: its shape is {shape}; give one scalar volume with three axes."
            )
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            raise GradCamError(f"{label} has no usable affine: give an invertible 4 × 4 from voxel index to RAS+ mm.")
        if self.color is not None and (self.color.shape != (*self.array.shape, 3) or self.color.dtype != np.uint8):
            raise GradCamError(
                f"{label} has colours of another size or type than its voxels; give uint8, (i, j, k, 3)."
            )
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(i, j, k)``."""
        i, j, k = self.array.shape
        return i, j, k

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along ``(i, j, k)`` in mm, the lengths of the affine's columns."""
        i, j, k = voxel_sizes(self.affine)
        return float(i), float(j), float(k)

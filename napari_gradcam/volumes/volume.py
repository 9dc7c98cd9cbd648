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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.values import brightness, colours, finite

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


Unit = Literal["mm", "pixels"]
"""What the lengths of a scan are measured in."""

SCREEN = np.array([[0.0, 0.0, -1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
"""The affine of what has no place in a patient: its axes run as those of the display grid do, so that ``(1, row,
column)`` is shown upright."""
SCREEN.setflags(write=False)


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
    unit
        What the affine's lengths are measured in: ``"mm"``; or ``"pixels"`` of an ordinary picture, one voxel thick,
        which does not say its size and has no place in a patient.
    instances
        DICOM Instance Number (0020,0013) of each slice, in the order of the third axis, None for one that has none;
        empty where slices have none of their own.
    frame
        Which volume or picture of its files it is, from 1, where they hold several one after another; else None.
    resampled
        Whether its slices were interpolated onto an even grid.

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
    unit: Unit = "mm"
    instances: tuple[int | None, ...] = ()
    frame: int | None = None
    resampled: bool = False

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
        if self.unit == "pixels" and (self.in_patient_space or 1 not in self.array.shape):
            raise GradCamError(
                f"{label} is measured in pixels, as a picture without a place in a patient is: give one that is one "
                "voxel thick, in_patient_space=False."
            )
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def of_picture(cls, pixels: NDArray[Any], name: str = "") -> Volume:
        """Make a scan of an ordinary picture, such as ``numpy.asarray(PIL.Image.open(path))`` gives.

        It is measured in pixels and has no place in a patient. A network reads its rows and columns upright.

        Parameters
        ----------
        pixels
            ``(row, column)`` of grey values, or ``(row, column, 3)`` of colours, uint8 from 0 to 255 or fractions from
            0 to 1; a fourth channel, the transparency, is left out.
        name
            What a person may call it by.

        Raises
        ------
        GradCamError
            If it is no such array.
        """
        pixels = np.asarray(pixels)
        in_colours = pixels.ndim == 3 and pixels.shape[2] in (3, 4)
        if not (pixels.ndim == 2 or in_colours) or pixels.size == 0 or pixels.dtype.kind not in "iufb":
            shape = " × ".join(map(str, pixels.shape)) or "a single number"
            raise GradCamError(
                f"{f'“{name}”' if name else 'The array'} is not a picture ({shape}, {pixels.dtype}): give (row, "
                "column) of grey values, or (row, column, 3) of colours."
            )
        if in_colours and pixels.dtype.kind in "iu" and pixels.dtype != np.uint8:
            raise GradCamError(
                f"The picture holds colours as {pixels.dtype}, whose brightest is not said: convert them to uint8."
            )
        color, told = colours(pixels[None]) if in_colours else (None, ())
        grey = pixels[None].astype(np.uint8) if pixels.dtype.kind == "b" else pixels[None]
        array, broken = finite(brightness(color) if color is not None else grey, f"“{name}”")
        return cls(
            array, SCREEN, name=name, notices=(*told, *broken), in_patient_space=False, color=color, unit="pixels"
        )

    def instance(self, index: tuple[int, int, int]) -> int | None:
        """Give the Instance Number of the slice that holds a voxel; None where there is none."""
        return self.instances[index[2]] if index[2] < len(self.instances) else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(i, j, k)``."""
        i, j, k = self.array.shape
        return i, j, k

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along ``(i, j, k)`` in `unit`, the lengths of the affine's columns."""
        i, j, k = voxel_sizes(self.affine)
        return float(i), float(j), float(k)

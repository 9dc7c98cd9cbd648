"""What there is to read: each scan by itself, described before a single voxel is read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nibabel.affines import voxel_sizes

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import finish

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_gradcam.progress import Steps
    from napari_gradcam.volumes.volume import Unit, Volume


class Reader(Protocol):
    """Reads the voxels of a scan."""

    def __call__(self, frame: int, *, resample: bool) -> Steps[Volume]:
        """Read a frame, from 0, in steps; `resample` puts uneven slices on an even grid."""


class Person(NamedTuple):
    """Whose scan it is; shown to those who ask for it alone."""

    name: str = ""
    identifier: str = ""
    born: str = ""


@dataclass(frozen=True)
class Series:
    """Where a scan stands among others, said without saying whose it is.

    Attributes
    ----------
    patient, study
        Numbers of the patient and of the patient's study in the list, from 1; 0 where the file names none.
    study_description
        DICOM Study Description (0008,1030), "" where it is empty or names the patient.
    description
        Series Description (0008,103E), likewise.
    number
        Series Number (0020,0011) as written, "" where there is none.
    position
        Patient Position (0018,5100), such as ``"HFS"``: how the patient lay on the table.
    person
        Whose it is.
    """

    patient: int = 0
    study: int = 0
    study_description: str = ""
    description: str = ""
    number: str = ""
    position: str = ""
    person: Person = field(default=Person(), repr=False)


@dataclass(frozen=True, eq=False)
class Scan:
    """One volume that can be read, or what keeps it from being read.

    Attributes
    ----------
    name
        What a person may call it by; holds no patient name, birth date or ID.
    modality
        DICOM Modality (0008,0060) such as ``"CT"``; "" where the file does not say.
    images
        How many pictures it is made of.
    shape
        Voxels along ``(i, j, k)``; None where that is not known.
    affine
        Voxel index to RAS+ mm, 4 × 4; None where the pictures make no grid.
    in_patient_space
        Whether the file says where in the patient it lies.
    frames
        How many volumes or pictures it holds one after another (over time, say), of which one is read at a time.
    series
        Where it stands among others; None for a NIfTI file.
    aside
        What it is where it was made beside a scan and is none by itself: "localizer", "segmentation", "radiotherapy
        dose", "derived" of a single image computed from others; else "".
    notices
        Whole sentences that a reader of the picture must know.
    problem
        Why it cannot be read, one sentence; None where it can.
    resampling
        Whether `problem` is that slices are missing or unevenly spaced, so that it can be read with ``resample``.
    unit
        What its lengths are measured in: ``"pixels"`` of a picture that does not say its size.
    source
        Its files, in slice order.
    reader
        Reads its voxels.
    """

    name: str
    modality: str
    images: int
    shape: tuple[int, int, int] | None
    affine: NDArray[np.float64] | None
    source: tuple[Path, ...]
    reader: Reader
    in_patient_space: bool = True
    frames: int = 1
    series: Series | None = None
    aside: str = ""
    notices: tuple[str, ...] = ()
    problem: str | None = None
    resampling: bool = False
    unit: Unit = "mm"

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Distance between voxel centres along ``(i, j, k)`` in mm."""
        if self.affine is None:
            return None
        i, j, k = voxel_sizes(self.affine)
        return float(i), float(j), float(k)

    def read(self, frame: int | None = None, *, resample: bool = False) -> Volume:
        """Read the voxels; see :meth:`steps`."""
        return finish(self.steps(frame, resample=resample))

    def steps(self, frame: int | None = None, *, resample: bool = False) -> Steps[Volume]:
        """Read the voxels in steps.

        Parameters
        ----------
        frame
            Which of `frames`, from 1; the first where it is None, and a notice of the volume says so.
        resample
            Read slices that are missing or unevenly spaced on an even grid, interpolated between their neighbours.

        Raises
        ------
        GradCamError
            If the scan has a problem, the frame does not exist, or the voxels are damaged.
        """
        if self.problem is not None and not (resample and self.resampling):
            raise GradCamError(self.problem)
        number = 1 if frame is None else frame
        if not 1 <= number <= self.frames:
            held = "one frame" if self.frames == 1 else f"{self.frames} frames"
            raise GradCamError(f"“{self.name}” holds {held}: there is no frame {number}.")
        volume = yield from self.reader(number - 1, resample=resample)
        if self.problem is not None:
            volume = replace(volume, resampled=True)
        if self.frames == 1:
            return volume
        holder = "series" if len(self.source) > 1 else "file"
        told = f"The {holder} holds {self.frames} frames one after another; this is frame {number}."
        return replace(volume, frame=number, notices=(told, *volume.notices))


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The scans among some files.

    Attributes
    ----------
    label
        What was searched, as it is called in a sentence.
    scans
        What was found, by patient, study and series.
    notices
        Whole sentences about what was left out.
    """

    label: str
    scans: tuple[Scan, ...]
    notices: tuple[str, ...] = ()

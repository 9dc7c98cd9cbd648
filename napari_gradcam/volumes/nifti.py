"""NIfTI files: their header described as a scan, and its voxels as a volume."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.nifti_voxels import Packing, Stored, read_voxels
from napari_gradcam.volumes.orientation import OBLIQUE_DEGREES, obliquity, obliquity_notices
from napari_gradcam.volumes.scan import Scan
from napari_gradcam.volumes.values import finite
from napari_gradcam.volumes.volume import Volume, Window
from napari_gradcam.volumes.wording import reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_gradcam.progress import Steps

NIFTI_ENDINGS = tuple(kind + packing for kind in (".nii", ".hdr", ".img") for packing in ("", ".gz", ".bz2"))
"""How the names of NIfTI files end, in any case."""

FORMS_APART_MM = 1.0
"""sform and qform that put a corner of the scan further apart than this are said to differ."""

_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_FURTHEST_MM = 1e9
"""A thousand kilometres: what an affine that reaches further describes is no body."""

_SIZE_1, _SIZE_2 = 348, 540
"""Bytes of a header, which are its own first number."""
_MAGIC_1 = (b"n+1\x00", b"ni1\x00")
_MAGIC_2 = (b"n+2\x00", b"ni2\x00")

_RGB_VECTOR, _RGBA_VECTOR, _VECTOR = 2003, 2004, 1007
"""Intents that make bytes along the fifth axis colours; ITK writes pictures in colours as the last."""

_CIFTI = range(3000, 3100)
"""Intents of CIFTI-2, which borrows NIfTI-2's header."""


def is_nifti(path: Path) -> bool:
    """Tell by content whether a file is NIfTI, packed or not; of a pair, either file by what the header holds."""
    try:
        head = _first_bytes(_pair(path)[0])
    except Exception:  # what cannot be unpacked is none
        return False
    return head[344:348] in _MAGIC_1 or head[4:8] in _MAGIC_2


def read_nifti(path: str | PathLike[str], frame: int | None = None) -> Volume:
    """Read one volume from a NIfTI-1 or NIfTI-2 file; see :func:`nifti_scan`.

    Parameters
    ----------
    path
        ``.nii`` or either file of a ``.hdr`` and ``.img`` pair, packed by gzip or bzip2 or not.
    frame
        Which of the file's frames, from 1; the first where it is None.

    Returns
    -------
    Volume
        Of the file's own axes ``(i, j, k)``; a single picture has one slice. NIfTI does not say the modality.

    Raises
    ------
    GradCamError
        If the file is damaged, holds no picture, or has no such frame.
    """
    return nifti_scan(path).read(frame)


def nifti_scan(path: str | PathLike[str]) -> Scan:
    """Describe what a NIfTI-1 or NIfTI-2 file holds, from its header alone.

    The affine is nibabel's choice: sform where its code is set, else qform. Axes after the third, of any meaning, are
    frames, the fourth running fastest. Whole numbers stay as stored (int16 stays int16) unless slope and intercept make
    others of them; fractions are float32. Colours are kept beside their brightness, and complex numbers are read as
    their magnitude.

    Parameters
    ----------
    path
        ``.nii`` or either file of a ``.hdr`` and ``.img`` pair, packed by gzip or bzip2 or not.

    Returns
    -------
    Scan
        Reading it raises GradCamError where the voxels are damaged.

    Raises
    ------
    GradCamError
        If the header is damaged or contradicts the file's size, or the file holds no picture.
    """
    path = Path(fspath(path))
    if not path.name.lower().endswith(NIFTI_ENDINGS):
        raise GradCamError(f"“{path}” does not end in .nii or .nii.gz, by which a NIfTI file is known: rename it.")
    described, voxels = _pair(path)
    for one, other in ((described, voxels), (voxels, described)):
        if path.exists() and not one.exists():
            raise GradCamError(f"“{one}” does not exist: “{other.name}” is one of a pair and needs it beside it.")
    with _said_of(path), np.errstate(all="ignore"):  # the numbers of a damaged header are judged, not computed with
        header, mended = _header(path, described)
        affine, placed, notices = _geometry(path, header)
        stored, told = _stored(path, header, voxels, single=described == voxels)
    name, window, source = _stem(path), None if stored.channels else _window(header), (path,)
    notices = (*notices, *mended, *told)

    def read(frame: int, *, resample: bool) -> Steps[Volume]:
        del resample  # the grid of a NIfTI file is even
        voxels = yield from read_voxels(stored, frame)
        with np.errstate(all="ignore"):
            array, broken = finite(voxels.array, f"“{path}”")
        return Volume(
            array=array,
            affine=affine,
            name=name,
            window=window,
            source=source,
            notices=(*notices, *voxels.notices, *broken),
            in_patient_space=placed,
            color=voxels.color,
        )

    return Scan(
        name=name,
        modality="",
        images=stored.shape[2],
        shape=stored.shape,
        affine=affine,
        source=source,
        reader=read,
        in_patient_space=placed,
        frames=stored.frames,
        notices=notices,
    )


def _pair(path: Path) -> tuple[Path, Path]:
    """Give the file that holds the header, and the one that holds the voxels."""
    parts = re.fullmatch(r"(.*\.)(hdr|img)(\.gz|\.bz2)?", path.name, re.IGNORECASE | re.DOTALL)
    if not parts:
        return path, path
    stem, kind, packing = parts[1], parts[2], parts[3] or ""
    wanted = "img" if kind.lower() == "hdr" else "hdr"
    others = [
        path.with_name(f"{stem}{wanted.upper() if kind.isupper() else wanted}{ending}")
        for ending in dict.fromkeys((packing, "", ".gz", ".bz2"))
    ]
    other = next((one for one in others if one.exists()), others[0])
    return (path, other) if wanted == "img" else (other, path)


def _stem(path: Path) -> str:
    name = path.name
    for ending in (".gz", ".bz2", ".nii", ".hdr", ".img"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name or path.name


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    """Make one sentence of what goes wrong with a header."""
    try:
        yield
    except GradCamError:
        raise
    except FileNotFoundError as error:
        raise GradCamError(f"“{error.filename or path}” does not exist: check the path.") from error
    except Exception as error:  # nibabel, gzip and the file system raise a dozen types on damaged headers
        raise GradCamError(f"“{path}” cannot be read as NIfTI ({reason(error)}): export the scan again.") from error


def _first_bytes(path: Path) -> bytes:
    """Give as many bytes as the longest header has."""
    with Packing.of(path).open(path) as stream:
        return stream.read(_SIZE_2) or b""


def _header(path: Path, described: Path) -> tuple[Any, tuple[str, ...]]:
    """Read the header by nibabel, and say what nibabel mended in it.

    Extensions are not read: they hold nothing about the picture, but may hold all about the patient.
    """
    raw = _first_bytes(described)
    kinds = {
        np.array(size, f"{sign}i4").tobytes(): (kind, size, sign)
        for kind, size in ((Nifti1Header, _SIZE_1), (Nifti2Header, _SIZE_2))
        for sign in "<>"
    }
    kind, size, sign = kinds.get(raw[:4], (None, 0, ""))
    if kind is None or len(raw) < size:
        raise GradCamError(
            f"“{path}” is not NIfTI, or its header is damaged (it does not begin with its own size, 348 or 540): copy "
            "or export the scan again."
        )
    if size == _SIZE_1 and raw[344:348] not in _MAGIC_1:
        raise GradCamError(
            f"“{path}” is Analyze, not NIfTI, and does not say left from right reliably: convert the original scan to "
            "NIfTI or give its DICOM files."
        )
    header = kind(raw[:size], sign, check=False)
    if not 1 <= header["dim"][0] <= 7:
        raise GradCamError(
            f"“{path}” says it has {header['dim'][0]} axes, where NIfTI has 1 to 7: its header is damaged; export the "
            "scan again."
        )
    dtype = header.get_data_dtype()
    if dtype.kind not in "iufc" and not dtype.names:  # bits; on most computers, also numbers of 128 bits
        raise GradCamError(
            f"“{path}” holds numbers of a type that cannot be computed with here "
            f"({header.get_value_label('datatype')}): save it as 32-bit numbers."
        )
    sizes = header["pixdim"][1:4].tolist()
    mended = _mend(header)
    unsized = [size for size, count in zip(sizes, header.get_data_shape(), strict=False) if count > 1 and not size > 0]
    if unsized and header["qform_code"] and not header["sform_code"]:
        raise GradCamError(
            f"“{path}” gives {unsized[0]:g} as a voxel size (pixdim), by which its qform places the scan: mend its "
            "header or export the scan again."
        )
    return header, mended


def _mend(header: Any) -> tuple[str, ...]:
    """Let nibabel mend a header, and say what it mended."""
    said: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # A qfac of 0 is common and means 1, as the standard has it; SPM's wish for the offset changes nothing.
            if not re.search("qfac|SPM", record.getMessage()):
                said.append(record.getMessage())

    logger = logging.Logger("NIfTI header", logging.WARNING)  # one of our own: nibabel's prints on the terminal
    logger.addHandler(Collector())
    header.check_fix(logger, error_level=40)
    return (f"The file's header was mended in reading ({'; '.join(said)}).",) if said else ()


def _stored(path: Path, header: Any, voxels: Path, *, single: bool) -> tuple[Stored, tuple[str, ...]]:
    """Find where the voxels lie and as what, and what must be said about it; refuse what is no picture."""
    whole, dtype = tuple(int(count) for count in header.get_data_shape()), header.get_data_dtype()
    written = " × ".join(map(str, whole))
    if min(whole) < 1:
        raise GradCamError(f"“{path}” holds no voxels (its shape is {written}): export the scan again.")
    if len(whole) < 2:
        raise GradCamError(f"“{path}” is not a picture: it holds {written} numbers in a row; give a scan.")
    if int(header["intent_code"]) in _CIFTI:
        raise GradCamError(f"“{path}” is CIFTI: it holds measurements on a surface, not a picture; give a scan.")
    channels, planar = _channels(header, whole, dtype)
    slope, intercept = header.get_slope_inter()
    i, j, k = (*whole, 1)[:3]
    stored = Stored(
        path=voxels,
        packing=Packing.of(voxels),
        offset=_offset(path, header, single=single),
        shape=(i, j, k),
        frames=1 if planar else prod(whole[3:]),
        dtype=np.dtype(np.uint8) if channels else dtype,
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        channels=channels,
        planar=planar,
    )
    expected = stored.offset + stored.frames * stored.frame_bytes
    if expected > voxels.stat().st_size * stored.packing.value:
        raise GradCamError(
            f"“{path}” is cut short or damaged (the header promises {expected:,} bytes, more than the file has): copy "
            "or download it again."
        )
    return stored, _value_notices(dtype, channels)


def _channels(header: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, bool]:
    """Count the colour channels, and tell whether each of them is a volume of its own."""
    if dtype.names:
        return len(dtype.names), False
    vectors = ((_VECTOR, 3), (_RGB_VECTOR, 3), (_RGBA_VECTOR, 4))
    if dtype == np.uint8 and shape[3:4] == (1,) and (int(header["intent_code"]), *shape[4:]) in vectors:
        return shape[4], True
    return 0, False


def _offset(path: Path, header: Any, *, single: bool) -> int:
    """Give the bytes before the first voxel."""
    least, offset = int(header.single_vox_offset) if single else 0, float(header["vox_offset"])
    if offset == 0:
        return least
    if not offset >= least or offset % 1:
        raise GradCamError(
            f"“{path}” says that its voxels begin at byte {offset:g}, where they cannot (vox_offset): its header is "
            "damaged; export the scan again."
        )
    return int(offset)


def _value_notices(dtype: np.dtype[Any], channels: int) -> tuple[str, ...]:
    if dtype.kind == "c":
        return ("The file holds complex numbers; this is their magnitude.",)
    return ("The colours' transparency is left out.",) if channels == 4 else ()


def _geometry(path: Path, header: Any) -> tuple[NDArray[np.float64], bool, tuple[str, ...]]:
    """Give the affine in mm, whether the file places the scan in the patient, and what must be said about it."""
    affine = np.array(header.get_best_affine(), dtype=np.float64)
    placed, notices = True, []
    if not header["sform_code"] and not header["qform_code"]:
        placed = False
        notices.append(
            "The file does not say how the scan lies in the patient (neither sform nor qform is set): left and right, "
            "and every position, are unknown."
        )
    elif header["sform_code"] and header["qform_code"]:
        notices += _differing(affine, header)
    try:
        unit = header.get_xyzt_units()[0]
    except KeyError:
        unit = "unknown"
    if unit in _MM_PER_UNIT:
        affine[:3] *= _MM_PER_UNIT[unit]
        notices.append(f"The file gives its geometry in {unit}s; it was converted to mm.")
    # Volume would refuse the worst of it too, but could not name the file.
    if not np.abs(affine).max() <= _FURTHEST_MM or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise GradCamError(f"“{path}” has no usable geometry: its affine cannot be inverted; mend its sform or qform.")
    return affine, placed, (*notices, *(_leaning(affine) if placed else ()))


def _differing(affine: NDArray[np.float64], header: Any) -> list[str]:
    """Say by how much the form that is not taken differs from the one that is."""
    try:
        apart = _corners_apart(affine, header.get_qform(), header.get_data_shape())
    except Exception:  # a qform of nonsense is not what places the scan
        apart = np.inf
    if not apart <= _FURTHEST_MM:
        return ["The file's qform cannot be read; its sform places the scan."]
    if apart > FORMS_APART_MM:
        return [f"The file's sform and qform differ by up to {apart:.0f} mm: the sform places the scan here."]
    return []


def _corners_apart(one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    i, j, k = (*shape, 1, 1)[:3]
    corners = np.array(np.meshgrid((0, i - 1), (0, j - 1), (0, k - 1), indexing="ij")).reshape(3, -1)
    between = (one - other)[:3, :3] @ corners + (one - other)[:3, 3:]
    return float(np.linalg.norm(between, axis=0).max())


def _leaning(affine: NDArray[np.float64]) -> tuple[str, ...]:
    """Say that the axes are not at right angles, and that they are oblique where that does not say as much already."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs((axes.T @ axes)[np.triu_indices(3, 1)])
    shear = float(np.degrees(np.arcsin(min(cosines.max(), 1.0))))
    if shear < OBLIQUE_DEGREES:
        return obliquity_notices(affine)
    told = (
        f"The scan's axes are sheared by {shear:.1f}°: the picture is drawn without this shear; positions and exported "
        "files keep it."
    )
    return (told,) if obliquity(affine) < shear + 0.5 else (told, *obliquity_notices(affine))


def _window(header: Any) -> Window | None:
    """Give the display range of the header, cal_min to cal_max, where it has one."""
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return Window((low + high) / 2, high - low) if np.isfinite((low, high)).all() and high > low else None

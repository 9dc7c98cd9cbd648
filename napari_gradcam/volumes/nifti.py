"""NIfTI files to volumes, by nibabel."""

from __future__ import annotations

import gzip
import logging
import zlib
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.orientation import obliquity_notices
from napari_gradcam.volumes.values import Scaling, Values, finite
from napari_gradcam.volumes.volume import Volume, Window
from napari_gradcam.volumes.wording import reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

NIFTI_ENDINGS = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz", ".nii.bz2")
"""How the names of NIfTI files end; nibabel goes by them."""

FORMS_APART_MM = 1.0
"""sform and qform that put a corner of the scan further apart than this are said to differ."""

_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_LARGEST_RATIO = 1100
"""gzip packs at most 1,032 bytes into one: a header that promises more than this cannot be true."""

_MAGIC_1 = (b"n+1\x00", b"ni1\x00")
_MAGIC_2 = (b"n+2\x00", b"ni2\x00")


def is_nifti(path: Path) -> bool:
    """Tell by content whether a file is a NIfTI header or a whole NIfTI file, packed by gzip or not."""
    head = _first_bytes(path, 348)
    return head[344:348] in _MAGIC_1 or head[4:8] in _MAGIC_2


def read_nifti(path: str | PathLike[str]) -> Volume:
    """Read one scalar volume from a NIfTI-1 or NIfTI-2 file.

    Whole numbers stay as stored (int16 stays int16) unless slope and intercept make fractions of them; fractions
    are float32. The affine is nibabel's choice: sform where its code is set, else qform.

    Parameters
    ----------
    path
        ``.nii``, ``.nii.gz``, or either file of a ``.hdr`` and ``.img`` pair.

    Returns
    -------
    Volume
        Of the file's own axes ``(i, j, k)``; a single picture has one slice. NIfTI does not say the modality.

    Raises
    ------
    GradCamError
        If the file is damaged, or holds several volumes, colours or complex numbers.
    """
    path = Path(fspath(path))
    if not path.name.lower().endswith(NIFTI_ENDINGS):
        raise GradCamError(f"“{path}” does not end in .nii or .nii.gz, by which a NIfTI file is known: rename it.")
    image, mended = _open(path)
    affine, placed, notices = _geometry(image)
    shape = _scalar_shape(path, image)
    array, broken = _values(path, image, shape)
    # 4 × 4 of a header full of nonsense: Volume would refuse it too, but could not name the file.
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise GradCamError(f"“{path}” has no usable geometry: its affine cannot be inverted; mend its sform or qform.")
    if placed:
        notices += obliquity_notices(affine)
    return Volume(
        array=array,
        affine=affine,
        name=_stem(path),
        window=_window(image.header),
        source=(path,),
        notices=(*notices, *mended, *broken),
        in_patient_space=placed,
    )


def _first_bytes(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(count)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path) as unpacked:
                head = unpacked.read(count)
    except (OSError, EOFError, zlib.error):
        return b""
    return head


def _stem(path: Path) -> str:
    name = path.name
    for ending in (".gz", ".nii", ".hdr", ".img"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name or path.name


def _open(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Read the header by nibabel, and say what nibabel mended in it."""
    import nibabel

    try:
        with _mended() as mended:
            image = nibabel.load(path)
    except FileNotFoundError as error:
        raise GradCamError(f"“{error.filename or path}” does not exist: check the path.") from error
    except Exception as error:  # nibabel raises a dozen types on damaged headers
        raise GradCamError(f"“{path}” cannot be read as NIfTI ({reason(error)}): export the scan again.") from error
    if not isinstance(image, nibabel.Nifti1Pair):
        raise GradCamError(
            f"“{path}” is {type(image).__name__.replace('Image', '')}, not NIfTI, and does not say left from right "
            "reliably: convert the original scan to NIfTI or give its DICOM files."
        )
    notices = (f"The file's header was mended in reading ({'; '.join(mended)}).",) if mended else ()
    return image, notices


@contextmanager
def _mended() -> Iterator[list[str]]:
    """Collect what nibabel would print on the terminal: what it mends in a header."""
    from nibabel.imageglobals import logger

    said: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # A qfac of 0 is common and means 1, as the standard has it: nothing is mended.
            if "qfac" not in record.getMessage():
                said.append(record.getMessage())

    handlers, collector = list(logger.handlers), Collector()
    for handler in handlers:
        logger.removeHandler(handler)
    logger.addHandler(collector)
    try:
        yield said
    finally:
        logger.removeHandler(collector)
        for handler in handlers:
            logger.addHandler(handler)


def _scalar_shape(path: Path, image: Any) -> tuple[int, int, int]:
    """Give the shape as (i, j, k), or refuse what is no single scalar volume."""
    dtype, stored = image.get_data_dtype(), tuple(int(n) for n in image.shape)
    written = " × ".join(map(str, stored))
    if dtype.kind == "c":
        raise GradCamError(f"“{path}” holds complex numbers: save its magnitude as a volume of its own and open that.")
    if dtype.kind not in "iufb":
        raise GradCamError(f"“{path}” holds colours, not one value per voxel: save one channel and open that.")
    if not stored or min(stored) < 1:
        raise GradCamError(f"“{path}” holds no voxels (its shape is {written}): export the scan again.")
    if len(stored) > 3 and np.prod(stored[3:]) > 1:
        raise GradCamError(
            f"“{path}” holds {int(np.prod(stored[3:]))} volumes in one file ({written}): save the one to look at, for "
            "example with nibabel.four_to_three, and open that."
        )
    if len(stored) < 2:
        raise GradCamError(f"“{path}” is not a picture: it holds {written} numbers in a row; give a scan.")
    i, j, k = (*stored, 1)[:3]
    return i, j, k


def _geometry(image: Any) -> tuple[NDArray[np.float64], bool, tuple[str, ...]]:
    """Give the affine in mm, whether the file places the scan in the patient, and what must be said about it."""
    header = image.header
    affine = np.array(image.affine, dtype=np.float64)
    placed, notices = True, []
    if not header["sform_code"] and not header["qform_code"]:
        placed = False
        notices.append(
            "The file does not say how the scan lies in the patient (neither sform nor qform is set): left and right, "
            "and every position, are unknown."
        )
    elif header["sform_code"] and header["qform_code"]:
        try:
            apart = _corners_apart(affine, header.get_qform(), image.shape)
        except Exception:  # a qform of nonsense is not what places the scan
            notices.append("The file's qform cannot be read; its sform places the scan.")
        else:
            if apart > FORMS_APART_MM:
                notices.append(
                    f"The file's sform and qform differ by up to {apart:.0f} mm: the sform places the scan here."
                )
    try:
        unit = header.get_xyzt_units()[0]
    except KeyError:
        unit = "unknown"
    if unit in _MM_PER_UNIT:
        affine[:3] *= _MM_PER_UNIT[unit]
        notices.append(f"The file gives its geometry in {unit}s; it was converted to mm.")
    return affine, placed, tuple(notices)


def _corners_apart(one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    i, j, k = (*shape, 1, 1)[:3]
    corners = np.array(np.meshgrid((0, i - 1), (0, j - 1), (0, k - 1), indexing="ij")).reshape(3, -1)
    between = (one - other)[:3, :3] @ corners + (one - other)[:3, 3:]
    return float(np.linalg.norm(between, axis=0).max())


def _window(header: Any) -> Window | None:
    """Give the display range of the header, cal_min to cal_max, where it has one."""
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return Window((low + high) / 2, high - low) if np.isfinite((low, high)).all() and high > low else None


def _values(path: Path, image: Any, shape: tuple[int, int, int]) -> tuple[NDArray[Any], tuple[str, ...]]:
    stored = _stored(path, image, shape)
    limits = np.iinfo(stored.dtype) if stored.dtype.kind in "iu" else np.finfo(stored.dtype)
    scaling = Scaling(float(image.dataobj.slope), float(image.dataobj.inter), float(limits.min), float(limits.max))
    if (scaling.slope, scaling.intercept) == (1, 0) and (stored.dtype.kind != "f" or stored.dtype == np.float32):
        array = stored
    else:
        values = Values((shape[2], shape[1], shape[0]), stored.dtype, [scaling])
        with np.errstate(over="ignore", invalid="ignore"):  # too large for float32 is counted below as infinite
            for k in range(shape[2]):
                values.put(k, stored[:, :, k].T, scaling)
        array = values.array()
    if array.dtype.kind != "f":
        return array, ()
    return finite(array, f"“{path}”")


def _stored(path: Path, image: Any, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Read the numbers as stored; of a packed file, prove by its checksum that they are undamaged."""
    from nibabel.openers import ImageOpener
    from nibabel.volumeutils import array_from_file

    files = image.file_map["image"]
    name = Path(files.filename)
    packed = name.suffix.lower() in (".gz", ".bz2")
    expected = int(np.prod(shape, dtype=object)) * image.get_data_dtype().itemsize
    try:
        present = name.stat().st_size
        if expected > present * (_LARGEST_RATIO if packed else 1):
            raise EOFError(f"the header promises {expected:,} bytes of voxels, more than the file has")
        with ImageOpener(name) as stream:
            # Into memory: a map of the file would break under the picture when the file is written or moved.
            stored = array_from_file(
                image.shape, image.get_data_dtype(), stream, offset=image.dataobj.offset, mmap=False
            ).reshape(shape, order="F")
            # gzip compares its checksum at the end of the stream only.
            while packed and stream.read(1 << 20):
                pass
    except FileNotFoundError as error:
        raise GradCamError(f"“{name}” does not exist: a .hdr file needs its .img file beside it.") from error
    except Exception as error:  # gzip, zlib and nibabel raise a dozen types on damaged files
        raise GradCamError(f"“{path}” is cut short or damaged ({reason(error)}): copy or download it again.") from error
    native: NDArray[Any] = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return native

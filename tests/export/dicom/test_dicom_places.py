"""Every frame lies where its source image lies, voxel by voxel, and refers to it."""

from __future__ import annotations

import gzip
import re
import shutil
import zipfile
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from nibabel.affines import apply_affine
from pydicom import dcmread

from napari_gradcam.export.dicom.segments import segments
from napari_gradcam.export.dicom.source import source_of
from napari_gradcam.export.manner import Manner
from tests.export.dicom.scans import straight, write_enhanced, write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom import Dataset

    from napari_gradcam.explanation import Explanation

TURN = np.deg2rad(20)
OBLIQUE = (np.cos(TURN), np.sin(TURN), 0, -np.sin(TURN) * 0.8, np.cos(TURN) * 0.8, 0.6)
NORMAL = np.cross(OBLIQUE[:3], OBLIQUE[3:])

SCANS: dict[str, dict[str, Any]] = {
    "axial": {"positions": straight()},
    "files and numbers from the head down": {"positions": straight()[::-1]},
    "files named the other way round": {"positions": straight(), "backwards": True},
    "seen from above": {"positions": straight(), "orientation": (-1, 0, 0, 0, 1, 0)},
    "sagittal": {"positions": straight(step=(5, 0, 0)), "orientation": (0, 1, 0, 0, 0, -1)},
    "coronal": {"positions": straight(step=(0, 5, 0)), "orientation": (1, 0, 0, 0, 0, -1)},
    "oblique": {"positions": straight(step=4 * NORMAL), "orientation": OBLIQUE},
    "gantry tilt": {"positions": straight(step=(0, -1.2, 4))},
    "not quite even": {"positions": straight() + [[0, 0, mm] for mm in (0, 0.2, 0, -0.2, 0.1, 0)]},
    "one slice": {"positions": straight(1)},
    "two slices": {"positions": straight(2)},
}


def placed(frame: Dataset, shared: Dataset, row: int, column: int) -> np.ndarray:
    """Give where a pixel lies, LPS+ mm, by the equation of PS3.3 C.7.6.2.1.1."""
    first = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
    along = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    return first + column * between_columns * along[0] + row * between_rows * along[1]


def height(frame: Dataset) -> float:
    return float(frame.PlanePositionSequence[0].ImagePositionPatient[2])


def source_images(frame: Dataset) -> list[Dataset]:
    return list(frame.DerivationImageSequence[0].SourceImageSequence)


@pytest.mark.parametrize("name", SCANS)
def test_each_voxel_of_the_parametric_map_lies_where_its_heat_lies(
    name: str, tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., dict[str, Path]]
) -> None:
    write_series(tmp_path / "scan", **SCANS[name])
    explanation = explained(tmp_path / "scan")
    dataset = dcmread(written(explanation, "parametric_map")["parametric_map"])
    values, shared = dataset.pixel_array, dataset.SharedFunctionalGroupsSequence[0]
    values = values.reshape(-1, *values.shape[-2:])
    to_voxel = np.linalg.inv(explanation.affine)
    seen = np.zeros(explanation.heatmap.shape, dtype=bool)
    moved = 0.25 if name == "not quite even" else 1e-4  # there the volume's grid is even, and the slices are not
    for frame, plane in zip(dataset.PerFrameFunctionalGroupsSequence, values, strict=True):
        for row, column in ((0, 0), (4, 3), (9, 13)):
            ras = placed(frame, shared, row, column) * (-1, -1, 1)
            index = apply_affine(to_voxel, ras)
            assert np.abs(apply_affine(explanation.affine, index.round()) - ras).max() < moved
            i, j, k = index.round().astype(int)
            assert plane[row, column] == explanation.heatmap[i, j, k]
        np.testing.assert_array_equal(plane, explanation.heatmap[:, :, k].T)
        seen[:, :, k] = True
    assert seen.all()
    assert len(values) == explanation.heatmap.shape[2]


@pytest.mark.parametrize("name", SCANS)
def test_each_frame_has_the_place_of_the_image_that_it_refers_to(
    name: str, tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., dict[str, Path]]
) -> None:
    sources = [dcmread(path) for path in write_series(tmp_path / "scan", **SCANS[name])]
    images = {image.SOPInstanceUID: image for image in sources}
    explanation = explained(tmp_path / "scan")
    paths = written(explanation, "parametric_map", "segmentation")
    for path in (paths["parametric_map"], paths["segmentation"]):
        dataset = dcmread(path)
        shared = dataset.SharedFunctionalGroupsSequence[0]
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            (reference,) = source_images(frame)
            image = images[reference.ReferencedSOPInstanceUID]
            assert reference.ReferencedSOPClassUID == image.SOPClassUID
            assert reference.SpatialLocationsPreserved == "YES"
            assert frame.PlanePositionSequence[0].ImagePositionPatient == image.ImagePositionPatient
            assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == image.ImageOrientationPatient
            assert shared.PixelMeasuresSequence[0].PixelSpacing == image.PixelSpacing
            assert shared.PixelMeasuresSequence[0].SliceThickness == image.SliceThickness
            # The slice of the map is the one of the volume whose voxels are this image's.
            k = [path.resolve() for path in explanation.volume.source].index(
                next(
                    one for one in (tmp_path / "scan").iterdir() if dcmread(one).SOPInstanceUID == image.SOPInstanceUID
                )
            )
            np.testing.assert_array_equal(explanation.volume.array[:, :, k].T, image.pixel_array)
        assert (dataset.Rows, dataset.Columns) == (image.Rows, image.Columns)
        assert dataset.FrameOfReferenceUID == image.FrameOfReferenceUID
        named = {one.ReferencedSOPInstanceUID for one in dataset.SourceImageSequence}
        (series,) = dataset.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == image.SeriesInstanceUID
        assert named == {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence}
    assert len(dcmread(paths["parametric_map"]).SourceImageSequence) == len(sources)


@pytest.mark.parametrize("name", SCANS)
def test_each_voxel_of_a_segment_lies_in_its_hot_spot(
    name: str, tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., dict[str, Path]]
) -> None:
    write_series(tmp_path / "scan", **SCANS[name])
    explanation = explained(tmp_path / "scan")
    dataset = dcmread(written(explanation, "segmentation")["segmentation"])
    spots, labels = segments(explanation, Manner().least(explanation))
    found = np.zeros_like(labels)
    shared, to_voxel = dataset.SharedFunctionalGroupsSequence[0], np.linalg.inv(explanation.affine)
    planes = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for frame, plane in zip(dataset.PerFrameFunctionalGroupsSequence, planes, strict=True):
        k = round(apply_affine(to_voxel, placed(frame, shared, 0, 0) * (-1, -1, 1))[2])
        found[:, :, k] += plane.T * frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    np.testing.assert_array_equal(found, labels)
    assert [int((found == spot.rank).sum()) for spot in spots] == [spot.voxels for spot in spots]


def test_the_distance_between_slices_is_true_and_not_what_a_tag_says(
    tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., dict[str, Path]]
) -> None:
    write_series(tmp_path / "scan", straight(step=(0, -1.2, 4)), SpacingBetweenSlices=9)
    dataset = dcmread(written(explained(tmp_path / "scan"), "parametric_map")["parametric_map"])
    assert dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices == 4


def test_interpolated_slices_refer_to_the_two_images_that_they_are_between(
    tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., dict[str, Path]]
) -> None:
    write_series(tmp_path / "scan", np.delete(straight(8), 3, axis=0))
    explanation = explained(tmp_path / "scan", resample=True)
    dataset = dcmread(written(explanation, "parametric_map")["parametric_map"])
    frames = sorted(dataset.PerFrameFunctionalGroupsSequence, key=height)
    assert [frame.PlanePositionSequence[0].ImagePositionPatient[2] for frame in frames] == list(range(40, 72, 4))
    for number, frame in enumerate(frames):
        named = [int(re.sub(r".*\.", "", one.ReferencedSOPInstanceUID)) for one in source_images(frame)]
        preserved = {one.SpatialLocationsPreserved for one in source_images(frame)}
        assert (named, preserved) == (([3, 4], {"NO"}) if number == 3 else ([number + (number < 3)], {"YES"}))


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 3, 1, 0, 2, 4)])
def test_a_frame_of_an_enhanced_file_is_named_by_its_number(
    order: tuple[int, ...],
    tmp_path: Path,
    explained: Callable[..., Explanation],
    written: Callable[..., dict[str, Path]],
) -> None:
    path = write_enhanced(tmp_path / "scan.dcm", straight()[list(order)])
    source = dcmread(path)
    dataset = dcmread(written(explained(path), "parametric_map")["parametric_map"])
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        (reference,) = source_images(frame)
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        own = source.PerFrameFunctionalGroupsSequence[reference.ReferencedFrameNumber - 1]
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert own.PlanePositionSequence[0].ImagePositionPatient == place
    assert len(dataset.SourceImageSequence) == 1


@pytest.mark.parametrize("series", [1, 2])
def test_of_two_echoes_in_one_file_the_one_that_was_explained_is_named(
    series: int, tmp_path: Path, explained: Callable[..., Explanation]
) -> None:
    path = write_enhanced(tmp_path / "scan.dcm", straight(), echoes=2)
    source = source_of(explained(path, series=series))
    assert [one.frame for (one,) in source.references] == [6 * (series - 1) + number for number in range(1, 7)]


def test_of_frames_at_one_place_the_one_that_was_explained_is_named(
    tmp_path: Path, make_explanation: Callable[..., Explanation]
) -> None:
    from napari_gradcam import read_volume

    path = write_enhanced(tmp_path / "scan.dcm", straight(1), echoes=3)
    for frame in (1, 2, 3):
        ((reference,),) = source_of(make_explanation(read_volume(path, frame=frame))).references
        assert reference.frame == frame


def test_a_scan_in_an_archive_is_found_in_it(
    tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., dict[str, Path]]
) -> None:
    paths = write_series(tmp_path / "scan", straight())
    write_series(tmp_path / "scan" / "other", straight(first=(0, 0, 0)), SeriesInstanceUID="1.2.3", SeriesNumber=9)
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for path in (tmp_path / "scan").rglob("*.dcm"):
            archive.write(path, path.relative_to(tmp_path))
        archive.writestr("readme.txt", "hello")
    uids = [dcmread(path).SOPInstanceUID for path in paths]
    shutil.rmtree(tmp_path / "scan")
    explanation = explained(tmp_path / "scan.zip", series=1)
    dataset = dcmread(written(explanation, "parametric_map")["parametric_map"])
    assert [one.ReferencedSOPInstanceUID for one in dataset.SourceImageSequence] == uids
    assert sorted(map(height, dataset.PerFrameFunctionalGroupsSequence)) == list(range(40, 64, 4))


def test_slices_of_a_mosaic_lie_in_the_patient_and_refer_to_the_picture_as_a_whole(
    tmp_path: Path, explained: Callable[..., Explanation], written: Callable[..., dict[str, Path]]
) -> None:
    packed = files("nibabel") / "nicom" / "tests" / "data" / "siemens_dwi_0.dcm.gz"
    if not packed.is_file():
        pytest.skip("this nibabel comes without its Siemens mosaics")
    path = tmp_path / "mosaic.dcm"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    explanation = explained(path)
    dataset = dcmread(written(explanation, "parametric_map")["parametric_map"])
    shared, to_voxel = dataset.SharedFunctionalGroupsSequence[0], np.linalg.inv(explanation.affine)
    for frame, plane in zip(dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array, strict=True):
        index = apply_affine(to_voxel, placed(frame, shared, 40, 50) * (-1, -1, 1))
        i, j, k = index.round().astype(int)
        np.testing.assert_allclose(index, (i, j, k), atol=1e-4)
        assert (i, j) == (50, 40)
        np.testing.assert_array_equal(plane, explanation.heatmap[:, :, k].T)
        (reference,) = source_images(frame)
        assert reference.ReferencedSOPInstanceUID == dcmread(path).SOPInstanceUID
        assert reference.SpatialLocationsPreserved == "NO"
        assert "ReferencedFrameNumber" not in reference

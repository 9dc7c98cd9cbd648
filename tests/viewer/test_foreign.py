"""Layers of any plugin or script: the map lies on their voxels, and what they do not say is not claimed."""

from __future__ import annotations

import tracemalloc
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import dask.array as da
import nibabel
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from nibabel.affines import apply_affine
from pydicom.dataset import Dataset

from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import Explanation
from napari_gradcam.viewer import foreign, letters
from napari_gradcam.viewer.layers import (
    band_data,
    bands_layer,
    heat_layer,
    is_scan_of,
    read_layer,
    scan_layer,
    volume_of,
    world_to_patient,
)
from napari_gradcam.viewer.look import Look, Style
from napari_gradcam.viewer.overlay import HeatMapOverlay
from napari_gradcam.viewer.planes import go_to, plane_in_sight, show_plane
from napari_gradcam.volumes.orientation import RAS_TO_DISPLAY, DisplayGrid, Plane

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam.volumes import Volume

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")

SHAPE = (6, 7, 8)
HOT = (4, 1, 6)
RAS_OF = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
LPS = np.array([[-2.0, 0, 0, 40], [0, -2, 0, 60], [0, 0, 3, -30], [0, 0, 0, 1]])
MM = ("mm",) * 3

PERMUTED = np.array([[0.0, 0, 1.5, 3], [2, 0, 0, -4], [0, -1, 0, 5], [0, 0, 0, 1]])

TRANSFORMS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "scale and translate": {"scale": (3, 1.5, 0.5), "translate": (-7, 20, 100)},
    "negative scale": {"scale": (-3, 1, 0.5), "translate": (9, 0, 0)},
    "rotate": {"scale": (3, 1, 0.5), "rotate": (10, 20, 30)},
    "shear": {"shear": (0.1, 0, 0.2), "translate": (1, 2, 3)},
    "permuted affine": {"affine": PERMUTED},
    "everything": {
        "scale": (3, 1, 0.5),
        "translate": (1, 2, 3),
        "rotate": (10, 20, 30),
        "shear": (0.1, 0, 0),
        "affine": PERMUTED,
    },
    "µm": {"scale": (800, 500, 500), "translate": (1000, 0, 0), "units": ("µm",) * 3},
    "metadata": {"metadata": {"affine": LPS}},
    "axis labels": {"axis_labels": ("A", "S", "R"), "units": MM, "scale": (2, 3, 4)},
}


def blob(shape: tuple[int, ...] = SHAPE, hot: tuple[int, ...] = HOT) -> np.ndarray:
    data = np.zeros(shape, np.float32)
    data[hot] = 2
    data[tuple(np.maximum(np.array(hot) - 1, 0))] = 1
    return data


def explained(volume: Volume) -> Explanation:
    """Make an explanation that found the blob: the heat is what the scan's array holds."""
    heatmap = np.array(volume.array, dtype=np.float32)
    return Explanation(
        heatmap=heatmap,
        affine=volume.affine,
        coarse=heatmap,
        coarse_affine=volume.affine,
        scores={"lesion": 1.0},
        logits={"lesion": 1.0},
        target="lesion",
        layer="features",
        method="gradcam",
    )


def place_in_mm(layer: Any, index: Any) -> np.ndarray:
    factors = [(1 * unit).to("mm").magnitude if unit.dimensionality == {"[length]": 1} else 1 for unit in layer.units]
    return np.array(layer.data_to_world(index)) * factors


def patient(layer: Any, index: Any) -> np.ndarray:
    """Where a voxel of a layer's data lies by the scan it is read as."""
    return apply_affine(read_layer(layer).affine, index)


@pytest.mark.parametrize("given", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_the_map_lies_on_the_voxels_it_was_found_in(given: dict[str, Any]) -> None:
    layer = Image(blob(), **given)
    explanation = explained(read_layer(layer))
    for made in (heat_layer, bands_layer):
        heat = Layer.create(*made(explanation, layer, Look()))
        np.testing.assert_array_equal(np.argwhere(heat.data == heat.data.max()), [HOT])
        assert heat.units == layer.units
        for index in np.argwhere(heat.data):
            np.testing.assert_allclose(heat.data_to_world(index), layer.data_to_world(index), rtol=0, atol=1e-9)


@pytest.mark.parametrize("given", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_the_slices_go_to_the_hottest_point(given: dict[str, Any]) -> None:
    viewer = ViewerModel()
    layer = viewer.add_layer(Image(blob(), **given))
    peak = explained(read_layer(layer)).peak
    assert peak.index == HOT
    go_to(viewer, layer, peak.index)
    # The canvas moves in steps of the finest voxel.
    assert np.abs(np.array(viewer.dims.point) - layer.data_to_world(HOT)).max() <= max(layer.extent.step)


@pytest.mark.parametrize("given", list(TRANSFORMS.values())[:8], ids=list(TRANSFORMS)[:8])
def test_without_a_place_in_the_patient_the_geometry_is_that_of_the_picture(given: dict[str, Any]) -> None:
    layer = Image(blob(), **given)
    volume = read_layer(layer)
    assert not volume.in_patient_space
    assert volume.notices[0] == foreign.UNPLACED
    assert (foreign.UNITLESS in volume.notices) == ("units" not in given)
    for index in ((0, 0, 0), (5, 0, 0), (1, 6, 7)):
        shown = RAS_TO_DISPLAY @ apply_affine(volume.affine, index)
        np.testing.assert_allclose(shown, place_in_mm(layer, index), atol=1e-9)


def test_units_of_each_axis_become_mm() -> None:
    layer = Image(blob(), scale=(0.3, 500, 0.001), units=("cm", "µm", "m"))
    np.testing.assert_allclose(read_layer(layer).spacing, (3, 0.5, 1))
    assert foreign.UNITLESS in read_layer(Image(blob(), units=("mm", "mm", "pixel"))).notices


def test_layers_in_other_units_than_the_viewers_are_gone_to_as_well() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((20, 20, 20)), units=MM)
    layer = viewer.add_image(blob(), units=("µm",) * 3, scale=(2000, 2000, 2000))
    go_to(viewer, layer, HOT)
    point = [
        (value * unit).to("µm").magnitude for value, unit in zip(viewer.dims.point, viewer.dims.units, strict=True)
    ]
    np.testing.assert_allclose(point, layer.data_to_world(HOT))


# Axis labels


@pytest.mark.parametrize(
    "labels", ["".join(one) for axes in permutations(("RL", "AP", "SI")) for one in product(*axes)]
)
def test_axis_labels_that_name_directions_place_the_scan_in_the_patient(labels: str) -> None:
    layer = Image(blob(), axis_labels=tuple(labels), units=MM, scale=(3, 1.5, 0.5), translate=(-7, 20, 100))
    volume = read_layer(layer)
    assert volume.in_patient_space
    directions = np.array([RAS_OF[letter] for letter in labels]).T
    np.testing.assert_allclose(patient(layer, HOT), directions @ layer.data_to_world(HOT))
    assert volume.notices == (
        f"The layer's axis labels ({', '.join(labels)}) are taken as the directions in the patient that its axes run "
        "to.",
    )


def test_words_name_directions_too_and_a_missing_origin_is_told() -> None:
    (told,) = read_layer(Image(blob(), axis_labels=("Superior", "posterior", "left"), units=MM)).notices
    assert told.endswith("it has no translate, so that positions are counted from its first voxel.")


@pytest.mark.parametrize("labels", ["zyx", "asr", "RLS", "RA3", "SAX"])
def test_other_axis_labels_place_nothing(labels: str) -> None:
    assert not read_layer(Image(blob(), axis_labels=tuple(labels), units=MM)).in_patient_space


def test_directions_without_a_unit_of_length_place_nothing_and_the_way_out_is_told() -> None:
    volume = read_layer(Image(blob(), axis_labels=("R", "A", "S")))
    assert not volume.in_patient_space
    assert "set them to mm" in volume.notices[1]


@pytest.mark.parametrize("labels", ["IPL", "RAS", "SPL", "ASR", "LIP"])
def test_letters_and_planes_of_a_labelled_layer_are_true(labels: str) -> None:
    viewer = ViewerModel()
    letters.install(viewer)
    layer = viewer.add_image(blob(), axis_labels=tuple(labels), units=MM, scale=(3, -1.5, 0.5))
    pairs = {Plane.AXIAL: "SI", Plane.SAGITTAL: "RL", Plane.CORONAL: "AP"}
    for plane in Plane:
        show_plane(viewer, plane)
        sliced, down, right = viewer.dims.order
        assert plane_in_sight(viewer) is plane
        assert labels[sliced] in pairs[plane]
        shown = letters.letters_in_sight(viewer)
        assert shown is not None
        assert shown.right == labels[right]
        assert shown.bottom == labels[down]
        # One step of the world along the axis drawn to the right, by the patient positions of voxels.
        step = np.zeros(3)
        step[right] = 1
        ahead = patient(layer, np.array(layer.world_to_data(step))) - patient(layer, layer.world_to_data((0, 0, 0)))
        np.testing.assert_allclose(ahead, RAS_OF[shown.right], atol=1e-9)


def test_letters_come_and_go_with_what_the_layer_says() -> None:
    viewer = ViewerModel()
    letters.install(viewer)
    layer = viewer.add_image(blob(), units=MM)
    overlay = viewer.canvas.overlays["orientation_left"]
    assert not overlay.visible
    layer.axis_labels = ("I", "P", "L")
    assert (overlay.visible, overlay.text) == (True, "R")
    layer.rotate = (0, 0, 10)
    assert overlay.visible == (letters.letters_in_sight(viewer) is not None)
    layer.units = ("pixel",) * 3
    assert not overlay.visible


def test_a_layer_that_napari_draws_without_its_rotation_has_no_letters() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(blob(), axis_labels=("I", "P", "L"), units=MM)
    layer.affine = np.array([[0.94, -0.34, 0, 0], [0.34, 0.94, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert letters.letters_in_sight(viewer) is None  # axial slices lean
    show_plane(viewer, Plane.SAGITTAL)
    assert letters.letters_in_sight(viewer) is not None  # turned within the picture, which napari draws


def test_planes_have_no_name_where_two_scans_lie_along_different_axes() -> None:
    viewer = ViewerModel()
    viewer.add_image(blob(), axis_labels=("I", "P", "L"), units=MM)
    assert plane_in_sight(viewer) is Plane.AXIAL
    other = viewer.add_image(blob(), axis_labels=("R", "A", "S"), units=MM)
    assert plane_in_sight(viewer) is None
    other.visible = False
    assert plane_in_sight(viewer) is Plane.AXIAL


# Metadata


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"scale": (2, 2, 3)},
        {"scale": (2, 2, 3), "translate": (40, 60, -30)},
        {"scale": (2, 2, 3), "translate": (-40, -60, -30), "units": MM},
        {"affine": LPS},
    ],
    ids=["silent", "scale", "origin copied", "origin turned", "affine"],
)
def test_an_affine_in_the_metadata_is_taken_as_nibabel_has_it_and_that_is_told(given: dict[str, Any]) -> None:
    volume = read_layer(Image(blob(), metadata={"affine": LPS}, **given))
    assert volume.in_patient_space
    np.testing.assert_array_equal(volume.affine, LPS)
    assert volume.notices == (
        "The “affine” in the layer's metadata is taken as voxel index to RAS+ mm, as NIfTI has it.",
    )


@pytest.mark.parametrize(
    "given",
    [
        {"scale": (3, 2, 2)},
        {"scale": (2, 2, 3), "translate": (48, 60, -30)},
        {"scale": (2, 2, 3), "units": ("cm",) * 3},
        {"metadata": {"affine": LPS, "space": "LPS"}},
        {"metadata": {"affine": np.eye(4)}},
        {"metadata": {"affine": "AffineTransform3D"}},
        {"metadata": {"affine": np.zeros((4, 4))}},
    ],
    ids=["transposed", "cropped", "other unit", "LPS", "identity", "no matrix", "flat"],
)
def test_an_affine_that_the_layer_contradicts_or_that_says_nothing_is_not_used(given: dict[str, Any]) -> None:
    volume = read_layer(Image(blob(), **({"metadata": {"affine": LPS}} | given)))
    assert not volume.in_patient_space
    assert volume.notices[0] == foreign.UNPLACED
    assert any("contradict" in told for told in volume.notices) == ("metadata" not in given)


def test_an_oblique_affine_is_told() -> None:
    c, s = np.cos(0.2), np.sin(0.2)
    oblique = np.array([[c, -s, 0, 1], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    viewer = ViewerModel()
    layer = viewer.add_image(blob(), metadata={"affine": oblique})
    assert "11.5° oblique" in read_layer(layer).notices[1]
    show_plane(viewer, Plane.AXIAL)
    assert viewer.dims.order[0] == 2


def nifti(shape: tuple[int, ...] = SHAPE, code: int = 1, unit: str = "mm") -> Any:
    image = nibabel.Nifti1Image(np.zeros(shape, np.float32), LPS)
    image.set_sform(LPS, code)
    image.set_qform(None, 0)
    image.header.set_xyzt_units(unit)
    return image


@pytest.mark.parametrize("key", ["image", "header"])
def test_a_nifti_header_in_the_metadata_places_the_layer_of_its_shape(key: str) -> None:
    kept = nifti() if key == "image" else nifti().header
    volume = read_layer(Image(blob(), metadata={"file": kept, "other": 3}))
    np.testing.assert_allclose(volume.affine, LPS)
    assert volume.notices == ("The NIfTI header in the layer's metadata says where it lies in the patient.",)
    both = read_layer(Image(blob(), metadata={"file": kept, "affine": LPS}))
    assert both.in_patient_space
    in_micrometres = read_layer(Image(blob(), metadata={"header": nifti(unit="micron").header}))
    np.testing.assert_allclose(in_micrometres.spacing, (0.002, 0.002, 0.003))


@pytest.mark.parametrize(
    "metadata",
    [
        {"header": nifti(code=0).header},
        {"header": nifti(SHAPE[::-1]).header},
        {"header": nifti((*SHAPE, 2)).header},
        {"header": nifti().header, "affine": np.diag([2.0, 2, 3, 1])},
    ],
    ids=["no form", "transposed", "series", "two ways"],
)
def test_a_nifti_header_of_another_shape_or_without_a_place_is_not_used(metadata: dict[str, Any]) -> None:
    volume = read_layer(Image(blob(), metadata=metadata))
    assert not volume.in_patient_space
    assert any("in two ways" in told for told in volume.notices) == ("affine" in metadata)


def dicom(z: float, shape: tuple[int, ...] = SHAPE, **given: Any) -> Dataset:
    dataset = Dataset()
    dataset.Rows, dataset.Columns = shape[-2:]
    dataset.ImagePositionPatient = [-10, -20, z]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [0.5, 0.25]  # between rows, between columns
    for name, value in given.items():
        setattr(dataset, name, value)
    return dataset


def test_dicom_attributes_of_every_slice_place_the_layer() -> None:
    layer = Image(blob(), metadata={"slices": [dicom(100 - 3 * number) for number in range(6)]})
    volume = read_layer(layer)
    assert volume.in_patient_space
    # LPS+ (-10, -20, 100) is RAS+ (10, 20, 100); a column further is 0.25 mm to the left, a row 0.5 mm to the back.
    np.testing.assert_allclose(patient(layer, (0, 0, 0)), (10, 20, 100))
    np.testing.assert_allclose(patient(layer, (2, 3, 4)), (10 - 4 * 0.25, 20 - 3 * 0.5, 100 - 2 * 3))


def test_dicom_attributes_of_one_picture_place_a_layer_of_two_axes() -> None:
    plain = {
        "ImagePositionPatient": [-10, -20, 7],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [2, 1],
    }
    for metadata in (plain, {"dataset": dicom(7, PixelSpacing=[2, 1])}):
        layer = Image(blob((7, 8), (1, 6)), metadata=metadata)
        np.testing.assert_allclose(patient(layer, (0, 3, 4)), (10 - 4, 20 - 6, 7))
        assert any("thickness is unknown" in told for told in read_layer(layer).notices)


@pytest.mark.parametrize(
    "value",
    [
        dicom(0),
        [dicom(z) for z in range(5)],
        [dicom(z) for z in (0, 1, 2, 3, 4, 9)],
        [dicom(z, SHAPE[::-1]) for z in range(6)],
        [dicom(0)] * 6,
        [dicom(z, ImageOrientationPatient=[1, 0, 0, 0, 1 - z / 9, 0]) for z in range(6)],
        [*(dicom(z) for z in range(5)), Dataset()],
    ],
    ids=["one of many", "too few", "uneven", "other size", "one place", "no directions", "one without"],
)
def test_dicom_attributes_that_leave_something_open_place_nothing(value: Any) -> None:
    assert not read_layer(Image(blob(), metadata={"dicom": value})).in_patient_space


# What was made from one of our layers


OBLIQUE = np.array(
    [[-2 * np.cos(0.2), 2 * np.sin(0.2), 0, 5], [-2 * np.sin(0.2), -2 * np.cos(0.2), 0, 6], [0, 0, 3, 7]]
)
OURS = {"aligned": LPS, "sagittal": PERMUTED, "oblique": np.vstack([OBLIQUE, [0, 0, 0, 1]])}


@pytest.mark.parametrize("affine", OURS.values(), ids=OURS.keys())
def test_a_crop_of_our_layer_keeps_its_place_in_the_patient(affine: np.ndarray, make_volume: Any) -> None:
    volume = make_volume(affine)
    scan = Layer.create(*scan_layer(volume))
    _, state, _ = scan.as_layer_data_tuple()
    first = np.array((2, 1, 3))
    state["translate"] = scan.data_to_world(first)
    crop = Layer.create(scan.data[2:7, 1:9, 3:11], state, "image")
    read = read_layer(crop)
    assert read is not volume
    assert read.in_patient_space
    assert read.notices[0].startswith("The layer was made from “scan”")
    for index in ((0, 0, 0), (4, 7, 7), (1, 2, 3)):
        native = DisplayGrid.of(volume).index_to_native(first + index)
        np.testing.assert_allclose(patient(crop, index), apply_affine(affine, native), atol=1e-9)
    heat = Layer.create(*heat_layer(explained(read), crop, Look()))
    np.testing.assert_array_equal(heat.data, crop.data)


def test_data_that_a_person_replaced_in_our_layer_are_read_as_they_lie_now(make_volume: Any) -> None:
    volume = make_volume(PERMUTED)
    scan = Layer.create(*scan_layer(volume))
    scan.data = np.sqrt(scan.data)
    read = read_layer(scan)
    np.testing.assert_array_equal(read.array, scan.data)
    np.testing.assert_allclose(patient(scan, (1, 2, 3)), DisplayGrid.of(volume).patient_position((1, 2, 3)))
    assert not is_scan_of(scan, volume)
    heat = Layer.create(*heat_layer(explained(read), scan, Look()))
    np.testing.assert_array_equal(heat.data, scan.data)


def test_what_was_made_from_our_layer_and_lost_its_transforms_or_place_is_of_unknown_place(make_volume: Any) -> None:
    scan = Layer.create(*scan_layer(make_volume()))
    assert not read_layer(Image(scan.data[1:], metadata=scan.metadata)).in_patient_space
    unplaced = Layer.create(*scan_layer(make_volume(in_patient_space=False)))
    _, state, _ = unplaced.as_layer_data_tuple()
    assert not read_layer(Layer.create(unplaced.data[1:], state, "image")).in_patient_space
    assert world_to_patient(unplaced) is None


# One layer, one scan


def test_a_layer_is_the_same_scan_until_its_data_or_place_change() -> None:
    layer = Image(blob().astype(np.float64))
    seen = [read_layer(layer)]
    for name, value in {"opacity": 0.3, "contrast_limits": (0, 1), "name": "other", "visible": False}.items():
        setattr(layer, name, value)
    layer.metadata["note"] = "seen"
    assert read_layer(layer) is seen[0]
    for name, value in {
        "scale": (1, 2, 3),
        "translate": (1, 0, 0),
        "rotate": (0, 0, 10),
        "shear": (0.1, 0, 0),
        "affine": PERMUTED,
        "units": MM,
        "axis_labels": ("R", "A", "S"),
        "data": blob() * 2,
    }.items():
        setattr(layer, name, value)
        assert not is_scan_of(layer, seen[-1])
        volume = read_layer(layer)
        assert volume not in seen
        assert volume_of(layer) is volume
        assert is_scan_of(layer, volume)
        seen.append(volume)


def test_the_same_array_set_again_is_read_again() -> None:
    data = blob().astype(np.float64)
    layer = Image(data)
    before = read_layer(layer)
    data[0, 0, 0] = 9
    layer.data = data
    assert read_layer(layer) is not before
    assert read_layer(layer).array[0, 0, 0] == 9


def test_a_metadata_affine_that_is_added_later_counts() -> None:
    layer = Image(blob())
    assert not read_layer(layer).in_patient_space
    layer.metadata["affine"] = LPS
    assert read_layer(layer).in_patient_space


def test_a_map_that_is_there_moves_with_the_layer_when_it_is_explained_anew() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(blob())
    overlay = HeatMapOverlay(viewer, layer, lambda _: None)
    overlay.show(explained(read_layer(layer)), Look(style=Style.BANDS))
    layer.scale, layer.translate = (1, 2, 3), (4, 5, 6)
    overlay.show(explained(read_layer(layer)), Look(style=Style.BANDS))
    for made in (overlay.heat, overlay.bands):
        np.testing.assert_allclose(made.data_to_world(HOT), layer.data_to_world(HOT))


# Shapes and values


def test_a_picture_is_one_slice_and_its_map_a_picture() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(blob((7, 8), (1, 6)), scale=(2, 3), units=("mm", "mm"))
    volume = read_layer(layer)
    assert volume.shape == (1, 7, 8)
    np.testing.assert_allclose(volume.spacing, (1, 2, 3))
    assert "The layer is a single picture: its thickness is unknown and taken as 1 mm." in volume.notices
    heat = viewer.add_layer(Layer.create(*heat_layer(explained(volume), layer, Look())))
    np.testing.assert_array_equal(heat.data, layer.data)
    assert band_data(explained(volume), layer, Look()).shape == (7, 8)
    go_to(viewer, layer, (0, 1, 6))
    np.testing.assert_allclose(viewer.dims.point, layer.data_to_world((1, 6)))
    assert letters.letters_in_sight(viewer) is None
    picture = read_layer(Image(blob((7, 8), (1, 6)), metadata={"affine": LPS}))
    np.testing.assert_allclose(apply_affine(picture.affine, (0, 1, 6)), apply_affine(LPS, (1, 6, 0)))


def test_leading_axes_of_one_step_are_no_series() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(blob((1, *SHAPE), (0, *HOT)), scale=(9, 3, 1, 2), translate=(5, 0, 0, 0))
    volume = read_layer(layer)
    assert volume.shape == SHAPE
    np.testing.assert_allclose(volume.spacing, (3, 1, 2))
    heat = Layer.create(*heat_layer(explained(volume), layer, Look()))
    np.testing.assert_array_equal(heat.data, layer.data)
    go_to(viewer, layer, HOT)
    np.testing.assert_allclose(viewer.dims.point, layer.data_to_world((0, *HOT)))


def test_of_several_levels_the_finest_is_read() -> None:
    fine = blob((16, 16, 16), (9, 9, 9))
    layer = Image([fine, fine[::2, ::2, ::2]], multiscale=True, scale=(2, 1, 1))
    volume = read_layer(layer)
    np.testing.assert_array_equal(volume.array, fine)
    heat = Layer.create(*heat_layer(explained(volume), layer, Look()))
    np.testing.assert_allclose(heat.data_to_world((9, 9, 9)), layer.data_to_world((9, 9, 9)))


@pytest.mark.parametrize(
    ("dtype", "read"),
    [("u1", "u1"), ("i2", "i2"), (">i2", "i2"), (">f4", "f4"), ("i8", "i8"), ("f2", "f4"), ("f8", "f4"), ("?", "u1")],
)
def test_values_stay_what_they_are(dtype: str, read: str) -> None:
    data = blob().astype(dtype)
    volume = read_layer(Image(data, contrast_limits=(0, 2)))
    assert volume.array.dtype == np.dtype(read)
    np.testing.assert_array_equal(volume.array, data)
    assert np.shares_memory(volume.array, data) == (np.dtype(dtype).isnative and dtype not in ("f2", "f8"))


def test_what_is_no_number_is_told_and_the_layers_own_values_are_left_alone() -> None:
    data = blob()
    data[0, 0, :2] = np.nan
    volume = read_layer(Image(data, contrast_limits=(0, 1)))
    assert "2 voxels (0.6 %) hold no number (NaN or infinite) and were set to 0." in volume.notices
    assert np.isnan(data).sum() == 2
    assert data.flags.writeable


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("shape", [(7, 8), SHAPE])
def test_colours_are_kept_beside_their_brightness(shape: tuple[int, ...], channels: int) -> None:
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (*shape, channels), dtype=np.uint8)
    layers = [Image(color, rgb=True), Image(color.astype(np.float32) / 255, rgb=True)]
    for layer in layers:
        volume = read_layer(layer)
        assert volume.color is not None
        np.testing.assert_array_equal(volume.color.reshape((*shape, 3)), color[..., :3])
        assert volume.array.shape == (1, *shape)[-3:]
        assert ("The colours' transparency is left out." in volume.notices) == (channels == 4)
        heat = Layer.create(*heat_layer(explained(volume), layer, Look()))
        assert heat.data.shape == shape


@pytest.mark.parametrize("dtype", ["u1", "f4", "?"])
def test_colours_take_no_more_memory_than_they_and_their_brightness(dtype: str) -> None:
    color = np.random.default_rng(0).integers(0, 2, (40, 256, 256, 3)).astype(dtype)
    layer = Image(color, rgb=True)
    tracemalloc.start()
    volume = read_layer(layer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert volume.color is not None
    assert np.shares_memory(volume.color, color) == (dtype == "u1")
    assert not volume.color.flags.writeable
    assert color.flags.writeable
    assert peak < 1.3 * (volume.color.nbytes + volume.array.nbytes)


def test_nothing_is_loaded_before_it_is_explained() -> None:
    loaded = []

    def load(block: np.ndarray) -> np.ndarray:
        loaded.append(block.shape)
        return block

    data = da.from_array(blob(), chunks=-1).map_blocks(load, meta=np.empty((0, 0, 0), np.float32))
    layer = Image(data, contrast_limits=(0, 1), axis_labels=("I", "P", "L"), units=MM)
    viewer = ViewerModel()
    letters.install(viewer)
    viewer.add_layer(layer)
    before = len(loaded)  # napari's own, to draw a slice
    assert letters.letters_in_sight(viewer) is not None
    assert foreign.place_of(layer).in_patient_space
    show_plane(viewer, Plane.AXIAL)
    assert len(loaded) == before
    volume = read_layer(layer)
    assert len(loaded) == before + 1
    np.testing.assert_array_equal(volume.array, blob())
    assert read_layer(layer) is volume
    assert len(loaded) == before + 1


class Broken:
    """Values that cannot be had any more, as of a file that is gone."""

    shape, dtype, ndim = SHAPE, np.dtype(np.float32), 3

    def __init__(self) -> None:
        self.gone = False

    def __getitem__(self, key: Any) -> np.ndarray:
        """Serve napari."""
        return blob()[key]

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Fail once the file is gone."""
        if self.gone:
            raise OSError("no such file")
        return blob()


def broken() -> Image:
    data = Broken()
    layer = Image(data, contrast_limits=(0, 1), name="scan")
    data.gone = True
    return layer


MIXED, FLAT = np.eye(5), np.eye(4)
MIXED[0, 2] = 1
FLAT[:2, 1] = 1, 1e-9

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "series": (lambda: Image(np.zeros((5, *SHAPE)), name="scan"), "holds 5 volumes (5 × 6 × 7 × 8)"),
    "labels": (lambda: Labels(np.ones(SHAPE, int), name="scan"), "is of napari's kind Labels, not a scan"),
    "16-bit colours": (
        lambda: Image(np.zeros((7, 8, 3), np.uint16), rgb=True, name="scan"),
        "holds colours as uint16",
    ),
    "no number at all": (lambda: Image(blob() * np.nan, contrast_limits=(0, 1), name="scan"), "holds no finite value"),
    "gone": (broken, "cannot be read (OSError: no such file)"),
    "turned in time": (
        lambda: Image(blob((1, *SHAPE), (0, *HOT)), name="scan", affine=MIXED),
        "is turned between its first axes and its last three",
    ),
    "flat": (lambda: Image(blob(), affine=FLAT, name="scan"), "is flattened by its own transforms"),
}


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_holds_no_scan_is_refused_in_a_sentence(make: Callable[[], Any], reason: str) -> None:
    layer = make()
    with pytest.raises(GradCamError) as told:
        read_layer(layer)
    assert str(told.value).startswith(f"Layer “scan” {reason}")
    assert str(told.value).count(". ") == 0
    assert volume_of(layer) is None


def test_complex_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Image(blob(), name="scan")
    monkeypatch.setattr(Image, "dtype", np.dtype(np.complex64))
    with pytest.raises(GradCamError, match=r"holds complex numbers, .*: add its magnitude"):
        read_layer(layer)


def test_a_lazy_scan_larger_than_the_memory_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Image(da.zeros(SHAPE, dtype=np.float32), name="scan", contrast_limits=(0, 1))
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 100}))
    with pytest.raises(GradCamError, match="more than is free"):
        read_layer(layer)

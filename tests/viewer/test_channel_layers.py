"""Layers as channels: another scan, a mask that was painted on the scan, in whichever way the scan is stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_gradcam.errors import GradCamError
from napari_gradcam.viewer.channel_layers import is_channel_of, is_picture, may_be_channel, read_channel
from napari_gradcam.viewer.layers import read_layer

OBLIQUE = np.array([[-1.9, 0.3, 0.1, 40], [0.3, 2.1, 0.2, -60], [0.1, -0.2, 3, -30], [0, 0, 0, 1]])
SAGITTAL = np.array([[0, 0, 2.0, 40], [-2.0, 0, 0, 60], [0, -3.0, 0, -30], [0, 0, 0, 1]])


@pytest.mark.parametrize("affine", [OBLIQUE, SAGITTAL], ids=["oblique", "sagittal"])
def test_a_mask_that_is_painted_on_a_scan_lies_on_its_grid(affine: Any, make_volume: Any, add_scan: Any) -> None:
    viewer, volume = ViewerModel(), make_volume(affine)
    scan = add_scan(viewer, volume)
    viewer.layers.selection = {scan}
    viewer._new_labels()  # napari's own button
    mask = viewer.layers[-1]
    mask.data[scan.data == volume.array[8, 9, 6]] = 2
    read = read_channel(mask, scan, volume)
    assert read.shape == volume.shape
    assert np.argwhere(read.array).tolist() == [[8, 9, 6]]
    np.testing.assert_array_equal(read.affine, volume.affine)
    assert read.in_patient_space
    assert read.notices == ()


def test_a_mask_is_read_anew_only_after_it_was_painted_on(make_volume: Any, add_scan: Any) -> None:
    viewer, volume = ViewerModel(), make_volume()
    scan = add_scan(viewer, volume)
    viewer.layers.selection = {scan}
    viewer._new_labels()
    mask = viewer.layers[-1]
    before = read_channel(mask, scan, volume)
    assert is_channel_of(mask, scan, volume, before)
    mask.data_setitem((np.array([1]), np.array([2]), np.array([3])), 1)
    assert not is_channel_of(mask, scan, volume, before)
    assert before.array.sum() == 0
    assert read_channel(mask, scan, volume).array.sum() == 1
    mask.undo()
    assert read_channel(mask, scan, volume).array.sum() == 0


def test_a_scan_of_our_reader_keeps_its_own_place(make_volume: Any, add_scan: Any) -> None:
    viewer, volume, other = ViewerModel(), make_volume(), make_volume(SAGITTAL, name="other")
    scan, layer = add_scan(viewer, volume), add_scan(viewer, other)
    assert read_channel(layer, scan, volume) is other
    assert read_channel(scan, scan, volume) is volume


def test_an_image_that_lies_elsewhere_is_read_as_it_lies(make_volume: Any, add_scan: Any) -> None:
    viewer, volume = ViewerModel(), make_volume()
    scan = add_scan(viewer, volume)
    filtered = viewer.add_image(np.array(scan.data), scale=scan.scale, translate=scan.translate, units=scan.units)
    on_it = read_channel(filtered, scan, volume)
    np.testing.assert_array_equal(on_it.array, volume.array)
    assert on_it.in_patient_space
    filtered.translate = filtered.translate + 1
    elsewhere = read_channel(filtered, scan, volume)
    assert not elsewhere.in_patient_space
    assert not is_channel_of(filtered, scan, volume, on_it)


def test_a_mask_of_a_picture_lies_on_the_picture() -> None:
    viewer = ViewerModel()
    picture = viewer.add_image(np.zeros((20, 3, 3), np.uint8), rgb=True)
    mask = viewer.add_labels(np.eye(20, 3, dtype=int))
    volume = read_layer(picture)
    read = read_channel(mask, picture, volume)
    assert read.shape == volume.shape == (1, 20, 3)
    assert (read.unit, read.color) == ("pixels", None)
    assert is_picture(picture)


def test_what_is_neither_image_nor_labels_is_refused(make_volume: Any, add_scan: Any) -> None:
    viewer, volume = ViewerModel(), make_volume()
    scan = add_scan(viewer, volume)
    points = viewer.add_points(np.zeros((1, 3)))
    assert not may_be_channel(points)
    with pytest.raises(GradCamError, match="of napari's kind Points, not a scan or a mask"):
        read_channel(points, scan, volume)

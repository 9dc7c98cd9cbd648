"""Explanations as layer data: raw values, one scale, exactly where the scan lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image, Layer

from napari_gradcam.viewer import layers
from napari_gradcam.viewer.look import COLORMAPS, Look, Style

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def scan(make_volume: Callable[..., Any]) -> Any:
    return Layer.create(*layers.scan_layer(make_volume()))


def test_a_heat_map_copies_every_transform_of_its_scan(
    make_volume: Callable[..., Any], make_explanation: Callable[..., Any]
) -> None:
    data, settings, kind = layers.scan_layer(make_volume())
    moved = {"rotate": 10.0, "shear": [0.1, 0, 0], "affine": np.diag([1.0, 1, 2, 1])}
    scan = Layer.create(data, settings | moved, kind)
    heat = Layer.create(*layers.heat_layer(make_explanation(make_volume()), scan, Look()))
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(heat, name), getattr(scan, name))
    np.testing.assert_allclose(heat.affine.affine_matrix, scan.affine.affine_matrix)
    assert heat.axis_labels == scan.axis_labels
    assert heat.units == scan.units


def test_the_heat_map_is_raw_and_lies_voxel_for_voxel_on_the_scan(
    scan: Any, make_volume: Callable[..., Any], make_explanation: Callable[..., Any]
) -> None:
    volume = make_volume()
    explanation = make_explanation(volume)
    heat = Layer.create(*layers.heat_layer(explanation, scan, Look()))
    hottest = np.unravel_index(heat.data.argmax(), heat.data.shape)
    assert heat.data[hottest] == np.float32(0.08)
    assert scan.data[hottest] == volume.array[explanation.peak.index]
    assert np.shares_memory(heat.data, explanation.heatmap)


def test_what_is_below_the_threshold_is_transparent(
    scan: Any, make_volume: Callable[..., Any], make_explanation: Callable[..., Any]
) -> None:
    heat = Layer.create(*layers.heat_layer(make_explanation(make_volume()), scan, Look(threshold=0.25)))
    assert heat.contrast_limits == pytest.approx([0.02, 0.08])
    assert heat.blending == "translucent_no_depth"
    assert heat.colormap.low_color[3] == 0
    assert heat.opacity == 0.5


@pytest.mark.parametrize("name", COLORMAPS)
def test_a_see_through_colour_map_has_the_colours_of_its_own_name_and_leaves_that_alone(name: str) -> None:
    from napari.utils.colormaps import ensure_colormap

    heat = layers.heat_colormap(name)
    assert layers.plain_name(heat) == name
    np.testing.assert_allclose(heat.map([0.1, 0.5, 1.0]), ensure_colormap(name).map([0.1, 0.5, 1.0]))
    assert ensure_colormap(name).low_color is None


def test_bands_are_counted_from_the_scales_top(
    scan: Any, make_volume: Callable[..., Any], make_explanation: Callable[..., Any]
) -> None:
    explanation = make_explanation(make_volume())
    explanation.heatmap[0, 0, :5] = np.array([0.39, 0.41, 0.61, 0.81, 1.0]) * np.float32(0.08)
    bands = Layer.create(*layers.bands_layer(explanation, scan, Look(style=Style.BANDS)))
    native = layers.DisplayGrid.from_affine(explanation.affine, explanation.heatmap.shape).to_native(bands.data)
    assert native[0, 0, :5].tolist() == [0, 1, 2, 3, 3]
    assert bands.visible
    assert bands.colormap.map(0)[3] == 0
    assert layers.band_data(explanation, scan, Look(fixed_top=0.8)).max() == 0


def test_a_fixed_scale_keeps_a_weak_map_unpainted(
    make_volume: Callable[..., Any], make_explanation: Callable[..., Any]
) -> None:
    weak = make_explanation(make_volume(), top=0.0016)
    assert Look().paints(weak)
    assert Look(fixed_top=0.08).limits(weak) == pytest.approx((0.032, 0.08))
    assert not Look(fixed_top=0.08).paints(weak)


def test_a_map_without_heat_has_a_scale_and_paints_nothing(
    make_volume: Callable[..., Any], make_explanation: Callable[..., Any]
) -> None:
    empty = make_explanation(make_volume(), top=0.0)
    low, high = Look().limits(empty)
    assert 0 < low < high
    assert not Look().paints(empty)


def test_our_layer_and_its_duplicate_are_the_scan_that_was_read(make_volume: Callable[..., Any]) -> None:
    volume = make_volume()
    scan = Layer.create(*layers.scan_layer(volume))
    data, state, kind = scan.as_layer_data_tuple()
    assert layers.volume_of(scan) is volume
    assert layers.volume_of(Layer.create(data.copy(), state, kind)) is volume
    assert layers.is_scan_of(scan, volume)


def test_a_layer_that_holds_no_scan_has_none() -> None:
    series = Image(np.zeros((2, 3, 3, 3)), metadata={"napari_gradcam": "other"})
    assert layers.volume_of(series) is None
    assert not layers.may_be_scan(series)
    assert layers.world_to_patient(series) is None

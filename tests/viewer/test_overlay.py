"""One scan has one heat map layer, whose sliders and the dock's are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_gradcam.viewer.layers import heat_data, read_layer
from napari_gradcam.viewer.letters import letters_in_sight
from napari_gradcam.viewer.look import Look, Style
from napari_gradcam.viewer.overlay import HeatMapOverlay
from napari_gradcam.viewer.planes import go_to, plane_in_sight

if TYPE_CHECKING:
    from collections.abc import Callable


class Stage:
    def __init__(self, volume: Any, add_scan: Callable[..., Any], make: Callable[..., Any]) -> None:
        self.viewer = ViewerModel()
        self.looks: list[Look] = []
        self.overlay = HeatMapOverlay(self.viewer, add_scan(self.viewer, volume), self.looks.append)
        self.explanation = lambda **given: make(volume, **given)

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers]


@pytest.fixture
def stage(make_volume: Callable[..., Any], add_scan: Callable[..., Any], make_explanation: Callable[..., Any]) -> Stage:
    return Stage(make_volume(), add_scan, make_explanation)


def test_showing_again_updates_the_same_layer(stage: Stage) -> None:
    stage.overlay.show(stage.explanation(), Look())
    heat = stage.overlay.heat
    other = stage.explanation(hottest=(1, 2, 3), top=0.5, target="no lesion")
    stage.overlay.show(other, Look())
    assert stage.overlay.heat is heat
    assert stage.names == ["scan", "Heat map: no lesion"]
    assert (heat.data == heat_data(other, stage.viewer.layers[0])).all()
    assert heat.contrast_limits == pytest.approx([0.2, 0.5])
    assert heat.contrast_limits_range == pytest.approx([0, 0.5])
    assert stage.looks == []


def test_a_name_that_the_person_gave_stays(stage: Stage) -> None:
    stage.overlay.show(stage.explanation(), Look())
    stage.overlay.heat.name = "mine"
    stage.overlay.show(stage.explanation(target="no lesion"), Look())
    assert stage.names == ["scan", "mine"]


def test_a_layer_that_the_person_removed_comes_anew(stage: Stage) -> None:
    stage.overlay.show(stage.explanation(), Look())
    stage.viewer.layers.remove(stage.overlay.heat)
    stage.overlay.restyle(Look(opacity=0.2))
    assert stage.names == ["scan"]
    stage.overlay.show(stage.explanation(), Look())
    assert stage.names == ["scan", "Heat map: lesion"]


def test_a_map_without_heat_makes_no_layer_and_empties_the_one_there_is(stage: Stage) -> None:
    empty = stage.explanation(top=0.0)
    stage.overlay.show(empty, Look())
    assert stage.names == ["scan"]
    stage.overlay.show(stage.explanation(), Look())
    stage.overlay.show(empty, Look())
    assert stage.overlay.heat.data.max() == 0
    assert stage.overlay.heat.contrast_limits[0] > 0


def test_a_new_look_acts_at_once(stage: Stage) -> None:
    stage.overlay.show(stage.explanation(), Look())
    stage.overlay.restyle(Look(opacity=0.2, threshold=0.5, colormap="viridis", fixed_top=0.2))
    heat = stage.overlay.heat
    assert heat.opacity == 0.2
    assert heat.contrast_limits == pytest.approx([0.1, 0.2])
    assert heat.colormap.name == "heat viridis"
    assert heat.colorbar.visible
    assert stage.looks == []


def test_napari_s_own_sliders_change_the_look(stage: Stage) -> None:
    stage.overlay.show(stage.explanation(), Look())
    heat = stage.overlay.heat
    heat.contrast_limits = (0.02, 0.08)
    assert stage.looks[-1] == Look(threshold=pytest.approx(0.25))
    heat.opacity = 0.9
    assert stage.looks[-1].opacity == 0.9
    heat.contrast_limits = (0.02, 0.04)
    assert stage.looks[-1].fixed_top == pytest.approx(0.04)
    assert stage.looks[-1].threshold == pytest.approx(0.5)


def test_a_colour_map_chosen_in_napari_stays_see_through(stage: Stage) -> None:
    stage.overlay.show(stage.explanation(), Look())
    stage.overlay.heat.colormap = "viridis"
    assert stage.overlay.heat.colormap.low_color[3] == 0
    assert stage.looks[-1].colormap == "viridis"


def test_bands_take_the_heat_map_s_place_and_keep_the_selection(stage: Stage) -> None:
    stage.overlay.show(stage.explanation(), Look())
    heat = stage.overlay.heat
    stage.overlay.restyle(Look(style=Style.BANDS))
    bands = stage.overlay.bands
    assert (heat.visible, bands.visible) == (False, True)
    assert stage.viewer.layers.selection == {heat}
    assert bands.data.max() == 3
    stage.overlay.restyle(Look(style=Style.BANDS, fixed_top=0.8, colormap="viridis", opacity=0.1))
    assert bands.data.max() == 0
    assert bands.opacity == 0.1
    stage.overlay.show(stage.explanation(hottest=(1, 2, 3)), Look(style=Style.BANDS))
    assert bands.data.max() == 3
    stage.overlay.restyle(Look())
    assert (heat.visible, bands.visible) == (True, False)
    assert len(stage.viewer.layers) == 3


def test_a_map_lies_on_a_picture_pixel_by_pixel(make_explanation: Callable[..., Any]) -> None:
    viewer = ViewerModel()
    picture = viewer.add_image(np.zeros((40, 60, 3), np.uint8), scale=(2, 2), translate=(5, 7), name="road")
    assert picture.rgb
    overlay = HeatMapOverlay(viewer, picture, lambda look: None)
    volume = read_layer(picture)
    explanation = make_explanation(volume, hottest=(0, 30, 12))
    overlay.show(explanation, Look(style=Style.BANDS))
    for layer in (overlay.heat, overlay.bands):
        assert layer.data.shape == (40, 60)
        assert np.argwhere(layer.data == layer.data.max()).tolist() == [[30, 12]]
        np.testing.assert_array_equal(layer.extent.world, picture.extent.world)
        np.testing.assert_array_equal(layer.data_to_world((30, 12)), (65, 31))
    go_to(viewer, picture, explanation.peak.index)
    assert viewer.dims.ndim == 2
    assert letters_in_sight(viewer) is None
    assert plane_in_sight(viewer) is None

"""The reading room without a window: hot spots, slices, windows, pins and comparisons, in a viewer model."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_gradcam.errors import GradCamError
from napari_gradcam.export.card import card
from napari_gradcam.viewer import grey, keys
from napari_gradcam.viewer.beside import OTHER_SCAN
from napari_gradcam.viewer.cursor import MARK, under_cursor
from napari_gradcam.viewer.findings import Findings
from napari_gradcam.viewer.kept import Made, Request
from napari_gradcam.viewer.look import Look, Style
from napari_gradcam.viewer.planes import index_in_sight
from napari_gradcam.viewer.room import NOT_HOTTER, OWN_WINDOW, InSight, Room
from napari_gradcam.viewer.surroundings import Surroundings
from napari_gradcam.volumes.orientation import Plane
from napari_gradcam.volumes.volume import Window

if TYPE_CHECKING:
    from pathlib import Path

TILTED = np.array([[0, 0, 3.0, -20], [-2.0, 0, 0, 30], [0, -2.0, 0, 15], [0, 0, 0, 1]])
"""A sagittal series: its slices run to the right, its rows to the back, its columns to the feet."""


class Canvases:
    """Remembers what it was told to show."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def show_planes(self, on: bool) -> None:
        self.told.append(("planes", on))

    def show_beside(self, scan: Any, explanation: Any, look: Any, title: str) -> None:
        self.told.append(("beside", title, look))

    def hide_beside(self) -> None:
        self.told.append(("alone",))

    def close(self) -> None:
        self.told.append(("closed",))


class Stage:
    """A viewer with a scan and a map of two hot spots."""

    def __init__(self, dock: Any, volume: Any, scan: Any, explanation: Any, viewer: ViewerModel) -> None:
        self.dock, self.viewer, self.scan, self.volume = dock, viewer, scan, volume
        self.look, self.canvases = Look(), Canvases()
        self.made: Made | None = Made(Request("scan", "model", "gradcam"), (volume,), explanation)
        self.room = Room(
            viewer, dock, Surroundings(canvases=self.canvases), lambda: InSight(self.scan, self.made, self.look), "LPS"
        )
        self.room.refresh()

    @property
    def at(self) -> list[int]:
        return [round(float(n)) for n in index_in_sight(self.viewer, self.scan)]

    def send(self, name: str, *values: Any) -> None:
        self.dock.events[name].emit(*values)


@pytest.fixture
def stage_of(fake_dock: Any, make_volume: Any, make_explanation: Any, add_scan: Any) -> Any:
    def make(affine: Any = None, explained: dict[str, Any] | None = None, **given: Any) -> Stage:
        volume = make_volume(**({} if affine is None else {"affine": affine}), **given)
        viewer = ViewerModel()
        scan = add_scan(viewer, volume)
        explanation = make_explanation(volume, (8, 9, 6), top=0.08, **(explained or {}))
        explanation.heatmap[2, 3, 1] = 0.06
        return Stage(fake_dock, volume, scan, explanation, viewer)

    return make


@pytest.fixture
def stage(stage_of: Any) -> Stage:
    made: Stage = stage_of(instances=tuple(range(101, 111)))
    return made


def test_hot_spots_are_listed_as_they_are_said(stage: Stage) -> None:
    first, second = stage.dock.shown["spots"]
    assert stage.dock.shown["system"] == "LPS"
    x, y, z = (stage.volume.affine @ [8, 9, 6, 1])[:3]
    assert first.position == f"{-x:.1f}, {-y:.1f}, {z:.1f}"
    assert (first.rank, first.peak, first.instance) == ("1", "0.08", "107")
    assert first.volume == "0.012"
    # The slider counts axial slices from the head down.
    assert first.slice == str(10 - 6)
    assert (second.rank, second.peak, second.instance) == ("2", "0.06", "102")


@pytest.mark.parametrize("affine", [None, TILTED])
@pytest.mark.parametrize("plane", list(Plane))
def test_a_hot_spot_is_gone_to_in_all_planes(stage_of: Any, affine: Any, plane: Plane) -> None:
    stage = stage_of(affine)
    stage.send("plane_picked", plane)
    stage.send("spot_picked", 1)
    assert stage.at == [2, 3, 1]
    stage.send("spot_picked", 0)
    assert stage.at == [8, 9, 6]
    stage.send("spot_picked", 7)
    assert stage.at == [8, 9, 6]


@pytest.mark.parametrize("affine", [None, TILTED])
@pytest.mark.parametrize("plane", list(Plane))
def test_profile_slider_and_table_count_alike(stage_of: Any, affine: Any, plane: Plane) -> None:
    stage = stage_of(affine)
    stage.send("plane_picked", plane)
    stage.send("spot_picked", 0)
    profile, number = stage.dock.shown["profile"], stage.dock.shown["slice"]
    assert profile.plane == plane.value
    sliced = plane.dims_order[0]
    assert number == stage.viewer.dims.current_step[sliced]
    assert len(profile.shares) == stage.viewer.dims.nsteps[sliced]
    assert number == np.argmax(profile.shares)
    assert stage.dock.shown["spots"][0].slice == str(number + 1)
    assert list(np.flatnonzero(profile.hot)) == sorted({number, int(stage.dock.shown["spots"][1].slice) - 1})


def test_a_slice_of_the_profile_is_gone_to_and_the_other_planes_stay(stage: Stage) -> None:
    stage.send("spot_picked", 0)
    stage.send("slice_picked", 9)
    assert stage.viewer.dims.current_step[0] == 9
    assert stage.at == [8, 9, 0]
    assert stage.dock.shown["slice"] == 9


def test_scrolling_in_the_viewer_marks_the_slice(stage: Stage) -> None:
    stage.viewer.dims.set_current_step(0, 2)
    assert stage.dock.shown["slice"] == 2


def test_keys_go_from_hot_slice_to_hot_slice_and_say_where_there_is_none(stage: Stage) -> None:
    stage.viewer.dims.set_current_step(0, 0)
    act = stage.room.actions
    seen = []
    for _ in range(3):
        act[keys.HOT_NEXT]()
        seen.append(stage.viewer.dims.current_step[0])
    assert seen == [3, 8, 8]
    assert stage.dock.said[-1][0] == NOT_HOTTER
    act[keys.HOT_BEFORE]()
    assert stage.viewer.dims.current_step[0] == 3
    assert stage.dock.said[-1][0] == ""
    act[keys.CORONAL]()
    assert stage.dock.shown["plane"] is Plane.CORONAL


def test_a_higher_threshold_leaves_fewer_hot_spots(stage: Stage) -> None:
    stage.look = Look(threshold=0.9)
    stage.room.refresh()
    assert len(stage.dock.shown["spots"]) == 1
    stage.look = Look(fixed_top=10.0)
    stage.room.refresh()
    assert stage.dock.shown["spots"] == []
    assert not stage.dock.shown["profile"].hot.any()


def test_without_a_map_nothing_is_listed(stage: Stage) -> None:
    stage.made = None
    stage.room.refresh()
    assert stage.dock.shown["spots"] == []
    assert stage.dock.shown["profile"] is None
    stage.send("spot_picked", 0)
    stage.send("slice_picked", 3)
    stage.room.go_to_hot(1)


def test_a_signed_map_lists_what_speaks_against_the_class(stage_of: Any) -> None:
    stage = stage_of(explained={"signed": True})
    heat = stage.made.explanation.heatmap.copy()
    heat[5, 5, 5] = -0.07
    stage.made = stage.made._replace(explanation=replace(stage.made.explanation, heatmap=heat))
    stage.room.refresh()
    peaks = [row.peak for row in stage.dock.shown["spots"]]
    assert peaks == ["0.08", "-0.07", "0.06"]


def test_the_scores_of_slices_stand_on_the_profile_of_their_plane_alone(stage_of: Any) -> None:
    read = np.array([[1 - p, p] for p in np.linspace(0, 0.9, 10)], dtype=np.float32)
    told = {"slice_scores": read, "slice_axis": 2, "slice_indices": range(10)}
    stage = stage_of(explained=told)
    np.testing.assert_allclose(stage.dock.shown["profile"].scores, np.linspace(0.9, 0, 10), atol=1e-6)
    stage.send("plane_picked", Plane.SAGITTAL)
    assert stage.dock.shown["profile"].scores is None


def test_hot_spots_are_saved_as_a_table(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "spots.csv"
    stage.send("spots_saved", path)
    assert stage.dock.said[-1][0] == "2 hot spots were saved in “spots.csv”."
    rows = list(csv.DictReader(path.read_text().splitlines()))
    x, y, z = (stage.volume.affine @ [8, 9, 6, 1])[:3]
    assert [float(rows[0][f"{axis}_lps_mm"]) for axis in "xyz"] == [-x, -y, z]
    assert [int(rows[0][f"voxel_{axis}"]) for axis in "ijk"] == [8, 9, 6]
    assert (rows[0]["class"], rows[0]["unit"], rows[0]["instance_number"]) == ("lesion", "logit units", "107")
    assert float(rows[1]["peak"]) == pytest.approx(0.06)
    stage.send("spots_saved", tmp_path / "nowhere" / "spots.csv")
    assert "nowhere" in stage.dock.said[-1][0]


def test_a_scan_without_a_place_has_no_position_in_the_patient(stage_of: Any, tmp_path: Path) -> None:
    stage = stage_of(in_patient_space=False, explained={"in_patient_space": False})
    assert stage.dock.shown["spots"][0].position == "8, 9, 6"
    stage.send("spots_saved", tmp_path / "spots.csv")
    (row, _) = csv.DictReader((tmp_path / "spots.csv").read_text().splitlines())
    assert row["x_lps_mm"] == ""


def test_the_status_tells_value_heat_and_place_under_the_cursor(stage_of: Any) -> None:
    stage = stage_of(modality="CT")
    told = under_cursor(stage.made, np.array([8.2, 8.9, 6.4]), "RAS", 0.08)
    x, y, z = (stage.volume.affine @ [8, 9, 6, 1])[:3]
    assert told.split("   ") == [
        f"scan {stage.volume.array[8, 9, 6]:.5g} HU",
        "heat 0.08 (100 % of the scale)",
        f"RAS {x:.1f}, {y:.1f}, {z:.1f} mm",
        "voxel 8 9 6",
    ]
    assert under_cursor(stage.made, np.array([-1.0, 0, 0]), "RAS", 0.08) == ""


def test_napari_s_status_is_replaced_once_and_left_alone_without_a_map(stage: Stage) -> None:
    told = {"layer_name": "scan", "layer_base": "scan", "source_type": "", "plugin": "", "coordinates": " [0 0 0]: 1"}
    stage.send("spot_picked", 0)
    stage.viewer.cursor.position = tuple(stage.viewer.dims.point)
    stage.viewer.status = told
    assert "heat 0.08" in stage.viewer.status["coordinates"]
    assert stage.viewer.status["coordinates"].endswith(MARK)
    stage.viewer.status = "Ready"
    stage.viewer.dims.ndisplay = 3
    stage.viewer.status = told
    assert stage.viewer.status == told
    stage.viewer.dims.ndisplay = 2
    stage.viewer.add_image(np.zeros((4, 4, 4)), name="another")
    stage.viewer.status = "Ready"
    stage.viewer.status = told
    assert stage.viewer.status == told
    stage.viewer.layers.selection.active = stage.scan
    stage.made = None
    stage.viewer.status = "Ready"
    stage.viewer.status = told
    assert stage.viewer.status == told
    stage.viewer.status = "Ready"
    assert stage.viewer.status == "Ready"


def test_windows_are_offered_by_modality_and_shown(stage_of: Any) -> None:
    stage = stage_of(modality="CT", window=Window(400, 1000))
    listed = stage.dock.shown["windows"]
    assert listed[grey.FILE] == "from the file"
    assert set(grey.PRESETS) < set(listed)
    assert stage.dock.shown["current windows"] == grey.FILE
    stage.send("window_picked", "lung")
    assert stage.scan.contrast_limits == [-1350.0, 150.0]
    assert stage.dock.shown["current windows"] == "lung"
    stage.scan.contrast_limits = (0, 77)
    assert stage.dock.shown["windows"][grey.OWN] == OWN_WINDOW
    stage.send("window_picked", grey.FILE)
    assert stage.scan.contrast_limits == [-100.0, 900.0]
    assert grey.OWN not in stage.dock.shown["windows"]


def test_an_mr_has_no_window_in_hounsfield_units_and_colours_have_none(stage_of: Any) -> None:
    assert list(stage_of(modality="MR").dock.shown["windows"]) == [grey.FILE]
    assert grey.windows_of(None) == []


class Drag:
    """An event of the mouse, as napari hands it to a drag callback."""

    def __init__(self, button: int = 2) -> None:
        self.button, self.modifiers, self.pos, self.type, self.handled = button, (), (100, 100), "mouse_press", False


def test_dragging_with_the_right_button_sets_width_and_level(stage: Stage) -> None:
    stage.scan.contrast_limits = (0, 1000)
    (callback,) = stage.viewer.mouse_drag_callbacks[-1:]
    event = Drag()
    steps = callback(stage.viewer, event)
    next(steps)
    assert not stage.viewer.scene.camera.mouse_zoom
    event.type, event.pos = "mouse_move", (100 + grey.SPAN_PIXELS, 100)
    next(steps)
    assert stage.scan.contrast_limits == pytest.approx([-500, 1500])
    event.pos = (100, 100 + grey.SPAN_PIXELS / 2)
    next(steps)
    assert stage.scan.contrast_limits == pytest.approx([500, 1500])
    event.type = "mouse_release"
    with pytest.raises(StopIteration):
        next(steps)
    assert stage.viewer.scene.camera.mouse_zoom
    assert list(callback(stage.viewer, Drag(button=1))) == []
    stage.room.close()
    assert callback not in stage.viewer.mouse_drag_callbacks


def test_a_map_is_kept_beside_the_ones_that_follow_and_compared(stage: Stage, make_explanation: Any) -> None:
    stage.send("beside_pressed")
    assert stage.canvases.told[-1] == ("beside", "Grad-CAM · features · lesion", Look())
    assert stage.dock.shown["compared"]["Overlap"].startswith("1.00")
    other = make_explanation(stage.volume, (1, 1, 1), layer="early", method="hirescam")
    stage.made = Made(Request("scan", "model", "hirescam"), (stage.volume,), other)
    stage.room.refresh()
    assert stage.dock.shown["beside"] == "Beside: Grad-CAM · features · lesion"
    assert stage.dock.shown["compared"]["Overlap"].startswith("0.00")
    stage.look = Look(colormap="viridis")
    stage.room.refresh()
    assert stage.canvases.told[-1] == ("beside", "Grad-CAM · features · lesion", Look(colormap="viridis"))
    made, stage.made = stage.made, None
    stage.room.refresh()
    assert stage.dock.shown["beside"].endswith(OTHER_SCAN)
    assert stage.dock.shown["compared"] == {}
    stage.made = made
    stage.room.refresh()
    assert stage.dock.shown["compared"]["Overlap"].startswith("0.00")
    stage.room.only(["another"])
    assert stage.canvases.told[-1] == ("alone",)
    assert stage.dock.shown["beside"] == ""


def test_planes_are_linked_as_the_person_asks(stage: Stage) -> None:
    stage.send("planes_linked", True)
    stage.send("planes_linked", False)
    assert stage.canvases.told == [("planes", True), ("planes", False)]


def test_the_scale_bar_is_shown_where_there_are_mm(stage: Stage) -> None:
    assert stage.viewer.canvas.overlays.scale_bar.visible
    assert stage.viewer.canvas.overlays["heat_unit"].text == "logit units"
    stage.made = None
    stage.room.refresh()
    assert not stage.viewer.canvas.overlays["heat_unit"].visible


def test_a_closed_room_hears_nothing_more(stage: Stage) -> None:
    stage.room.close()
    stage.dock.shown.clear()
    stage.viewer.dims.set_current_step(0, 5)
    stage.viewer.dims.order = (1, 0, 2)
    stage.scan.contrast_limits = (0, 5)
    stage.viewer.status = {"layer_base": "", "source_type": "", "plugin": "", "coordinates": " [1]"}
    assert stage.dock.shown == {}
    assert stage.canvases.told[-1] == ("closed",)


def test_keys_are_bound_for_one_viewer_and_let_go() -> None:
    one, other = ViewerModel(), ViewerModel()
    pressed: list[str] = []
    bound = keys.Keys(one, {keys.HOT_NEXT: lambda: pressed.append("next")})
    assert len(one.keymap) == 1
    assert not other.keymap
    (action,) = one.keymap.values()
    action(one)
    assert pressed == ["next"]
    bound.close()
    assert not one.keymap


def test_a_key_that_another_has_is_left_to_it() -> None:
    viewer = ViewerModel()
    viewer.bind_key(keys.HOT_NEXT, lambda _: "another")
    keys.Keys(viewer, {keys.HOT_NEXT: lambda: None}).close()
    assert len(viewer.keymap) == 1


def test_only_maps_of_one_kind_are_set_against_one_another(stage: Stage, make_explanation: Any) -> None:
    from napari_gradcam.contrast import opposed

    first = make_explanation(stage.volume, (8, 9, 6), top=0.08)
    second = make_explanation(stage.volume, (1, 2, 3), top=0.02, target="no lesion")
    both = opposed(first, second)
    np.testing.assert_allclose(both.heatmap, first.heatmap - second.heatmap)
    assert (both.target, both.against, both.signed) == ("lesion", "no lesion", True)
    assert both.strongest == pytest.approx(0.08 - 0.05 * 0.02)
    assert "“lesion” against “no lesion”" in both.notices[0]
    assert "keeps no sign" in both.notices[1]
    signed = opposed(replace(first, signed=True), replace(second, signed=True))
    assert not any("keeps no sign" in notice for notice in signed.notices)
    assert opposed(second, first).strongest == pytest.approx(both.strongest)
    for other in (first, make_explanation(stage.volume, target="no lesion", layer="early")):
        with pytest.raises(GradCamError, match="set against another"):
            opposed(first, other)


def test_while_the_hot_spots_of_another_map_are_counted_none_are_told(stage: Stage, make_explanation: Any) -> None:
    waiting: list[Any] = []
    findings = Findings(stage.viewer, stage.dock, "RAS", waiting.append)
    findings.show(*stage.room._in_sight())
    assert stage.dock.shown["spots"] is None
    waiting.pop()()
    assert len(stage.dock.shown["spots"]) == 2
    findings.show(stage.scan, stage.made, Look(threshold=0.9))
    assert len(stage.dock.shown["spots"]) == 2


def test_the_card_says_where_bands_begin_whatever_the_threshold(make_volume: Any, make_explanation: Any) -> None:
    explanation = make_explanation(make_volume())
    told = " ".join(card(explanation, Look(threshold=0.7, style=Style.BANDS).manner(), in_bands=True))
    assert "bands from 40, 60, 80 % of 0.08 logit units (scale of this map)" in told
    assert "70 %" not in told

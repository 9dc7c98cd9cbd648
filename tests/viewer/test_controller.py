"""The controller without a window: a stand-in for the dock, a viewer model, work that a test moves by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import Progress
from napari_gradcam.viewer import controller as module
from napari_gradcam.viewer.contract import Choice, Tone
from napari_gradcam.viewer.controller import NO_MODEL, NO_SCAN, Controller, Work
from napari_gradcam.viewer.look import Look
from napari_gradcam.volumes.orientation import Plane

LAYERS = [
    SimpleNamespace(name="early", grid=(20, 24, 20), problem=None),
    SimpleNamespace(name="features", grid=(10, 12, 10), problem=None),
    SimpleNamespace(name="head", grid=(), problem="It has no grid."),
]
CLASSIFIER = SimpleNamespace(
    class_names=("no lesion", "lesion"), layers=lambda: LAYERS, default_layer="features", name="two classes"
)


class Room:
    """A controller with all that it ties together."""

    def __init__(self, dock: Any, jobs: Any, make_explanation: Any) -> None:
        self.viewer, self.dock, self.jobs = ViewerModel(), dock, jobs
        self.loaded: list[str] = []
        self.explained: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.top = 0.08
        self._make = make_explanation
        self.controller = Controller(self.viewer, dock, jobs, Work(self._load, self._explain))
        assert jobs.started == 0
        self.controller.start()

    def _load(self, path: str) -> Any:
        yield Progress(0, 1, "Reading the model")
        if self.error:
            raise self.error
        self.loaded.append(path)
        return CLASSIFIER

    def _explain(self, classifier: Any, volume: Any, target: Any, method: str, layer: Any) -> Any:
        yield Progress(0, 2, "Preparing")
        yield Progress(1, 2, "Running")
        if self.error:
            raise self.error
        self.explained.append((target, method, layer))
        return self._make(volume, target=target or "lesion", layer=layer or "features", top=self.top)

    def explain(self) -> None:
        self.dock.events.explain_pressed.emit()
        self.jobs.finish()

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers]

    @property
    def says(self) -> str:
        return self.dock.said[-1][0]


@pytest.fixture
def room(fake_dock: Any, hand_jobs: Any, make_explanation: Any, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setattr(module, "choices_of", lambda _: [Choice("Sample 3D", "/three"), Choice("Sample 2D", "/two")])
    return Room(fake_dock, hand_jobs, make_explanation)


@pytest.fixture
def scanned(room: Room, make_volume: Any, add_scan: Any) -> Room:
    add_scan(room.viewer, make_volume())
    room.jobs.finish()
    return room


def test_the_first_model_is_loaded_in_the_background_and_fills_classes_and_layers(room: Room) -> None:
    assert room.dock.shown["current models"] == "/three"
    assert room.dock.shown["progress"] is not None
    assert not room.dock.shown["explaining"]
    assert list(room.dock.shown["classes"]) == [""]
    room.jobs.finish()
    assert room.loaded == ["/three"]
    assert list(room.dock.shown["classes"]) == ["", "no lesion", "lesion"]
    assert room.dock.shown["layers"] == {
        "": "default: features",
        "early": "early (20 × 24 × 20)",
        "features": "features (10 × 12 × 10)",
    }
    assert room.dock.shown["progress"] is None


def test_explain_without_a_scan_or_a_model_says_what_to_do(room: Room, make_volume: Any, add_scan: Any) -> None:
    room.jobs.finish()
    room.explain()
    assert room.dock.said[-1] == (NO_SCAN, Tone.ERROR)
    add_scan(room.viewer, make_volume())
    room.dock.events.model_picked.emit("")
    room.explain()
    assert room.dock.said[-1] == (NO_MODEL, Tone.ERROR)


def test_a_layer_that_is_no_scan_is_refused_with_its_own_reason(room: Room) -> None:
    room.jobs.finish()
    room.viewer.add_image(np.zeros((2, 4, 4, 4)), name="series")
    room.explain()
    assert room.says.startswith("Layer “series” holds 2 volumes (2 × 4 × 4 × 4), over time or by channel: take out")
    assert room.names == ["series"]


def test_a_layer_of_another_plugin_is_explained_and_its_place_is_called_unknown(room: Room) -> None:
    room.jobs.finish()
    other = room.viewer.add_image(np.zeros((12, 14, 10), np.float32), name="other", scale=(3, 1, 2))
    assert room.dock.shown["current scans"] == str(other.unique_id)
    room.explain()
    heat = room.viewer.layers[-1]
    assert heat.data[room.viewer.dims.current_step] == heat.data.max()
    assert dict(room.dock.shown["result"].facts)["Hottest point"] == "voxel 8 9 6"


def test_what_was_explained_of_a_layer_is_explained_anew_after_the_layer_changed(room: Room) -> None:
    room.jobs.finish()
    other = room.viewer.add_image(np.zeros((12, 14, 10), np.float32), name="other")
    room.explain()
    other.scale = (2, 1, 1)
    room.dock.events.explain_pressed.emit()
    assert room.dock.shown["result"] is None
    room.jobs.finish()
    other.contrast_limits = (0, 5)
    room.explain()
    assert len(room.explained) == 2


def test_a_map_of_a_layer_that_changed_while_it_was_explained_is_not_shown(room: Room) -> None:
    room.jobs.finish()
    other = room.viewer.add_image(np.zeros((12, 14, 10), np.float32), name="other")
    room.dock.events.explain_pressed.emit()
    room.jobs.step()
    other.data = np.zeros((12, 14, 11), np.float32)
    room.jobs.finish()
    assert room.says == "Layer “other” was changed while it was explained: explain it again."
    assert room.names == ["other"]


def test_a_run_adds_a_heat_map_goes_to_the_hottest_point_and_tells_what_was_found(scanned: Room) -> None:
    scanned.explain()
    assert scanned.names == ["scan", "Heat map: lesion"]
    scan, heat = scanned.viewer.layers
    assert heat.data[scanned.viewer.dims.current_step] == heat.data.max()
    np.testing.assert_allclose(heat.scale, scan.scale)
    result = scanned.dock.shown["result"]
    facts = dict(result.facts)
    assert facts["Hottest point"] == "R 24.0 A 42.0 I 12.0 mm"
    assert facts["Class"] == "lesion, 0.980"
    assert facts["Raw maximum"] == "0.08 logit units"
    assert facts["Cell"] == "4.0 × 4.0 × 6.0 mm"
    assert result.sentences == ()
    assert scanned.dock.shown["classes"]["lesion"] == "lesion (0.980)"


def test_no_position_in_a_patient_is_told_of_a_scan_without_one(room: Room, make_volume: Any, add_scan: Any) -> None:
    add_scan(room.viewer, make_volume(in_patient_space=False))
    room.explain()
    assert dict(room.dock.shown["result"].facts)["Hottest point"] == "voxel 8 9 6"


def test_picking_a_class_after_a_run_explains_it_in_the_same_layer_and_keeps_the_place(scanned: Room) -> None:
    scanned.dock.events.class_picked.emit("lesion")
    assert scanned.explained == []
    scanned.explain()
    heat = scanned.viewer.layers[-1]
    scanned.viewer.dims.set_current_step(0, 1)
    scanned.dock.events.class_picked.emit("no lesion")
    scanned.jobs.finish()
    assert scanned.explained == [("lesion", "gradcam", None), ("no lesion", "gradcam", None)]
    assert scanned.viewer.layers[-1] is heat
    assert heat.name == "Heat map: no lesion"
    assert scanned.viewer.dims.current_step[0] == 1


def test_what_was_explained_once_needs_no_second_run(scanned: Room) -> None:
    scanned.explain()
    scanned.dock.events.class_picked.emit("no lesion")
    scanned.jobs.finish()
    started = scanned.jobs.started
    scanned.dock.events.class_picked.emit("lesion")
    assert scanned.jobs.started == started
    assert scanned.viewer.layers[-1].name == "Heat map: lesion"


def test_layer_and_method_are_taken_with_the_next_run(scanned: Room) -> None:
    scanned.explain()
    scanned.dock.events.layer_picked.emit("early")
    scanned.dock.events.method_picked.emit("gradcam")
    assert len(scanned.explained) == 1
    scanned.explain()
    assert scanned.explained[-1] == (None, "gradcam", "early")


def test_explain_before_the_model_is_loaded_loads_it_on_the_way(room: Room, make_volume: Any, add_scan: Any) -> None:
    add_scan(room.viewer, make_volume())
    room.jobs.step()
    room.explain()
    assert room.loaded == ["/three"]
    assert room.names == ["scan", "Heat map: lesion"]
    assert "lesion" in room.dock.shown["classes"]


def test_a_cancelled_run_leaves_the_layers_as_they_were(scanned: Room) -> None:
    scanned.dock.events.explain_pressed.emit()
    scanned.jobs.step()
    assert scanned.dock.shown["progress"] == Progress(0, 2, "Preparing")
    assert scanned.dock.shown["explaining"]
    scanned.dock.events.cancel_pressed.emit()
    assert scanned.says == "Cancelled."
    assert scanned.dock.shown["progress"] is None
    assert scanned.names == ["scan"]
    scanned.explain()
    assert scanned.names == ["scan", "Heat map: lesion"]


def test_closing_the_scan_in_mid_run_cancels_it(scanned: Room) -> None:
    scanned.dock.events.explain_pressed.emit()
    scanned.jobs.step()
    scanned.viewer.layers.clear()
    assert scanned.jobs.job is None
    assert scanned.says == "Cancelled: the scan was closed."
    assert scanned.dock.shown["scans"] == {}


def test_a_mistake_is_told_in_its_sentence_and_keeps_the_layers(scanned: Room) -> None:
    scanned.explain()
    scanned.error = GradCamError("“/bad” holds no weights: copy the models folder beside it.")
    scanned.dock.events.model_opened.emit(Path("/bad"))
    scanned.jobs.finish()
    assert scanned.dock.said[-1] == (str(scanned.error), Tone.ERROR)
    assert scanned.dock.shown["models"]["/bad"] == "bad"
    assert scanned.dock.shown["current models"] == "/bad"
    assert scanned.names == ["scan", "Heat map: lesion"]
    assert scanned.dock.shown["progress"] is None


def test_a_bug_is_not_swallowed(scanned: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[Exception]] = []
    monkeypatch.setattr(notification_manager, "receive_error", lambda kind, error, traceback: told.append(kind))
    scanned.error = RuntimeError("mat1 and mat2 cannot be multiplied")
    scanned.explain()
    assert told == [RuntimeError]
    assert "did not expect (RuntimeError: mat1" in scanned.says
    assert scanned.names == ["scan"]


def test_two_scans_have_a_heat_map_each_and_the_newest_is_picked(
    scanned: Room, make_volume: Any, add_scan: Any
) -> None:
    scanned.explain()
    first = scanned.dock.shown["current scans"]
    add_scan(scanned.viewer, make_volume(name="second"))
    assert scanned.dock.shown["scans"][scanned.dock.shown["current scans"]] == "second"
    assert scanned.dock.shown["result"] is None
    scanned.explain()
    assert scanned.names == ["scan", "Heat map: lesion", "second", "Heat map: lesion [1]"]
    scanned.dock.events.scan_picked.emit(first)
    assert scanned.dock.shown["result"] is not None
    assert len(scanned.dock.shown["scans"]) == 2


def test_removing_a_scan_forgets_what_belonged_to_it(scanned: Room) -> None:
    scanned.explain()
    scanned.viewer.layers.remove("scan")
    assert scanned.dock.shown["result"] is None
    assert scanned.dock.shown["scans"] == {}
    assert scanned.names == ["Heat map: lesion"]


def test_a_renamed_scan_is_listed_by_its_new_name(scanned: Room) -> None:
    scanned.viewer.layers[0].name = "before treatment"
    assert list(scanned.dock.shown["scans"].values()) == ["before treatment"]


def test_a_look_acts_on_the_heat_map_and_tells_where_nothing_is_painted(scanned: Room) -> None:
    scanned.explain()
    scanned.dock.events.look_changed.emit(Look(opacity=0.3, fixed_top=1.0))
    assert scanned.viewer.layers[-1].opacity == 0.3
    assert "nothing is painted" in scanned.dock.shown["result"].sentences[0]
    scanned.viewer.layers[-1].opacity = 0.7
    assert scanned.dock.shown["look"].opacity == 0.7


def test_a_map_without_heat_is_told_and_not_painted(scanned: Room) -> None:
    scanned.top = 0.0
    scanned.explain()
    assert scanned.names == ["scan"]
    assert "no heat to show" in scanned.dock.shown["result"].sentences[0]
    assert dict(scanned.dock.shown["result"].facts)["Hottest point"] == "none"


def test_plane_buttons_and_the_viewer_s_own_agree(scanned: Room) -> None:
    assert scanned.dock.shown["plane"] is Plane.AXIAL
    scanned.dock.events.plane_picked.emit(Plane.SAGITTAL)
    assert scanned.viewer.dims.order == (2, 0, 1)
    assert scanned.dock.shown["plane"] is Plane.SAGITTAL
    scanned.viewer.dims.ndisplay = 3
    assert scanned.dock.shown["plane"] is None
    scanned.dock.events.plane_picked.emit(Plane.AXIAL)
    assert scanned.viewer.dims.ndisplay == 2


def test_a_closed_controller_hears_nothing_more(scanned: Room, make_volume: Any, add_scan: Any) -> None:
    scanned.explain()
    scanned.dock.events.explain_pressed.emit()
    heat = scanned.viewer.layers[-1]
    scanned.controller.close()
    shown = dict(scanned.dock.shown)
    add_scan(scanned.viewer, make_volume(name="later"))
    heat.opacity = 0.1
    scanned.viewer.dims.order = (2, 0, 1)
    assert scanned.dock.shown == shown
    assert scanned.jobs.job is None


def test_only_so_many_explanations_are_kept(scanned: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_EXPLANATIONS", 1)
    scanned.explain()
    scanned.dock.events.class_picked.emit("no lesion")
    scanned.jobs.finish()
    scanned.dock.events.class_picked.emit("lesion")
    scanned.jobs.finish()
    assert len(scanned.explained) == 3

"""The controller without a window: a stand-in for the dock, a viewer model, work that a test moves by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager

from napari_gradcam.classifiers.trust import Finding, UntrustedError
from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import Progress
from napari_gradcam.viewer import kept, models
from napari_gradcam.viewer.contract import Choice, CodeAsked, Tone
from napari_gradcam.viewer.controller import NO_MODEL, NO_SCAN, Controller, Work
from napari_gradcam.viewer.inputs import NO_CHANNEL
from napari_gradcam.viewer.loading import NOT_OPENED
from napari_gradcam.viewer.look import Look
from napari_gradcam.viewer.surroundings import Surroundings
from napari_gradcam.volumes.orientation import Plane

LAYERS = [
    SimpleNamespace(name="early", grid=(20, 24, 20), problem=None),
    SimpleNamespace(name="features", grid=(10, 12, 10), problem=None),
    SimpleNamespace(name="head", grid=(), problem="It has no grid."),
]


def make_classifier(**given: Any) -> Any:
    fields = {
        "class_names": ("no lesion", "lesion"),
        "layers": lambda: LAYERS,
        "default_layer": "features",
        "name": "two classes",
        "version": "1.0",
        "weights_digest": "0123456789abcdef",
        "description": "",
        "intended_use": "",
        "licence": "",
        "spatial_dims": 3,
        "channels_read": 1,
        "slice_rule": SimpleNamespace(plane="axial", aggregation="mean"),
        "windows": None,
        "wants": SimpleNamespace(modality="MR", channels=(), value_range=None, size=None, rows_first=False),
        "head": SimpleNamespace(activation="softmax", exclusive=True),
    }
    return SimpleNamespace(**(fields | given))


class Room:
    """A controller with all that it ties together."""

    def __init__(self, dock: Any, jobs: Any, make_explanation: Any) -> None:
        self.viewer, self.dock, self.jobs = ViewerModel(), dock, jobs
        self.loaded: list[str] = []
        self.explained: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.top = 0.08
        self._make = make_explanation
        self.classifier = make_classifier()
        self.asked: list[tuple[CodeAsked, Any]] = []
        self.given: list[tuple[Any, ...]] = []
        self.chosen: list[tuple[Any, str]] = []
        self.trusted: list[str] = []
        work = Work(self._load, self._explain, lambda: ["cpu", "cuda:0"])
        self.controller = Controller(
            self.viewer, dock, jobs, work, Surroundings(ask=lambda *asked: self.asked.append(asked))
        )
        assert jobs.started == 0
        self.controller.start()

    def _load(self, path: str, trusted: str) -> Any:
        yield Progress(0, 1, "Reading the model")
        self.trusted.append(trusted)
        if self.error and not trusted:
            raise self.error
        self.loaded.append(path)
        return self.classifier

    def _explain(
        self,
        classifier: Any,
        volumes: Any,
        target: Any,
        method: str,
        layer: Any,
        plane: Any,
        device: str,
        against: str = "",
    ) -> Any:
        yield Progress(0, 2, "Preparing")
        yield Progress(1, 2, "Running")
        if self.error:
            raise self.error
        self.explained.append((target, method, layer))
        self.chosen.append((plane, device))
        self.given.append(volumes)
        hottest = tuple(2 * edge // 3 for edge in volumes[0].shape)
        made = {"target": target or "lesion", "layer": layer or "features", "top": self.top}
        if against:
            made |= {"against": against, "signed": True}
        return self._make(volumes[0], hottest, **made)

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
    monkeypatch.setattr(models, "choices_of", lambda _: [Choice("Sample 3D", "/three"), Choice("Sample 2D", "/two")])
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
    row = scanned.dock.shown["scores"][0]
    assert (row.name, row.probability, row.said, row.logit) == ("lesion", 0.98, "0.980", "2")
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
    monkeypatch.setattr(kept, "KEPT_EXPLANATIONS", 1)
    scanned.explain()
    scanned.dock.events.class_picked.emit("no lesion")
    scanned.jobs.finish()
    scanned.dock.events.class_picked.emit("lesion")
    scanned.jobs.finish()
    assert len(scanned.explained) == 3


# A model that would run code of its own


def refused(digest: str = "ab" * 32) -> UntrustedError:
    return UntrustedError("shady", [Finding("imports", "$import scripts", "which runs code")], digest)


def test_a_model_that_would_run_code_is_asked_about_and_loaded_only_if_it_is_trusted(scanned: Room) -> None:
    scanned.error = refused()
    scanned.dock.events.model_opened.emit(Path("/models/shady"))
    scanned.jobs.finish()
    asked, trust = scanned.asked[-1]
    assert asked == CodeAsked("shady", (("imports", "$import scripts", "which runs code"),), "ab" * 32)
    assert scanned.dock.said[-1] == (NOT_OPENED.format("shady"), Tone.ERROR)
    assert scanned.loaded == ["/three"]
    trust()
    scanned.jobs.finish()
    assert scanned.loaded == ["/three", "/models/shady"]
    assert scanned.trusted == ["", "", "ab" * 32]
    assert "lesion" in scanned.dock.shown["classes"]
    assert scanned.says == ""


def test_a_model_that_is_not_trusted_is_asked_about_again_by_explain_and_then_explained(scanned: Room) -> None:
    scanned.error = refused()
    scanned.dock.events.model_opened.emit(Path("/models/shady"))
    scanned.jobs.finish()
    scanned.explain()
    assert len(scanned.asked) == 2
    assert scanned.explained == []
    scanned.asked[-1][1]()
    scanned.error = None
    scanned.jobs.finish()
    assert scanned.names == ["scan", "Heat map: lesion"]


def test_the_question_is_not_put_again_by_a_start_that_comes_late(scanned: Room) -> None:
    scanned.error = refused()
    scanned.dock.events.model_opened.emit(Path("/models/shady"))
    scanned.jobs.finish()
    scanned.controller.start()
    scanned.jobs.finish()
    assert len(scanned.asked) == 1


def test_an_ordinary_refusal_asks_nothing(scanned: Room) -> None:
    scanned.error = GradCamError("“bad” holds no weights.")
    scanned.dock.events.model_opened.emit(Path("/models/bad"))
    scanned.jobs.finish()
    assert scanned.asked == []
    assert scanned.says == "“bad” holds no weights."


def test_without_anyone_to_ask_a_model_with_code_stays_refused(fake_dock: Any, hand_jobs: Any) -> None:
    def load(path: str, trusted: str) -> Any:
        yield Progress(0, 1, "Reading the model")
        raise refused()

    Controller(ViewerModel(), fake_dock, hand_jobs, Work(load)).start()
    hand_jobs.finish()
    assert "nothing of it was run" in fake_dock.said[-1][0]


# Planes, devices, channels, what the model says of itself


def test_a_2d_model_lets_the_plane_be_chosen_and_a_3d_one_does_not(scanned: Room) -> None:
    assert scanned.dock.shown["slicings"] == {}
    rule = SimpleNamespace(plane="coronal", aggregation="mean")
    scanned.classifier = make_classifier(spatial_dims=2, slice_rule=rule)
    scanned.dock.events.model_picked.emit("/two")
    scanned.jobs.finish()
    listed = {"": "default: coronal", "axial": "axial", "coronal": "coronal", "sagittal": "sagittal"}
    assert scanned.dock.shown["slicings"] == listed
    scanned.explain()
    scanned.dock.events.slicing_picked.emit("sagittal")
    scanned.explain()
    assert scanned.chosen == [(None, "auto"), ("sagittal", "auto")]
    scanned.dock.events.model_picked.emit("/three")
    assert scanned.dock.shown["slicings"] == {}
    scanned.explain()
    assert scanned.chosen[-1] == (None, "auto")


def test_a_picture_has_no_planes_to_choose_from(room: Room) -> None:
    room.classifier = make_classifier(spatial_dims=2)
    room.viewer.add_image(np.zeros((40, 50, 3), np.uint8), name="road")
    room.jobs.finish()
    assert room.dock.shown["slicings"] == {}
    assert not room.dock.shown["choosable"]
    room.explain()
    assert room.names == ["road", "Heat map: lesion"]
    assert room.given[-1][0].color is not None
    room.viewer.add_image(np.zeros((5, 20, 30), np.float32), name="volume")
    assert list(room.dock.shown["slicings"]) == ["", "axial", "coronal", "sagittal"]
    assert room.dock.shown["choosable"]


def test_devices_are_listed_once_torch_is_there_and_the_one_picked_is_taken(scanned: Room) -> None:
    assert scanned.dock.shown["devices"] == {"auto": "automatic", "cpu": "CPU", "cuda:0": "CUDA 0"}
    assert scanned.dock.shown["current devices"] == "auto"
    scanned.explain()
    scanned.dock.events.device_picked.emit("cpu")
    scanned.explain()
    assert scanned.chosen == [(None, "auto"), (None, "cpu")]


def test_the_model_tells_of_itself_once_it_is_loaded(room: Room) -> None:
    assert room.dock.shown["about"] == {}
    room.jobs.finish()
    assert room.dock.shown["about"]["name"] == "two classes"
    room.dock.events.model_picked.emit("/two")
    assert room.dock.shown["about"] == {}


@pytest.fixture
def two(room: Room, make_volume: Any, add_scan: Any) -> Room:
    """Load a model of two channels, and add a T1 and a T2 of one patient."""
    wants = SimpleNamespace(modality="MR", channels=("T1", "T2"), value_range=None, size=None)
    room.classifier = make_classifier(channels_read=2, wants=wants)
    add_scan(room.viewer, make_volume(name="t2"))
    add_scan(room.viewer, make_volume(name="t1"))
    room.jobs.finish()
    return room


def key_of(room: Room, name: str) -> str:
    return str(room.viewer.layers[name].unique_id)


def test_a_model_of_two_channels_asks_for_the_layer_of_the_second(two: Room) -> None:
    assert two.dock.shown["first"] == "T1"
    assert list(two.dock.shown["channels"]["T2"].values()) == ["choose a layer…", "t2", "t1"]
    assert two.dock.shown["current channels"] == [""]
    two.explain()
    assert two.dock.said[-1] == (NO_CHANNEL.format("T2"), Tone.ERROR)
    two.dock.events.channel_picked.emit(0, key_of(two, "t2"))
    two.explain()
    assert [volume.name for volume in two.given[-1]] == ["t1", "t2"]
    assert two.names == ["t2", "t1", "Heat map: lesion"]


def test_a_model_that_is_not_loaded_yet_asks_for_its_channels_when_it_is(two: Room) -> None:
    two.dock.events.model_picked.emit("/two")
    two.explain()
    assert two.says == NO_CHANNEL.format("T2")
    assert two.explained == []


def test_a_map_is_forgotten_with_a_channel_that_changed_or_went(two: Room, make_volume: Any, add_scan: Any) -> None:
    two.dock.events.channel_picked.emit(0, key_of(two, "t2"))
    two.explain()
    two.viewer.layers["t2"].data = np.ones_like(two.viewer.layers["t2"].data)
    two.explain()
    assert len(two.explained) == 2
    two.explain()
    assert len(two.explained) == 2
    two.viewer.layers.remove("t2")
    assert two.dock.shown["result"] is None
    assert two.dock.shown["current channels"] == [""]


def test_closing_a_channel_in_mid_run_cancels_it(two: Room) -> None:
    two.dock.events.channel_picked.emit(0, key_of(two, "t2"))
    two.dock.events.explain_pressed.emit()
    two.jobs.step()
    two.viewer.layers.remove("t2")
    assert two.jobs.job is None
    assert two.says == "Cancelled: the scan was closed."


def test_a_channel_that_changes_in_mid_run_is_told(two: Room) -> None:
    two.dock.events.channel_picked.emit(0, key_of(two, "t2"))
    two.dock.events.explain_pressed.emit()
    two.jobs.step()
    two.viewer.layers["t2"].data = np.ones_like(two.viewer.layers["t2"].data)
    two.jobs.finish()
    assert two.says == "Layer “t2” was changed while it was explained: explain it again."
    assert two.names == ["t2", "t1"]


def test_colours_are_three_channels_and_a_mask_is_the_fourth(room: Room) -> None:
    room.classifier = make_classifier(spatial_dims=2, channels_read=4)
    room.viewer.add_image(np.zeros((20, 30), np.float32), name="grey")
    room.jobs.finish()
    assert list(room.dock.shown["channels"]) == ["Channel 2", "Channel 3", "Channel 4"]
    room.viewer.add_image(np.zeros((40, 50, 3), np.uint8), name="stain")
    mask = room.viewer.add_labels(np.zeros((40, 50), int), name="nucleus")
    assert list(room.dock.shown["channels"]) == ["Channel 4"]
    assert "nucleus" not in room.dock.shown["scans"].values()
    room.dock.events.channel_picked.emit(0, str(mask.unique_id))
    room.explain()
    assert [volume.name for volume in room.given[-1]] == ["stain", "nucleus"]
    mask.data[3:5, 4:6] = 1  # painted on
    room.explain()
    assert len(room.explained) == 2
    assert room.given[-1][1].array.sum() == 4

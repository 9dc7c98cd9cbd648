"""Models of a person's own in the real window: a picture in colours, a mask as a channel, code that is asked about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet
from qtpy.QtCore import Qt, QThreadPool

from napari_gradcam.classifiers import trust
from napari_gradcam.viewer.contract import Tone
from napari_gradcam.viewer.trusting import TrustDialog
from napari_gradcam.viewer.widget import GradCamWidget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_MS = 120_000
SMALL = {"spatial_dims": 2, "out_channels": 2, "init_features": 4, "growth_rate": 4, "block_config": [2], "bn_size": 1}


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., Path]:
    """Write a small 2D bundle of random weights."""

    def write(channels: int, *transforms: dict[str, Any], **more: Any) -> Path:
        folder = tmp_path / "streets"
        for name in ("configs", "models"):
            (folder / name).mkdir(parents=True)
        inference = {
            "network_def": {"_target_": "DenseNet", "in_channels": channels, **SMALL},
            "preprocessing": {
                "_target_": "Compose",
                "transforms": [{"_target_": "Resized", "keys": "image", "spatial_size": [64, 64]}, *transforms],
            },
            **more,
        }
        metadata = {
            "version": "1.0",
            "network_data_format": {
                "inputs": {"image": {"num_channels": channels, "spatial_shape": [64, 64]}},
                "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "empty", "1": "car"}}},
            },
        }
        (folder / "configs" / "inference.json").write_text(json.dumps(inference))
        (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
        torch.manual_seed(0)
        torch.save(DenseNet(in_channels=channels, **SMALL).state_dict(), folder / "models" / "model.pt")
        return folder

    return write


class Window:
    """The viewer with a picture in colours and the dock beside it."""

    def __init__(self, viewer: Any, qtbot: Any) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        pixels = np.zeros((90, 120, 3), np.uint8)
        pixels[60:80, 10:40] = (200, 40, 30)
        viewer.add_image(pixels, name="street")
        _, self.dock = viewer.window.add_plugin_dock_widget("napari-gradcam")
        assert isinstance(self.dock, GradCamWidget)

    def open(self, model: Path) -> None:
        self.dock.events.model_opened.emit(model)
        self.wait()

    def question(self) -> TrustDialog:
        self.qtbot.waitUntil(lambda: self.dock.findChild(TrustDialog) is not None)
        dialog: TrustDialog = self.dock.findChild(TrustDialog)
        self.qtbot.waitExposed(dialog)
        return dialog

    def explain(self) -> None:
        self.qtbot.mouseClick(self.dock.explain.native, Qt.MouseButton.LeftButton)
        self.wait()

    def wait(self) -> None:
        self.qtbot.waitUntil(lambda: not self.dock.cancel.enabled, timeout=PATIENCE_MS)


@pytest.fixture
def window(make_napari_viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setattr(trust, "_store", lambda: tmp_path / "trusted.json")
    window = Window(make_napari_viewer(show=True), qtbot)
    yield window
    window.dock.controller.close()
    QThreadPool.globalInstance().waitForDone(PATIENCE_MS)


def test_a_picture_in_colours_gets_its_heat_map_on_the_same_pixels(
    window: Window, write_model: Callable[..., Path]
) -> None:
    window.open(write_model(3))
    assert window.dock.channels == []
    assert not window.dock.slicing.native.isVisible()
    window.explain()
    assert window.dock.message.tone is Tone.NOTE, window.dock.message.text
    picture, heat = window.viewer.layers
    assert heat.data.shape == (90, 120)
    np.testing.assert_array_equal(heat.extent.world, picture.extent.world)
    row, column = np.unravel_index(heat.data.argmax(), heat.data.shape)
    assert window.dock.facts.value("Hottest point") == f"row {row}, column {column}"
    assert window.dock.facts.value("Cell").endswith("pixels")
    assert not window.dock.planes.isEnabled()
    window.viewer.reset_view()
    window.qtbot.wait(200)
    shown = window.viewer.screenshot(flash=False).astype(int)
    heat.visible = False
    changed = np.abs(window.viewer.screenshot(flash=False).astype(int) - shown).sum(axis=2)
    camera = window.viewer.scene.camera
    middle, places = np.array(changed.shape) / 2, {"hottest": (row, column)}
    places["coldest"] = np.unravel_index(heat.data.argmin(), heat.data.shape)
    assert heat.data[places["coldest"]] < heat.contrast_limits[0]
    screen = {
        name: (middle + (np.array(at) - camera.center[-2:]) * camera.zoom).astype(int) for name, at in places.items()
    }
    assert changed[tuple(screen["hottest"])] > 60
    assert changed[tuple(screen["coldest"])] == 0


def test_a_mask_that_is_painted_on_the_picture_is_the_fourth_channel(
    window: Window, write_model: Callable[..., Path]
) -> None:
    window.open(write_model(4))
    [box] = window.dock.channels
    window.explain()
    assert window.dock.message.tone is Tone.ERROR
    assert "“Channel 4”" in window.dock.message.text
    mask = window.viewer.add_labels(np.zeros((90, 120), int), name="mask")
    mask.data[60:80, 10:40] = 1
    box.value = str(mask.unique_id)
    window.explain()
    assert window.dock.message.tone is Tone.NOTE, window.dock.message.text
    assert [layer.name.partition(":")[0] for layer in window.viewer.layers] == ["street", "mask", "Heat map"]


def test_a_model_with_code_of_its_own_opens_only_when_the_person_trusts_it(
    window: Window, write_model: Callable[..., Path], tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    script = f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n\ndef mine(value):\n    return value\n"
    model = write_model(3, {"_target_": "scripts.mine.Mine", "keys": "image"})
    (model / "scripts").mkdir()
    (model / "scripts" / "__init__.py").touch()
    script += "\nfrom monai.transforms import Identityd as Mine\n"
    (model / "scripts" / "mine.py").write_text(script)
    window.open(model)
    dialog = window.question()
    assert "scripts.mine.Mine" in [dialog.table.item(row, 1).text() for row in range(dialog.table.rowCount())]
    window.qtbot.mouseClick(dialog.refuse, Qt.MouseButton.LeftButton)
    window.qtbot.waitUntil(lambda: window.dock.findChild(TrustDialog) is None)
    assert "car" not in window.dock.target.choices
    window.explain()
    window.qtbot.mouseClick(window.question().trust, Qt.MouseButton.LeftButton)
    assert not canary.exists()
    window.qtbot.waitUntil(lambda: len(window.viewer.layers) == 2, timeout=PATIENCE_MS)
    assert canary.exists()
    assert trust.is_trusted(json.loads((tmp_path / "trusted.json").read_text()).popitem()[0])

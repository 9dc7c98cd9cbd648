"""Small scans with a hand-made heat map, a stand-in for the dock, jobs that a test moves by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_gradcam.explanation import Explanation
from napari_gradcam.viewer.contract import DockEvents, Tone
from napari_gradcam.viewer.layers import scan_layer
from napari_gradcam.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_gradcam.viewer.contract import Job

HERE = Path(__file__).parent
ON_SCREEN = {
    "test_jobs.py",
    "test_dock.py",
    "test_opening.py",
    "test_panes.py",
    "test_trusting.py",
    "test_about.py",
    "test_results.py",
    "test_walks.py",
    "test_any_model.py",
}
"""These open Qt windows."""

LPS = np.array([[-2.0, 0, 0, 40], [0, -2, 0, 60], [0, 0, 3, -30], [0, 0, 0, 1]])
"""Rows to the patient's left and back, slices to the top: an axial DICOM series as nibabel writes its affine."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_qt: runs once more with PySide6, by make test-pyside")


def _no_screen() -> str:
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "no display: run by xvfb-run -a"
    if os.environ.get("QT_QPA_PLATFORM") == "offscreen":
        return "Qt's offscreen platform has no OpenGL: run by xvfb-run -a"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _no_screen()
    for item in items:
        if reason and item.path.parent == HERE and item.path.name in ON_SCREEN:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def make_volume() -> Callable[..., Volume]:
    def make(affine: Any = LPS, shape: tuple[int, ...] = (12, 14, 10), **given: Any) -> Volume:
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        return Volume(**({"array": array, "affine": np.asarray(affine), "name": "scan"} | given))

    return make


@pytest.fixture
def make_explanation() -> Callable[..., Explanation]:
    def make(volume: Volume, hottest: tuple[int, int, int] = (8, 9, 6), top: float = 0.08, **given: Any) -> Explanation:
        heatmap = np.full(volume.shape, 0.05 * top, dtype=np.float32)
        heatmap[hottest] = top
        fields = {
            "heatmap": heatmap,
            "affine": volume.affine,
            "coarse": heatmap[::2, ::2, ::2],
            "coarse_affine": volume.affine @ np.diag([2.0, 2, 2, 1]),
            "scores": {"no lesion": 0.02, "lesion": 0.98},
            "logits": {"no lesion": -2.0, "lesion": 2.0},
            "target": "lesion",
            "layer": "features",
            "method": "gradcam",
        }
        return Explanation(**(fields | given))

    return make


@pytest.fixture
def add_scan() -> Callable[..., Any]:
    def add(viewer: Any, volume: Volume) -> Any:
        from napari.layers import Layer

        return viewer.add_layer(Layer.create(*scan_layer(volume)))

    return add


class FakeDock:
    """Remembers what it was told to show."""

    def __init__(self) -> None:
        self.events = DockEvents()
        self.shown: dict[str, Any] = {}
        self.said: list[tuple[str, Tone]] = []

    def _list(self, what: str, choices: Sequence[Any], current: str) -> None:
        self.shown[what] = {choice.key: choice.label for choice in choices}
        self.shown[f"current {what}"] = current

    def set_scans(self, choices: Sequence[Any], current: str) -> None:
        self._list("scans", choices, current)

    def set_models(self, choices: Sequence[Any], current: str) -> None:
        self._list("models", choices, current)

    def set_classes(self, choices: Sequence[Any], current: str) -> None:
        self._list("classes", choices, current)

    def set_layers(self, choices: Sequence[Any], current: str) -> None:
        self._list("layers", choices, current)

    def set_methods(self, choices: Sequence[Any], current: str) -> None:
        self._list("methods", choices, current)

    def set_channels(self, first: str, rows: Sequence[Any]) -> None:
        self.shown["first"] = first
        self.shown["channels"] = {row.label: {choice.key: choice.label for choice in row.choices} for row in rows}
        self.shown["current channels"] = [row.current for row in rows]

    def set_slicings(self, choices: Sequence[Any], current: str) -> None:
        self._list("slicings", choices, current)

    def set_devices(self, choices: Sequence[Any], current: str) -> None:
        self._list("devices", choices, current)

    def set_about(self, facts: Sequence[tuple[str, str]]) -> None:
        self.shown["about"] = dict(facts)

    def set_plane(self, plane: Any, *, choosable: bool = True, in_space: bool = False) -> None:
        self.shown["plane"] = plane
        self.shown["choosable"] = choosable
        self.shown["in space"] = in_space

    def set_scores(self, rows: Sequence[Any], target: str, pinned: Sequence[str]) -> None:
        self.shown["scores"], self.shown["explained"], self.shown["pinned"] = list(rows), target, tuple(pinned)

    def set_spots(self, rows: Sequence[Any] | None, system: str) -> None:
        self.shown["spots"], self.shown["system"] = None if rows is None else list(rows), system

    def set_profile(self, profile: Any) -> None:
        self.shown["profile"] = profile

    def set_slice(self, number: int) -> None:
        self.shown["slice"] = number

    def set_windows(self, choices: Sequence[Any], current: str) -> None:
        self._list("windows", choices, current)

    def set_card(self, lines: Sequence[str]) -> None:
        self.shown["card"] = tuple(lines)

    def set_compared(self, title: str, facts: Sequence[tuple[str, str]]) -> None:
        self.shown["beside"], self.shown["compared"] = title, dict(facts)

    def set_look(self, look: Any) -> None:
        self.shown["look"] = look

    def set_progress(self, progress: Any, *, explaining: bool = False, left_s: float | None = None) -> None:
        self.shown["progress"], self.shown["left"] = progress, left_s
        self.shown["explaining"] = explaining

    def set_result(self, result: Any, notices: Sequence[str] = ()) -> None:
        self.shown["result"], self.shown["notices"] = result, tuple(notices)

    def say(self, sentence: str, tone: Tone = Tone.NOTE) -> None:
        self.said.append((sentence, tone))


class HandJobs:
    """Runs a job when the test says so, on this thread."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.started = 0
        self._steps: Any = None

    def start(self, job: Job) -> None:
        self.job, self._steps = job, job.steps()
        self.started += 1

    def step(self) -> bool:
        """Run to the next pause; whether there is more."""
        job = self.job
        assert job is not None
        try:
            job.progress(next(self._steps))
        except StopIteration as stop:
            self.job = None
            job.done(stop.value)
        except Exception as error:
            self.job = None
            job.failed(error)
        return self.job is job

    def finish(self) -> None:
        while self.job is not None:
            self.step()

    def cancel(self) -> None:
        if self.job is not None:
            job, self.job = self.job, None
            self._steps.close()
            job.stopped()

    def drop(self) -> None:
        self.job = None


@pytest.fixture
def fake_dock() -> FakeDock:
    return FakeDock()


@pytest.fixture
def hand_jobs() -> HandJobs:
    return HandJobs()

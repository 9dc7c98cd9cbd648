"""Listens to the dock and the viewer, runs the work, owns the state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Layer

from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import METHODS
from napari_gradcam.viewer import choices, inputs, keys, steps
from napari_gradcam.viewer.ahead import Ahead
from napari_gradcam.viewer.board import Board
from napari_gradcam.viewer.channel_layers import may_be_channel
from napari_gradcam.viewer.contract import Choice, DockView, Jobs, Steps, Tone
from napari_gradcam.viewer.kept import DEFAULT, Kept, Made, Request
from napari_gradcam.viewer.layers import is_overlay, may_be_scan
from napari_gradcam.viewer.loading import Loading
from napari_gradcam.viewer.look import Look
from napari_gradcam.viewer.models import Models
from napari_gradcam.viewer.opening import Cancelled, open_scans
from napari_gradcam.viewer.overlay import HeatMapOverlay
from napari_gradcam.viewer.planes import go_to
from napari_gradcam.viewer.preferences import Preferences, models_in
from napari_gradcam.viewer.reopening import NO_MODEL as NO_RECORDED_MODEL
from napari_gradcam.viewer.reopening import other_weights, reopened_in
from napari_gradcam.viewer.room import InSight, Room
from napari_gradcam.viewer.runs import Runs
from napari_gradcam.viewer.saving import Saver
from napari_gradcam.viewer.surroundings import NOTHING, Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

NO_SCAN = "Open a scan first: drop a NIfTI file or a DICOM folder on the window, or File > Open Sample > Grad-CAM."
NO_MODEL = "Choose a model first: a MONAI bundle as a folder or a zip file, or a recipe."
METHOD_CHOICES = [Choice(label, name) for name, label in METHODS.items()]
CHANGED = "Layer “{}” was changed while it was explained: explain it again."


@dataclass(frozen=True)
class Work:
    """The steps that run in the worker thread; tests put their own here."""

    load: Callable[[str, str], Steps] = steps.load_steps
    explain: Callable[..., Steps] = steps.explain_steps
    devices: Callable[[], Sequence[str]] = steps.devices
    """Names the devices there are, once a model is loaded and torch with it."""
    at_hand: Callable[[Classifier, str], bool] = steps.at_hand
    """Tells whether another class of the last scan costs no pass of the network."""


class Controller:
    """Ties a dock to a viewer.

    Parameters
    ----------
    viewer
        The viewer, or a ``ViewerModel`` without a window.
    dock
        What the person sees.
    jobs
        Runs the work.
    work
        The work.
    around
        What is around the dock; by default nothing.
    preferences
        How it begins.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        dock: DockView,
        jobs: Jobs,
        work: Work | None = None,
        around: Surroundings = NOTHING,
        preferences: Preferences | None = None,
    ) -> None:
        self._viewer, self._dock, self._jobs, self._work = viewer, dock, jobs, work or Work()
        preferences = preferences or Preferences()
        self._models, self._kept, self._runs = Models(self._work.load), Kept(), Runs(dock, jobs)
        for path in models_in(preferences.models) if preferences.models is not None else ():
            self._models.add(path)
        self._loading = Loading(self._models, self._runs, dock, around.ask)
        self._ahead = Ahead(
            self._runs, self._kept, self._work.explain, self._work.at_hand, self._is_still, around.ahead
        )
        self._board = Board(dock, self._models, self._kept)
        self._overlays: dict[str, HeatMapOverlay] = {}
        self._look = preferences.look
        self._wanted = Request("", self._models.first, next(iter(METHODS)), device=preferences.device)
        self._pinned: tuple[str, ...] = ()
        self._room = Room(viewer, dock, around, self._in_sight, preferences.system)
        self._saver = Saver(viewer, dock, self._runs, around.dialogs, self._in_sight, preferences.system)
        self.actions = self._room.actions | {keys.EXPLAIN: self.explain, keys.CANCEL: self._on_cancel}
        self._keys = keys.Keys(viewer, self.actions)
        self._connect()
        dock.set_models(self._models.choices, self._wanted.model)
        dock.set_methods(METHOD_CHOICES, self._wanted.method)
        dock.set_devices(choices.devices_of(()), self._wanted.device)
        dock.set_about(())
        dock.set_look(self._look)
        self._on_layers()
        self._reopen()

    def start(self) -> None:
        """Load the model that is picked, which brings torch and MONAI, unless the person was faster.

        Not part of the constructor, so that the dock is on the screen before they compete for the processor.
        """
        if not self._runs.begun:
            self._show_model()

    def _connect(self) -> None:
        events = self._dock.events
        events.scan_picked.connect(self._on_scan)
        events.scan_opened.connect(self._on_scan_opened)
        events.channel_picked.connect(self._on_channel)
        events.model_picked.connect(self._on_model)
        events.model_opened.connect(self._on_model_opened)
        events.class_picked.connect(self._on_class)
        events.class_clicked.connect(self._on_class_clicked)
        events.classes_pinned.connect(self._on_pinned)
        events.layer_picked.connect(partial(self._want, "layer"))
        events.slicing_picked.connect(partial(self._want, "plane"))
        events.method_picked.connect(partial(self._want, "method"))
        events.device_picked.connect(partial(self._want, "device"))
        events.explain_pressed.connect(self.explain)
        events.cancel_pressed.connect(self._on_cancel)
        events.save_pressed.connect(self._saver.save)
        events.look_changed.connect(self._on_look)
        for emitter, heard in self._viewer_events():
            emitter.connect(heard)

    def _viewer_events(self) -> list[tuple[Any, Callable[..., None]]]:
        layers = self._viewer.layers
        return [
            (layers.events.inserted, self._on_inserted),
            (layers.events.removed, self._on_layers),
            (layers.events.reordered, self._on_layers),
            *((layer.events.name, self._on_layers) for layer in layers if not is_overlay(layer)),
        ]

    def close(self) -> None:
        """Stop the work and let go of dock and viewer; late answers go nowhere."""
        self._ahead.close()
        self._jobs.drop()  # and nothing more: the dock may be gone
        self._room.close()
        self._keys.close()
        self._dock.events.disconnect()
        for emitter, heard in self._viewer_events():
            emitter.disconnect(heard)
        for overlay in self._overlays.values():
            overlay.close()

    def explain(self) -> None:
        """Explain what was picked: from what is kept, or by a run."""
        self._explain(self._wanted)

    def _explain(self, request: Request) -> None:
        try:
            classifier = self._models.get(request.model)
            if request.scan not in self._scans():
                raise GradCamError(NO_SCAN)
            if not request.model:
                raise GradCamError(NO_MODEL)
            request = inputs.with_channels(request, classifier, self._layers())
            volumes = self._read(request)
        except GradCamError as error:
            self._dock.say(str(error), Tone.ERROR)
            return
        made = self._kept.find(request)
        if made is not None:
            self._runs.drop()
            self._show(made)
        elif classifier is None:
            then = partial(self._on_loaded, request.model, partial(self._explain, request))
            self._loading.start(request.model, then, request.inputs)
        else:
            work = partial(self._work.explain, classifier, volumes, *request.asked)
            self._runs.start(work, partial(self._on_explained, request, volumes), request.inputs)

    def _read(self, request: Request) -> tuple[Volume, ...]:
        """Give the scans of the layers; what was explained of others that they no longer hold is forgotten."""
        now = inputs.read(request, self._layers())
        if self._kept.check(request.scan, now):
            self._show_result()
        return tuple(now[key] for key in request.inputs)

    # What the person did in the dock

    def _on_scan(self, scan: str) -> None:
        self._wanted = self._wanted._replace(scan=scan)
        self._show_inputs()
        self._show_result()

    def _on_scan_opened(self, path: Path) -> None:
        try:
            opened = open_scans(str(path))
        except Cancelled:
            return
        except GradCamError as error:
            self._dock.say(str(error), Tone.ERROR)
            return
        for data in opened:
            self._viewer.add_layer(Layer.create(*data))

    def _on_channel(self, number: int, layer: str) -> None:
        others = list(self._wanted.others)
        others[number] = layer
        self._wanted = self._wanted._replace(others=tuple(others))

    def _on_model(self, model: str) -> None:
        fresh = self._wanted._replace(model=model, target=DEFAULT, layer=DEFAULT, plane=DEFAULT, others=(), against="")
        self._wanted, self._pinned = fresh, ()
        self._show_model()
        self._show_result()

    def _on_model_opened(self, path: Path) -> None:
        model = self._models.add(path)
        self._dock.set_models(self._models.choices, model)
        self._on_model(model)

    def _on_class(self, target: str) -> None:
        self._wanted, self._pinned = self._wanted._replace(target=target, against=""), ()
        shown = self._kept.shown(self._wanted.scan)
        if shown is not None and shown.request.model == self._wanted.model:
            self.explain()

    def _on_class_clicked(self, target: str) -> None:
        self._wanted, self._pinned = self._wanted._replace(target=target, against=""), ()
        self._show_classes()
        self.explain()

    def _on_pinned(self, names: tuple[str, ...]) -> None:
        """Set two classes against one another; a single one waits for its other."""
        was, self._pinned = self._wanted.against, tuple(names)
        if len(names) == 2:
            self._wanted = self._wanted._replace(target=names[0], against=names[1])
            self.explain()
        elif was:
            self._wanted = self._wanted._replace(against="")
            self.explain()

    def _want(self, what: str, key: str) -> None:
        """Take a choice that acts with the next run alone."""
        choice: dict[str, Any] = {what: key}
        self._wanted = self._wanted._replace(**choice)

    def _on_cancel(self) -> None:
        self._runs.cancel()

    def _on_look(self, look: Look) -> None:
        self._look = look
        for overlay in self._overlays.values():
            overlay.restyle(look)
        self._show_result()

    # What happened in the viewer

    def _on_inserted(self, event: Any) -> None:
        layer = event.value
        if not is_overlay(layer):
            layer.events.name.connect(self._on_layers)
        if isinstance(layer, Image) and not is_overlay(layer) and may_be_scan(layer):
            self._wanted = self._wanted._replace(scan=_key(layer))
        self._on_layers()
        self._reopen()

    def _reopen(self) -> None:
        """Show the map of a record that was opened, and the dock as it was; its model is loaded behind it."""
        found = reopened_in(self._layers(), self._models)
        if found is None:
            return
        made, record = found
        against = made.request.against
        self._wanted, self._pinned = made.request, (made.request.target, against) if against else ()
        self._on_napari_slider(Look.of(record.manner))
        self._kept.add(made)
        self._dock.set_models(self._models.choices, self._wanted.model)
        self._dock.set_methods(METHOD_CHOICES, self._wanted.method)
        self._show(made)
        self._show_model()
        if record.model is None:
            self._dock.say(NO_RECORDED_MODEL.format(record.told["model"]["name"]))

    def _on_layers(self, event: Any = None) -> None:
        """List the scans anew; what belonged to one that is gone goes with it."""
        scans, layers = self._scans(), self._layers()
        for gone in self._overlays.keys() - scans.keys():
            self._overlays.pop(gone).close()
        self._kept.only(layers)
        self._runs.only(layers)
        self._room.only(scans)
        if self._wanted.scan not in scans:
            self._wanted = self._wanted._replace(scan=next(reversed(scans), ""))
        self._dock.set_scans([Choice(layer.name, key) for key, layer in scans.items()], self._wanted.scan)
        self._room.turned()
        self._show_inputs()
        self._show_result()

    def _on_napari_slider(self, look: Look) -> None:
        self._look = look
        self._dock.set_look(look)
        self._show_result()

    # What the work answered

    def _on_loaded(self, model: str, then: Callable[[], None] | None = None) -> None:
        self._dock.set_devices(choices.devices_of(self._work.devices()), self._wanted.device)
        if model == self._wanted.model:
            self._show_model()
        told = other_weights(self._kept.shown(self._wanted.scan), model, self._models.get(model))
        if told:
            self._dock.say(told, Tone.ERROR)
        if then is not None:
            then()

    def _on_explained(self, request: Request, volumes: tuple[Volume, ...], explanation: Explanation) -> None:
        layers = self._layers()
        if not all(key in layers for key in request.inputs):
            return
        changed = inputs.changed(request, volumes, layers)
        if changed is not None:
            self._dock.say(CHANGED.format(changed.name), Tone.ERROR)
            return
        made = Made(request, volumes, explanation)
        self._kept.add(made)
        self._show(made)

    def _is_still(self, request: Request, volumes: tuple[Volume, ...]) -> bool:
        """Whether a request is of the scan and the model that are picked, and of what the layers hold."""
        layers, picked = self._layers(), self._wanted
        there = (request.scan, request.model) == (picked.scan, picked.model) and layers.keys() >= set(request.inputs)
        return there and inputs.changed(request, volumes, layers) is None

    # What the dock shows

    def _show(self, made: Made) -> None:
        scan, explanation = self._scans()[made.request.scan], made.explanation
        if made.request.scan not in self._overlays:
            self._overlays[made.request.scan] = HeatMapOverlay(self._viewer, scan, self._on_napari_slider)
        first = self._kept.show(made)
        self._overlays[made.request.scan].show(explanation, self._look)
        if first and not explanation.is_empty:
            go_to(self._viewer, scan, explanation.peak.index)
        self._show_result()
        self._ahead.after(made, self._models.get(made.request.model))

    def _show_model(self) -> None:
        """Show what is to be chosen of the model, loading it first where it is not loaded yet."""
        model = self._wanted.model
        self._board.show_model(self._wanted)
        self._show_classes()
        self._show_inputs()
        if model and self._models.get(model) is None:
            self._loading.start(model, partial(self._on_loaded, model))

    def _show_inputs(self) -> None:
        self._wanted = self._board.show_inputs(self._wanted, self._layers())

    def _show_classes(self) -> None:
        self._board.show_classes(self._wanted, self._pinned)

    def _show_result(self) -> None:
        key = self._wanted.scan
        self._show_classes()
        self._board.show_result(self._scans().get(key), key, self._look)
        self._room.refresh()

    def _in_sight(self) -> InSight:
        key = self._wanted.scan
        return InSight(self._scans().get(key), self._kept.shown(key), self._look)

    def _scans(self) -> dict[str, Image]:
        """List the layers that may be scans, by key."""
        return {key: layer for key, layer in self._layers().items() if isinstance(layer, Image)}

    def _layers(self) -> dict[str, Layer]:
        """List the layers that may be read, by key."""
        return {_key(layer): layer for layer in self._viewer.layers if may_be_channel(layer)}


def _key(layer: Layer) -> str:
    return str(layer.unique_id)

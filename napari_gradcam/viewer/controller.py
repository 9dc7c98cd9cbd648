"""Listens to the dock and the viewer, runs the work, owns the state."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from napari.layers import Image, Layer
from napari.utils.notifications import notification_manager

from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import METHODS, Explanation
from napari_gradcam.progress import Progress
from napari_gradcam.samples import sample_classifiers
from napari_gradcam.viewer import readout, steps
from napari_gradcam.viewer.contract import Choice, DockView, Job, Jobs, Steps, Tone, choices_of
from napari_gradcam.viewer.layers import is_overlay, is_scan_of, may_be_scan, read_layer, scan_of_reader
from napari_gradcam.viewer.look import Look
from napari_gradcam.viewer.opening import Cancelled, open_scans
from napari_gradcam.viewer.overlay import HeatMapOverlay
from napari_gradcam.viewer.planes import go_to, plane_in_sight, show_plane

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.volumes import Volume
    from napari_gradcam.volumes.orientation import Plane

KEPT_EXPLANATIONS = 8
"""So many explanations are kept, so that going back to one needs no second run; each holds a map of the scan's size."""

DEFAULT = ""
"""The key of the class with the highest score, and of the model's own layer."""

NO_SCAN = "Open a scan first: drop a NIfTI file or a DICOM folder on the window, or File > Open Sample > Grad-CAM."
NO_MODEL = "Choose a model first: a MONAI bundle as a folder or a zip file."
CHANGED = "Layer “{}” was changed while it was explained: explain it again."


class Request(NamedTuple):
    """What is to be explained; keys, the last two empty for the default."""

    scan: str
    model: str
    method: str
    target: str = DEFAULT
    layer: str = DEFAULT


@dataclass(frozen=True)
class Work:
    """The steps that run in the worker thread; tests put their own here."""

    load: Callable[[str], Steps] = steps.load_steps
    explain: Callable[..., Steps] = steps.explain_steps


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
    """

    def __init__(self, viewer: ViewerModel, dock: DockView, jobs: Jobs, work: Work | None = None) -> None:
        self._viewer, self._dock, self._jobs, self._work = viewer, dock, jobs, work or Work()
        self._models = choices_of(sample_classifiers())
        self._classifiers: dict[str, Classifier] = {}
        self._overlays: dict[str, HeatMapOverlay] = {}
        self._shown: dict[str, tuple[Request, Explanation]] = {}
        self._kept: OrderedDict[Request, Explanation] = OrderedDict()
        self._volumes: dict[str, Volume] = {}
        self._look = Look()
        self._wanted = Request("", self._models[0].key if self._models else "", next(iter(METHODS)))
        self._running_on = ""
        self._connect()
        dock.set_models(self._models, self._wanted.model)
        dock.set_methods([Choice(label, name) for name, label in METHODS.items()], self._wanted.method)
        dock.set_look(self._look)
        self._on_order()
        self._on_layers()

    def start(self) -> None:
        """Load the model that is picked, which brings torch and MONAI.

        Not part of the constructor, so that the dock is on the screen before they compete for the processor.
        """
        if not self._running_on:
            self._show_model()

    def _connect(self) -> None:
        events = self._dock.events
        events.scan_picked.connect(self._on_scan)
        events.scan_opened.connect(self._on_scan_opened)
        events.model_picked.connect(self._on_model)
        events.model_opened.connect(self._on_model_opened)
        events.class_picked.connect(self._on_class)
        events.layer_picked.connect(self._on_layer)
        events.method_picked.connect(self._on_method)
        events.explain_pressed.connect(self.explain)
        events.cancel_pressed.connect(self._on_cancel)
        events.look_changed.connect(self._on_look)
        events.plane_picked.connect(self._on_plane)
        layers = self._viewer.layers.events
        layers.inserted.connect(self._on_inserted)
        layers.removed.connect(self._on_layers)
        layers.reordered.connect(self._on_layers)
        for layer in self._viewer.layers:
            layer.events.name.connect(self._on_layers)
        self._viewer.dims.events.order.connect(self._on_order)
        self._viewer.dims.events.ndisplay.connect(self._on_order)

    def close(self) -> None:
        """Stop the work and let go of dock and viewer; late answers go nowhere."""
        self._jobs.drop()
        self._dock.events.disconnect()
        layers = self._viewer.layers.events
        layers.inserted.disconnect(self._on_inserted)
        layers.removed.disconnect(self._on_layers)
        layers.reordered.disconnect(self._on_layers)
        for layer in self._viewer.layers:
            layer.events.name.disconnect(self._on_layers)
        self._viewer.dims.events.order.disconnect(self._on_order)
        self._viewer.dims.events.ndisplay.disconnect(self._on_order)
        for overlay in self._overlays.values():
            overlay.close()

    def explain(self) -> None:
        """Explain what was picked: from what is kept, or by a run."""
        request = self._wanted
        layer = self._scans().get(request.scan)
        if layer is None or not request.model:
            self._dock.say(NO_SCAN if layer is None else NO_MODEL, Tone.ERROR)
            return
        try:
            volume = self._read(layer)
        except GradCamError as error:
            self._dock.say(str(error), Tone.ERROR)
            return
        if request in self._kept:
            self._jobs.drop()
            self._stop()
            self._show(request, self._kept[request])
        else:
            classifier = self._classifiers.get(request.model)
            arguments = (volume, request.target or None, request.method, request.layer or None)
            work = partial(
                steps.loaded_and_explained, self._work.load, self._work.explain, request.model, classifier, *arguments
            )
            self._start(work, partial(self._on_explained, request), request.scan)

    def _read(self, layer: Image) -> Volume:
        """Give the scan of a layer; what was explained of one that the layer no longer holds is forgotten."""
        volume, scan = read_layer(layer), _key(layer)
        if self._volumes.get(scan) is not volume:
            self._volumes[scan] = volume
            for request in [request for request in self._kept if request.scan == scan]:
                del self._kept[request]
            self._shown.pop(scan, None)
            self._show_result()
        return volume

    # What the person did in the dock

    def _on_scan(self, scan: str) -> None:
        self._wanted = self._wanted._replace(scan=scan)
        self._show_result()
        self._show_classes()

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

    def _on_model(self, model: str) -> None:
        self._wanted = self._wanted._replace(model=model, target=DEFAULT, layer=DEFAULT)
        self._show_model()

    def _on_model_opened(self, path: Path) -> None:
        if not any(choice.key == str(path) for choice in self._models):
            self._models.append(Choice(path.name, str(path)))
        self._dock.set_models(self._models, str(path))
        self._on_model(str(path))

    def _on_class(self, target: str) -> None:
        self._wanted = self._wanted._replace(target=target)
        shown = self._shown.get(self._wanted.scan)
        if shown is not None and shown[0].model == self._wanted.model:
            self.explain()

    def _on_layer(self, layer: str) -> None:
        self._wanted = self._wanted._replace(layer=layer)

    def _on_method(self, method: str) -> None:
        self._wanted = self._wanted._replace(method=method)

    def _on_cancel(self) -> None:
        self._dock.say("Stopping after this step…")
        self._jobs.cancel()

    def _on_look(self, look: Look) -> None:
        self._look = look
        for overlay in self._overlays.values():
            overlay.restyle(look)
        self._show_result()

    def _on_plane(self, plane: Plane) -> None:
        show_plane(self._viewer, plane)
        self._on_order()

    # What happened in the viewer

    def _on_order(self, event: Any = None) -> None:
        self._dock.set_plane(plane_in_sight(self._viewer))

    def _on_inserted(self, event: Any) -> None:
        layer = event.value
        layer.events.name.connect(self._on_layers)
        if isinstance(layer, Image) and not is_overlay(layer) and may_be_scan(layer):
            self._wanted = self._wanted._replace(scan=_key(layer))
        self._on_layers()

    def _on_layers(self, event: Any = None) -> None:
        """List the scans anew; what belonged to one that is gone goes with it."""
        scans = self._scans()
        for gone in self._overlays.keys() - scans.keys():
            self._overlays.pop(gone).close()
            self._shown.pop(gone, None)
        for gone in self._volumes.keys() - scans.keys():
            del self._volumes[gone]
        for request in [request for request in self._kept if request.scan not in scans]:
            del self._kept[request]
        if self._running_on and self._running_on not in scans:
            self._jobs.cancel()
        if self._wanted.scan not in scans:
            self._wanted = self._wanted._replace(scan=next(reversed(scans), ""))
        self._dock.set_scans([Choice(layer.name, key) for key, layer in scans.items()], self._wanted.scan)
        self._on_order()
        self._show_result()
        self._show_classes()

    def _on_napari_slider(self, look: Look) -> None:
        self._look = look
        self._dock.set_look(look)
        self._show_result()

    # What the work answered

    def _start(self, work: Callable[[], Steps], done: Callable[[Any], None], scan: str = "") -> None:
        self._running_on = scan
        self._dock.say("")
        show = partial(self._dock.set_progress, explaining=bool(scan))
        show(Progress(0, 0, "Starting"))
        self._jobs.start(Job(work, show, done, self._on_failed, self._on_stopped))

    def _stop(self) -> None:
        self._running_on = ""
        self._dock.set_progress(None)
        self._dock.say("")

    def _on_loaded(self, model: str, classifier: Classifier) -> None:
        self._stop()
        self._classifiers[model] = classifier
        if model == self._wanted.model:
            self._show_model()

    def _on_explained(self, request: Request, answer: tuple[Classifier, Explanation]) -> None:
        classifier, explanation = answer
        self._on_loaded(request.model, classifier)
        scan = self._scans().get(request.scan)
        if scan is None:
            return
        if not is_scan_of(scan, self._volumes[request.scan]):
            self._dock.say(CHANGED.format(scan.name), Tone.ERROR)
            return
        self._kept[request] = self._kept[request._replace(target=explanation.target)] = explanation
        while len(set(map(id, self._kept.values()))) > KEPT_EXPLANATIONS:
            self._kept.popitem(last=False)
        self._show(request, explanation)

    def _on_failed(self, error: Exception) -> None:
        self._stop()
        if isinstance(error, GradCamError):
            self._dock.say(str(error), Tone.ERROR)
            return
        self._dock.say(
            f"Grad-CAM met an error it did not expect ({type(error).__name__}: {error}); napari's notification has the "
            "details to report.",
            Tone.ERROR,
        )
        notification_manager.receive_error(type(error), error, error.__traceback__)

    def _on_stopped(self) -> None:
        gone = self._running_on not in self._scans() if self._running_on else False
        self._stop()
        self._dock.say("Cancelled: the scan was closed." if gone else "Cancelled.")

    # What the dock shows

    def _show(self, request: Request, explanation: Explanation) -> None:
        scan = self._scans()[request.scan]
        if request.scan not in self._overlays:
            self._overlays[request.scan] = HeatMapOverlay(self._viewer, scan, self._on_napari_slider)
        first = request.scan not in self._shown
        self._shown[request.scan] = request, explanation
        self._overlays[request.scan].show(explanation, self._look)
        if first and not explanation.is_empty:
            go_to(self._viewer, scan, explanation.peak.index)
        self._show_result()
        self._show_classes()

    def _show_model(self) -> None:
        """Show classes and layers of the model, loading it first where it is not loaded yet."""
        model = self._wanted.model
        classifier = self._classifiers.get(model)
        self._show_classes()
        if classifier is None:
            self._dock.set_layers([Choice("default", DEFAULT)], DEFAULT)
            if model:
                self._start(partial(self._work.load, model), partial(self._on_loaded, model))
            return
        layers = [Choice(f"default: {classifier.default_layer}", DEFAULT)]
        for layer in classifier.layers():
            if layer.problem is None:
                layers.append(Choice(f"{layer.name} ({' × '.join(map(str, layer.grid))})", layer.name))
        self._dock.set_layers(layers, self._wanted.layer)

    def _show_classes(self) -> None:
        classifier = self._classifiers.get(self._wanted.model)
        classes = [Choice("highest score", DEFAULT)]
        shown = self._shown.get(self._wanted.scan)
        scores = readout.scores(shown[1]) if shown is not None and shown[0].model == self._wanted.model else {}
        for name in classifier.class_names if classifier else ():
            classes.append(Choice(f"{name} ({scores[name]})" if name in scores else name, name))
        self._dock.set_classes(classes, self._wanted.target)

    def _show_result(self) -> None:
        shown = self._shown.get(self._wanted.scan)
        if shown is None:
            scan = self._scans().get(self._wanted.scan)
            kept = scan_of_reader(scan) if scan is not None else None
            self._dock.set_result(None, kept.notices if kept is not None else ())
        else:
            self._dock.set_result(readout.result(shown[1], self._volumes[self._wanted.scan], self._look))

    def _scans(self) -> dict[str, Image]:
        """List the layers that may be scans, by key."""
        layers = self._viewer.layers
        return {_key(layer): layer for layer in layers if isinstance(layer, Image) and not is_overlay(layer)}


def _key(layer: Image) -> str:
    return str(layer.unique_id)

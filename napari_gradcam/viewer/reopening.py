"""Records opened in napari: the scan as a layer, its map, and the dock as they were when it was saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from napari.layers import Layer

from napari_gradcam.viewer import opening
from napari_gradcam.viewer.current import current_viewer
from napari_gradcam.viewer.kept import AUTOMATIC, DEFAULT, Made, Request
from napari_gradcam.viewer.layers import METADATA, FullLayerData, heat_layer, scan_layer, scan_of_reader
from napari_gradcam.viewer.look import Look

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.reopening import Record
    from napari_gradcam.viewer.models import Models

REOPENED = "reopened"
"""The key below :data:`METADATA` of what was opened with a scan's layer, until a dock has shown it."""

MARK = b'"napari-gradcam explanation'
"""What a record says of itself near its beginning."""

_HEAD = 200
NO_MODEL = "The model “{}” is not where it was: the map is shown as it was saved; choose the model to explain anew."


OTHER_WEIGHTS = (
    "The model “{}” has other weights now than those that made this map, which is shown as it was saved: explain again "
    "before you compare classes."
)


class Reopened(NamedTuple):
    """A record, and the explanation that it is of."""

    record: Record
    explanation: Explanation


def is_record(path: Path) -> bool:
    """Whether a file begins as a record does."""
    try:
        with path.open("rb") as file:
            return MARK in file.read(_HEAD)
    except OSError:
        return False


def open_record(path: str) -> list[FullLayerData]:
    """Read a record with its scans and its heat map as layer data.

    In a window our dock opens with them and shows the map; without one the map is a layer too.

    Raises
    ------
    GradCamError
        If the record, a scan or the heat map is damaged, gone or another one.
    opening.Cancelled
        If the person stopped the reading.
    """
    from napari_gradcam.export.reopening import read_record, read_scan, reopened

    viewer = current_viewer()
    window = viewer.window._qt_window if viewer is not None else None
    record = read_record(Path(path))
    volumes = [opening.run(read_scan(record, number), window) for number in range(len(record.told["scans"]))]
    explanation = reopened(record, volumes)
    layers = [scan_layer(volume) for volume in volumes]
    if viewer is None:
        source = Layer.create(*layers[0])
        return [*layers, heat_layer(explanation, source, Look.of(record.manner))]
    layers[0][1]["metadata"][METADATA][REOPENED] = Reopened(record, explanation)
    _open_dock(viewer)
    return layers


def reopened_in(layers: Mapping[str, Layer], models: Models) -> tuple[Made, Record] | None:
    """Take what was opened with one of the layers, once all that it was made of is there.

    Parameters
    ----------
    layers
        The layers that may be read, by key.
    models
        Where its model is listed.
    """
    for key, layer in layers.items():
        ours = layer.metadata.get(METADATA)
        opened = ours.get(REOPENED) if isinstance(ours, dict) else None
        if opened is None:
            continue
        keys = [_key_of(volume, layers) for volume in opened.explanation.volumes]
        if all(keys):
            del ours[REOPENED]
            request = _request(opened, key, tuple(keys[1:]), models)
            return Made(request, opened.explanation.volumes, opened.explanation), opened.record
    return None


def other_weights(made: Made | None, model: str, classifier: Classifier | None) -> str:
    """Say that a model that was loaded is not the one that made the map in sight; "" where it is, or nobody knows."""
    provenance = made.explanation.provenance if made is not None and made.request.model == model else None
    if provenance is None or classifier is None or provenance.model.weights == classifier.weights_digest:
        return ""
    return OTHER_WEIGHTS.format(classifier.name)


def _key_of(volume: Any, layers: Mapping[str, Layer]) -> str:
    return next((key for key, layer in layers.items() if scan_of_reader(layer) is volume), "")


def _request(opened: Reopened, scan: str, others: tuple[str, ...], models: Models) -> Request:
    explanation, asked, model = opened.explanation, opened.record.asked, opened.record.model
    return Request(
        scan,
        "" if model is None else models.add(model),
        explanation.method,
        explanation.target,
        asked.layers[0] if asked.layers and len(asked.layers) == 1 else DEFAULT,
        asked.plane or DEFAULT,
        asked.device or AUTOMATIC,
        others,
        explanation.against,
    )


def _open_dock(viewer: Any) -> None:
    """Open our dock beside what is being opened, unless it is there."""
    from qtpy.QtCore import QTimer

    from napari_gradcam.viewer.dock import Dock

    if viewer.window._qt_window.findChild(Dock) is None:
        # After napari has put the layers into the viewer: the dock then finds them.
        QTimer.singleShot(0, lambda: viewer.window.add_plugin_dock_widget("napari-gradcam", "Heat map"))

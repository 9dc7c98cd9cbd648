"""What a request reads: the layers of its scan and of further channels, and whether they still hold what was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_gradcam.errors import GradCamError
from napari_gradcam.viewer import choices
from napari_gradcam.viewer.channel_layers import in_colours, is_channel_of, read_channel
from napari_gradcam.viewer.kept import DEFAULT
from napari_gradcam.viewer.layers import is_scan_of, read_layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Layer

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.viewer.kept import Request
    from napari_gradcam.volumes import Volume

NO_CHANNEL = "No layer is chosen for “{}”, which the model reads beside the scan: choose one below the scan."


def with_channels(request: Request, classifier: Classifier | None, layers: Mapping[str, Layer]) -> Request:
    """Check that there is a layer for all that the model reads; what it reads is known once it is loaded.

    Parameters
    ----------
    layers
        The layers that may be read, by key; the scan is among them.

    Raises
    ------
    GradCamError
        If none is chosen for one of the model's channels.
    """
    labels = choices.further_channels(classifier, in_colours(layers[request.scan]))
    others = (*request.others, *(DEFAULT for _ in labels))[: len(labels)]
    for label, key in zip(labels, others, strict=True):
        if key not in layers:
            raise GradCamError(NO_CHANNEL.format(label))
    return request._replace(others=others)


def read(request: Request, layers: Mapping[str, Layer]) -> dict[str, Volume]:
    """Give the scans of a request's layers, by key.

    Raises
    ------
    GradCamError
        If a layer holds no scan, or no channel that lies on the scan's grid.
    """
    volume = read_layer(layers[request.scan])
    now = {request.scan: volume}
    for key in request.others:
        now[key] = read_channel(layers[key], layers[request.scan], volume)
    return now


def changed(request: Request, volumes: tuple[Volume, ...], layers: Mapping[str, Layer]) -> Layer | None:
    """Find a layer that no longer holds what was read of it; all of them are there."""
    scan, volume = layers[request.scan], volumes[0]
    if not is_scan_of(scan, volume):
        return scan
    others = zip((layers[key] for key in request.others), volumes[1:], strict=True)
    return next((layer for layer, read in others if not is_channel_of(layer, scan, volume, read)), None)

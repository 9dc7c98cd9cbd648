"""Layers of one viewer shown in another: the same arrays, and all that can be seen of a layer followed as it changes.

A layer of napari knows the slice that one viewer shows of it, so a second canvas needs a second layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Layer

from napari_gradcam.viewer.connections import Connections
from napari_gradcam.viewer.layers import EXPLANATION, METADATA, is_overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.components import ViewerModel

PLACE = ("scale", "translate", "rotate", "shear", "affine", "axis_labels", "units")
"""What says where a layer lies."""

_FOLLOWED = (
    "data",
    *PLACE,
    "metadata",
    "visible",
    "opacity",
    "blending",
    "colormap",
    "contrast_limits",
    "gamma",
    "interpolation2d",
    "interpolation3d",
    "rendering",
    "projection_mode",
    "contour",
)
"""Names of attributes, and of the events that tell of them; not every kind of layer has all."""


def is_shown(layer: Layer) -> bool:
    """Whether a layer belongs on a second canvas: scans, and what this plugin paints over them."""
    return isinstance(layer, Image) or is_overlay(layer)


class Follower:
    """Copies attributes of a layer to another one whenever they change.

    Parameters
    ----------
    source, target
        The layers.
    names
        Attributes; those are left out that the layer does not have.
    """

    def __init__(self, source: Layer, target: Layer, names: Sequence[str] = PLACE) -> None:
        self.target = target
        self._source, self._links = source, Connections()
        emitters = source.events.emitters
        self._links.connect(self._follow, *(emitters[name] for name in names if name in emitters))

    def _follow(self, event: Any) -> None:
        setattr(self.target, event.type, _attribute(self._source, event.type))

    def close(self) -> None:
        """Follow no more."""
        self._links.close()


class Mirrors:
    """Keeps one viewer's layers in another viewer.

    Parameters
    ----------
    source, target
        The viewer whose layers are shown, and the one that they are shown in. Layers that someone else added to the
        latter stay on top.
    shows
        Which layers are shown.
    """

    def __init__(self, source: ViewerModel, target: ViewerModel, shows: Callable[[Layer], bool] = is_shown) -> None:
        self._source, self._target, self._shows = source, target, shows
        self._made: dict[Layer, Follower] = {}

    def __getitem__(self, layer: Layer) -> Layer:
        """Give what a layer is shown by."""
        return self._made[layer].target

    def sync(self) -> None:
        """Show the layers that there are now, in the order they have, and follow them."""
        wanted = [layer for layer in self._source.layers if self._shows(layer)]
        for gone in self._made.keys() - set(wanted):
            follower = self._made.pop(gone)
            follower.close()
            self._target.layers.remove(follower.target)
        for place, layer in enumerate(wanted):
            if layer not in self._made:
                shown = mirror(layer)
                self._made[layer] = Follower(layer, shown, _FOLLOWED)
                self._target.layers.insert(place, shown)
        for place, layer in enumerate(wanted):
            now = self._target.layers.index(self[layer])
            if now != place:
                self._target.layers.move(now, place)

    def close(self) -> None:
        """Follow no more; what is shown stays as it is."""
        for follower in self._made.values():
            follower.close()
        self._made.clear()


def mirror(layer: Layer) -> Layer:
    """Make a layer that looks like another one and shares its array."""
    data, state, kind = layer.as_layer_data_tuple()
    state = dict(state) | {name: _attribute(layer, name) for name in ("metadata", "colormap")}
    return Layer.create(data, state, kind)


def _attribute(layer: Layer, name: str) -> Any:
    if name == "affine":  # napari would take the matrix's object itself, and two layers share it from then on
        return np.array(layer.affine.affine_matrix)
    if name == "metadata" and is_overlay(layer):  # the layer's own explanation is replaced at the next run: keep none
        return {METADATA: {EXPLANATION: None}}
    return getattr(layer, name)

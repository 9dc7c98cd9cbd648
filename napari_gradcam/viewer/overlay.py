"""The heat map of one scan in a viewer: at most two layers, which every further run updates."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer

from napari_gradcam.viewer.layers import (
    EXPLANATION,
    METADATA,
    OPPOSED,
    FullLayerData,
    band_colormap,
    band_data,
    bands_layer,
    colours_of,
    contour_width,
    geometry,
    heat_data,
    heat_layer,
    overlay_name,
    plain_name,
    see_through,
)
from napari_gradcam.viewer.look import LAST_THRESHOLD, Look
from napari_gradcam.viewer.world import data_to_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel

    from napari_gradcam.explanation import Explanation


class HeatMapOverlay:
    """Shows explanations of one scan's layer.

    Parameters
    ----------
    viewer
        Where the scan's layer is.
    source
        The scan's layer.
    on_look
        Called with the new look when the person used napari's own sliders on the heat map's layer.
    """

    def __init__(self, viewer: ViewerModel, source: Layer, on_look: Callable[[Look], None]) -> None:
        self.heat: Layer | None = None
        self.bands: Layer | None = None
        self._viewer, self._source, self._on_look = viewer, source, on_look
        self._explanation: Explanation | None = None
        self._look = Look()
        self._painting = self._signed = False

    def show(self, explanation: Explanation, look: Look) -> None:
        """Show an explanation in the layers that are there, or in new ones; a map without any heat makes none."""
        renamed = overlay_name(self._explanation) if self._explanation else ""
        self._explanation = explanation
        with self._paint():
            self._forget_removed()
            if self.heat is not None:
                self._refill(self.heat, heat_data(explanation, self._source), renamed)
            elif explanation.strongest > 0:
                self.heat = self._add(heat_layer(explanation, self._source, look))
                self._watch(self.heat)
            if self.bands is not None:
                self._refill(self.bands, band_data(explanation, self._source, look), renamed)
        self.restyle(look)

    def restyle(self, look: Look) -> None:
        """Paint what is shown in another way."""
        self._forget_removed()
        explanation = self._explanation
        if self.heat is None or explanation is None:
            self._look = look
            return
        with self._paint():
            if look.in_bands and self.bands is None:
                self.bands = self._add_bands(bands_layer(explanation, self._source, look))
            elif self.bands is not None and look.top(explanation) != self._look.top(explanation):
                self.bands.data = band_data(explanation, self._source, look)
            self._style_heat(self.heat, explanation, look)
            if self.bands is not None:
                self._style_bands(self.bands, explanation, look)
        self._look = look

    def close(self) -> None:
        """Let go of the layers; they stay in the viewer."""
        if self.heat is not None:
            for emitter in (self.heat.events.contrast_limits, self.heat.events.opacity, self.heat.events.colormap):
                emitter.disconnect(self._on_napari_slider)
        self.heat = self.bands = None

    def _style_heat(self, heat: Layer, explanation: Explanation, look: Look) -> None:
        limits = look.limits(explanation)
        # Room for the slider on both sides, and the limits always inside of it.
        lowest = -max(limits[1], explanation.strongest) if explanation.signed else 0.0
        whole = (lowest, max(limits[1], explanation.strongest))
        # Each time that they change napari draws its colour bar anew; to set the range changes them too.
        if (heat.contrast_limits, heat.contrast_limits_range) != (list(limits), list(whole)):
            with heat.events.contrast_limits.blocker():
                heat.contrast_limits_range = whole
            heat.contrast_limits = limits
        heat.opacity = look.opacity
        if explanation.signed or plain_name(heat.colormap) != look.colormap:
            heat.colormap = colours_of(explanation, look)
        if look.in_bands != self._look.in_bands:
            heat.visible = not look.in_bands
        heat.colorbar.visible = True

    def _style_bands(self, bands: Layer, explanation: Explanation, look: Look) -> None:
        bands.opacity = look.opacity
        if look.colormap != self._look.colormap or explanation.signed != self._signed:
            self._signed = explanation.signed
            bands.colormap = band_colormap(explanation, look)
        bands.contour = contour_width(look)
        if look.in_bands != self._look.in_bands:
            bands.visible = look.in_bands

    def _add(self, layer_data: FullLayerData) -> Layer:
        return self._viewer.add_layer(Layer.create(*layer_data))

    def _add_bands(self, layer_data: FullLayerData) -> Layer:
        """Add the bands and leave the selection as it was: napari would put a paint brush on them."""
        selection = self._viewer.layers.selection
        before = set(selection)
        bands = self._add(layer_data)
        selection.clear()
        selection.update(before)
        return bands

    def _refill(self, layer: Layer, data: Any, renamed: str) -> None:
        layer.data = data
        self._follow(layer)
        layer.metadata[METADATA] = {EXPLANATION: self._explanation}
        if renamed and self._explanation and layer.name.startswith(renamed):
            layer.name = overlay_name(self._explanation) + layer.name.removeprefix(renamed)

    def _follow(self, layer: Layer) -> None:
        """Lay a map where the scan's layer lies now, which may have been moved since the map was added."""
        source = self._source
        if layer.units == source.units and np.array_equal(data_to_world(layer), data_to_world(source)):
            return
        for name, value in geometry(source).items():
            setattr(layer, name, value)

    def _watch(self, heat: Layer) -> None:
        heat.events.contrast_limits.connect(self._on_napari_slider)
        heat.events.opacity.connect(self._on_napari_slider)
        heat.events.colormap.connect(self._on_napari_slider)

    def _on_napari_slider(self, event: Any = None) -> None:
        """Take over what the person did with napari's own controls, and keep the colour map see-through."""
        heat, explanation = self.heat, self._explanation
        if self._painting or heat is None or explanation is None:
            return
        low, top = heat.contrast_limits
        if top <= 0:
            return
        own_scale = math.isclose(top, explanation.strongest, rel_tol=1e-3)
        look = replace(self._look, opacity=float(heat.opacity), fixed_top=None if own_scale else float(top))
        if explanation.signed:  # one scale for both sides, whichever end was moved, and its own two colours
            with self._paint():
                heat.contrast_limits = look.limits(explanation)
                if heat.colormap.name != OPPOSED:
                    heat.colormap = colours_of(explanation, look)
        else:
            if heat.colormap.low_color is None or heat.colormap.low_color[3] > 0:
                with self._paint():
                    heat.colormap = see_through(heat.colormap)
            threshold = min(max(low / top, 0.0), LAST_THRESHOLD)
            look = replace(look, threshold=threshold, colormap=plain_name(heat.colormap))
        self._look = look
        self._on_look(look)

    def _forget_removed(self) -> None:
        """Let go of layers that the person removed."""
        if self.heat is not None and self.heat not in self._viewer.layers:
            self.heat = None
        if self.bands is not None and self.bands not in self._viewer.layers:
            self.bands = None

    @contextmanager
    def _paint(self) -> Iterator[None]:
        before, self._painting = self._painting, True
        try:
            yield
        finally:
            self._painting = before

"""Scans and explanations as napari's layer data: pure functions, no Qt, no viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import Colormap, DirectLabelColormap, ensure_colormap

from napari_gradcam.bands import BANDS, bands_of
from napari_gradcam.errors import GradCamError
from napari_gradcam.viewer import foreign
from napari_gradcam.viewer.look import Look, Style
from napari_gradcam.viewer.world import data_to_world, usable
from napari_gradcam.volumes.orientation import DISPLAY_AXES, DisplayGrid
from napari_gradcam.volumes.volume import Volume
from napari_gradcam.volumes.window import grey_limits

if TYPE_CHECKING:
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation

METADATA = "napari_gradcam"
"""The key in ``layer.metadata`` that holds what this plugin keeps with a layer."""

SCAN, EXPLANATION, TURNED = "volume", "explanation", "on display grid"
"""Keys below :data:`METADATA`: of a scan's layer, of a heat map's, and whether that lies on our display grid rather
than on the axes of another plugin's layer."""

BLENDING = "translucent_no_depth"

OPPOSED = "blue to orange"
"""What the colours of a signed map are called; those who do not tell red from green tell these apart."""

_AGAINST = ((0.75, 0.92, 1.0), (0.20, 0.55, 1.0), (0.05, 0.20, 0.55))
_FOR = ((0.55, 0.20, 0.02), (1.0, 0.50, 0.05), (1.0, 0.90, 0.60))
"""From the strongest evidence against the class to none, and on to the strongest for it; red, green and blue."""

_SHADES = 256

CONTOUR = 1
"""Voxels that a contour line is wide."""

FullLayerData = tuple["NDArray[Any]", dict[str, Any], str]


def scan_layer(volume: Volume) -> FullLayerData:
    """Make an Image layer of a scan: a view of its voxels on the display grid, in mm, windowed as its file says.

    Its axes are called by the patient's sides only where the file says where in the patient the scan lies.
    """
    grid = DisplayGrid.of(volume)
    settings: dict[str, Any] = {
        "name": volume.name or "Scan",
        "scale": grid.scale,
        "translate": grid.translate,
        "units": ("mm" if volume.unit == "mm" else "pixel",) * 3,
        "metadata": {METADATA: {SCAN: volume}, "affine": volume.affine},
    }
    if volume.in_patient_space:
        settings["axis_labels"] = DISPLAY_AXES
    if volume.color is not None:
        return grid.to_display(volume.color), {**settings, "rgb": True}, "image"
    settings |= {"colormap": "gray", "contrast_limits": grey_limits(volume)}
    return grid.to_display(volume.array), settings, "image"


def volume_of(layer: Layer) -> Volume | None:
    """Give the scan of a layer, the same one for as long as the layer stays what it is; None where it holds none.

    Of our own layers, and copies of them, the scan that was kept; of any other what :func:`read_layer` makes of it.
    """
    try:
        return read_layer(layer)
    except GradCamError:
        return None


def read_layer(layer: Layer) -> Volume:
    """Give the scan of a layer; values that are loaded or computed as they are looked at are read here.

    Raises
    ------
    GradCamError
        If the layer holds no scan.
    """
    kept = _kept(layer)
    return kept if kept is not None and foreign.shows(layer, kept) else foreign.read_layer(layer, kept)


def scan_of_reader(layer: Layer) -> Volume | None:
    """Give the scan that our reader made a layer of, if the layer still shows it."""
    kept = _kept(layer)
    return kept if kept is not None and foreign.shows(layer, kept) else None


def may_be_scan(layer: Layer) -> bool:
    """Whether a layer can be read as a scan; looks at its type and shape, and reads nothing."""
    kept = _kept(layer)
    if kept is not None and foreign.shows(layer, kept):
        return True
    try:
        foreign.place_of(layer, kept)
    except GradCamError:
        return False
    return True


def is_scan_of(layer: Layer, volume: Volume) -> bool:
    """Whether a scan that a layer was read as is still what the layer holds; reads nothing."""
    kept = _kept(layer)
    if kept is not None and foreign.shows(layer, kept):
        return kept is volume
    return foreign.is_read_as(layer, volume, kept)


def world_to_patient(layer: Layer) -> NDArray[np.float64] | None:
    """Give the last three axes of napari's world, in the layer's units, to RAS+ mm as the layer lies in them, 4 × 4.

    None where the layer does not say where in the patient it lies, or has two axes. Reads no voxel.
    """
    kept = _kept(layer)
    if kept is not None and foreign.shows(layer, kept):
        affine, placed = DisplayGrid.of(kept).affine, kept.in_patient_space
    else:
        try:
            affine, placed, *_ = foreign.place_of(layer, kept)
        except GradCamError:
            return None
    drawn = usable(data_to_world(layer)[-4:, -4:]) if placed and layer.ndim > 2 else None
    return None if drawn is None else affine @ np.linalg.inv(drawn)


def index_in_layer(layer: Layer, index: tuple[int, int, int]) -> NDArray[np.float64]:
    """Turn a voxel of a scan's native grid into one of its layer's data, of as many axes as that has."""
    kept = _kept(layer)
    if kept is not None and foreign.shows(layer, kept):
        return DisplayGrid.of(kept).index_to_display(index)
    position = np.zeros(max(3, layer.ndim))
    position[-3:] = index
    return position[-layer.ndim :]


def index_of_layer(layer: Layer, position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn a place in a layer's data, of as many axes as that has, into one on its scan's native grid."""
    kept = _kept(layer)
    if kept is not None and foreign.shows(layer, kept):
        return DisplayGrid.of(kept).index_to_native(position[-3:])
    return np.concatenate([np.zeros(max(0, 3 - len(position))), position])[-3:]


def _kept(layer: Layer) -> Volume | None:
    """Give the scan that our reader kept with a layer, or with the one that this was made from."""
    kept = layer.metadata.get(METADATA)
    volume = kept.get(SCAN) if isinstance(kept, dict) else None
    return volume if isinstance(volume, Volume) else None


def is_overlay(layer: Layer) -> bool:
    """Whether a layer is a heat map or bands that this plugin made."""
    kept = layer.metadata.get(METADATA)
    return isinstance(kept, dict) and EXPLANATION in kept


def explanation_of(layer: Layer) -> Explanation | None:
    """Give the explanation that a heat map's layer, or its bands', was made of; None of any other layer."""
    kept = layer.metadata.get(METADATA)
    return kept.get(EXPLANATION) if isinstance(kept, dict) else None


def on_native_grid(layer: Layer, explanation: Explanation) -> NDArray[Any]:
    """View what a heat map's layer holds, such as bands that a person has painted, on its scan's native grid.

    Raises
    ------
    GradCamError
        If it has not the scan's shape.
    """
    data, kept = np.asarray(layer.data), layer.metadata[METADATA]
    grid = DisplayGrid.of(explanation.volume)
    if kept.get(TURNED) and data.shape == grid.shape:
        return grid.to_native(data)
    if kept.get(TURNED) or data.size != explanation.heatmap.size:
        raise GradCamError(f"Layer “{layer.name}” has not the shape of the scan that it is of: explain the scan again.")
    return data.reshape(explanation.heatmap.shape)


def _is_turned(explanation: Explanation, source: Layer) -> bool:
    """Whether a map of a layer lies on our display grid, and not on the layer's own axes.

    The explanation tells on which of the two it is: the layer's data may have been changed since.
    """
    kept, heatmap = _kept(source), explanation.heatmap
    return kept is not None and heatmap.shape == kept.shape and np.array_equal(explanation.affine, kept.affine)


def heat_colormap(name: str) -> Colormap:
    """Make a colour map, transparent below its lower limit, so that napari's contrast slider is the threshold."""
    return see_through(ensure_colormap(name))


def opposed_colormap(threshold: float) -> Colormap:
    """Make the colours of a signed map, from -1 to 1: transparent where neither side reaches the threshold."""
    value = np.linspace(-1, 1, _SHADES)
    ends = np.array([*_AGAINST, *_FOR])
    places = np.array([-1.0, -0.5, 0.0, 0.0, 0.5, 1.0])
    places[3] = np.nextafter(0.0, 1.0)
    shades = np.stack([np.interp(value, places, ends[:, channel]) for channel in range(3)], axis=1)
    painted = (np.abs(value) >= threshold).astype(float)
    return Colormap(np.column_stack([shades, painted]), name=OPPOSED, interpolation="zero")


def see_through(colormap: Colormap) -> Colormap:
    """Copy a colour map, transparent below its lower limit."""
    return Colormap(
        colors=colormap.colors, controls=colormap.controls, name=f"heat {plain_name(colormap)}", low_color=(0, 0, 0, 0)
    )


def plain_name(colormap: Colormap) -> str:
    """Give the name of the colour map that a heat map's is made of."""
    return str(colormap.name).removeprefix("heat ")


def heat_layer(explanation: Explanation, source: Layer, look: Look) -> FullLayerData:
    """Make an Image layer of a heat map's raw values, exactly where the scan's layer lies."""
    settings = {
        "name": overlay_name(explanation),
        "colormap": colours_of(explanation, look),
        "contrast_limits": look.limits(explanation),
        "opacity": look.opacity,
        "blending": BLENDING,
        "interpolation2d": "linear",
        "interpolation3d": "linear",
        "rendering": "mip",
        "visible": not look.in_bands,
        "metadata": {METADATA: {EXPLANATION: explanation, TURNED: _is_turned(explanation, source)}},
        **geometry(source),
    }
    return heat_data(explanation, source), settings, "image"


def bands_layer(explanation: Explanation, source: Layer, look: Look) -> FullLayerData:
    """Make a Labels layer of bands: 1, 2 and 3 from .4, .6 and .8 of the scale's top; of what is against, 4, 5, 6."""
    settings = {
        "name": overlay_name(explanation) + " (bands)",
        "colormap": band_colormap(explanation, look),
        "opacity": look.opacity,
        "blending": BLENDING,
        "visible": look.in_bands,
        "metadata": {METADATA: {EXPLANATION: explanation, TURNED: _is_turned(explanation, source)}},
        **geometry(source),
    }
    return band_data(explanation, source, look), settings, "labels"


def contour_width(look: Look) -> int:
    """Give napari's ``contour`` of a labels layer: 0 fills the bands."""
    return CONTOUR if look.style is Style.CONTOURS else 0


def colours_of(explanation: Explanation, look: Look) -> Colormap:
    """Give the colours of a heat map; a signed one has two, whatever is picked for the others."""
    return opposed_colormap(look.threshold) if explanation.signed else heat_colormap(look.colormap)


def heat_data(explanation: Explanation, source: Layer) -> NDArray[np.float32]:
    """View a heat map's raw values on the grid of the scan's layer: our display grid, or a foreign layer's own axes."""
    heatmap = explanation.heatmap
    if _is_turned(explanation, source):
        kept = _kept(source)
        assert kept is not None
        return DisplayGrid.of(kept).to_display(heatmap)
    ones = (1,) * (source.ndim - heatmap.ndim)
    return heatmap.reshape((*ones, *heatmap.shape)[-source.ndim :])


def band_data(explanation: Explanation, source: Layer, look: Look) -> NDArray[np.uint8]:
    """Count the bands of a heat map on the grid of the scan's layer; 0 is below the first one."""
    return bands_of(heat_data(explanation, source), look.top(explanation), signed=explanation.signed)


def band_colormap(explanation: Explanation, look: Look) -> DirectLabelColormap:
    """Colour each band as the heat map's colours are in its middle."""
    first, last = BANDS[0], 1.0
    middles = np.array([(low + high) / 2 for low, high in zip(BANDS, (*BANDS[1:], last), strict=True)])
    if explanation.signed:
        both = np.concatenate([middles, -middles])
        colors = opposed_colormap(0).map((both + 1) / 2)
    else:
        colors = ensure_colormap(look.colormap).map((middles - first) / (last - first))
    color_of: dict[int | None, Any] = {None: "transparent", 0: "transparent", **dict(enumerate(colors, start=1))}
    return DirectLabelColormap(color_dict=color_of)


def overlay_name(explanation: Explanation) -> str:
    """Name a heat map's layer by what it shows."""
    against = f" against {explanation.against}" if explanation.against else ""
    return f"Heat map: {explanation.target}{against}"


def geometry(source: Layer) -> dict[str, Any]:
    """Copy every transform of a layer: one left out would put the map elsewhere."""
    return {
        "scale": source.scale,
        "translate": source.translate,
        "rotate": source.rotate,
        "shear": source.shear,
        "affine": source.affine,
        "axis_labels": source.axis_labels,
        "units": source.units,
    }

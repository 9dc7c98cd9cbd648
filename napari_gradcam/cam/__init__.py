"""The engine: tensors in, raw class activation maps out. It knows torch alone."""

from napari_gradcam.cam.capture import Capture, capture
from napari_gradcam.cam.engine import ClassActivationMaps, class_activation_map, maps_of, output_scores
from napari_gradcam.cam.layers import LayerInfo, default_layer, survey
from napari_gradcam.cam.methods import METHODS

__all__ = [
    "METHODS",
    "Capture",
    "ClassActivationMaps",
    "LayerInfo",
    "capture",
    "class_activation_map",
    "default_layer",
    "maps_of",
    "output_scores",
    "survey",
]

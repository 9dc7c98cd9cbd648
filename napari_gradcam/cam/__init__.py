"""The engine: tensors in, raw class activation maps out. It knows torch, and MONAI for its occlusion."""

from napari_gradcam.cam.capture import Capture, capture
from napari_gradcam.cam.completeness import Completeness
from napari_gradcam.cam.engine import (
    class_activation_map,
    class_activation_steps,
    maps_of,
    maps_of_steps,
    output_scores,
)
from napari_gradcam.cam.layers import LayerInfo, on_scan, recommended, survey
from napari_gradcam.cam.methods import METHODS
from napari_gradcam.cam.results import ClassActivationMaps, LayerMaps
from napari_gradcam.cam.running import Network

__all__ = [
    "METHODS",
    "Capture",
    "ClassActivationMaps",
    "Completeness",
    "LayerInfo",
    "LayerMaps",
    "Network",
    "capture",
    "class_activation_map",
    "class_activation_steps",
    "maps_of",
    "maps_of_steps",
    "on_scan",
    "output_scores",
    "recommended",
    "survey",
]

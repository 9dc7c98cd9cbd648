"""Where did the network look? Grad-CAM heat maps of MONAI classifiers over scans, in patient space.

Three verbs: :func:`read_volume`, :func:`load_classifier`, :func:`explain`; :func:`find_scans` lists what there is to
read. Importing this package loads neither
torch nor MONAI nor napari: each comes with the first call that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_gradcam.classifiers import Classifier, load_classifier
    from napari_gradcam.errors import GradCamError
    from napari_gradcam.explainer import explain
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Catalogue, Scan, Volume, find_scans, read_volume

__version__ = "0.1.0"

__all__ = [
    "Catalogue",
    "Classifier",
    "Explanation",
    "GradCamError",
    "Scan",
    "Volume",
    "__version__",
    "explain",
    "find_scans",
    "load_classifier",
    "read_volume",
]

_HOME = {
    "Catalogue": "napari_gradcam.volumes",
    "Scan": "napari_gradcam.volumes",
    "find_scans": "napari_gradcam.volumes",
    "Classifier": "napari_gradcam.classifiers",
    "Explanation": "napari_gradcam.explanation",
    "GradCamError": "napari_gradcam.errors",
    "Volume": "napari_gradcam.volumes",
    "explain": "napari_gradcam.explainer",
    "load_classifier": "napari_gradcam.classifiers",
    "read_volume": "napari_gradcam.volumes",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)

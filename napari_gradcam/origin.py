"""How an explanation was made, noted while it is made."""

from __future__ import annotations

import platform
import time
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import monai
import numpy as np
import torch

from napari_gradcam.cam.engine import NOISE_SEED
from napari_gradcam.classifiers.bundle import contents_digest
from napari_gradcam.classifiers.describing import described
from napari_gradcam.classifiers.weights import weights_digest
from napari_gradcam.errors import GradCamError
from napari_gradcam.provenance import Model, Provenance

if TYPE_CHECKING:
    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.provenance import Asked

_models: WeakKeyDictionary[Classifier, tuple[Any, Model]] = WeakKeyDictionary()


def model_of(classifier: Classifier, state: Any) -> Model:
    """Tell who is asked, by the contents that run.

    Parameters
    ----------
    classifier
        Who is asked.
    state
        What changes when the network does (:attr:`napari_gradcam.warm.Input.network`): only then it is hashed anew,
        since the SHA-256 of a large network takes longer than many a map.
    """
    known, model = _models.get(classifier, (None, None))
    if model is None or known != state:
        model = Model(
            name=classifier.name,
            version=classifier.version,
            source=classifier.source,
            contents=model.contents if model is not None else _contents(classifier),
            weights=weights_digest(classifier.network),
            preprocessing=described(classifier.preprocess),
            activation=classifier.head.activation,
            spatial_dims=classifier.spatial_dims,
        )
        _models[classifier] = state, model
    return model


def _contents(classifier: Classifier) -> str:
    if classifier.source is None:
        return ""
    try:
        return contents_digest(classifier.source)
    except GradCamError:  # taken away since it was loaded; what ran is told by its weights and its preprocessing
        return ""


class Watch:
    """Takes the time of the stages of a run, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def stage(self, name: str) -> None:
        """Note that a stage has ended."""
        now = time.perf_counter()
        self.seconds[name] = now - self._began
        self._began = now


def provenance(model: Model, asked: Asked, device: str, watch: Watch) -> Provenance:
    """Note how an explanation was made."""
    seed = NOISE_SEED if asked.smooth > 0 else None
    return Provenance(model, asked, device, seed, dict(watch.seconds), versions())


@cache
def versions() -> dict[str, str]:
    """Give the versions of what computes."""
    return {
        "napari-gradcam": version("napari-gradcam"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "numpy": np.__version__,
    }

"""The work that runs in a worker thread: nothing here touches napari or Qt.

torch and MONAI are imported here and nowhere else in this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_gradcam.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume


def load_steps(path: str) -> Generator[Progress, None, Classifier]:
    """Load a classifier and survey its layers; the first time, torch and MONAI are imported, stage by stage.

    Parameters
    ----------
    path
        A MONAI bundle, folder or zip.
    """
    yield Progress(0, 4, "Starting PyTorch")
    import torch  # noqa: F401

    yield Progress(1, 4, "Starting MONAI")
    from napari_gradcam.classifiers import load_classifier

    yield Progress(2, 4, "Reading the model")
    classifier = load_classifier(path)
    yield Progress(3, 4, "Listing its layers")
    classifier.layers()
    _ = classifier.default_layer
    return classifier


def explain_steps(
    classifier: Classifier, volume: Volume, target: str | None, method: str, layer: str | None
) -> Generator[Progress, None, Explanation]:
    """Explain a scan, and do here what would make the main thread wait: find the hottest voxel."""
    from napari_gradcam import explainer

    explanation: Explanation = yield from explainer.explain_steps(volume, classifier, target, method, layer)
    _ = explanation.peak
    return explanation


def loaded_and_explained(
    load: Any, explain: Any, path: str, classifier: Classifier | None, *request: Any
) -> Generator[Progress, None, tuple[Classifier, Explanation]]:
    """Load the classifier where that has not been done yet, then explain with it."""
    if classifier is None:
        classifier = yield from load(path)
    return classifier, (yield from explain(classifier, *request))

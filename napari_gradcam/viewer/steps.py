"""The work that runs in a worker thread: nothing here touches napari or Qt.

torch and MONAI are imported here and nowhere else in this room.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gradcam.progress import Progress
from napari_gradcam.viewer.contract import CodeAsked

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume


def load_steps(path: str, trusted: str = "") -> Generator[Progress, None, Classifier]:
    """Load a classifier and survey its layers; the first time, torch and MONAI are imported, stage by stage.

    Parameters
    ----------
    path
        A MONAI bundle, folder or zip, or a recipe.
    trusted
        SHA-256 of the contents that a person let run code. Contents that are others by now are asked about anew.
    """
    yield Progress(0, 4, "Starting PyTorch")
    import torch  # noqa: F401

    yield Progress(1, 4, "Starting MONAI")
    from napari_gradcam.classifiers import load_classifier

    yield Progress(2, 4, "Reading the model")
    classifier = load_classifier(path, trust=trusted)
    yield Progress(3, 4, "Listing its layers")
    classifier.layers()
    _ = classifier.default_layer, classifier.weights_digest
    devices()
    return classifier


def explain_steps(
    classifier: Classifier,
    volumes: Sequence[Volume],
    target: str | None,
    method: str,
    layer: str | None,
    plane: str | None,
    device: str,
    against: str = "",
) -> Generator[Progress, None, Explanation]:
    """Explain a scan, and do here what would make the main thread wait: find the hottest voxel.

    Parameters
    ----------
    volumes
        The scan, and further ones for the classifier's other channels.
    against
        The class that the target is set against: both are mapped, with their signs where the method has one.
    """
    from napari_gradcam import explainer

    given = volumes[0] if len(volumes) == 1 else list(volumes)
    explanation: Explanation = yield from explainer.explain_steps(
        given, classifier, target, method, layer, against=against or None, plane=plane, device=device
    )
    _ = explanation.peak, explanation.strongest, explanation.hottest_by_slice, explanation.evidence_by_slice
    return explanation


def devices() -> list[str]:
    """Name the devices there are; the first call may take a moment."""
    from napari_gradcam.cam import running

    return running.devices()


def at_hand(classifier: Classifier, method: str) -> bool:
    """Whether another class of the scan that a classifier read last costs no pass of the network."""
    from napari_gradcam import warm
    from napari_gradcam.cam import METHODS

    return METHODS[method].needs == "gradients" and warm.at_hand(classifier)


def code_asked(error: Exception, path: str) -> CodeAsked | None:
    """Give what a model asks for, if it was refused because that would run code from it."""
    # Where that module is not loaded, the error is none of its; to import it here would wait for torch.
    trust = sys.modules.get("napari_gradcam.classifiers.trust")
    if trust is None or not isinstance(error, trust.UntrustedError):
        return None
    return CodeAsked(Path(path).name, tuple(tuple(finding) for finding in error.findings), error.digest)

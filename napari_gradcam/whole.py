"""A 3D classifier reads a scan whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_gradcam.classifiers.preprocessing import prepare_volume
from napari_gradcam.placing import place_volume
from napari_gradcam.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.channels import Channels
    from napari_gradcam.classifiers.preprocessing import Prepared
    from napari_gradcam.placing import Placed


class Whole:
    """A scan as the one input of a 3D network; see :class:`napari_gradcam.passes.Way`."""

    plane = ""
    parts = "scan"
    slice_axis: int | None = None
    slice_indices: range | None = None
    chosen = ""
    count = 1
    preparing = "Preparing the scan"
    running = "Running the network"

    def __init__(self, channels: Channels, classifier: Classifier) -> None:
        self._channels, self._classifier = channels, classifier
        self.name = channels.volume.name

    def inputs(self) -> Iterator[Prepared]:
        """Prepare the scan."""
        yield prepare_volume(self._channels, self._classifier.preprocess)

    def verdict(self, probabilities: NDArray[np.float64], logits: NDArray[np.float64]) -> Verdict:
        """Score the scan, from ``(1, class)`` twice."""
        return Verdict(probabilities[0], logits[0])

    def place(
        self, maps: NDArray[np.float32], affines: Sequence[NDArray[np.float64]], covered: Sequence[int]
    ) -> Placed:
        """Put the map, ``(1, a, b, c)``, on the scan's grid; it lies over so many voxels of the input."""
        return place_volume(np.ascontiguousarray(maps[0]), affines[0], covered, self._channels.volume)

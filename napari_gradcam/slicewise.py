"""A 2D classifier reads a scan slice by slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_gradcam.classifiers.preprocessing import PLANES, cut, prepare_slices
from napari_gradcam.errors import GradCamError
from napari_gradcam.placing import place_slices
from napari_gradcam.verdict import Verdict, verdict_of_slices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.channels import Channels
    from napari_gradcam.classifiers.preprocessing import Prepared
    from napari_gradcam.placing import Placed


class Slicewise:
    """Every slice of a plane as an input of a 2D network; see :class:`napari_gradcam.passes.Way`.

    Parameters
    ----------
    channels
        What is read.
    classifier
        Who reads it.
    plane
        The plane that a person chose; None is the classifier's own. A picture has one slice, whatever the plane.
    """

    def __init__(self, channels: Channels, classifier: Classifier, plane: str | None) -> None:
        self._channels, self._classifier = channels, classifier
        own = classifier.slice_rule.plane
        self._slices = cut(channels, plane or own, rows_first=bool(classifier.wants.rows_first))
        self.plane = self._slices.plane
        self.name, self.count = channels.volume.name, len(self._slices)
        self.slice_axis: int | None = self._slices.native_axis
        self.slice_indices: range | None = self._slices.native_indices
        self.parts = "slices" if self.count > 1 else "slice" if self.plane else "picture"
        self.preparing = f"Preparing the {self.parts}"
        self.running = f"Running the network on {self.plane} slices" if self.plane else "Running the network"
        self.chosen = (
            f"The scan was read in {plane} slices, as was asked for; the model's own plane is {own}."
            if plane not in (None, own) and self.plane
            else ""
        )

    def inputs(self) -> Iterator[Prepared]:
        """Prepare slice by slice."""
        return prepare_slices(self._slices, self._classifier.preprocess, self.name, lambda _: 1)

    def verdict(self, probabilities: NDArray[np.float64], logits: NDArray[np.float64]) -> Verdict:
        """Score the scan by the classifier's rule, from ``(slice, class)`` twice."""
        classifier = self._classifier
        return verdict_of_slices(classifier.slice_rule, classifier.class_names, self.plane, probabilities, logits)

    def place(
        self, maps: NDArray[np.float32], affines: Sequence[NDArray[np.float64]], covered: Sequence[int]
    ) -> Placed:
        """Put the maps, ``(slice, a, b)``, on the scan's grid; each lies over so many pixels of its input."""
        return place_slices(maps.transpose(1, 2, 0), affines, covered, self._slices, self._channels.volume)


def check_plane(plane: str | None, classifier: Classifier) -> None:
    """Refuse a plane that does not exist, or where nothing is cut into slices.

    Raises
    ------
    GradCamError
        If it cannot be chosen.
    """
    if plane is None:
        return
    if plane not in PLANES:
        raise GradCamError(f"There is no plane “{plane}”; choose one of {', '.join(sorted(PLANES))}.")
    if classifier.spatial_dims == 3:
        raise GradCamError(
            f"The model “{classifier.name}” reads a scan whole and not in {plane} slices; leave the plane out."
        )

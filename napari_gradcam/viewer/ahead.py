"""Explains the other classes of a scan before anyone asks, so that going to one of them is a matter of painting it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import psutil

from napari_gradcam.viewer.kept import KEPT_AHEAD, Made

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.viewer.contract import Later, Steps
    from napari_gradcam.viewer.kept import Kept, Request
    from napari_gradcam.viewer.runs import Runs
    from napari_gradcam.volumes import Volume

LEAST_FREE = 0.25
"""The share of the machine's memory that must stay free."""

COPIES = 3
"""Arrays of the scan's size that placing a map may need at a time, its answer among them."""


class Ahead:
    """Explains the most probable of the classes that were not asked for, while nothing else is going on.

    Only where it costs no pass of the network: by gradients, from activations that are at hand.

    Parameters
    ----------
    runs, kept
        What runs it, in the place of nothing, and keeps it.
    explain
        Makes the work, as :func:`napari_gradcam.viewer.steps.explain_steps` does.
    at_hand
        Tells whether a class costs no pass, from the classifier and the name of the method.
    still
        Tells whether a request is still of the scan and the model that are picked, and its layers hold what was read.
    later
        When it begins: once the map that was asked for is on the screen. None for never.
    """

    def __init__(
        self,
        runs: Runs,
        kept: Kept,
        explain: Callable[..., Steps],
        at_hand: Callable[[Classifier, str], bool],
        still: Callable[[Request, tuple[Volume, ...]], bool],
        later: Later | None,
    ) -> None:
        self._runs, self._kept, self._explain, self._at_hand = runs, kept, explain, at_hand
        self._still, self._later = still, later

    def after(self, made: Made, classifier: Classifier | None) -> None:
        """See to the other classes of what is shown now."""
        if self._later is not None and classifier is not None and not made.request.against:
            self._later(partial(self._next, made, classifier))

    def close(self) -> None:
        """Begin nothing more."""
        self._later = None

    def _next(self, made: Made, classifier: Classifier) -> None:
        request = next((one for one in others_of(made) if one not in self._kept), None)
        if request is None or self._later is None or not self._still(request, made.volumes):
            return
        if self._at_hand(classifier, request.method) and fits(made.explanation):
            work = partial(self._explain, classifier, made.volumes, *request.asked)
            self._runs.aside(work, partial(self._on_made, made, classifier, request), request.inputs)

    def _on_made(self, made: Made, classifier: Classifier, request: Request, explanation: Explanation) -> None:
        if self._still(request, made.volumes):
            self._kept.add_ahead(Made(request, made.volumes, explanation))
            self._next(made, classifier)


def others_of(made: Made) -> list[Request]:
    """List the requests for the most probable classes beside the one that was explained, as many as are kept."""
    explanation = made.explanation
    names = sorted(explanation.scores, key=lambda name: -explanation.scores[name])
    others = [name for name in names if name != explanation.target]
    return [made.request._replace(target=name) for name in others[:KEPT_AHEAD]]


def fits(explanation: Explanation) -> bool:
    """Whether another map of the same size leaves enough memory free."""
    memory = psutil.virtual_memory()
    return memory.available - COPIES * explanation.heatmap.nbytes >= LEAST_FREE * memory.total

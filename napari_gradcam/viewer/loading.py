"""Models on their way into the dock, and the question whether one may run code of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from napari_gradcam.viewer import steps
from napari_gradcam.viewer.contract import CodeAsked, Tone

if TYPE_CHECKING:
    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.viewer.contract import DockView
    from napari_gradcam.viewer.models import Models
    from napari_gradcam.viewer.runs import Runs

Ask = Callable[[CodeAsked, Callable[[], None]], None]
"""Asks the person whether a model may run code of its own, and calls back if it may."""

NOT_OPENED = "“{}” was not opened: it asks for code of its own to be run on this computer."


class Loading:
    """Loads models.

    Parameters
    ----------
    models
        Takes those that are loaded.
    runs
        Runs the work.
    dock
        Where a refusal is told.
    ask
        Asks the person; None where nobody is there to be asked, and no model may run code.
    """

    def __init__(self, models: Models, runs: Runs, dock: DockView, ask: Ask | None) -> None:
        self._models, self._runs, self._dock, self._ask = models, runs, dock, ask

    def start(self, model: str, done: Callable[[], None], inputs: tuple[str, ...] = ()) -> None:
        """Load a model, then go on; the layers named must stay for that."""
        again = partial(self.start, model, done, inputs)
        loaded, failed = partial(self._on_loaded, model, done), partial(self._on_not_loaded, model, again)
        self._runs.start(self._models.loading(model), loaded, inputs, failed)

    def _on_loaded(self, model: str, done: Callable[[], None], classifier: Classifier) -> None:
        self._models.keep(model, classifier)
        done()

    def _on_not_loaded(self, model: str, again: Callable[[], None], error: Exception) -> None:
        """Ask the person, if the model was refused because it would run code."""
        asked = steps.code_asked(error, model)
        if asked is None or self._ask is None:
            self._runs.failed(error)
            return
        self._runs.stopped()
        self._dock.say(NOT_OPENED.format(asked.name), Tone.ERROR)
        self._ask(asked, partial(self._on_trusted, model, asked.digest, again))

    def _on_trusted(self, model: str, digest: str, again: Callable[[], None]) -> None:
        self._models.trust(model, digest)
        again()

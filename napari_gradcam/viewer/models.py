"""The models that a person can choose: which are loaded, and which were trusted to run code."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari_gradcam.samples import sample_classifiers
from napari_gradcam.viewer.contract import Choice, choices_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.viewer.contract import Steps


class Models:
    """Models by key, which is the path.

    Parameters
    ----------
    load
        Loads the model at a path; the second argument is the SHA-256 of contents that a person trusts, or empty.

    Attributes
    ----------
    choices
        Those there are: at first the samples.
    """

    def __init__(self, load: Callable[[str, str], Steps]) -> None:
        self.choices: list[Choice] = choices_of(sample_classifiers())
        self._load = load
        self._loaded: dict[str, Classifier] = {}
        self._trusted: dict[str, str] = {}

    @property
    def first(self) -> str:
        """The model that is picked at the start; empty where there is none."""
        return self.choices[0].key if self.choices else ""

    def add(self, path: Path) -> str:
        """List the model at a path, once, and give its key."""
        key = str(path)
        if not any(choice.key == key for choice in self.choices):
            self.choices.append(Choice(path.name, key))
        return key

    def get(self, key: str) -> Classifier | None:
        """Give a model that is loaded."""
        return self._loaded.get(key)

    def keep(self, key: str, classifier: Classifier) -> None:
        """Take a model that was loaded."""
        self._loaded[key] = classifier

    def trust(self, key: str, digest: str) -> None:
        """Let the model at a path run code, as long as its contents are those of a SHA-256."""
        self._trusted[key] = digest

    def loading(self, key: str) -> Callable[[], Steps]:
        """Give the work that loads a model."""
        return partial(self._load, key, self._trusted.get(key, ""))

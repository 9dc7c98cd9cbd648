"""What the dock shows of the state: the lists of a model, its classes with their scores, what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_gradcam import words
from napari_gradcam.export.card import card
from napari_gradcam.viewer import choices, readout
from napari_gradcam.viewer.channel_layers import in_colours, is_picture
from napari_gradcam.viewer.contract import Choice
from napari_gradcam.viewer.kept import DEFAULT
from napari_gradcam.viewer.layers import scan_of_reader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.layers import Layer

    from napari_gradcam.viewer.contract import DockView
    from napari_gradcam.viewer.kept import Kept, Request
    from napari_gradcam.viewer.look import Look
    from napari_gradcam.viewer.models import Models


class Board:
    """Shows the state in a dock; it holds none of its own.

    Parameters
    ----------
    dock
        Where it is shown.
    models, kept
        What is loaded, and what was explained.
    """

    def __init__(self, dock: DockView, models: Models, kept: Kept) -> None:
        self._dock, self._models, self._kept = dock, models, kept

    def show_model(self, wanted: Request) -> None:
        """Show what is to be chosen of the model, and what it says of itself."""
        classifier = self._models.get(wanted.model)
        self._dock.set_layers(choices.layers_of(classifier), wanted.layer)
        self._dock.set_about(words.about(classifier) if classifier is not None else ())

    def show_inputs(self, wanted: Request, layers: Mapping[str, Layer]) -> Request:
        """Show which layers the model's further channels are, and along which plane it may cut the scan.

        Parameters
        ----------
        wanted
            What is picked.
        layers
            The layers that may be read, by key.

        Returns
        -------
        Request
            What is picked, without what the model does not ask for, or what is gone.
        """
        classifier, scan = self._models.get(wanted.model), layers.get(wanted.scan)
        colour = scan is not None and in_colours(scan)
        labels = choices.further_channels(classifier, colour) if scan is not None else []
        others = [DEFAULT for _ in labels]
        if len(wanted.others) == len(labels):
            others = [key if key in layers else DEFAULT for key in wanted.others]
        listed = [Choice(layer.name, key) for key, layer in layers.items()]
        first = choices.first_channels(classifier, colour) if labels else ""
        self._dock.set_channels(first, choices.channel_rows(labels, listed, others))
        slicings = choices.slicings_of(classifier, scan is None or is_picture(scan))
        plane = wanted.plane if slicings else DEFAULT
        self._dock.set_slicings(slicings, plane)
        return wanted._replace(others=tuple(others), plane=plane)

    def show_classes(self, wanted: Request, pinned: Sequence[str] = ()) -> None:
        """List the classes, with the scores that the model gave the scan; tick those that are pinned."""
        shown = self._kept.shown(wanted.scan)
        scores, explained = {}, ""
        if shown is not None and shown.request.model == wanted.model:
            scores, explained = readout.scores(shown.explanation), shown.explanation.target
        classifier = self._models.get(wanted.model)
        self._dock.set_classes(choices.classes_of(classifier, scores), wanted.target)
        self._dock.set_scores(choices.score_rows(classifier, scores), explained, pinned)

    def show_result(self, scan: Layer | None, key: str, look: Look) -> None:
        """Show what was found in a scan; where nothing was yet, what must be known of it."""
        shown = self._kept.shown(key)
        if shown is None:
            volume = scan_of_reader(scan) if scan is not None else None
            self._dock.set_result(None, volume.notices if volume is not None else ())
        else:
            self._dock.set_result(readout.result(shown.explanation, shown.volumes[0], look))
        self._dock.set_card(
            (words.PURPOSE,) if shown is None else card(shown.explanation, look.manner(), in_bands=look.in_bands)
        )

"""What a window gives to the controller, and what stands in for each of it where there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_gradcam.viewer.contract import Canvases, Jobs, Later, NoCanvases, at_once
from napari_gradcam.viewer.saving import NoDialogs, SaveDialogs

if TYPE_CHECKING:
    from napari_gradcam.viewer.loading import Ask


@dataclass(frozen=True)
class Surroundings:
    """What is around a dock: a window with its dialogs, canvases and threads.

    Attributes
    ----------
    ask
        Asks the person whether a model may run code of its own, and calls back if it may; by default none may.
    dialogs
        Asks what to save, and where; by default nothing.
    canvases
        Further canvases beside the viewer's own; by default none.
    later
        When what takes long to count is counted; by default at once.
    counting
        Counts it away from the event loop; by default it is counted in the loop.
    ahead
        When the other classes are explained before anyone asks; by default never.
    """

    ask: Ask | None = None
    dialogs: SaveDialogs = field(default_factory=NoDialogs)
    canvases: Canvases = field(default_factory=NoCanvases)
    later: Later = at_once
    counting: Jobs | None = None
    ahead: Later | None = None


NOTHING = Surroundings()

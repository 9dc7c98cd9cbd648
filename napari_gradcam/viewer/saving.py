"""Saving what is shown: what a person wants to keep, the work, and how it is told."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from napari_gradcam.export import ExistingFileError
from napari_gradcam.export.manner import Slice
from napari_gradcam.viewer.contract import Tone
from napari_gradcam.viewer.planes import index_in_sight, plane_in_sight
from napari_gradcam.volumes.orientation import DisplayGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_gradcam.coordinates import System
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.viewer.contract import DockView, Steps
    from napari_gradcam.viewer.room import InSight
    from napari_gradcam.viewer.runs import Runs

NOTHING = "There is no heat map to save yet: explain a scan first."


class Wish(NamedTuple):
    """What a person wants to keep, and where."""

    folder: Path
    formats: tuple[str, ...]
    deidentified: bool = False


class SaveDialogs(Protocol):
    """Asks a person about saving."""

    def wish(self, explanation: Explanation) -> Wish | None:
        """Ask what to save and where; None where the person does not want to."""

    def replace(self, folder: Path, names: Sequence[str]) -> bool:
        """Ask whether files that are there already may be replaced."""


class NoDialogs:
    """Nobody is there to be asked."""

    def wish(self, explanation: Explanation) -> Wish | None:
        """Save nothing."""
        return None

    def replace(self, folder: Path, names: Sequence[str]) -> bool:
        """Replace nothing."""
        return False


class Saver:
    """Saves the map in sight.

    Parameters
    ----------
    viewer
        Where the slice in sight is.
    dock, runs
        Where it is told, and what runs it.
    dialogs
        Asks the person.
    in_sight
        Tells what is shown, and how.
    system
        The axes of positions.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        dock: DockView,
        runs: Runs,
        dialogs: SaveDialogs,
        in_sight: Callable[[], InSight],
        system: System,
    ) -> None:
        self._viewer, self._dock, self._runs, self._dialogs = viewer, dock, runs, dialogs
        self._in_sight, self._system = in_sight, system

    def save(self) -> None:
        """Ask what to keep, and save it."""
        made = self._in_sight().made
        if made is None:
            self._dock.say(NOTHING, Tone.ERROR)
            return
        wish = self._dialogs.wish(made.explanation)
        if wish is not None:
            self._save(made.explanation, wish, overwrite=False)

    def _save(self, explanation: Explanation, wish: Wish, *, overwrite: bool) -> None:
        manner = self._in_sight().look.manner(self._system, deidentified=wish.deidentified)
        manner = replace(manner, chosen=self._slice_in_sight(explanation))

        def work() -> Steps:
            from napari_gradcam.export import save_steps

            return (yield from save_steps(explanation, wish.folder, wish.formats, manner, overwrite=overwrite))

        self._runs.start(work, partial(self._saved, wish), failed=partial(self._failed, explanation, wish))

    def _slice_in_sight(self, explanation: Explanation) -> Slice | None:
        """Tell which slice is shown; None in three dimensions, and of what lies in no plane of the patient."""
        scan, plane = self._in_sight().scan, plane_in_sight(self._viewer)
        if scan is None or plane is None:
            return None
        grid = DisplayGrid.of(explanation.volume)
        across = plane.dims_order[0]
        number = round(float(grid.index_to_display(index_in_sight(self._viewer, scan))[across]))
        return Slice(plane, min(max(number, 0), grid.shape[across] - 1))

    def _saved(self, wish: Wish, written: Sequence[Path]) -> None:
        files = "1 file" if len(written) == 1 else f"{len(written)} files"
        self._dock.say(f"Saved {files} in {wish.folder}.")

    def _failed(self, explanation: Explanation, wish: Wish, error: Exception) -> None:
        """Ask before anything is replaced; tell all else, and leave the layers as they are."""
        if not isinstance(error, ExistingFileError):
            self._runs.failed(error)
            return
        self._runs.stopped()
        if self._dialogs.replace(error.folder, error.names):
            self._save(explanation, wish, overwrite=True)
        else:
            self._dock.say("Nothing was saved: choose another folder.")

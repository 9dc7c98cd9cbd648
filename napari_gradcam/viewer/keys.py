"""The keys of the reading room, in one place for those who press them and those who list them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.components import ViewerModel

HOT_NEXT, HOT_BEFORE = ".", ","
AXIAL, SAGITTAL, CORONAL, SPACE = "Alt-1", "Alt-2", "Alt-3", "Alt-4"
EXPLAIN, CANCEL = "Alt-E", "Alt-C"

LISTED = (
    (f"{HOT_NEXT}  {HOT_BEFORE}", "next, previous slice with heat above the threshold"),
    (f"{AXIAL} … {SPACE}", "axial, sagittal, coronal, 3D"),
    (f"{EXPLAIN}  {CANCEL}", "explain, cancel"),
    ("Tab, arrows, Return", "go through dock, tables and profile; choose"),
    ("Right button, drag", "window: right is wider, down is darker"),
)
"""What a person reads: keys, and what they do."""


class Keys:
    """Binds keys of one viewer, and lets go of them.

    Parameters
    ----------
    viewer
        The viewer; keys that it has bound to something else by now stay as they are.
    actions
        What each key does.
    """

    def __init__(self, viewer: ViewerModel, actions: Mapping[str, Callable[[], object]]) -> None:
        self._viewer, self._bound = viewer, []
        for key, action in actions.items():
            try:
                viewer.bind_key(key, _pressed(action))
            except ValueError:  # another plugin has it
                continue
            self._bound.append(key)

    def close(self) -> None:
        """Let go of the keys."""
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound = []


def _pressed(action: Callable[[], object]) -> Callable[[object], None]:
    def pressed(_viewer: object) -> None:
        action()

    return pressed

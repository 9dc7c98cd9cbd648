"""Connections to a viewer's events, kept together so that all of them can be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Connections:
    """What someone listens to."""

    def __init__(self) -> None:
        self._made: list[tuple[Any, Callable[..., None]]] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._made)

    def connect(self, heard: Callable[..., None], *emitters: Any) -> None:
        """Call a bound method at events of napari, after napari itself has dealt with them."""
        for emitter in emitters:
            emitter.connect(heard, position="last")
            self._made.append((emitter, heard))

    def close(self) -> None:
        """Listen to nothing any more."""
        for emitter, heard in self._made:
            emitter.disconnect(heard)
        self._made.clear()

"""One map kept beside those that follow: what it is, and how alike the two are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_gradcam import words
from napari_gradcam.comparing import compare
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Collection

    from napari.layers import Layer

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.viewer.contract import Canvases, DockView
    from napari_gradcam.viewer.kept import Made
    from napari_gradcam.viewer.look import Look

OTHER_SCAN = "No map of its scan is in sight."


class Beside:
    """Keeps a map beside the one in sight.

    Parameters
    ----------
    dock, canvases
        Where it is told of, and shown.
    """

    def __init__(self, dock: DockView, canvases: Canvases) -> None:
        self._dock, self._canvases = dock, canvases
        self._kept: Made | None = None
        self._seen: Made | None = None
        self._painted: Look | None = None
        dock.set_compared("", ())

    def keep(self, scan: Layer, made: Made, look: Look) -> None:
        """Keep a map of a scan's layer from now on."""
        self._kept, self._seen, self._painted = made, None, look
        self._canvases.show_beside(scan, made.explanation, look, title_of(made.explanation))
        self.show(scan, made, look)

    def show(self, scan: Layer | None, made: Made | None, look: Look) -> None:
        """Compare the map in sight with the one that is kept, and paint both alike."""
        kept = self._kept
        if kept is None:
            return
        if scan is None or made is None or made.request.scan != kept.request.scan:
            self._seen = None
            self._dock.set_compared(f"Beside: {title_of(kept.explanation)}. {OTHER_SCAN}", ())
            return
        if self._seen is made and self._painted == look:
            return
        if self._painted != look:
            self._canvases.show_beside(scan, kept.explanation, look, title_of(kept.explanation))
        self._seen, self._painted = made, look
        facts = _facts(kept.explanation, made.explanation, look)
        self._dock.set_compared(f"Beside: {title_of(kept.explanation)}", facts)

    def only(self, scans: Collection[str]) -> None:
        """Close what is of a scan that is gone."""
        if self._kept is not None and self._kept.request.scan not in scans:
            self.close()

    def close(self) -> None:
        """Show one map alone."""
        if self._kept is not None:
            self._kept = self._seen = None
            self._canvases.hide_beside()
            self._dock.set_compared("", ())


def title_of(explanation: Explanation) -> str:
    """Name a map among others of its scan: method, layer, class and model."""
    against = f" against {explanation.against}" if explanation.against else ""
    named = (words.method(explanation), explanation.layer, explanation.target + against, explanation.classifier_name)
    return " · ".join(part for part in named if part)


def _facts(kept: Explanation, seen: Explanation, look: Look) -> tuple[tuple[str, str], ...]:
    try:
        found = compare(kept, seen, look.least(kept), look.least(seen))
    except GradCamError as error:
        return (("Compared", str(error)),)
    correlation, overlap = found.rank_correlation, found.overlap
    return (
        ("Rank correlation", "cannot be told" if correlation is None else f"{correlation:.2f} (Spearman)"),
        ("Overlap", "neither is hot" if overlap is None else f"{overlap:.2f} of what is painted (Dice)"),
    )

"""What lies under the cursor: the scan's own value, the heat and the place in the patient, in napari's status bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.affines import apply_affine

from napari_gradcam import words
from napari_gradcam.coordinates import in_system
from napari_gradcam.viewer.layers import EXPLANATION, METADATA
from napari_gradcam.viewer.planes import index_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_gradcam.coordinates import System
    from napari_gradcam.viewer.kept import Made

MARK = "\u2009"
"""A thin space at the end of what we wrote, by which it is known again."""

_UNITS = {"CT": " HU"}
"""What the values of a modality are measured in; those of the others have no unit that all share."""


def under_cursor(made: Made, index: np.ndarray[Any, Any], system: System, top: float) -> str:
    """Say what a scan and its heat map hold at a place.

    Parameters
    ----------
    made
        The map and the scan.
    index
        Place on the scan's native grid, ``(i, j, k)``; the nearest voxel is told of.
    system
        How positions are told.
    top
        The raw value at the top of the scale.

    Returns
    -------
    str
        Empty outside of the scan.
    """
    volume, explanation = made.volumes[0], made.explanation
    voxel = tuple(int(n) for n in np.rint(index))
    if not all(0 <= n < size for n, size in zip(voxel, volume.shape, strict=True)):
        return ""
    value, heat = float(volume.array[voxel]), float(explanation.heatmap[voxel])
    told = [f"scan {value:.5g}{_UNITS.get(volume.modality, '')}"]
    told.append(f"heat {words.number(heat)} ({100 * heat / top:.0f} % of the scale)")
    if volume.in_patient_space:
        i, j, k = voxel
        place = in_system(apply_affine(volume.affine, (i, j, k)), system)
        told.append(f"{system} " + ", ".join(f"{round(mm, 1) + 0.0:.1f}" for mm in place) + " mm")
    told.append("voxel " + " ".join(map(str, voxel)))
    return "   ".join(told)


class CursorReadout:
    """Adds to napari's status what lies under the cursor, as long as there is a map.

    Parameters
    ----------
    viewer
        Whose status it is.
    shown
        Gives the scan's layer, its map, and the raw value at the top of the scale; None where there is no map.
    system
        How positions are told.
    """

    def __init__(
        self, viewer: ViewerModel, shown: Callable[[], tuple[Layer, Made, float] | None], system: System
    ) -> None:
        self._viewer, self._shown, self._system = viewer, shown, system
        # Last, because napari's own window writes the status that it was told of: ours must come after that.
        viewer.events.status.connect(self._on_status, position="last")

    def close(self) -> None:
        """Let go of the viewer."""
        self._viewer.events.status.disconnect(self._on_status)

    def _on_status(self, event: Any = None) -> None:
        status, shown = self._viewer.status, self._shown()
        coordinates = status.get("coordinates", "") if isinstance(status, dict) else ""
        if shown is None or not coordinates or coordinates.endswith(MARK):
            return
        scan, made, top = shown
        if self._viewer.dims.ndisplay != 2 or not _is_of(self._viewer.layers.selection.active, scan, made):
            return  # in three dimensions no voxel is under the cursor; of another layer napari tells itself
        index = index_at(self._viewer, scan, np.array(self._viewer.cursor.position))
        told = under_cursor(made, index, self._system, top)
        if told:
            self._viewer.status = {**status, "coordinates": told + MARK}


def _is_of(layer: Layer | None, scan: Layer, made: Made) -> bool:
    """Whether a layer is a scan's or its map's, so that the scan's own values may stand beside its name."""
    if layer is None or layer is scan:
        return True
    kept = layer.metadata.get(METADATA)
    return isinstance(kept, dict) and kept.get(EXPLANATION) is made.explanation

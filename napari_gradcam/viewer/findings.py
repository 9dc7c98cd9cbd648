"""What was found, to be read place by place: hot spots, the slice profile, and the way to either in the viewer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_gradcam import words
from napari_gradcam.coordinates import coordinates
from napari_gradcam.hotspots import hot_spots
from napari_gradcam.profiles import hot_slices, scores_by_slice, slice_profile
from napari_gradcam.viewer.contract import Profile, SpotRow, at_once
from napari_gradcam.viewer.planes import go_to, index_in_sight, plane_in_sight, slicing_in_sight
from napari_gradcam.viewer.runs import counting_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_gradcam.coordinates import System
    from napari_gradcam.hotspots import HotSpot
    from napari_gradcam.viewer.contract import DockView, Jobs, Later
    from napari_gradcam.viewer.kept import Made
    from napari_gradcam.viewer.look import Look
    from napari_gradcam.viewer.planes import Slicing


class _Shown(NamedTuple):
    scan: Layer
    made: Made
    look: Look

    def same(self, other: _Shown) -> bool:
        """Whether another map has the same findings: it is the same, and the same of it is hot."""
        explanation = self.made.explanation
        return (
            self.scan is other.scan
            and explanation is other.made.explanation
            and self.look.least(explanation) == other.look.least(explanation)
        )

    def find(self) -> tuple[HotSpot, ...]:
        """Find its hot spots."""
        explanation = self.made.explanation
        return hot_spots(explanation, self.look.least(explanation))


class Findings:
    """Shows the findings of one map at a time in a dock, and moves the viewer to them.

    Parameters
    ----------
    viewer
        Where the scan's layer is.
    dock
        Where they are listed.
    system
        How positions are told, ``"RAS"`` or ``"LPS"``.
    later
        When they are counted: the map itself is on the screen before, and a slider is not held up.
    counting
        Counts them away from the event loop, the last of several alone; None counts them in the loop.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        dock: DockView,
        system: System = "RAS",
        later: Later = at_once,
        counting: Jobs | None = None,
    ) -> None:
        self._viewer, self._dock, self._system = viewer, dock, system
        self._later, self._counting = later, counting
        self._waiting = False
        self._shown: _Shown | None = None
        self._spots: tuple[HotSpot, ...] = ()
        self._slicing: Slicing | None = None
        self._hot = np.zeros(0, dtype=bool)

    def show(self, scan: Layer | None, made: Made | None, look: Look) -> None:
        """Show what is found in a map, painted in some way; nothing where there is none."""
        if scan is None or made is None:
            self._shown, self._spots, self._slicing, self._waiting = None, (), None, False
            self._dock.set_spots((), self._system)
            self._dock.set_profile(None)
            return
        shown, before, explanation = _Shown(scan, made, look), self._shown, made.explanation
        self._shown = shown
        if before is not None and before.same(shown):
            return
        self._waiting = True
        if before is None or before.made.explanation is not explanation:
            self._dock.set_spots(None, self._system)
        self._later(self._begin)

    def close(self) -> None:
        """Count no more."""
        if self._counting is not None:
            self._counting.drop()
        self._shown, self._waiting = None, False

    def _begin(self) -> None:
        """Begin to find the hot spots of what is shown, unless that was done."""
        if self._counting is None:
            self._count()
        elif self._waiting and self._shown is not None:
            shown = self._shown
            self._counting.start(counting_of(shown.find, partial(self._counted, shown)))

    def _count(self) -> None:
        """Find the hot spots of what is shown now, unless that was done: somebody waits for them."""
        if self._waiting and self._shown is not None:
            self._counted(self._shown, self._shown.find())

    def _counted(self, shown: _Shown, spots: tuple[HotSpot, ...]) -> None:
        """Take the hot spots of what is shown still."""
        if self._waiting and self._shown is not None and self._shown.same(shown):
            self._waiting, self._spots = False, spots
            self.turned()

    def turned(self, event: Any = None) -> None:
        """Count anew after the viewer was turned to another plane."""
        if self._waiting or self._shown is None or self._shown.scan not in self._viewer.layers:
            return
        scan, made, look = self._shown
        explanation = made.explanation
        self._slicing = slicing = slicing_in_sight(self._viewer, scan, explanation.heatmap.shape)
        self._dock.set_spots([self._row(spot) for spot in self._spots], self._system)
        if slicing is None:
            self._dock.set_profile(None)
            return
        scores = scores_by_slice(explanation, explanation.target) if explanation.slice_axis == slicing.axis else None
        self._hot = slicing.in_order(hot_slices(explanation, slicing.axis, look.least(explanation)))
        plane = plane_in_sight(self._viewer)
        profile = Profile(
            plane.value if plane is not None else "",
            slicing.in_order(slice_profile(explanation, slicing.axis)),
            self._hot,
            None if scores is None else slicing.in_order(scores),
            explanation.target,
        )
        self._dock.set_profile(profile)
        self.moved()

    def moved(self, event: Any = None) -> None:
        """Mark the slice in sight."""
        # A scan that is being removed takes its axes with it before anyone is told that it is gone.
        if self._shown is not None and self._slicing is not None and self._shown.scan in self._viewer.layers:
            self._dock.set_slice(self._number())

    def go_to_spot(self, row: int) -> None:
        """Move all three planes to the peak of a hot spot, by its row in the table."""
        self._count()
        if self._shown is not None and 0 <= row < len(self._spots):
            go_to(self._viewer, self._shown.scan, self._spots[row].peak.index)

    def go_to_slice(self, number: int) -> None:
        """Move to a slice of the plane in sight, from 0, and stay where the other two planes are."""
        self._count()
        if self._shown is None or self._slicing is None:
            return
        shape = self._shown.made.explanation.heatmap.shape
        here = np.rint(index_in_sight(self._viewer, self._shown.scan)).clip(0, np.array(shape) - 1).astype(int)
        here[self._slicing.axis] = self._slicing.number(number)  # the count from the other end is its own inverse
        i, j, k = (int(n) for n in here)
        go_to(self._viewer, self._shown.scan, (i, j, k))

    def go_to_hot(self, way: int) -> bool:
        """Move to the next slice with heat above the threshold, with `way` -1 to the one before; tell if there is."""
        self._count()
        if self._shown is None or self._slicing is None:
            return False
        number = self._number()
        hot = np.flatnonzero(self._hot)
        ahead = hot[hot > number] if way > 0 else hot[hot < number][::-1]
        if len(ahead) == 0:
            return False
        self.go_to_slice(int(ahead[0]))
        return True

    def save(self, path: Path) -> int:
        """Write the hot spots as CSV; give how many.

        Raises
        ------
        GradCamError
            If the file cannot be written.
        """
        self._count()
        # Not at the top: the room of exports brings matplotlib, which the dock can open without.
        from napari_gradcam.export.spots import write_spots

        if self._shown is not None:
            made = self._shown.made
            least = self._shown.look.least(made.explanation)
            write_spots(self._spots, made.explanation, made.volumes[0], path, least, self._system)
        return len(self._spots)

    def _number(self) -> int:
        assert self._shown is not None
        assert self._slicing is not None
        return self._slicing.number(float(index_in_sight(self._viewer, self._shown.scan)[self._slicing.axis]))

    def _row(self, spot: HotSpot) -> SpotRow:
        assert self._shown is not None
        explanation, volume = self._shown.made.explanation, self._shown.made.volumes[0]
        slicing, index = self._slicing, spot.peak.index
        instance = volume.instance(index)
        return SpotRow(
            str(spot.rank),
            words.number(spot.peak.value),
            f"{100 * spot.share:.0f} %" if spot.share >= 0.01 else "< 1 %",
            "" if spot.millilitres is None else _said(spot.millilitres),
            coordinates(spot.peak, explanation, self._system),
            "" if slicing is None else str(slicing.number(index[slicing.axis]) + 1),
            "" if instance is None else str(instance),
        )


def _said(millilitres: float) -> str:
    return f"{millilitres:.0f}" if millilitres >= 1000 else f"{millilitres:.3g}"

"""How results are written: what a person chose that is the same for all files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from napari_gradcam.coordinates import System
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes.orientation import Plane

Style = Literal["filled", "contour lines", "bands"]


class Slice(NamedTuple):
    """A slice of a plane, counted from 0 as the window's slider does: from the head, the front or the right on."""

    plane: Plane
    number: int


LEAST = 1e-3
"""The share of the scale's top that heat must have to be called hot, where the threshold is lower: not nothing."""


@dataclass(frozen=True)
class Manner:
    """How results are painted and told.

    Attributes
    ----------
    threshold
        Share of the scale's top below which nothing is painted, and from which on a place is a hot spot; 0 to below 1.
    opacity
        Of everything that is painted, above 0 and at most 1.
    colormap
        One of matplotlib's, for maps without a sign.
    top
        Raw value at the top of the scale; None scales each map by its own maximum.
    system
        The axes of positions in tables and reports.
    style
        How the viewer drew the map; files are painted filled.
    deidentified
        Leave out all that names the patient or could lead to them: names, numbers, dates, UIDs, folders.
    chosen
        The slice that is painted alone; None for the hottest one.

    Raises
    ------
    GradCamError
        If a number is out of range.
    """

    threshold: float = 0.4
    opacity: float = 0.5
    colormap: str = "inferno"
    top: float | None = None
    system: System = "RAS"
    style: Style = "filled"
    deidentified: bool = False
    chosen: Slice | None = None

    def __post_init__(self) -> None:
        """Refuse what would paint nothing, or everything alike."""
        if not 0 <= self.threshold < 1:
            raise GradCamError(
                f"The threshold {self.threshold} is no fraction of the maximum: give one of at least 0 and below 1."
            )
        if not 0 < self.opacity <= 1:
            raise GradCamError(f"The opacity {self.opacity} is out of range: give one above 0 and at most 1.")
        if self.top is not None and not self.top > 0:
            raise GradCamError(f"The scale's top {self.top} is out of range: give one above 0.")

    def maximum(self, explanation: Explanation) -> float:
        """Give the raw value at the top of the scale, always positive."""
        return self.top if self.top is not None else explanation.strongest or 1.0

    def least(self, explanation: Explanation) -> float:
        """Give the raw value from which on a place is hot, always positive; of a signed map on either side of 0."""
        return max(self.threshold, LEAST) * self.maximum(explanation)

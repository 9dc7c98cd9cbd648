"""How a heat map is shown: what the person chose, kept apart from the map itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from napari_gradcam.export.manner import LEAST, Manner

if TYPE_CHECKING:
    from napari_gradcam.coordinates import System
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Style as SavedStyle

COLORMAPS = ("inferno", "turbo", "viridis", "cividis", "magma")
"""On offer; turbo is familiar but not perceptually uniform, so it is not the first. cividis is made for readers who do
not tell red from green (Nuñez et al. 2018)."""

LAST_THRESHOLD = 0.95
"""The highest threshold as a share of the scale's top."""

_FAINTEST = 0.01
"""The opacity that pictures have at least: one without any heat would say that there is none."""


class Style(Enum):
    """How the heat is drawn; the value is what a person reads."""

    FILLED = "filled"
    CONTOURS = "contour lines"
    BANDS = "bands"


@dataclass(frozen=True)
class Look:
    """How heat maps are painted.

    Attributes
    ----------
    opacity
        0 to 1, the same wherever something is painted.
    threshold
        Share of the scale's top below which nothing is painted.
    colormap
        One of :data:`COLORMAPS`.
    fixed_top
        Raw value at the top of the scale; None scales each map by its own maximum, which makes the hottest spot of a
        map without a finding as bright as that of a map with one.
    style
        Continuous colours, or a labels layer of bands, filled or as lines.
    """

    opacity: float = 0.5
    threshold: float = 0.4
    colormap: str = COLORMAPS[0]
    fixed_top: float | None = None
    style: Style = Style.FILLED

    def manner(self, system: System = "RAS", *, deidentified: bool = False) -> Manner:
        """Give how results are painted that are to look as the map does."""
        opacity = max(self.opacity, _FAINTEST)
        style: SavedStyle = self.style.value
        return Manner(self.threshold, opacity, self.colormap, self.fixed_top, system, style, deidentified)

    @classmethod
    def of(cls, manner: Manner) -> Look:
        """Give the look of what was painted in a manner."""
        return cls(manner.opacity, manner.threshold, manner.colormap, manner.top, Style(manner.style))

    @property
    def in_bands(self) -> bool:
        """Whether the labels layer is shown rather than the continuous colours."""
        return self.style is not Style.FILLED

    def top(self, explanation: Explanation) -> float:
        """Give the raw value at the top of the scale, always positive."""
        if self.fixed_top is not None:
            return self.fixed_top
        return explanation.strongest or 1.0

    def least(self, explanation: Explanation) -> float:
        """Give the raw value from which on heat is painted, always positive; of a signed map on either side of 0."""
        return max(self.threshold, LEAST) * self.top(explanation)

    def limits(self, explanation: Explanation) -> tuple[float, float]:
        """Give the ends of the colours, napari's contrast limits: from the threshold, or on both sides of 0."""
        top = self.top(explanation)
        return (-top, top) if explanation.signed else (self.threshold * top, top)

    def paints(self, explanation: Explanation) -> bool:
        """Whether anything of the map is painted."""
        return explanation.strongest > 0 and explanation.strongest >= self.least(explanation)

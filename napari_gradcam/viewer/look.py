"""How a heat map is shown: what the person chose, kept apart from the map itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_gradcam.explanation import Explanation

COLORMAPS = ("inferno", "viridis", "turbo", "magma")
"""On offer; turbo is familiar but not perceptually uniform, so it is not the first."""

LAST_THRESHOLD = 0.95
"""The highest threshold as a share of the scale's top."""

BANDS = (0.4, 0.6, 0.8)
"""Lower edges of the bands as shares of the scale's top."""


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
    bands
        Whether bands are shown instead of a continuous map.
    """

    opacity: float = 0.5
    threshold: float = 0.4
    colormap: str = COLORMAPS[0]
    fixed_top: float | None = None
    bands: bool = False

    def top(self, explanation: Explanation) -> float:
        """Give the raw value at the top of the scale, always positive."""
        if self.fixed_top is not None:
            return self.fixed_top
        return 1.0 if explanation.is_empty else explanation.peak.value

    def limits(self, explanation: Explanation) -> tuple[float, float]:
        """Give the raw values where painting starts and where the scale ends: napari's contrast limits."""
        top = self.top(explanation)
        return self.threshold * top, top

    def paints(self, explanation: Explanation) -> bool:
        """Whether anything of the map is painted."""
        return explanation.peak.value > 0 and explanation.peak.value >= self.limits(explanation)[0]

"""The dock's controls of how heat maps are painted."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QHBoxLayout, QWidget
from superqt import QLabeledDoubleSlider
from superqt.utils import signals_blocked

from napari_gradcam.bands import BANDS
from napari_gradcam.viewer.look import COLORMAPS, LAST_THRESHOLD, Look, Style
from napari_gradcam.viewer.parts import RawSpinBox, side_by_side, text_label

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam.viewer.contract import Result


class DisplayForm(QWidget):
    """Opacity, threshold, colours, scale and style.

    Parameters
    ----------
    changed
        Called with the new look when the person changed something.
    """

    def __init__(self, changed: Callable[[Look], None], *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._changed = changed
        self._look = Look()
        self._top = 1.0
        self.opacity = _percent_slider(100, "How much the heat map covers the scan")
        self.threshold = _percent_slider(
            100 * LAST_THRESHOLD, "Heat below this share of the scale's top is not painted"
        )
        self.painted = text_label()
        self.colormap = QComboBox()
        self.colormap.addItems(COLORMAPS)
        self.fixed = QCheckBox("fixed, top at")
        self.fixed.setToolTip(
            "Off: each map is scaled by its own maximum, so the hottest spot is always bright, a finding or not.\n"
            "On: all maps share one scale, and weak maps stay weak."
        )
        self.top = RawSpinBox()
        self.top.setToolTip("Raw value at the top of the scale")
        self.style_box = QComboBox()
        for style in Style:
            self.style_box.addItem(style.value.capitalize(), style)
        self.style_box.setToolTip(
            "Contour lines and bands stand at 40, 60 and 80 % of the scale's top, in a labels layer;\n"
            "lines leave the anatomy in sight, and are drawn in planes alone"
        )
        self._lay_out()
        self.show_look(self._look)
        for signal in (
            self.opacity.valueChanged,
            self.threshold.valueChanged,
            self.colormap.currentTextChanged,
            self.fixed.toggled,
            self.top.valueChanged,
            self.style_box.currentIndexChanged,
        ):
            signal.connect(self._on_change)

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        scale = QHBoxLayout()
        scale.addWidget(self.fixed)
        scale.addWidget(self.top, 1)
        form.addRow("Threshold, %", self.threshold)
        form.addRow("Opacity, %", self.opacity)
        form.addRow("Painted", self.painted)
        form.addRow("Colours", side_by_side(self.colormap, self.style_box))
        form.addRow("Scale", scale)

    def show_look(self, look: Look) -> None:
        """Show how heat maps are painted, and send nothing."""
        self._look = look
        controls = (self.opacity, self.threshold, self.colormap, self.fixed, self.top, self.style_box)
        with ExitStack() as blocked:
            for control in controls:
                blocked.enter_context(signals_blocked(control))
            self.opacity.setValue(100 * look.opacity)
            self.threshold.setValue(100 * look.threshold)
            if self.colormap.findText(look.colormap) < 0:
                self.colormap.addItem(look.colormap)
            self.colormap.setCurrentText(look.colormap)
            self.fixed.setChecked(look.fixed_top is not None)
            self.top.setValue(look.fixed_top if look.fixed_top is not None else self._top)
            self.style_box.setCurrentIndex(self.style_box.findData(look.style))
        self.top.setEnabled(look.fixed_top is not None)

    def show_result(self, result: Result | None) -> None:
        """Say which raw values are painted, and offer this map's maximum as a fixed top."""
        if result is None:
            self.painted.setText("no heat map yet")
            return
        self._top = result.top
        with signals_blocked(self.top):
            self.top.setValue(self._look.fixed_top if self._look.fixed_top is not None else result.top)
        side = "± " if result.signed else ""
        if self._look.in_bands:
            edges = ", ".join(f"{edge * result.top:.3g}" for edge in BANDS)
            self.painted.setText(f"from raw {side}{edges}, whatever the threshold")
            return
        self.painted.setText(f"raw {side}{self._look.threshold * result.top:.3g} to {side}{result.top:.3g}")

    def _on_change(self, value: Any = None) -> None:
        fixed = self.fixed.isChecked()
        self._look = replace(
            self._look,
            opacity=self.opacity.value() / 100,
            threshold=self.threshold.value() / 100,
            colormap=self.colormap.currentText(),
            fixed_top=self.top.value() if fixed else None,
            style=self.style_box.currentData(),
        )
        self.top.setEnabled(fixed)
        self._changed(self._look)


def _percent_slider(last: float, tooltip: str) -> QLabeledDoubleSlider:
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, last)
    slider.setDecimals(0)
    slider.setSingleStep(1)
    slider.setToolTip(tooltip)
    return slider

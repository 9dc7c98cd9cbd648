"""Which grey values are shown black and white."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_gradcam.volumes import Volume
from napari_gradcam.volumes.volume import Window
from napari_gradcam.volumes.window import grey_limits


def volume(array: Any, window: Window | None = None) -> Volume:
    return Volume(array, np.eye(4), window=window)


def test_the_window_of_the_file_is_used() -> None:
    assert grey_limits(volume(np.zeros((2, 2, 2)), window=Window(40, 400))) == (-160, 240)


def test_without_a_window_a_stray_voxel_does_not_blacken_the_scan_and_a_small_finding_is_not_lost_in_white() -> None:
    array = np.tile(np.linspace(0, 100, 100, dtype=np.float32), (100, 100, 1))
    array[0, 0, 0], array[50:53, 50:53, 50:53] = 1e6, 120
    low, high = grey_limits(volume(array))
    assert low == pytest.approx(0, abs=1)
    assert 120 < high < 130


@pytest.mark.parametrize("value", [7, np.nan])
def test_a_scan_of_one_value_still_has_a_black_and_a_white(value: float) -> None:
    low, high = grey_limits(volume(np.full((2, 2, 2), value, dtype=np.float32)))
    assert low < high

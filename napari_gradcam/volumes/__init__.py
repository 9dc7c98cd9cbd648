"""Scans in patient space: reading DICOM and NIfTI, the display grid, and putting a map on a scan's grid.

Reading needs nibabel, or pydicom and its decoders: each comes with the first file that asks for it.
"""

from napari_gradcam.volumes.reading import find_scans, read_volume
from napari_gradcam.volumes.scan import Catalogue, Scan
from napari_gradcam.volumes.volume import Volume, Window

__all__ = ["Catalogue", "Scan", "Volume", "Window", "find_scans", "read_volume"]

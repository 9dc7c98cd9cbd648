"""``python -m napari_gradcam.cli``."""

from napari_gradcam.cli import main

main()

"""Models at the command line: by their path, or a sample's name."""

from __future__ import annotations

from pathlib import Path

from napari_gradcam.cli.console import listed
from napari_gradcam.errors import GradCamError


def place_of(model: str) -> Path:
    """Find a model by its path or, where there is none, by a sample's name."""
    from napari_gradcam.samples import CLASSIFIERS

    path = Path(model)
    if not path.exists() and model not in CLASSIFIERS:
        raise GradCamError(
            f"There is no model “{model}”; give the folder or zip of a MONAI bundle, or a sample: "
            f"{listed(CLASSIFIERS)}."
        )
    return path if path.exists() else CLASSIFIERS[model]

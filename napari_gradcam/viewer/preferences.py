"""What a person prefers, from napari's settings; the manifest's ``configurations`` say what there is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gradcam.coordinates import SYSTEMS
from napari_gradcam.viewer.kept import AUTOMATIC
from napari_gradcam.viewer.look import COLORMAPS, LAST_THRESHOLD, Look

if TYPE_CHECKING:
    from napari_gradcam.coordinates import System

PLUGIN = "napari-gradcam"

_MODEL_ENDINGS = (".zip", ".yaml", ".yml")
_MOST = 100


@dataclass(frozen=True)
class Preferences:
    """How the dock begins.

    Attributes
    ----------
    look
        How heat maps are painted at first.
    system
        How positions are told.
    device
        Where the network runs at first.
    models
        A folder whose models are listed, or None.
    """

    look: Look = field(default_factory=Look)
    system: System = "RAS"
    device: str = AUTOMATIC
    models: Path | None = None


def read_preferences() -> Preferences:
    """Read them from napari's settings; what is missing or makes no sense is as it was without."""
    from napari.settings import get_plugin_settings

    try:
        reading: Any = get_plugin_settings(PLUGIN).reading
    except (KeyError, AttributeError):  # the plugin is used without its manifest
        return Preferences()
    # The boxes of napari's settings give members of an Enum for a list of words.
    colormap, system = (str(getattr(value, "value", value)) for value in (reading.colormap, reading.coordinates))
    folder = Path(reading.models).expanduser() if reading.models else None
    return Preferences(
        Look(
            opacity=min(max(float(reading.opacity), 0.0), 1.0),
            threshold=min(max(float(reading.threshold), 0.0), LAST_THRESHOLD),
            colormap=colormap if colormap in COLORMAPS else COLORMAPS[0],
        ),
        next((one for one in SYSTEMS if one == system), SYSTEMS[0]),
        str(reading.device) or AUTOMATIC,
        folder if folder is not None and folder.is_dir() else None,
    )


def models_in(folder: Path) -> list[Path]:
    """List what may be models in a folder: bundles, zip files and recipes, by name; nothing is opened."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in entries if path.suffix.lower() in _MODEL_ENDINGS or (path / "configs").is_dir()][:_MOST]

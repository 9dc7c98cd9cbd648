"""What a bundle from elsewhere may name.

A bundle's configuration names Python classes to build. Only networks, transforms and inferers of MONAI and layers of
torch.nn are built, and of the transforms none that reads or writes files or calls a function it is given: data from a
stranger must not run code of the stranger's choosing.
"""

from __future__ import annotations

from importlib import import_module

from monai.inferers import Inferer
from monai.transforms import Transform
from torch import nn

from napari_gradcam.errors import GradCamError

_PACKAGES = ("monai.networks", "monai.transforms", "monai.inferers", "torch.nn")
_SHORT_NAME_HOMES = (
    "monai.networks.nets",
    "monai.transforms",
    "monai.inferers",
    "monai.networks.blocks",
    "monai.networks.layers",
    "torch.nn",
)
_REFUSED_STEMS = ("Lambda", "LoadImage", "SaveImage", "SaveClassification", "TorchVision", "TorchIO", "CuCIM")


def allowed_class(target: str, key: str) -> type:
    """Return the class that ``_target_`` names.

    Parameters
    ----------
    target
        A dotted path, or the bare name of a class of MONAI as its own bundles write it.
    key
        Where it stands in the configuration, for the error.

    Raises
    ------
    GradCamError
        If it is none of the classes a bundle may build.
    """
    found = _find(target)
    if (
        not isinstance(found, type)
        or not issubclass(found, nn.Module | Transform | Inferer)
        or not _inside(found.__module__)
        or found.__name__.removeprefix("Rand").startswith(_REFUSED_STEMS)
    ):
        raise GradCamError(
            f"The bundle asks at “{key}” for “{target}”, which is not a network, transform or inferer of MONAI that "
            "a bundle may build; use one of MONAI's own or open only bundles that do."
        )
    return found


def _find(target: str) -> object:
    module, _, name = target.rpartition(".")
    homes = [module] if module else list(_SHORT_NAME_HOMES)
    for home in homes:
        if not _inside(home):
            continue
        try:
            return getattr(import_module(home), name)
        except (ImportError, AttributeError):
            continue
    return None


def _inside(module: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in _PACKAGES)

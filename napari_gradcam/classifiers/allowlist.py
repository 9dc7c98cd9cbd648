"""What a bundle from elsewhere may name.

A bundle's configuration names Python classes to build. Only networks, transforms and inferers of MONAI and layers of
torch.nn are built, and of the transforms none that reads or writes files or calls a function it is given: data from a
stranger must not run code of the stranger's choosing.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

from monai.inferers import Inferer
from monai.transforms import Transform
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PACKAGES = ("monai.networks", "monai.transforms", "monai.inferers", "torch.nn")
"""Where what is named may be looked up."""

_HOMES = (
    *("monai.networks.nets", "monai.networks.blocks", "monai.networks.layers"),
    *("monai.transforms", "monai.inferers", "torch.nn.modules"),
)
"""Where it must come from: these packages import many other things."""

_SHORT_NAME_HOMES = (
    "monai.networks.nets",
    "monai.transforms",
    "monai.inferers",
    "monai.networks.blocks",
    "monai.networks.layers",
    "torch.nn",
)
_REFUSED_STEMS = (
    *("Lambda", "LoadImage", "SaveImage", "SaveClassification", "WriteFile"),
    *("TorchVision", "TorchIO", "CuCIM"),
)
"""Transforms that read or write files, or run a function by its name."""

_REFUSED = frozenset(
    (
        *(
            "CellSamWrapper",
            "TextEncoder",
            "Transchex",
            "MultiModal",
            "BertPreTrainedModel",
        ),  # read or download weights
        "PatchInferer",  # imports any module by its name
        *("SimulateDelay", "SimulateDelayd"),  # wait for as long as they are told
        # No classifiers, and their lists of paths grow by the power of their depth.
        *("DiNTS", "TopologyConstruction", "TopologyInstance", "TopologySearch"),
    )
)

_REPEATS = re.compile(r".*(?:depth|layers|blocks|units|stages|repeat).*|(?:.*_)?order|window_length", re.ASCII)
_MOST_REPEATS = 1000
"""Arguments that say how often something is built, and the most: what has no weights is not seen by a bound on
tensors. The deepest classifiers have 400 layers."""

_VISION_NETWORKS = ("TorchVisionFCModel",)
"""Networks of torchvision, which MONAI builds by name and without their weights."""

_NETWORK_FUNCTIONS = re.compile(r"(?:res|seres|senet|densenet|efficientnet|hrnet|vit)\w*", re.IGNORECASE)
"""Functions of ``monai.networks.nets`` that build a network, such as ``resnet18``."""

_NETS = "monai.networks.nets"

HARMLESS_IMPORTS = frozenset(
    (
        *("torch", "monai", "numpy", "math", "typing", "__future__", "collections", "functools", "itertools"),
        *("os", "glob", "pathlib", "json", "logging", "ignite", "datetime", "time", "random", "copy", "re"),
        *("sys", "warnings", "tempfile", "scipy", "sklearn", "skimage", "PIL", "nibabel", "torchvision", "pandas"),
    )
)
"""Modules that a bundle may mention in ``imports``. Nothing is imported for it: what these names would be used for are
the lists of files, the logs and the training loops of the bundle, which are not run; an expression that is needed and
uses them is refused."""

_LONGEST_IMPORT = 1000

_IMPORT = re.compile(r"(?:import ([\w.]+)(?: as \w+)?|from ([\w.]+) import (?:\*|[\w, ]+(?: as \w+)?))", re.ASCII)


def allowed_target(target: str) -> Callable[..., Any] | None:
    """Find what ``_target_`` names, if a bundle may build it; else None.

    Parameters
    ----------
    target
        A dotted path, or the bare name of a class of MONAI as its own bundles write it.
    """
    found = _find(target)
    if not isinstance(found, type | FunctionType):
        return None  # MONAI puts objects in the place of packages that are not here, which raise when they are asked
    home = str(getattr(found, "__module__", ""))
    name = str(getattr(found, "__name__", ""))
    if not _inside(home, _HOMES) or name in _REFUSED:
        return None
    if isinstance(found, type):
        if issubclass(found, LazyModuleMixin):
            return None  # it has no sizes before it runs
        if name.removeprefix("Rand").startswith(_REFUSED_STEMS) and name not in _VISION_NETWORKS:
            return None
        return found if issubclass(found, nn.Module | Transform | Inferer) else None
    is_network = home.startswith(_NETS + ".") and _NETWORK_FUNCTIONS.fullmatch(name)
    return found if is_network else None


def check_arguments(arguments: Mapping[str, Any], key: str) -> None:
    """Refuse arguments, of whatever stands at `key`, that take time without end.

    Raises
    ------
    GradCamError
        Naming the first.
    """
    if arguments.get("use_re"):
        raise GradCamError(
            f"The bundle's “{key}::use_re” asks to look for keys by a pattern, which can take for ever; name the keys."
        )
    for name, value in arguments.items():
        if _REPEATS.fullmatch(name):
            for number in value if isinstance(value, list | tuple) else (value,):
                if isinstance(number, int) and number > _MOST_REPEATS:
                    raise GradCamError(
                        f"The bundle's “{key}::{name}” is larger than {_MOST_REPEATS:,}, more than any network has; "
                        "this is no classifier."
                    )


def allowed_import(statement: str) -> bool:
    """Tell whether a statement of ``imports`` mentions a harmless module and does nothing else."""
    match = _IMPORT.fullmatch(statement.strip()) if len(statement) < _LONGEST_IMPORT else None
    return match is not None and (match[1] or match[2]).partition(".")[0] in HARMLESS_IMPORTS


@cache
def _find(target: str) -> object:
    module, _, name = target.rpartition(".")
    homes = [module] if module else list(_SHORT_NAME_HOMES)
    for home in homes:
        if not _inside(home, _PACKAGES):
            continue
        try:
            return getattr(import_module(home), name)
        except Exception:  # there is no such module or name, or it needs a package that is not here
            continue
    return None


def _inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)

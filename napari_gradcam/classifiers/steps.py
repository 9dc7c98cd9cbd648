"""The steps of a recipe's preprocessing, written as MONAI's dictionary transforms of the key ``image``."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

import monai.transforms

from napari_gradcam.classifiers.allowlist import allowed_target
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

IMAGE = "image"

_HOME = "monai.transforms"
_NOT_NEEDED = ("LoadImage", "EnsureChannelFirst")
_ENDINGS = ("d", "D", "Dict")


def step_nodes(steps: Any, label: str) -> list[dict[str, Any]]:
    """Write a list of steps as MONAI's configurations do.

    Parameters
    ----------
    steps
        ``[{"Resize": {"spatial_size": [96, 96, 96]}}, "ScaleIntensity"]``, by the names of array transforms or of
        dictionary ones.
    label
        How sentences call the recipe.

    Returns
    -------
    list of dict
        ``{"_target_": "Resized", "keys": "image", …}``, without loading and channels first, which each volume has
        behind it.

    Raises
    ------
    GradCamError
        If one is no transform of MONAI that a recipe may name, or its arguments are not the transform's.
    """
    if steps is None:
        return []
    if not isinstance(steps, list):
        raise GradCamError(f"{label} gives “preprocessing” as no list: write one step a line, each after a hyphen.")
    named = [_named(entry, number, label) for number, entry in enumerate(steps, start=1)]
    return [
        _node(name, arguments, f"{label} has as step {number} of “preprocessing” “{printable(name)}”")
        for number, (name, arguments) in enumerate(named, start=1)
        if _array_name(name) not in _NOT_NEEDED
    ]


def _named(entry: Any, number: int, label: str) -> tuple[str, dict[str, Any]]:
    """Read a step's name and arguments, in any of the ways people write them."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, dict):
        if isinstance(entry.get("_target_"), str):
            rest = {key: value for key, value in entry.items() if key != "_target_"}
            return entry["_target_"], rest
        if len(entry) == 1:
            name, arguments = next(iter(entry.items()))
            if isinstance(name, str) and (arguments is None or isinstance(arguments, dict)):
                return name, dict(arguments or {})
    raise GradCamError(
        f"{label} has a step {number} of “preprocessing” that is no transform: write a name and its arguments, such as "
        "“- Resize: {spatial_size: [96, 96, 96]}”."
    )


def _array_name(name: str) -> str:
    """Give the name of the array transform of a dictionary transform, and of an array transform its own."""
    name = name.rpartition(".")[2]
    if hasattr(monai.transforms, name + "d"):
        return name  # such as CropForeground, which ends in a d of its own
    stems = (name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending))
    return next((stem for stem in stems if hasattr(monai.transforms, stem + "d")), name)


def _node(name: str, arguments: dict[str, Any], said: str) -> dict[str, Any]:
    stem = _array_name(name)
    target = f"{stem}d"
    found = allowed_target(f"{_HOME}.{target}")
    if found is None:
        if allowed_target(f"{_HOME}.{stem}") is not None or hasattr(monai.transforms, target):
            raise GradCamError(f"{said}, which a recipe cannot run; use another transform of MONAI.")
        close = difflib.get_close_matches(stem, _known(), 2)
        hint = f"did you mean {' or '.join(close)}?" if close else "use one of monai.transforms."
        raise GradCamError(f"{said}, which is no transform of MONAI: {hint}")
    if stem.startswith("Rand"):
        raise GradCamError(f"{said}, which changes the image at random; leave it out, it is for training.")
    takes = inspect.signature(found).parameters
    keys = arguments.pop("keys", IMAGE)
    if keys not in (IMAGE, [IMAGE]):
        raise GradCamError(
            f"{said} with the keys {printable(str(keys))}; a recipe has “{IMAGE}” alone, leave them out."
        )
    if "source_key" in takes:
        arguments.setdefault("source_key", IMAGE)
    for argument in arguments:
        if argument not in takes:
            own = [one for one in takes if one not in ("keys", "allow_missing_keys")]
            close = difflib.get_close_matches(str(argument), own, 1)
            hint = f"did you mean “{close[0]}”?" if close else f"it takes {', '.join(own)}."
            raise GradCamError(f"{said} with the unknown argument “{printable(str(argument))}”: {hint}")
    missing = [
        one
        for one, parameter in takes.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and one not in ("keys", *arguments)
    ]
    if missing:
        raise GradCamError(f"{said} without its “{missing[0]}”; add it.")
    return {"_target_": target, "keys": IMAGE, **arguments}


def _known() -> list[str]:
    """List the array transforms that have a dictionary one."""
    names = dir(monai.transforms)
    return [name for name in names if f"{name}d" in names and not name.startswith("Rand")]

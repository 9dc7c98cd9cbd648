"""A recipe: a short YAML file beside the weights, for a group that has a network's name and a checkpoint.

It becomes the two configurations of a MONAI bundle, so that a recipe and the bundle made of it go through one and the
same loader::

    network: DenseNet121            # or {name: EfficientNetBN, model_name: efficientnet-b0}
    weights: best.ckpt              # beside this file
    dimensions: 3
    channels: [T1, T2]              # or how many there are
    classes: [healthy, lesion]
    activation: softmax             # or sigmoid
    size: [96, 96, 96]              # what the network reads
    preprocessing:                  # MONAI's transforms in order; loading is not needed
      - Orientation: {axcodes: RAS}
      - Resize: {spatial_size: [96, 96, 96]}
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from os.path import isfile  # of pathlib's, some raise where a name is too long
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gradcam.classifiers.architectures import architecture
from napari_gradcam.classifiers.classifier import Aggregation, Plane
from napari_gradcam.classifiers.fields import Fields, described, leaves, read_yaml
from napari_gradcam.classifiers.refusing import shortened
from napari_gradcam.classifiers.scores import Activation
from napari_gradcam.classifiers.steps import IMAGE, step_nodes
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from os import PathLike

NEEDED = ("network", "weights", "classes", "size")
KEYS = (
    *("network", "weights", "dimensions", "channels", "classes", "outputs", "activation", "size", "preprocessing"),
    *("window", "modality", "value_range", "plane", "aggregation", "positive_class", "top", "target_layer"),
    *("rows_first", "name", "version", "description", "authors", "intended_use", "licence"),
)
"""What a recipe may say."""

_WINDOW = ("size", "overlap", "mode", "sigma", "padding", "fill")


@dataclass(frozen=True)
class Recipe:
    """A recipe as the parts of a MONAI bundle.

    Attributes
    ----------
    metadata, inference
        What would stand in ``configs/metadata.json`` and ``configs/inference.json``.
    weights
        The file of weights, which is there.
    """

    metadata: dict[str, Any]
    inference: dict[str, Any]
    weights: Path


@dataclass(frozen=True)
class _Shape:
    """What goes in and out of the network."""

    channels: int
    channel_names: tuple[str, ...]
    size: tuple[int, ...]
    classes: tuple[str, ...]
    outputs: int


def read_recipe(path: str | PathLike[str]) -> Recipe:
    """Read a recipe; nothing is built and no weights are read.

    Parameters
    ----------
    path
        The YAML file.

    Raises
    ------
    GradCamError
        If there is no such file, it says something that is not understood, or the weights it names are not there.
    """
    path = Path(path)
    label = f"The recipe {printable(path.name)}"
    given = Fields(read_yaml(path), label, KEYS, NEEDED)
    shape = _shape(given)
    return Recipe(_metadata(given, shape, path.stem), _inference(given, shape), _weights(given, path.parent))


def _shape(given: Fields) -> _Shape:
    size = given.raw("size")
    if "dimensions" not in given and not isinstance(size, list):
        raise GradCamError(f"{given.label} has no “dimensions”; add it, 2 or 3, or give a size along each axis.")
    dims = given.count("dimensions", len(size) if isinstance(size, list) else 0)
    if dims not in (2, 3):
        raise given.wrong("dimensions" if "dimensions" in given else "size", "2 or 3 dimensions")
    named = given.names("channels") if isinstance(given.raw("channels"), list) else ()
    classes = given.names("classes")
    outputs = given.count("outputs", len(classes))
    if outputs != len(classes) and (outputs, len(classes)) != (1, 2):
        raise given.wrong("outputs", f"{len(classes)}, as many as there are classes, or 1 for one score of two classes")
    channels = len(named) or given.count("channels", 1)
    return _Shape(channels, named, tuple(given.sizes("size", dims)), classes, outputs)


def _weights(given: Fields, folder: Path) -> Path:
    name = given.text("weights")
    if name.startswith(("//", "\\\\", "/\\", "\\/")):
        # Windows asks that server for the file, with the person's name and a proof of the password.
        raise GradCamError(
            f"{given.label} names the weights “{printable(name)}”, which are on another computer; copy them beside the "
            "recipe."
        )
    weights = folder / name
    if not isfile(weights):
        raise GradCamError(
            f"{given.label} names the weights “{printable(name)}”, which are not there; give the file's place as seen "
            "from the recipe."
        )
    return weights


# inference.json


def _inference(given: Fields, shape: _Shape) -> dict[str, Any]:
    activation = given.choice("activation", Activation)
    if activation == "softmax" and shape.outputs == 1:
        raise given.wrong("activation", "sigmoid: a softmax of one score is always 1")
    # Pictures come with their columns first in MONAI; a network that was trained otherwise needs them as they are.
    rows = {"reader": "PILReader", "reverse_indexing": False} if given.flag("rows_first") else {}
    transforms = [
        {"_target_": "LoadImaged", "keys": IMAGE, **rows},
        {"_target_": "EnsureChannelFirstd", "keys": IMAGE},
        *step_nodes(given.raw("preprocessing"), given.label),
    ]
    inference = {
        "network_def": _network(given, shape),
        "preprocessing": {"_target_": "Compose", "transforms": transforms},
        "inferer": _inferer(given, len(shape.size)),
    }
    if activation:
        step = {"_target_": "Activationsd", "keys": "pred", activation: True}
        inference["postprocessing"] = {"_target_": "Compose", "transforms": [step]}
    _check_plain(inference, given.label)
    return inference


def _check_plain(inference: dict[str, Any], label: str) -> None:
    """Refuse expressions, which MONAI would compute, and what cannot be written as JSON."""
    for value in leaves(inference):
        keys = list(value) if isinstance(value, dict) else []
        expression = isinstance(value, str) and value.startswith(("$", "@", "%"))
        plain = value is None or isinstance(value, bool | int | float | str | list | dict)
        if expression or not plain or not all(isinstance(key, str) for key in keys):
            raise GradCamError(
                f"{label} holds “{printable(str(value))[:80]}”, and its network and preprocessing take numbers, words "
                "and lists alone: write the value itself."
            )


def _network(given: Fields, shape: _Shape) -> dict[str, Any]:
    network = given.raw("network")
    options = {}
    if isinstance(network, dict):
        options = {str(key): value for key, value in network.items() if key != "name"}
        network = network.get("name")
    if not isinstance(network, str):
        raise given.wrong("network", "a network's name, or {name: EfficientNetBN, model_name: efficientnet-b0}")
    try:
        return architecture(network, len(shape.size), shape.channels, shape.outputs, shape.size, options)
    except GradCamError as error:
        told = str(error)
        raise GradCamError(f"{given.label} cannot be followed: {told[0].lower()}{told[1:]}") from error


def _inferer(given: Fields, dims: int) -> dict[str, Any]:
    if "window" not in given:
        return {"_target_": "SimpleInferer"}
    window = Fields(given.raw("window"), f"{given.label} at “window”", _WINDOW)
    overlap = window.number("overlap", 0.25)
    if not 0 <= overlap < 1:
        raise window.wrong("overlap", "the share of a window that the next one covers too, from 0 to below 1")
    return {
        "_target_": "SlidingWindowInferer",
        "roi_size": (window if "size" in window else given).sizes("size", dims),
        "overlap": overlap,
        "mode": window.choice("mode", ("constant", "gaussian")) or "constant",
        "sigma_scale": window.number("sigma", 0.125),
        "padding_mode": window.choice("padding", ("constant", "reflect", "replicate", "circular")) or "constant",
        "cval": window.number("fill", 0.0),
    }


# metadata.json


def _metadata(given: Fields, shape: _Shape, stem: str) -> dict[str, Any]:
    number = given.text("version", "0.1.0")
    authors, licence = given.text("authors"), given.text("licence")
    listed = ", ".join(shape.classes)
    return {
        "version": number,
        "changelog": {number: "made from a recipe by napari-gradcam"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"nibabel": version("nibabel")},
        "name": given.text("name", printable(stem)),
        "task": f"classification: {listed}",
        "description": given.text("description", f"A classifier of {listed}."),
        "authors": authors,
        "copyright": f"Copyright (c) {authors}" if authors else "",
        **described({"intended_use": given.text("intended_use"), "license": licence}),
        "network_data_format": {"inputs": {IMAGE: _input(given, shape)}, "outputs": {"pred": _output(shape)}},
        **_explanation(given, shape),
    }


def _input(given: Fields, shape: _Shape) -> dict[str, Any]:
    return {
        "type": "image",
        "format": "magnitude",
        **described({"modality": given.text("modality")}),
        "num_channels": shape.channels,
        "spatial_shape": list(shape.size),
        "dtype": "float32",
        **described({"value_range": given.limits("value_range")}),
        "is_patch_data": "window" in given,
        "channel_def": {str(number): name for number, name in enumerate(shape.channel_names)},
    }


def _output(shape: _Shape) -> dict[str, Any]:
    return {
        "type": "probabilities",
        "format": "classes",
        "num_channels": shape.outputs,
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {str(number): name for number, name in enumerate(shape.classes)},
    }


def _explanation(given: Fields, shape: _Shape) -> dict[str, Any]:
    """Write our own block: how a 2D classifier reads a volume, and where the map is taken."""
    one = len(shape.classes) == 1
    classes = (f"no {shape.classes[0]}", shape.classes[0]) if one else shape.classes
    if "positive_class" in given and given.text("positive_class") not in classes:
        raise given.wrong("positive_class", f"one of the classes: {shortened(', '.join(classes))}")
    said = described(
        {
            "plane": given.choice("plane", Plane),
            "aggregation": given.choice("aggregation", Aggregation),
            "positive_class": given.text("positive_class"),
            "top": given.count("top", 1) if "top" in given else None,
            "target_layer": given.text("target_layer"),
            "rows_first": given.flag("rows_first"),
        }
    )
    return {"explanation": said} if said else {}

"""A MONAI bundle, folder or zip, to a Classifier.

Layout (MONAI Bundle specification): ``configs/metadata.json``, ``configs/inference.json`` or ``.yaml``,
``models/model.pt``. A zip is read in place and never unpacked, so none of its paths can reach outside.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import torch
import yaml
from monai.inferers import SimpleInferer
from monai.transforms import EnsureChannelFirst, EnsureChannelFirstd
from torch import nn

from napari_gradcam.classifiers.allowlist import allowed_class
from napari_gradcam.classifiers.classifier import Classifier
from napari_gradcam.classifiers.config import Config
from napari_gradcam.classifiers.metadata import Metadata
from napari_gradcam.classifiers.preprocessing import compose
from napari_gradcam.classifiers.scores import Activation, Head
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from os import PathLike

_WEIGHTS = "models/model.pt"
_INFERENCE = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
_LOADERS = ("LoadImage", "SaveImage")
_LARGEST_FILE = 8 * 2**30
"""Bytes of one unpacked file of a zip; a larger one is a bomb rather than a classifier."""


def load_classifier(path: str | PathLike[str]) -> Classifier:
    """Read a MONAI bundle from disk; no code from it runs.

    Parameters
    ----------
    path
        The bundle's folder, or a zip of it.

    Raises
    ------
    GradCamError
        If it is no bundle, names what a bundle may not name, has no weights, or weights that do not fit its network.
    """
    path = Path(path)
    root = _root(path)
    metadata = Metadata(
        _read_mapping(root / "configs" / "metadata.json", path) if _has(root, "configs/metadata.json") else {}
    )
    config = _inference_config(root, path)
    network = config.build("network_def" if "network_def" in config else "network")
    if not isinstance(network, nn.Module):
        raise GradCamError(
            f"The bundle {path.name} gives no network at “network_def”; correct its inference configuration."
        )
    _load_weights(network, root, path)
    network.eval().requires_grad_(False)
    _check_inferer(config, path)
    activation = _activation(config)
    spatial_dims = metadata.spatial_dims or _spatial_dims(network, path)
    class_names = metadata.class_names or _numbered(network, metadata.input_shape(spatial_dims))
    notices = metadata.notices
    if activation is None:
        # A sigmoid for one logit, which decides between two classes; otherwise classes are taken to exclude one
        # another.
        activation = "sigmoid" if metadata.outputs == 1 else "softmax"
        notices += (f"The bundle names no activation: {activation} was assumed for the probabilities.",)
    return Classifier(
        network=network,
        preprocess=_preprocessing(config),
        class_names=class_names,
        head=Head(len(class_names), activation),
        spatial_dims=spatial_dims,
        input_shape=metadata.input_shape(spatial_dims),
        name=metadata.name or path.stem,
        version=metadata.version,
        description=metadata.description,
        slice_rule=metadata.slice_rule(class_names),
        declared_layer=metadata.target_layer,
        notices=notices,
    )


def _root(path: Path) -> Path | zipfile.Path:
    if not path.exists():
        raise GradCamError(f"There is no model at {path}; give the folder or zip of a MONAI bundle.")
    root: Path | zipfile.Path = path
    if path.is_file():
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError):
            raise GradCamError(
                f"{path.name} is neither a folder nor a readable zip; give the folder or zip of a MONAI bundle."
            ) from None
        root = zipfile.Path(archive)
    if not _has(root, "configs"):
        inner = [folder for folder in root.iterdir() if folder.is_dir() and _has(folder, "configs")]
        if len(inner) != 1:
            raise GradCamError(
                f"{path.name} is not a MONAI bundle: it has no folder “configs”; give the folder that holds configs "
                f"and models."
            )
        root = inner[0]
    return root


def _has(root: Path | zipfile.Path, name: str) -> bool:
    return root.joinpath(name).exists() or root.joinpath(name + "/").exists()


def _read_bytes(file: Path | zipfile.Path, path: Path) -> bytes:
    if isinstance(file, zipfile.Path):
        size = file.root.getinfo(file.at).file_size
        if size > _LARGEST_FILE:
            raise GradCamError(
                f"{file.name} in {path.name} claims to unpack to {size / 2**30:.0f} GiB; this is no classifier."
            )
    try:
        return file.read_bytes()
    except (OSError, zipfile.BadZipFile) as error:
        raise GradCamError(f"{file.name} of the bundle {path.name} cannot be read: {error}.") from error


def _read_mapping(file: Path | zipfile.Path, path: Path) -> dict[str, Any]:
    try:
        text = _read_bytes(file, path).decode("utf-8")
        content = json.loads(text) if file.name.endswith(".json") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise GradCamError(f"{file.name} of the bundle {path.name} cannot be understood: {reason}.") from error
    if not isinstance(content, dict):
        raise GradCamError(
            f"{file.name} of the bundle {path.name} holds no keys; give a bundle with a proper {file.name}."
        )
    return content


def _inference_config(root: Path | zipfile.Path, path: Path) -> Config:
    for name in _INFERENCE:
        if _has(root, name):
            return Config(_read_mapping(root.joinpath(name), path))
    raise GradCamError(
        f"The bundle {path.name} has no configs/inference.json or .yaml, which says what to run; add it."
    )


def _load_weights(network: nn.Module, root: Path | zipfile.Path, path: Path) -> None:
    if not _has(root, _WEIGHTS):
        script = " (its model.ts is TorchScript, which cannot be looked into)" if _has(root, "models/model.ts") else ""
        raise GradCamError(
            f"The bundle {path.name} has no weights: {_WEIGHTS} is missing{script}; add the state dict there."
        )
    content = io.BytesIO(_read_bytes(root.joinpath(_WEIGHTS), path))
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise GradCamError(
            f"{_WEIGHTS} of the bundle {path.name} holds more than weights or is damaged, and was not opened; save "
            "the network's state_dict() alone."
        ) from error
    if isinstance(state, dict):
        state = next((state[key] for key in ("state_dict", "model") if isinstance(state.get(key), dict)), state)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise GradCamError(
            f"{_WEIGHTS} of the bundle {path.name} holds no state dict; save the network's state_dict()."
        )
    _check_fit(network.state_dict(), state, path)
    network.load_state_dict(state)


def _check_fit(wanted: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> None:
    missing = [name for name in wanted if name not in given]
    extra = [name for name in given if name not in wanted]
    other = [name for name in wanted if name in given and wanted[name].shape != given[name].shape]
    if not (missing or extra or other):
        return
    details = []
    if missing:
        details.append(f"{len(missing)} missing (first {missing[0]})")
    if extra:
        details.append(f"{len(extra)} unknown (first {extra[0]})")
    if other:
        first = other[0]
        details.append(
            f"{len(other)} of another size (first {first}: {list(given[first].shape)}, not {list(wanted[first].shape)})"
        )
    raise GradCamError(
        f"The weights of the bundle {path.name} do not fit its network: {', '.join(details)}; give the weights of "
        "this very network, or correct network_def."
    )


def _check_inferer(config: Config, path: Path) -> None:
    if "inferer" not in config:
        return
    node = config.raw("inferer")
    target = node.get("_target_") if isinstance(node, dict) else None
    if not isinstance(target, str) or not issubclass(allowed_class(target, "inferer::_target_"), SimpleInferer):
        raise GradCamError(
            f"The bundle {path.name} runs its network by “{target}”; only SimpleInferer, the whole input at once, "
            f"can be explained."
        )


def _activation(config: Config) -> Activation | None:
    """Read the activation from the postprocessing, where ``Activationsd`` names it."""
    for node in _nodes(config, "postprocessing"):
        if str(node.get("_target_", "")).rpartition(".")[2].startswith("Activations"):
            for activation in get_args(Activation):
                if node.get(activation) in (True, [True]):
                    return cast("Activation", activation)
    return None


def _preprocessing(config: Config) -> Callable[[Any], Any]:
    """Build the chain that runs on a volume already in memory: without loading, channel-first, and label keys."""
    transforms = []
    image_key = "image"
    for number, node in enumerate(_nodes(config, "preprocessing")):
        place = f"preprocessing::transforms::{number}"
        stem = str(node.get("_target_", "")).rpartition(".")[2]
        keys = config.build_node(node["keys"], f"{place}::keys") if "keys" in node else None
        if keys is not None:
            keys = [keys] if isinstance(keys, str) else list(keys)
            if number == 0 and image_key not in keys:
                image_key = keys[0]
            if image_key not in keys:
                continue
            node = {**node, "keys": [image_key]}
        if stem.startswith(_LOADERS):
            continue
        transform = config.build_node(node, place)
        if transform is not None and not isinstance(transform, EnsureChannelFirst | EnsureChannelFirstd):
            transforms.append(transform)
    return compose(transforms, image_key)


def _nodes(config: Config, key: str) -> Iterator[dict[str, Any]]:
    """Yield each transform's entry of a ``Compose`` or plain list."""
    if key not in config:
        return
    node = config.raw(key)
    entries = config.follow(node.get("transforms", [])) if isinstance(node, dict) else node
    for entry in entries if isinstance(entries, list) else []:
        followed = config.follow(entry)
        if not isinstance(followed, dict) or not isinstance(followed.get("_target_"), str):
            raise GradCamError(f"The bundle lists at “{key}” something that is no transform ({entry!r}); correct it.")
        yield followed


def _spatial_dims(network: nn.Module, path: Path) -> int:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            return 2 if isinstance(module, nn.Conv2d) else 3
    raise GradCamError(
        f"The network of the bundle {path.name} has no 2D or 3D convolution; give a convolutional classifier."
    )


def _numbered(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Give numbers as names where the metadata does not name them, counted by a run on zeros."""
    from napari_gradcam.cam import output_scores

    with torch.inference_mode():
        count = output_scores(network(torch.zeros(1, *input_shape))).shape[1]
    return tuple(f"class {n}" for n in range(max(count, 2)))

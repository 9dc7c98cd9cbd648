"""A MONAI bundle or a recipe to a Classifier.

Layout (MONAI Bundle specification): ``configs/metadata.json``, ``configs/inference.json`` or ``.yaml``,
``models/model.pt``. No code from a bundle runs unless a person trusts it.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from monai.transforms import EnsureChannelFirst, EnsureChannelFirstd
from torch import nn

from napari_gradcam.classifiers.bounds import Bounded, TooLargeError
from napari_gradcam.classifiers.classifier import Classifier, Wants
from napari_gradcam.classifiers.config import Config
from napari_gradcam.classifiers.files import BundleFiles
from napari_gradcam.classifiers.metadata import Metadata, lines_of
from napari_gradcam.classifiers.plan import Plan, findings, plan
from napari_gradcam.classifiers.preprocessing import compose
from napari_gradcam.classifiers.refusing import RefusedError, shortened
from napari_gradcam.classifiers.scores import Head
from napari_gradcam.classifiers.sliding import windows_of
from napari_gradcam.classifiers.trust import Finding, Inspection, UntrustedError, is_trusted, remember
from napari_gradcam.classifiers.trusted import TrustedConfig, scripts_of
from napari_gradcam.classifiers.weights import UnsafeWeightsError, load_state, read_state
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from os import PathLike

    from torch import Tensor

    from napari_gradcam.classifiers.config import Reader

INFERENCE = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
METADATA = "configs/metadata.json"
WEIGHTS = ("models/model.pt", "models/model.safetensors", "models/model.pth", "models/model.ckpt")
RECIPES = (".yaml", ".yml")
LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "docs/LICENSE", "LICENCE")

_WEIGHT_ENDINGS = (".pt", ".pth", ".ckpt", ".safetensors")
_MOST_LICENCE = 1 << 17

_TIMES, _SPARE = 8, 1 << 28
"""A network may be built of so many times the bytes of its weights, and so many bytes more."""


_COMPILED = (".pyc", ".so", ".pyd")
"""Modules that Python prefers to a text of the same name."""


def load_classifier(path: str | PathLike[str], *, trust: bool | str = False) -> Classifier:
    """Read a classifier from disk; no code from it runs.

    Parameters
    ----------
    path
        A MONAI bundle's folder or a zip of it, or a recipe: a short YAML file that names an architecture, a file of
        weights and the preprocessing (:mod:`napari_gradcam.classifiers.recipe`).
    trust
        Let the bundle run the code it asks for, and remember these very contents: they open without asking from then
        on, until a byte of them changes. A text is the SHA-256 of the contents that were looked at, as
        :func:`inspect_bundle` gives it: no others run.

    Raises
    ------
    UntrustedError
        If it asks for something that would run code from it, and is not trusted, or is not what was looked at.
    GradCamError
        If it is no bundle, has no weights, weights that do not fit its network, or sizes that no memory holds.
    """
    path = Path(path)
    with bounds_told(path):
        return _from_recipe(path) if is_recipe(path) else open_bundle(BundleFiles(path), trust)


def inspect_bundle(path: str | PathLike[str]) -> Inspection:
    """List what a bundle asks for that would run code from it; nothing is built.

    Parameters
    ----------
    path
        As for :func:`load_classifier`; a recipe can ask for nothing.

    Raises
    ------
    GradCamError
        If it is no bundle.
    """
    path = Path(path)
    with bounds_told(path):
        return Inspection("", (), False) if is_recipe(path) else inspect_files(BundleFiles(path))


def contents_digest(path: str | PathLike[str]) -> str:
    """Give the SHA-256 of all that a model on disk is made of, in hexadecimal; nothing is built.

    Parameters
    ----------
    path
        As for :func:`load_classifier`. Of a recipe, itself and the weights that it names.

    Raises
    ------
    GradCamError
        If it is no model, or a file of it cannot be read.
    """
    path = Path(path)
    if not is_recipe(path):
        return BundleFiles(path).digest()
    from napari_gradcam.classifiers.recipe import read_recipe

    whole = hashlib.sha256()
    try:
        for file in (path, read_recipe(path).weights):
            with file.open("rb") as opened:
                whole.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise GradCamError(f"{printable(error.filename or path.name)} cannot be read any more: put it back.") from error
    return whole.hexdigest()


def is_recipe(path: Path) -> bool:
    """Whether a path is a recipe's rather than a bundle's."""
    return path.is_file() and path.suffix.lower() in RECIPES


@contextmanager
def bounds_told(path: Path) -> Iterator[None]:
    """Say in a sentence that what stands at `path` asks for more than there is; the place is in it where it is known.

    Raises
    ------
    GradCamError
        Instead of what Python raises.
    """
    try:
        yield
    except MemoryError as error:
        raise GradCamError(
            f"The model {printable(path.name)} asks for more memory than there is "
            f"({str(error) or 'it was used up'}); this is no classifier that can be opened here."
        ) from error
    except RecursionError as error:
        raise GradCamError(f"The configuration of {printable(path.name)} is nested too deeply; correct it.") from error


def inspect_files(files: BundleFiles) -> Inspection:
    """List what a bundle would run, with the digest in any case."""
    inspected, _ = _inspect(files)
    return inspected if inspected.digest else inspected._replace(digest=files.digest())


def open_bundle(files: BundleFiles, trust: bool | str = False) -> Classifier:
    """Open a bundle safely, or let it run code if it is trusted."""
    place = files.path
    inspected, weights = _inspect(files)
    if inspected.findings and _may_run(inspected, trust):
        # Somebody may write to its folder meanwhile, but not to the copy: what was hashed is what runs.
        files = files.copied(_private_folder())
        inspected, weights = _inspect(files)
    if not inspected.findings:
        return _from_bundle(files, _safe_config(files), weights, place)
    if not _may_run(inspected, trust):
        raise UntrustedError(files.label, inspected.findings, inspected.digest)
    root = files.path
    with scripts_of(root):
        weights = weights or _state(files, _weights(files), trusted=True)
        classifier = _from_bundle(files, TrustedConfig(files.mapping(_inference(files)), root), weights, place)
    remember(inspected.digest, files.label)
    return classifier


def _may_run(inspected: Inspection, trust: bool | str) -> bool:
    return inspected.digest == trust.lower() if isinstance(trust, str) and trust else bool(trust) or inspected.trusted


class Source(NamedTuple):
    """What a classifier is made of."""

    label: str
    """How sentences call it."""
    config: Reader
    metadata: Metadata
    weights: Mapping[str, Tensor]
    weights_label: str
    licence: str = ""
    place: Path | None = None
    """Where a person has it."""


def assemble(source: Source) -> Classifier:
    """Build the network, load its weights, and read how it is used."""
    what = plan(source.config, source.label)
    # A network is built from tensors that its weights then replace: it takes two or three times their bytes.
    stored = sum(tensor.numel() * tensor.element_size() for tensor in source.weights.values())
    with Bounded(_TIMES * stored + _SPARE):
        network = source.config.build_node(what.network.node, what.network.key)
    if not isinstance(network, nn.Module):
        raise GradCamError(
            f"The bundle {source.label} gives no network at “{what.network.key}”; correct its configuration."
        )
    notices = load_state(network, source.weights, source.weights_label)
    network.eval().requires_grad_(False)
    return _classifier(source, what, network, notices)


def _classifier(source: Source, what: Plan, network: nn.Module, notices: tuple[str, ...]) -> Classifier:
    metadata = source.metadata
    spatial_dims = metadata.spatial_dims or _spatial_dims(network, source.label)
    input_shape = metadata.input_shape(spatial_dims)
    outputs = metadata.outputs or _count_outputs(network, input_shape, source.label)
    class_names = metadata.class_names(outputs) or tuple(f"class {n}" for n in range(max(outputs, 2)))
    notices = (*metadata.notices(outputs), *notices)
    activation = what.activation
    if activation is None:
        # A sigmoid for one logit, which decides between two classes; otherwise classes are taken to exclude one
        # another.
        activation = "sigmoid" if outputs == 1 else "softmax"
        why = "The bundle names no activation"
        if what.own_step:
            why = f"The bundle's postprocessing has “{what.own_step}”, which is not run and may be its activation"
        notices += (f"{why}: {activation} was assumed for the probabilities.",)
    return Classifier(
        network=network,
        preprocess=_preprocessing(source.config, what),
        class_names=class_names,
        head=Head(len(class_names), activation, outputs),
        spatial_dims=spatial_dims,
        input_shape=input_shape,
        name=metadata.name or Path(source.label).stem,
        version=metadata.version,
        description=metadata.description,
        slice_rule=metadata.slice_rule(class_names),
        declared_layer=metadata.target_layer,
        notices=notices,
        wants=Wants(
            modality=metadata.modality,
            channels=metadata.channels,
            value_range=metadata.value_range,
            rows_first=what.rows_first if metadata.rows_first is None else metadata.rows_first,
            size=metadata.size,
        ),
        windows=windows_of(source.config, what, spatial_dims, source.label),
        intended_use=metadata.intended_use,
        licence=source.licence or metadata.licence,
        source=source.place,
    )


# From files


def _from_recipe(path: Path) -> Classifier:
    from napari_gradcam.classifiers.recipe import read_recipe

    recipe = read_recipe(path)
    label = f"“{recipe.weights.name}”"
    state = read_state(recipe.weights, recipe.weights.name, label)
    config = Config(recipe.inference)
    for found in findings(config, plan(config, path.name)):
        raise RefusedError(found.key, found.asks, found.reason)
    return assemble(Source(path.name, config, Metadata(recipe.metadata), state, label, place=path))


def _from_bundle(files: BundleFiles, config: Reader, weights: Mapping[str, Tensor], place: Path) -> Classifier:
    return assemble(
        Source(
            label=files.label,
            config=config,
            metadata=_metadata(files),
            weights=weights,
            weights_label=_weights_label(files, _weights(files)),
            licence=_licence(files),
            place=place,
        )
    )


def _inspect(files: BundleFiles) -> tuple[Inspection, dict[str, Tensor]]:
    """List what would run code, and read the weights; the digest is computed only where there is something."""
    config = _safe_config(files)
    found = list(findings(config, plan(config, files.label)))
    name = _weights(files)
    weights = {}
    try:
        weights = _state(files, name, trusted=False)
    except UnsafeWeightsError as error:
        found.append(Finding(name, error.asks, "a pickle that holds more than weights"))
    compiled = [one for one in files.names() if one.endswith(_COMPILED)] if found else []
    if compiled:
        reason = "compiled code, which Python runs instead of the text beside it"
        found.append(Finding(shortened(compiled[0]), f"{len(compiled)} compiled", reason))
    digest = files.digest() if found else ""
    return Inspection(digest, tuple(dict.fromkeys(found)), bool(digest) and is_trusted(digest)), weights


def _safe_config(files: BundleFiles) -> Config:
    return Config(files.mapping(_inference(files)), lambda name: files.mapping(f"configs/{name}"))


def _inference(files: BundleFiles) -> str:
    for name in INFERENCE:
        if files.has(name):
            return name
    raise GradCamError(
        f"The bundle {files.label} has no configs/inference.json or .yaml, which says what to run; add it."
    )


def _metadata(files: BundleFiles) -> Metadata:
    return Metadata(files.mapping(METADATA) if files.has(METADATA) else {})


def _weights(files: BundleFiles) -> str:
    """Find the file of weights: by its usual names, or the only one there is."""
    for name in WEIGHTS:
        if files.has(name):
            return name
    found = [name for name in files.inside("models") if name.endswith(_WEIGHT_ENDINGS)]
    if len(found) == 1:
        return found[0]
    script = " (its model.ts is TorchScript, which cannot be looked into)" if files.has("models/model.ts") else ""
    raise GradCamError(
        f"The bundle {files.label} has no weights: {WEIGHTS[0]} is missing{script}; add the state dict there."
    )


def _weights_label(files: BundleFiles, name: str) -> str:
    return f"{name} of the bundle {files.label}"


def _state(files: BundleFiles, name: str, *, trusted: bool) -> dict[str, Tensor]:
    place = files.place(name)
    source = place if isinstance(place, Path) else io.BytesIO(files.read(name))
    return read_state(source, name, _weights_label(files, name), trusted=trusted)


def _licence(files: BundleFiles) -> str:
    name = next((name for name in LICENCES if files.has(name)), None)
    return "" if name is None else lines_of(files.read(name, _MOST_LICENCE).decode("utf-8", "replace"))


def _private_folder() -> Path:
    """Make a folder for this person alone, which lasts as long as the program: a bundle may import its modules late."""
    folder = tempfile.TemporaryDirectory(prefix="napari-gradcam-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


# From a plan


def _preprocessing(config: Reader, what: Plan) -> Callable[[Any], Any]:
    """Build the chain that runs on a volume already in memory."""
    transforms = []
    with Bounded(_SPARE):
        for step in what.steps:
            transform = config.build_node(step.node, step.key)
            if transform is not None and not isinstance(transform, EnsureChannelFirst | EnsureChannelFirstd):
                transforms.append(transform)
    return compose(transforms, what.image_key)


def _spatial_dims(network: nn.Module, label: str) -> int:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            return 2 if isinstance(module, nn.Conv2d) else 3
    raise GradCamError(
        f"The network of the bundle {label} has no 2D or 3D convolution; give a convolutional classifier."
    )


def _count_outputs(network: nn.Module, input_shape: tuple[int, ...], label: str) -> int:
    """Count the scores by a run on zeros, where the metadata do not say."""
    from napari_gradcam.cam import output_scores

    try:
        with torch.inference_mode(), Bounded():
            return int(output_scores(network(torch.zeros(1, *input_shape))).shape[1])
    except GradCamError:
        raise
    except MemoryError as error:
        raise TooLargeError(f"a run of “network_def” on {' × '.join(map(str, input_shape))}: {error}") from error
    except Exception as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise GradCamError(
            f"The network of the bundle {label} does not take an input of {' × '.join(map(str, input_shape))} "
            f"(channels first): {told}; say in metadata.json which input it reads."
        ) from error

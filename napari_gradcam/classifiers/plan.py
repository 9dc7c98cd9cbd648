"""What of a bundle's configuration is run, and what is left out: decided before anything is built.

A bundle's inference loads files, compares with labels and writes its results; a classifier for a volume that is in
memory needs its network, the steps of its preprocessing that change the image, and how its inferer and postprocessing
read the network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from napari_gradcam.classifiers import expressions
from napari_gradcam.classifiers.allowlist import allowed_import
from napari_gradcam.classifiers.refusing import (
    NotPlainError,
    RefusedError,
    absolute,
    check_letters,
    check_mark,
    check_parts,
    check_target,
    is_mark,
    nested_too_deeply,
    refused_expression,
    said,
    shortened,
)
from napari_gradcam.classifiers.scores import Activation
from napari_gradcam.classifiers.trust import Finding
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_gradcam.classifiers.config import Reader

_MOST_STEPS = 1000
"""Steps of a preprocessing; real ones have a dozen."""

_NETWORKS = ("network_def", "network", "net", "model")
_IMPORTS = ("imports", "import")
_LOADERS = ("LoadImage", "SaveImage")
_CHANNEL_FIRST = re.compile(r"EnsureChannelFirst(d|D|Dict)?|AddChannel(d|D|Dict)?|AsChannelFirst(d|D|Dict)?")


_MONAI_TRANSFORM = re.compile(r"(monai\.transforms\.(\w+\.)*)?\w+")
_PREDICTION = "pred"

_MONAI_INFERER = re.compile(r"(monai\.inferers\.(\w+\.)?)?\w+Inferer(Adapt)?")
EXPLAINED = ("SimpleInferer", "SlidingWindowInferer", "SlidingWindowInfererAdapt")
"""Inferers whose answers have a map."""


class Step(NamedTuple):
    """A part that is built: where it stands, what stands there, and its short name."""

    key: str
    node: Any
    name: str


@dataclass(frozen=True)
class Plan:
    """What is run of a bundle.

    Attributes
    ----------
    network
        The network.
    steps
        The preprocessing of the image, in order.
    left_out
        ``(name, reason)`` of the steps that are not run.
    inferer
        How the network is run; None where the bundle does not say.
    activation
        From scores to probabilities, as the postprocessing has it; None where it does not.
    own_step
        A step of the postprocessing that may be an activation and cannot be read as one, by name; empty where the
        activation is known, or there is no such step.
    image_key
        What the image is called in the preprocessing's dictionaries.
    rows_first
        Whether the network reads pictures with their rows first: MONAI's loader puts the columns first unless it is
        told not to, and all other readers of pictures give the rows first.
    """

    network: Step
    steps: tuple[Step, ...]
    left_out: tuple[tuple[str, str], ...]
    inferer: Step | None
    activation: Activation | None
    own_step: str
    image_key: str
    rows_first: bool


def plan(config: Reader, label: str) -> Plan:
    """Decide what is run.

    Raises
    ------
    GradCamError
        If there is no network, or something that is no transform where one should be.
    """
    name = next((name for name in _NETWORKS if name in config), None)
    if name is None:
        raise GradCamError(f"The bundle {label} names no network: its configuration has no “network_def”; add it.")
    network, inferer = config.raw(name), config.raw("inferer") if "inferer" in config else None
    if _MONAI_INFERER.fullmatch(_target(inferer)) and _name(inferer) not in EXPLAINED:
        raise not_explained(label, _name(inferer))
    nodes = list(_transforms(config, "preprocessing", label))
    key_of = {step.key: _keys(config, step) for step in nodes}
    image = _image_key(list(key_of.values()))
    steps, left_out, rows_first = [], [], True
    for step in nodes:
        keys = key_of[step.key]
        if step.name.startswith(_LOADERS):
            rows_first &= not step.name.startswith("LoadImage") or step.node.get("reverse_indexing") is False
            left_out.append((step.name, "the scan is in memory"))
        elif _CHANNEL_FIRST.fullmatch(step.name):
            left_out.append((step.name, "the channels are in front"))
        elif keys is not None and image not in keys:
            left_out.append((step.name, f"it does not touch the image, but {shortened(', '.join(keys))}"))
        else:
            steps.append(step if keys is None else step._replace(node=_only(step.node, keys, image)))
    return Plan(
        Step(name, network, _name(network)),
        tuple(steps),
        tuple(left_out),
        None if inferer is None else Step("inferer", inferer, _name(inferer)),
        *_activation(config),
        image,
        rows_first,
    )


def findings(config: Reader, what: Plan) -> Iterator[Finding]:
    """List what would run code, without building anything: among the imports, and in all that is planned."""
    for name in _IMPORTS:
        stated = config.raw(name) if name in config else []
        for number, text in enumerate(stated if isinstance(stated, list) else [stated]):
            if not (isinstance(text, str) and allowed_import(text.removeprefix("$"))):
                yield Finding(f"{name}::{number}", shortened(said(text)), "an import of code that is not MONAI's")
    audit = _Audit(config)
    for step in (what.network, *what.steps, *([what.inferer] if what.inferer else [])):
        yield from audit.of(step.node, step.key)


class _Audit:
    """Walks through all that would be built, each part once."""

    def __init__(self, config: Reader) -> None:
        self._config = config
        self._seen: set[str] = set()
        self._parts, self._letters = 0, 0

    def of(self, node: Any, key: str) -> Iterator[Finding]:
        """List what is refused in `node`, which stands at `key`."""
        self._parts += 1
        check_parts(self._parts, key)
        try:
            if isinstance(node, list):
                for number, item in enumerate(node):
                    yield from self.of(item, f"{key}::{number}")
            elif isinstance(node, dict):
                yield from self._object(node, key)
            elif isinstance(node, str):
                yield from self._text(node, key)
        except RefusedError as error:
            yield Finding(error.key, error.asks, error.reason)
        except RecursionError:
            raise nested_too_deeply(key) from None

    def _object(self, node: dict[Any, Any], key: str) -> Iterator[Finding]:
        for name, item in node.items():
            try:
                if name == "_target_":
                    check_target(item, f"{key}::_target_")
                    continue
                if is_mark(name) and "_target_" in node:
                    check_mark(name, item, key)
            except RefusedError as error:
                yield Finding(error.key, error.asks, error.reason)
                continue
            yield from self.of(item, f"{key}::{name}")

    def _text(self, text: str, key: str) -> Iterator[Finding]:
        if text.startswith("$"):
            self._letters += len(text)
            check_letters(self._letters, key)
            try:
                tree, names = expressions.parse(text[1:])
                expressions.check(tree, names)
            except expressions.NotAllowedError as error:
                raise refused_expression(text, key, error) from None
            for to in names.values():
                yield from self._reference(absolute(to, key))
        elif expressions.REFERENCE.fullmatch(text):
            yield from self._reference(absolute(text[1:], key))
        elif text.startswith("%"):
            yield from self.of(self._config.follow(text, key), key)

    def _reference(self, wanted: str) -> Iterator[Finding]:
        if wanted not in self._seen:
            self._seen.add(wanted)
            yield from self.of(self._config.raw(wanted), wanted)


def _transforms(config: Reader, key: str, label: str) -> Iterator[Step]:
    """Give each transform's entry of a ``Compose`` or plain list, those of lists and Composes in it too."""
    if key in config:
        yield from _entries(config, config.raw(key), key, label, count())


def _entries(config: Reader, node: Any, key: str, label: str, visits: Iterator[int], depth: int = 0) -> Iterator[Step]:
    if next(visits) > _MOST_STEPS:  # lists of lists can multiply a few lines without end
        raise GradCamError(f"The bundle {label} lists too many parts at “{key}”; this is no classifier.")
    node = config.follow(node, key)
    if isinstance(node, dict) and _name(node) == "Compose" and depth < 8:
        inner, place = node.get("transforms", []), f"{key}::transforms"
        inner = config.follow(inner, place)
        for number, entry in enumerate(inner if isinstance(inner, list) else [inner]):
            yield from _entries(config, entry, f"{place}::{number}", label, visits, depth + 1)
    elif isinstance(node, list) and depth < 8:
        for number, entry in enumerate(node):
            yield from _entries(config, entry, f"{key}::{number}", label, visits, depth + 1)
    elif isinstance(node, dict) and isinstance(node.get("_target_"), str):
        yield Step(key, node, _name(node))
    elif isinstance(node, str) and node.startswith("$"):
        yield Step(key, node, node)
    elif node is not None:
        raise GradCamError(
            f"The bundle {label} lists at “{key}” something that is no transform ({shortened(said(node))}); correct it."
        )


def _keys(config: Reader, step: Step) -> list[str] | None:
    """Read which keys of a dictionary a transform works on; None of one that works on arrays."""
    if not isinstance(step.node, dict) or "keys" not in step.node:
        return None
    try:
        keys = config.plain(step.node["keys"], f"{step.key}::keys")
    except (RefusedError, NotPlainError):
        return None  # it is found again, and told, where the step is looked at and built
    listed = [keys] if isinstance(keys, str) else keys
    plain = isinstance(listed, list | tuple) and all(isinstance(key, str) for key in listed)
    return list(listed) if plain else None


def _image_key(used: list[list[str] | None]) -> str:
    """Tell what the image is called: “image”, or the first key of the first transform that has keys."""
    every = [keys for keys in used if keys]
    return "image" if not every or any("image" in keys for keys in every) else every[0][0]


def _only(node: dict[str, Any], keys: list[str], image: str) -> dict[str, Any]:
    """Let a transform work on the image alone; arguments that are listed key by key go with it."""
    at = keys.index(image)
    one = {name: value for name, value in node.items() if name != "allow_missing_keys"}
    if len(keys) > 1:
        # MONAI's dictionary transforms take one argument for all keys, or a list of one for each.
        for name in ("mode", "align_corners", "padding_mode", "dtype", "data_type", "track_meta"):
            value = one.get(name)
            if isinstance(value, list) and len(value) == len(keys):
                one[name] = value[at]
    return {**one, "keys": [image]}


def _activation(config: Reader) -> tuple[Activation | None, str]:
    """Read the activation from the postprocessing; with the name of a step that may be one, where none can be read."""
    try:
        steps = list(_transforms(config, "postprocessing", ""))
    except GradCamError:
        return None, ""  # it is not run
    unread = ""
    for step in steps:
        if not isinstance(step.node, dict):
            unread = unread or shortened(step.node)
        elif _value(config, step, "_disabled_") in (True, "True", "true"):
            continue
        elif step.name.startswith("Activations"):
            for activation in get_args(Activation):
                if _value(config, step, activation) is True:
                    return cast("Activation", activation), ""
            asked = [step.node[name] for name in (*get_args(Activation), "other") if name in step.node]
            unread = unread or (step.name if any(value not in (None, False, []) for value in asked) else "")
        elif not _MONAI_TRANSFORM.fullmatch(_target(step.node)) or step.name.startswith("Lambda"):
            unread = unread or step.name
    return None, unread


def _value(config: Reader, step: Step, name: str) -> Any:
    """Read an argument of a postprocessing step; of a list of one for each key, the prediction's. None if it cannot."""
    try:
        value = config.plain(step.node.get(name), f"{step.key}::{name}")
    except GradCamError:
        return None
    if not isinstance(value, list | tuple):
        return value
    keys = _keys(config, step) or []
    at = keys.index(_PREDICTION) if _PREDICTION in keys else 0
    return value[at] if at < len(value) else None


def not_explained(label: str, name: str) -> GradCamError:
    """Say that a network is run in a way that has no map."""
    return GradCamError(
        f"The bundle {label} runs its network by “{shortened(name)}”; only SimpleInferer, which reads the whole input "
        "at once, and SlidingWindowInferer can be explained."
    )


def _target(node: Any) -> str:
    target = node.get("_target_", "") if isinstance(node, dict) else ""
    return target if isinstance(target, str) else ""


def _name(node: Any) -> str:
    return shortened(_target(node).rpartition(".")[2])

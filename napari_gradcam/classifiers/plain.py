"""From what a Python caller has at hand, a network and transforms, to the parts of a Classifier."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

import torch
from monai.transforms import (
    Compose,
    EnsureChannelFirst,
    EnsureChannelFirstd,
    LoadImage,
    LoadImaged,
    MapTransform,
    SaveImage,
    SaveImaged,
)
from torch import nn

from napari_gradcam.cam.capture import find_layer
from napari_gradcam.classifiers import probing
from napari_gradcam.classifiers.preprocessing import Chain
from napari_gradcam.classifiers.scores import Activation, Head
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_IN_MEMORY = (LoadImage, LoadImaged, SaveImage, SaveImaged, EnsureChannelFirst, EnsureChannelFirstd)
"""Steps that a scan does not need that is in memory already, channels first."""


class Parts(NamedTuple):
    """What a Classifier needs beside its network and its preprocessing."""

    class_names: tuple[str, ...]
    head: Head
    spatial_dims: int
    input_shape: tuple[int, ...]
    notices: tuple[str, ...] = ()


def completed(
    network: nn.Module,
    class_names: Sequence[str],
    head: Head | Activation | None,
    spatial_dims: int,
    input_shape: Sequence[int],
) -> Parts:
    """Find out what is left open of a classifier, by its network.

    Parameters
    ----------
    network
        Left untouched; where `head` is open, it runs once without values.
    class_names
        Empty for numbers.
    head
        Its activation will do; None assumes softmax, or sigmoid for one logit.
    spatial_dims
        0 for those of the first convolution.
    input_shape
        ``(channel, *spatial)``; empty for the channels of the first convolution and a common size.

    Raises
    ------
    GradCamError
        If the network does not show it, or it contradicts what is given.
    """
    if not isinstance(network, nn.Module):
        raise GradCamError(f"The network is a {type(network).__name__}: give a torch.nn.Module.")
    dims = _dims(network, spatial_dims)
    shape = tuple(int(n) for n in input_shape) or _shape(network, dims)
    if len(shape) != dims + 1 or min(shape) < 1:
        raise GradCamError(
            f"The input_shape {shape} is none of a {dims}D network: give its channels and {dims} sizes, such as "
            f"{(1, *(probing.SURVEY_SIZE[dims],) * dims)}."
        )
    names = tuple(str(name) for name in class_names)
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise GradCamError(f"Two classes are called “{repeated}”: give each class a name of its own.")
    if isinstance(head, Head):
        if names and head.classes != len(names):
            raise GradCamError(f"The head has {head.classes} classes and {len(names)} are named: name each of them.")
        return Parts(names or _numbers(head.classes), head, dims, shape)
    names, head, notices = _classes(network, names, head, shape)
    return Parts(names, head, dims, shape, notices)


def _dims(network: nn.Module, given: int) -> int:
    if given in probing.SURVEY_SIZE:
        return given
    if given:
        raise GradCamError(f"A network of {given} spatial axes cannot be explained here: give spatial_dims 2 or 3.")
    if isinstance(network, torch.jit.ScriptModule):
        find_layer(network, "")  # refuses it
    found = probing.spatial_dims(network)
    if found is None:
        raise GradCamError(
            "The network has no 2D or 3D convolution to tell whether it reads pictures or volumes: give spatial_dims, "
            "2 or 3, and input_shape."
        )
    return found


def _shape(network: nn.Module, dims: int) -> tuple[int, ...]:
    channels = probing.input_channels(network)
    if channels is None:
        raise GradCamError("The network does not show how many channels it reads: give input_shape, channels first.")
    return (channels, *(probing.SURVEY_SIZE[dims],) * dims)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(f"class {n}" for n in range(count))


def _classes(
    network: nn.Module, names: tuple[str, ...], activation: Activation | None, shape: tuple[int, ...]
) -> tuple[tuple[str, ...], Head, tuple[str, ...]]:
    """Give class names, the head, and what was assumed, by the number of scores that the network gives."""
    if activation is not None and activation not in get_args(Activation):
        raise GradCamError(f"There is no activation “{activation}”: give softmax or sigmoid.")
    count, notices = probing.count_outputs(network, shape), []
    if count is None and not names:
        size = " × ".join(map(str, shape))
        raise GradCamError(
            f"The network does not give one score for each class on an input of {size} (channels first): give the "
            "input_shape that it reads, or class_names."
        )
    outputs = count or len(names)
    if not names:
        names = _numbers(max(outputs, 2))
        notices.append("The classes are not named: they are numbered.")
    if outputs == 1 and len(names) == 1:
        names = (f"no {names[0]}", names[0])
    if len(names) != outputs and (outputs, len(names)) != (1, 2):
        listed = ", ".join(f"“{name}”" for name in names)
        raise GradCamError(f"The network gives {outputs} scores and {len(names)} classes are named ({listed}).")
    if activation is None:
        activation = "sigmoid" if outputs == 1 else "softmax"
        notices.append(f"No activation is named: {activation} was assumed for the probabilities.")
    return names, Head(len(names), activation, count), tuple(notices)


def as_it_is(image: Any) -> Any:
    """Give an image as it is: the preprocessing of a network that needs none."""
    return image


def chain_of(preprocess: Any) -> Callable[[Any], Any]:
    """Make one function of what a caller gives as preprocessing.

    As of a bundle, steps that load or save files or put the channels in front are left out, and so are those of a
    dictionary that work on the label alone.

    Parameters
    ----------
    preprocess
        Transforms of arrays or of dictionaries: one, a list, a ``Compose``; any other function of the image; or None.

    Raises
    ------
    GradCamError
        If it is nothing that can be called.
    """
    if preprocess is None:
        return as_it_is
    if isinstance(preprocess, list | tuple):
        preprocess = Compose(list(preprocess))
    if isinstance(preprocess, MapTransform):
        preprocess = Compose([preprocess])
    if not callable(preprocess):
        raise GradCamError(
            f"The preprocessing is a {type(preprocess).__name__}: give MONAI transforms, a list of them, or a function."
        )
    if type(preprocess) is not Compose:  # one of its kin may choose among its steps
        return cast("Callable[[Any], Any]", preprocess)
    steps = preprocess.flatten().transforms
    of_dictionaries = [step for step in steps if isinstance(step, MapTransform)]
    if not of_dictionaries and not any(isinstance(step, _IN_MEMORY) for step in steps):
        return cast("Callable[[Any], Any]", preprocess)
    key = _image_key(of_dictionaries)
    kept = [_of_image(step, key) for step in steps if not isinstance(step, _IN_MEMORY) and _touches(step, key)]
    chain = Compose(kept, map_items=preprocess.map_items, lazy=preprocess.lazy, overrides=preprocess.overrides)
    return Chain(chain, key) if of_dictionaries else chain


def _image_key(steps: Sequence[MapTransform]) -> str:
    """Tell what the image is called: “image”, or the first key of the first step."""
    if not steps or any("image" in step.keys for step in steps):
        return "image"
    return str(steps[0].keys[0])


def _touches(step: Any, key: str) -> bool:
    return not isinstance(step, MapTransform) or key in step.keys


def _of_image(step: Any, key: str) -> Any:
    """Let a step of several keys do without those that are not there; the caller's own stays as it is."""
    if not isinstance(step, MapTransform) or step.keys == (key,):
        return step
    step = copy(step)
    step.allow_missing_keys = True
    return step

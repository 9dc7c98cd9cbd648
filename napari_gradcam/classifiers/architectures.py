"""The classifiers of ``monai.networks.nets`` by name, for a group that has a network's name and a file of weights.

Each calls its input channels, its outputs and its size by words of its own; here all take the same four facts, and
options by the network's own names.
"""

from __future__ import annotations

import difflib
import inspect
import re
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import monai.networks.nets as nets

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HOME = "monai.networks.nets"
LISTED = "napari-gradcam bundle networks lists them"


class _Family(NamedTuple):
    """How networks of one kind call what all of them need; None where they do not ask for it."""

    dims: str | None = "spatial_dims"
    channels: str | None = "in_channels"
    outputs: str | None = "num_classes"
    size: str | None = None
    shape: str | None = None
    """An argument that takes the channels and the size together."""
    fixed: Mapping[str, Any] = MappingProxyType({})
    """Arguments that make it a classifier, or that keep it from downloading."""
    usual: Mapping[str, Any] = MappingProxyType({})
    """Arguments without a default in MONAI that have a usual value."""
    base: str | None = None
    """The class that takes what the network itself hands on by ``**kwargs``."""


_UNTRAINED = MappingProxyType({"pretrained": False})
_DENSE = _Family(outputs="out_channels", base="DenseNet")
_RES = _Family(channels="n_input_channels", base="ResNet")
_SE = _Family(base="SENet")
_PLAIN = _Family(dims=None, channels=None, outputs="classes", shape="in_shape")

_NETWORKS: Mapping[str, tuple[_Family, str]] = MappingProxyType(
    {
        "DenseNet": (_DENSE, "DenseNet with blocks as block_config says"),
        **{f"DenseNet{depth}": (_DENSE, f"DenseNet of {depth} layers") for depth in (121, 169, 201, 264)},
        "ResNet": (_RES, "ResNet of the blocks (block), layers and block_inplanes given"),
        **{f"resnet{depth}": (_RES, f"ResNet of {depth} layers") for depth in (10, 18, 34, 50, 101, 152, 200)},
        "SENet": (_SE, "squeeze-and-excitation network of the block, layers, groups and reduction given"),
        "SENet154": (_SE, "squeeze-and-excitation network of 154 layers"),
        **{f"SEResNet{depth}": (_SE, f"squeeze-and-excitation ResNet of {depth} layers") for depth in (50, 101, 152)},
        **{f"SEResNext{depth}": (_SE, f"squeeze-and-excitation ResNeXt of {depth} layers") for depth in (50, 101)},
        "EfficientNetBN": (
            _Family(fixed=_UNTRAINED),
            "EfficientNet; model_name is efficientnet-b0 to efficientnet-b8 or efficientnet-l2",
        ),
        "EfficientNet": (_Family(), "EfficientNet of the blocks given by blocks_args_str"),
        "Classifier": (_PLAIN, "residual units of the channels and strides given, and a linear layer"),
        "Discriminator": (_PLAIN._replace(outputs=None), "as Classifier, with one output and a sigmoid at its end"),
        "ViT": (
            _Family(
                size="img_size",
                fixed=MappingProxyType({"classification": True}),
                usual=MappingProxyType({"patch_size": 16}),
            ),
            "vision transformer in patches of patch_size (16 where it is left out)",
        ),
        "TorchVisionFCModel": (
            _Family(dims=None, channels=None),
            "a network of torchvision by its model_name, 2D and RGB; needs torchvision",
        ),
    }
)

ARCHITECTURES: Mapping[str, str] = MappingProxyType({name: told for name, (_, told) in _NETWORKS.items()})
"""Name of each network, as MONAI writes it, and what it is."""

_OTHERS: Mapping[str, str] = MappingProxyType(
    {
        "NaViT": "reads lists of pictures rather than one",
        "MILModel": "reads bags of pictures rather than one",
        "Transchex": "reads a picture together with a text",
        "ViTAutoEnc": "gives a picture rather than scores",
        "Regressor": "gives values rather than scores of classes",
        "Critic": "gives a distance rather than scores of classes",
    }
)
"""Networks of MONAI that are near to a classifier, and why they are none."""

_EFFICIENT = re.compile(r"(?:efficientnet)?-?(b[0-8]|l2)")


def architecture(
    name: str,
    spatial_dims: int,
    in_channels: int,
    outputs: int,
    input_size: Sequence[int],
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe a network as MONAI's configurations do; its weights are never asked for from elsewhere.

    Parameters
    ----------
    name
        A key of :data:`ARCHITECTURES`, in any case and with or without hyphens, or a name as ``efficientnet-b0``.
    spatial_dims
        2 or 3.
    in_channels, outputs
        Channels of its input, and scores that it gives.
    input_size
        Voxels of its input along each axis; networks that take any size do not ask for it.
    options
        Further arguments, by the network's own names.

    Returns
    -------
    dict
        ``{"_target_": "monai.networks.nets.…", …}``.

    Raises
    ------
    GradCamError
        If there is no such network, an option is unknown or missing, or the network does not come in that form.
    """
    name, options = _named(name, dict(options or {}))
    family, _ = _NETWORKS[name]
    if spatial_dims not in (2, 3) or len(input_size) != spatial_dims:
        sizes = " × ".join(map(str, input_size))
        raise GradCamError(
            f"The network {name} cannot read an input of {spatial_dims} dimensions and the size {sizes}; give 2 or 3 "
            "dimensions and as many sizes."
        )
    _check_kind(name, spatial_dims, in_channels, outputs)
    facts = (
        (family.dims, spatial_dims),
        (family.channels, in_channels),
        (family.outputs, outputs),
        (family.size, list(input_size)),
        (family.shape, [in_channels, *input_size]),
    )
    given: dict[str, Any] = {argument: fact for argument, fact in facts if argument is not None} | dict(family.fixed)
    options.pop("pretrained", None)  # the weights follow, whatever the network once began with
    _check_options(name, family, set(given), options)
    return {"_target_": f"{HOME}.{name}", **given, **family.usual, **options}


def _named(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Find a network by its name, or by that of one of EfficientNet's sizes."""
    wanted = _plain(name.removeprefix(HOME + "."))
    known = {_plain(one): one for one in _NETWORKS}
    if wanted in known:
        name = known[wanted]
        if name == "EfficientNetBN" and (size := _EFFICIENT.fullmatch(str(options.get("model_name")).lower())):
            options["model_name"] = f"efficientnet-{size[1]}"
        return name, options
    if wanted.startswith("efficientnet") and (size := _EFFICIENT.fullmatch(wanted)):
        return "EfficientNetBN", {"model_name": f"efficientnet-{size[1]}", **options}
    reason = next((why for one, why in _OTHERS.items() if _plain(one) == wanted), None)
    if reason is not None:
        raise GradCamError(f"The network {name} {reason}, so there is no heat map of it; use a classifier: {LISTED}.")
    close = [known[one] for one in difflib.get_close_matches(wanted, known, 3, 0.7)]
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise GradCamError(f"There is no network “{name}” among MONAI's classifiers: {hint}{LISTED}.")


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower()


def _check_kind(name: str, spatial_dims: int, in_channels: int, outputs: int) -> None:
    if name == "TorchVisionFCModel":
        if spatial_dims != 2 or in_channels != 3:
            raise GradCamError(
                f"The networks of torchvision read pictures of 3 channels, not {spatial_dims}D ones of {in_channels}; "
                "give 2 dimensions and 3 channels, or another network."
            )
        if find_spec("torchvision") is None:
            raise GradCamError(
                "The network TorchVisionFCModel is one of torchvision, which is not installed; install torchvision."
            )
    if _NETWORKS[name][0].outputs is None and outputs != 1:
        raise GradCamError(
            f"The network {name} has one output, not {outputs}; name one class alone, or use Classifier."
        )


def _check_options(name: str, family: _Family, given: set[str], options: Mapping[str, Any]) -> None:
    """Hold options against the network's own signature."""
    taken = _parameters(getattr(nets, name))
    if family.base is not None:
        taken = {**_parameters(getattr(nets, family.base)), **taken}
    # What a function such as resnet18 sets itself.
    own = set(_parameters(nets.ResNet)) & {"block", "layers", "block_inplanes"} if name.startswith("resnet") else set()
    own |= {"block"} if family.base == "SENet" and name != "SENet" else set()
    needed = {one for one, parameter in taken.items() if parameter.default is parameter.empty}
    more = name == "TorchVisionFCModel"  # it hands everything on to torchvision
    for option in options:
        if option in given or option in own:
            raise GradCamError(
                f"The network {name} is given its “{option}” already, by its name or by what is said of its input and "
                "classes; leave it out."
            )
        if option not in taken and not more:
            close = difflib.get_close_matches(str(option), sorted(set(taken) - given - own), 1)
            hint = f"did you mean “{close[0]}”?" if close else f"it has {', '.join(sorted(set(taken) - given - own))}."
            raise GradCamError(f"The network {name} has no option “{option}”: {hint}")
    missing = sorted(needed - given - own - set(family.usual) - set(options))
    if missing:
        listed = ", ".join(f"“{one}”" for one in missing)
        raise GradCamError(f"The network {name} needs {listed}; add them as options of the network.")


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    signature = inspect.signature(function).parameters
    hidden = ("progress", "pretrained", "adv_prop")
    return {name: one for name, one in signature.items() if one.kind not in variable and name not in hidden}

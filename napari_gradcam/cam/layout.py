"""Where the grid is in what a layer gives: feature maps, channels last, or the tokens of a transformer.

Convolutions give ``(batch, channel, *grid)``. Transformers give tokens ``(batch, token, channel)``, at times with a
class token in front, or a grid with its channels last, ``(batch, *grid, channel)``. Which one a layer gives is told by
what kind of layer it is and by the shapes; where both leave it open, the layer is refused rather than guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONVOLUTIONS = (nn.modules.conv._ConvNd,)
_CHANNELS_FIRST = (
    *CONVOLUTIONS,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
_CHANNELS_LAST = (nn.LayerNorm, nn.Linear)
_POOLS = _CHANNELS_FIRST[-4:]
_PADS = (
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
    nn.modules.padding._CircularPadNd,
)


@dataclass(frozen=True)
class Layout:
    """How the output of a layer is laid out.

    Attributes
    ----------
    grid
        Cells along each axis of the input.
    channel_axis
        1, or -1 where the channels come last.
    first
        Tokens before those of the grid: 1 where there is a class token.
    """

    grid: tuple[int, ...]
    channel_axis: int = 1
    first: int = 0

    def on_grid(self, tensor: Tensor) -> Tensor:
        """View the layer's output, or a gradient at it, as ``(batch, channel, *grid)``."""
        if self.channel_axis == 1:
            return tensor
        if tensor.ndim == 3:
            tensor = tensor[:, self.first :].reshape(len(tensor), *self.grid, tensor.shape[2])
        return tensor.movedim(-1, 1)


def find_layout(network: nn.Module, name: str, module: nn.Module, output: Any, inputs: Tensor) -> Layout:
    """Find the grid in the output of the layer `name`.

    Parameters
    ----------
    network
        The whole network; whether it is a transformer matters, and the size of its patches.
    name, module
        The layer.
    output
        What it gave.
    inputs
        What the network read, ``(batch, channel, *spatial)``.

    Raises
    ------
    GradCamError
        If there is no grid, or the shapes leave open which axes are the grid.
    """
    spatial = tuple(inputs.shape[2:])
    if isinstance(output, Tensor) and output.is_floating_point() and output.shape[:1] == inputs.shape[:1]:
        if output.ndim == inputs.ndim:
            if _is_attention(network, module, output):
                raise GradCamError(
                    f"The layer “{name}” gives no feature maps (its rows add up to one, as attention does); choose "
                    "another layer."
                )
            return _of_grid(network, name, module, tuple(output.shape[1:]), spatial)
        if output.ndim == 3 and is_transformer(network) and not isinstance(module, _CHANNELS_FIRST):
            return _of_tokens(network, name, output.shape[1], spatial)
    raise GradCamError(
        f"The layer “{name}” gives no feature maps ({_described(output)}); choose a convolutional layer."
    )


def adds_border(module: nn.Module, arguments: Sequence[Any], output: Any) -> bool:
    """Tell whether a layer puts a border around what it reads, or cuts one off.

    A cell of any other layer is an even share of the input, which is how maps are placed. With a border of zeros around
    a grid of 2 × 2, four cells in the middle would be taken for the sixteen of the whole input. A layer without weights
    of its own that adds cells, but not a whole multiple of those it reads, is taken for one too; enlarging is even.
    """
    if isinstance(module, _PADS):
        return any(module.padding)
    read = arguments[0] if arguments else None
    if isinstance(module, (*_POOLS, nn.Upsample)) or any(True for _ in (*module.children(), *module.parameters())):
        return False
    if not (isinstance(read, Tensor) and isinstance(output, Tensor) and read.ndim == output.ndim):
        return False
    sides = list(zip(read.shape[2:], output.shape[2:], strict=True))
    grown = read.shape[:2] == output.shape[:2] and all(new >= old for old, new in sides)
    return grown and any(new % old for old, new in sides)


def _of_grid(
    network: nn.Module, name: str, module: nn.Module, shape: tuple[int, ...], spatial: tuple[int, ...]
) -> Layout:
    """Tell ``(channel, *grid)`` from ``(*grid, channel)``."""
    first, last = Layout(shape[1:]), Layout(shape[:-1], channel_axis=-1)
    axis = _channel_axis(module, shape)
    if axis is not None:
        return last if axis == -1 else first
    # A pool to one cell lies on no grid of patches, and needs none: the survey says that it has no place.
    if not is_transformer(network) or prod(first.grid) == 1:
        return first
    grids = _possible_grids(network, spatial)
    fitting = [layout for layout in (first, last) if layout.grid in grids]
    if len(fitting) == 1:
        return fitting[0]
    raise GradCamError(
        f"It cannot be told which axes of the layer “{name}” are the grid: it gives {_sizes(shape)} for an input of "
        f"{_sizes(spatial)}; choose another layer of the same stage."
    )


def _channel_axis(module: nn.Module, shape: tuple[int, ...]) -> int | None:
    """Tell the channels' axis by the kind of a layer, 1 or -1; None where its kind does not say."""
    if isinstance(module, nn.LayerNorm) and type(module) is not nn.LayerNorm:
        # torchvision's LayerNorm2d is one that works on the first axis.
        fitting = [axis for axis, size in ((1, shape[0]), (-1, shape[-1])) if size == module.normalized_shape[-1]]
        return fitting[0] if len(fitting) == 1 else None
    if isinstance(module, _CHANNELS_LAST):
        return -1
    return 1 if isinstance(module, _CHANNELS_FIRST) else None


def _of_tokens(network: nn.Module, name: str, tokens: int, spatial: tuple[int, ...]) -> Layout:
    """Put tokens back on their grid, without or with a class token in front."""
    even = {grid for grid in _isotropic_grids(spatial) if all(n % m == 0 for n, m in zip(spatial, grid, strict=True))}
    for grids in (_patch_grids(network, spatial), even):
        fitting = {(grid, first) for grid in grids for first in (0, 1) if prod(grid) == tokens - first}
        if len(fitting) == 1:
            grid, first = fitting.pop()
            return Layout(grid, channel_axis=-1, first=first)
        if fitting:
            break
    raise GradCamError(
        f"It cannot be told how the {tokens} tokens of the layer “{name}” lie on an input of {_sizes(spatial)}; choose "
        "another layer."
    )


def _is_attention(network: nn.Module, module: nn.Module, output: Tensor) -> bool:
    """Tell attention weights: as many rows as columns, none negative, each row adding up to one."""
    if not is_transformer(network) or isinstance(module, (*_CHANNELS_FIRST, *_CHANNELS_LAST)):
        return False
    if output.shape[-1] != output.shape[-2] or output.shape[-1] == 1 or bool((output < 0).any()):
        return False
    return bool(((output.sum(dim=-1) - 1).abs() < 1e-3).all())


def is_transformer(network: nn.Module) -> bool:
    """Tell whether a network may lay out channels last: only those that normalise over the last axis do."""
    return any(isinstance(module, nn.LayerNorm) for module in network.modules())


def _possible_grids(network: nn.Module, spatial: tuple[int, ...]) -> set[tuple[int, ...]]:
    """List the grids that patches, merged two by two again and again, or even steps can leave of an input."""
    grids = set(_isotropic_grids(spatial))
    for grid in _patch_grids(network, spatial):
        while True:
            grids.add(grid)
            if prod(grid) == 1:
                break
            grid = tuple(-(-n // 2) for n in grid)
    return grids


def _isotropic_grids(spatial: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Give the grids of steps as long along every axis."""
    for step in range(1, max(spatial) + 1):
        yield tuple(max(1, n // step) for n in spatial)
        yield tuple(-(-n // step) for n in spatial)


def _patch_grids(network: nn.Module, spatial: tuple[int, ...]) -> set[tuple[int, ...]]:
    """Give the grids of the network's own patches."""
    return {
        tuple(-(-n // step) if up else max(1, n // step) for n, step in zip(spatial, patch, strict=True))
        for patch in _patches(network, len(spatial))
        for up in (False, True)
    }


def _patches(network: nn.Module, dims: int) -> Iterator[tuple[int, ...]]:
    """Give the sizes of the network's patches: of convolutions that step as far as they see, and of einops' cuts."""
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS) and not module.transposed and len(module.stride) == dims:
            if module.stride == module.kernel_size and prod(module.stride) > 1:
                yield tuple(module.stride)
        elif isinstance(sizes := getattr(module, "axes_lengths", None), dict):
            # einops.layers.torch.Rearrange("b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=16, p2=16), as in MONAI's ViT.
            names = [f"p{axis + 1}" for axis in range(dims)]
            if set(sizes) == set(names):
                yield tuple(sizes[name] for name in names)


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"its output has shape {tuple(output.shape)}"
    return f"its output is a {type(output).__name__}"

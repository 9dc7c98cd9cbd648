"""What a network shows of itself: how many axes and channels it reads, and how many scores it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.func import functional_call

from napari_gradcam.cam import output_scores
from napari_gradcam.cam.running import evaluation_mode
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Sequence

SURVEY_SIZE = {2: 224, 3: 96}
"""Pixels along each axis that a network is surveyed with where nothing says what it was made for."""


def first_convolution(network: nn.Module) -> nn.Conv2d | nn.Conv3d | None:
    """Give the convolution that is named first, which in nearly all networks is the one that reads the input."""
    return next((module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)), None)


def spatial_dims(network: nn.Module) -> int | None:
    """Tell whether a network reads pictures (2) or volumes (3), by its first convolution; None where it has none."""
    first = first_convolution(network)
    return None if first is None else 2 if isinstance(first, nn.Conv2d) else 3


def input_channels(network: nn.Module) -> int | None:
    """Count the channels that the first convolution reads; None where there is none, or it has not run yet."""
    first = first_convolution(network)
    return first.in_channels or None if first is not None else None


def count_outputs(network: nn.Module, input_shape: Sequence[int]) -> int | None:
    """Count the scores that a network gives for one input.

    It runs on PyTorch's meta device, where tensors have shapes and no values; where it cannot, once on zeros.

    Parameters
    ----------
    network
        Left untouched.
    input_shape
        ``(channel, *spatial)``.

    Returns
    -------
    int
        None where it does not take an input of that shape, or gives no list of scores.
    """
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    first = next((one for one in state.values() if one.is_floating_point()), torch.empty(0))
    shadows = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    with torch.inference_mode(False), torch.no_grad(), evaluation_mode(network):
        for values, device in ((shadows, torch.device("meta")), (state, first.device)):
            asked = torch.zeros((1, *input_shape), device=device, dtype=first.dtype)
            try:
                return output_scores(functional_call(network, values, (asked,))).shape[1]
            except GradCamError:
                return None  # it ran, and what it gave is no list of scores
            except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
                continue
    return None

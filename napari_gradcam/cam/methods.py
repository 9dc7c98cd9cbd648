"""Each method a small function: raw maps on the grid it works on.

Shapes throughout: activations A and gradients G = ∂y/∂A are ``(batch, channel, *grid)`` with one, two or three grid
axes, a map is ``(batch, *grid)``. y is the class score before softmax or sigmoid, k counts channels, i the cells of the
grid. Nothing is normalised here, and no ReLU is taken at the end: the engine takes it, unless a signed map is asked
for. Where a method has no sign its map is never negative evidence, whatever is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    Steps = Generator[tuple[int, int], None, Tensor]
    """Pauses with how many of how many forward passes are done; returns maps ``(target, *grid)``."""

BOXES = (8, 7, 6)
"""Boxes along each axis that occlusion may cut an input into; the number that divides the axis best is taken."""


ROUNDING = 1e-5
"""Differences smaller than this share of what they are taken from are rounding: nothing has changed."""


class Sample(Protocol):
    """One input, and the network to ask about it again.

    Attributes
    ----------
    inputs
        ``(1, channel, *spatial)``.
    activations
        Of the target layer, ``(1, channel, *grid)``.
    logits
        ``(1, class)``.
    """

    inputs: Tensor
    activations: Tensor
    logits: Tensor

    def score(self, inputs: Tensor) -> Tensor:
        """Score other inputs by the whole network, ``(n, class)``."""

    def score_from(self, activations: Tensor) -> Tensor:
        """Score other activations of the layer by what lies after it, ``(n, class)``."""

    def at_once(self, inputs: bool) -> int:
        """Tell how many inputs, or how many activations, are scored in one batch."""


def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM: Σ_k α_k A^k, α_k the spatial mean of ∂y/∂A^k.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
    equations 1 and 2. As in the paper, whose ReLU the engine takes.
    """
    return _weighted(gradients.flatten(2).mean(dim=2), activations)


def gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++: Σ_k w_k A^k, w_k = Σ_i α_ki ReLU(G_ki), α_ki = G_ki² / (2 G_ki² + Σ_j A_kj G_ki³).

    Chattopadhay et al., "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional Networks",
    WACV 2018, equations 5 and 19. The paper differentiates exp(y); there exp(y) cancels in α and remains as one factor
    of the whole map. It is left out, because it overflows at y = 89 and carries no place. α is 0 where its denominator
    is not positive, which activations below 0 can bring about: the paper's are not, after a ReLU.
    """
    cells = (slice(None), slice(None), *(None,) * (activations.ndim - 2))
    # G² cancels; squares and cubes of small gradients would vanish, and those of large ones overflow.
    below = 2 + activations.flatten(2).sum(dim=2)[cells] * gradients
    alpha = torch.where((below > 0) & (gradients > 0), 1 / torch.where(below > 0, below, 1), 0)
    return _weighted((alpha * gradients.relu()).flatten(2).sum(dim=2), activations)


def hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM: Σ_k G_k ⊙ A^k.

    Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
    2020, equation 4. As in the paper. Before a head of pooling or flattening and one linear layer, Σ_i of the map is
    the class score less the head's bias.
    """
    return (gradients * activations).sum(dim=1)


def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM: Σ_k ReLU(G_k) ⊙ A^k.

    Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021, equations 5
    and 6. As in the paper; its scaling of shallow layers by their own maximum, with tanh, is left out.
    """
    return (gradients.relu() * activations).sum(dim=1)


def xgradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM: Σ_k w_k A^k, w_k = Σ_i A_ki G_ki / Σ_i A_ki.

    Fu et al., "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs", BMVC 2020, equation 7. w
    is 0 for a channel whose activations sum to 0 but for rounding, as those of a normalised one do: it has no centre to
    weigh by.
    """
    sums = activations.flatten(2).sum(dim=2)
    products = (activations * gradients).flatten(2).sum(dim=2)
    has_centre = sums.abs() > ROUNDING * activations.abs().flatten(2).sum(dim=2)
    return _weighted(torch.where(has_centre, products / torch.where(has_centre, sums, 1), 0), activations)


def eigencam(activations: Tensor) -> Tensor:
    """Eigen-CAM: A v, v the first right singular vector of A as a matrix of cells by channels.

    Muhammad and Yeasin, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN 2020, equation 3. As in the
    paper, which does not centre A; it takes no ReLU, which the engine does. The sign of a singular vector is free: it
    is taken so that the map's sum is positive. The map is the same for every class.
    """
    cells = activations.flatten(2).transpose(1, 2).cpu().double()
    # The eigenvectors of the smaller of AᵀA and AAᵀ give the same map as an SVD of A, which needs far more memory.
    if cells.shape[1] >= cells.shape[2]:
        vector = torch.linalg.eigh(cells.transpose(1, 2) @ cells).eigenvectors[..., -1:]
        flat = (cells @ vector)[..., 0]
    else:
        values, vectors = torch.linalg.eigh(cells @ cells.transpose(1, 2))
        flat = vectors[..., -1] * values[..., -1:].clamp(min=0).sqrt()
    flat = torch.where(flat.sum(dim=1, keepdim=True) < 0, -flat, flat)
    return flat.to(activations).reshape(len(activations), *activations.shape[2:])


def scorecam(sample: Sample, targets: Sequence[int]) -> Steps:
    """Score-CAM: Σ_k w_k A^k, w = softmax over k of y(X ⊙ M_k), M_k = A^k brought to the input's size and to 0 … 1.

    Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR Workshops 2020,
    algorithm 1. The paper subtracts the score of a baseline input, which the softmax cancels. A channel that is the
    same everywhere has no M and no weight. The mask reaches the input, so the whole network runs for each channel. The
    weights are positive and sum to 1: the map is not empty where nothing speaks for the class.
    """
    channels = sample.activations[0]
    spatial, mode = sample.inputs.shape[2:], linear_mode(channels.ndim - 1)
    alive = torch.nonzero(channels.flatten(1).amax(dim=1) > channels.flatten(1).amin(dim=1))[:, 0]
    scores = []
    step = sample.at_once(inputs=True)
    for start in range(0, len(alive), step):
        yield start, len(alive)
        masks = nn.functional.interpolate(channels[alive[start : start + step]][:, None], spatial, mode=mode)
        low, high = masks.flatten(1).amin(dim=1), masks.flatten(1).amax(dim=1)
        cells = (slice(None), *(None,) * channels.ndim)
        scores.append(sample.score(sample.inputs * ((masks - low[cells]) / (high - low)[cells]))[:, list(targets)])
    weights = channels.new_zeros(len(targets), len(channels))
    if scores:
        weights[:, alive] = torch.cat(scores).softmax(dim=0).T
    return torch.einsum("tk,k...->t...", weights, channels)


def ablationcam(sample: Sample, targets: Sequence[int]) -> Steps:
    """Ablation-CAM: Σ_k w_k A^k, w_k = y − y_k, y_k the score with A^k set to 0.

    Desai and Ramaswamy, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
    Localization", WACV 2020, equations 2 and 3. The paper divides w by y, one factor for the whole map, which would
    turn evidence into its opposite where the score is negative; it is left out. Only what lies after the layer runs
    again.
    """
    activations = sample.activations
    channels = activations.shape[1]
    weights = []
    step = sample.at_once(inputs=False)
    for start in range(0, channels, step):
        yield start, channels
        ablated = activations.repeat_interleave(min(step, channels - start), dim=0)
        for row in range(len(ablated)):
            ablated[row, start + row] = 0
        weights.append(_fall(sample, sample.score_from(ablated))[:, list(targets)])
    return torch.einsum("kt,k...->t...", torch.cat(weights), activations[0])


def occlusion(sample: Sample, targets: Sequence[int]) -> Steps:
    """Occlusion: how far the score falls when a box of the input is filled with the mean of the input, all channels.

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2, by MONAI's
    ``OcclusionSensitivity``, which is told to leave the scores as they are. Boxes stand side by side, 6 to 8 along each
    axis (fewer, or one for each voxel, along a very short one), and the map has one cell for each; the target layer
    plays no part.
    """
    from napari_gradcam.cam.occluding import occluded_scores

    spatial = sample.inputs.shape[2:]
    sizes = [_box_along(side) for side in spatial]
    boxes = [ceil(side / size) for side, size in zip(spatial, sizes, strict=True)]
    occluded = yield from occluded_scores(sample.score, sample.inputs, sizes, sample.at_once(inputs=True))
    # At the middle of each cell, where no box that was shifted at the border plays a part.
    occluded = nn.functional.interpolate(occluded, boxes, mode="nearest-exact")[0]
    return _fall(sample, occluded.flatten(1).T).T.reshape(occluded.shape)[list(targets)]


def _box_along(side: int) -> int:
    """Choose the size of a box along an axis: the one of which the last box has the least to be shifted back."""
    return min((ceil(side / n) for n in BOXES), key=lambda size: ceil(side / size) * size - side)


def _fall(sample: Sample, scores: Tensor) -> Tensor:
    """How far scores ``(n, class)`` lie below the sample's own; exactly 0 where the difference is rounding."""
    fall = sample.logits - scores
    return torch.where(fall.abs() > ROUNDING * sample.logits.abs().max(), fall, 0)


def _weighted(weights: Tensor, activations: Tensor) -> Tensor:
    """Σ_k w_k A^k for weights ``(batch, channel)``."""
    return torch.einsum("bk...,bk->b...", activations, weights)


def linear_mode(dims: int) -> str:
    """Give PyTorch's name of linear interpolation along so many axes."""
    return ("linear", "bilinear", "trilinear")[dims - 1]


@dataclass(frozen=True)
class Method:
    """A method, and what it needs.

    Attributes
    ----------
    function
        Of activations and gradients, of activations alone, or of a :class:`Sample` and targets.
    needs
        ``"gradients"``, ``"activations"`` or ``"scores"``.
    signed
        Whether negative values of its map are evidence against the class.
    of_layer
        Whether its map is of a target layer; else it is of the input.
    """

    function: Callable[..., Tensor | Steps]
    needs: Literal["gradients", "activations", "scores"] = "gradients"
    signed: bool = False
    of_layer: bool = True


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "gradcam": Method(gradcam, signed=True),
        "gradcam++": Method(gradcam_plus_plus),
        "hirescam": Method(hirescam, signed=True),
        "layercam": Method(layercam),
        "xgradcam": Method(xgradcam, signed=True),
        "eigencam": Method(eigencam, "activations"),
        "scorecam": Method(scorecam, "scores"),
        "ablationcam": Method(ablationcam, "scores", signed=True),
        "occlusion": Method(occlusion, "scores", signed=True, of_layer=False),
    }
)

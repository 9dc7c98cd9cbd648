"""Train one demo classifier, 'lesion' against 'no lesion', on the MNI152 brain with synthetic lesions.

Every step draws new warps, contrasts and lesions; each batch holds the same anatomies with and without a lesion. The
loss has two parts: cross-entropy on the class, and a loss on the class map itself. In a network that ends in global
average pooling and a linear head the logit of a class is the mean of the map w.A over the cells of the last grid, so
the lesion's mask can be a target for that map. Without it nothing ties the place of a feature to the place in the
input: see the README.

The image is made at the bundle's voxel size directly, which is what the bundle's preprocessing makes of a 1 mm file.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from lesions import Head, Lesion, Warp, finish, grid_points, load_mni, normalise, render, uniform
from monai.bundle import ConfigParser
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Recipe:
    """What differs between the two bundles: the steps, and what a batch holds."""

    steps: int
    pairs: int
    extra_healthy: int
    shift_mm: float


RECIPES = {
    3: Recipe(steps=500, pairs=4, extra_healthy=0, shift_mm=6),
    2: Recipe(steps=700, pairs=10, extra_healthy=10, shift_mm=14),
}

LEARNING_RATE = 3e-3
"""Of everything before the linear head; the head and the map loss's scale take ten times as much."""

SMALLEST_SECTION = 20
"""A slice counts as 'lesion' in training if at least so many pixels (80 mm²) lie inside the lesion."""


FINISH_2D = 1.6
"""Strength of the bias field and the noise on slices: a slice has less brain to average them over."""


@dataclass(frozen=True)
class Examples:
    """A batch: images (b, 1, ...), labels (b,), soft lesion masks and soft brain masks (b, 1, ...)."""

    images: Tensor
    labels: Tensor
    lesions: Tensor
    brains: Tensor


def pair_3d(
    head: Head, shape: tuple[int, int, int], recipe: Recipe, ease: float, generator: torch.Generator
) -> list[tuple[Tensor, int, Tensor, Tensor]]:
    """Return one warped head without and with a lesion, as (image, label, lesion, brain)."""
    points = grid_points(shape, 3.0)
    rendering = render(head, Warp.random(generator, shift_mm=recipe.shift_mm), points, 3.0, generator)
    centre = rendering.lesion_centre(points, generator)
    assert centre is not None
    image, weight = rendering.with_lesion(Lesion.random(centre, generator, ease), points)
    healthy = normalise(finish(rendering.image, points, generator), rendering.brain)
    lesioned = normalise(finish(image, points, generator), rendering.brain)
    return [(healthy, 0, torch.zeros_like(weight), rendering.brain), (lesioned, 1, weight, rendering.brain)]


def pair_2d(
    head: Head, shape: tuple[int, int], recipe: Recipe, ease: float, generator: torch.Generator, *, lesion: bool
) -> list[tuple[Tensor, int, Tensor, Tensor]]:
    """Return one axial slice of a warped head without and, where the brain is wide enough, with a lesion.

    Slices without a lesion partner come more often from the base, where brainstem and cerebellum are bright and round.
    """
    share = uniform(0, 1, generator)
    if lesion or share < 0.2:
        height = uniform(-80, 85, generator)
    else:
        height = uniform(-85, -10, generator) if share < 0.85 else uniform(50, 85, generator)
    slide = torch.tensor([uniform(-1, 1, generator), uniform(-1, 1, generator), 0]) * recipe.shift_mm
    points = grid_points((*shape, 1), 2.0) + slide + torch.tensor([0, 0, height])
    rendering = render(head, Warp.random(generator), points, 2.0, generator)
    brain = rendering.brain[..., 0]
    none = torch.zeros_like(brain)
    plain = finish(rendering.image, points, generator, FINISH_2D)
    examples = [(normalise(plain[..., 0], brain), 0, none, brain)]
    centre = rendering.lesion_centre(points, generator, 7.0) if lesion else None
    if centre is not None:
        drawn = Lesion.random(centre, generator, ease)
        raised = centre + torch.tensor([0, 0, uniform(-0.7, 0.7, generator) * float(drawn.semi_axes.min())])
        contrast = uniform(2.3, 3.8, generator) + 1.2 * ease
        placed = Lesion(raised, drawn.semi_axes, drawn.rotation, drawn.wobble, contrast, drawn.edge_mm)
        image, weight = rendering.with_lesion(placed, points)
        if int((weight > 0.5).sum()) >= SMALLEST_SECTION:
            lesioned = normalise(finish(image, points, generator, FINISH_2D)[..., 0], brain)
            examples.append((lesioned, 1, weight[..., 0], brain))
    return examples


def draw(head: Head, shape: tuple[int, ...], recipe: Recipe, ease: float, generator: torch.Generator) -> Examples:
    """Draw one batch."""
    examples = []
    for index in range(recipe.pairs + recipe.extra_healthy):
        if len(shape) == 3:
            examples += pair_3d(head, (shape[0], shape[1], shape[2]), recipe, ease, generator)
        else:
            examples += pair_2d(head, (shape[0], shape[1]), recipe, ease, generator, lesion=index < recipe.pairs)
    images, labels, lesions, brains = zip(*examples, strict=True)
    return Examples(
        torch.stack(images)[:, None], torch.tensor(labels), torch.stack(lesions)[:, None], torch.stack(brains)[:, None]
    )


class MapLoss(nn.Module):
    """Cross-entropy of each cell of the class maps against the masks, averaged over the cells of the last grid.

    Lesion map: positive where the lesion fills a quarter of the cell (or at its fullest cell), negative where it fills
    less than 2 %. The two sides weigh the same, and the 16 worst negative cells of each image weigh extra, so that the
    map stays empty on a healthy brain. 'No lesion' map: brain without lesion, with a small weight.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((2,), -3.0))

    def forward(self, maps: Tensor, batch: Examples) -> Tensor:
        """Return the loss for maps of shape (b, 2, ...)."""
        pool = functional.adaptive_avg_pool3d if maps.ndim == 5 else functional.adaptive_avg_pool2d
        cells = tuple(maps.shape[2:])
        filled = pool(batch.lesions, cells).flatten(1)
        brain = pool(batch.brains, cells).flatten(1)
        none, lesion = (maps.flatten(2) * self.log_scale.exp()[:, None] - 2).unbind(1)

        fullest = filled.amax(1, keepdim=True)
        inside = (filled > 0.02) & (filled >= torch.minimum(fullest, torch.tensor(0.25)))
        outside = filled < 0.02
        missed = (functional.softplus(-lesion) * inside).sum() / inside.sum().clamp(min=1)
        invented = functional.softplus(lesion) * outside
        floor = invented.sum() / outside.sum() + invented.topk(16, dim=1).values.mean()
        tissue = (brain > 0.5) & outside
        calm = functional.binary_cross_entropy_with_logits(none, tissue.float())
        return missed + floor + 0.2 * calm


def forward(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits (b, 2) and the class maps (b, 2, ...) at `class_layers.relu`."""
    activations = network.class_layers.relu(network.features(images))
    head = network.class_layers.out
    logits = head(activations.flatten(2).mean(2))
    return logits, torch.einsum("ck,bk...->bc...", head.weight, activations)


def train(bundle: Path, cache: Path, seed: int, map_weight: float, steps: int | None) -> nn.Module:
    """Train a network of the bundle's definition and return it in evaluation mode."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    parser = ConfigParser(json.loads((bundle / "configs" / "inference.json").read_text()))
    network: nn.Module = parser.get_parsed_content("network_def")
    dimensions = int(parser["network_def"]["spatial_dims"])
    shape = tuple(next(t for t in parser["preprocessing"]["transforms"] if "spatial_size" in t)["spatial_size"])
    recipe = RECIPES[dimensions]
    steps = steps or recipe.steps
    map_loss = MapLoss()
    with torch.no_grad():
        network.class_layers.out.weight.mul_(5)
    fast = [network.class_layers.out.weight, network.class_layers.out.bias, map_loss.log_scale]
    slow = [p for p in network.parameters() if all(p is not q for q in fast)]
    optimiser = torch.optim.AdamW([{"params": slow}, {"params": fast}], weight_decay=1e-3)
    rates = [LEARNING_RATE, 10 * LEARNING_RATE]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps)
    head = load_mni(cache)
    network.train()
    started = time.time()
    for step in range(steps):
        ease = max(0.0, 1 - step / (0.4 * steps))
        batch = draw(head, shape, recipe, ease, generator)
        logits, maps = forward(network, batch.images)
        on_map = map_loss(maps, batch)
        loss = functional.cross_entropy(logits, batch.labels) + map_weight * on_map
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if step % 25 == 24 or step == 0:
            right = (logits.argmax(1) == batch.labels).float().mean()
            print(
                f"{step + 1:4d} loss {loss:.3f} map {on_map:.3f} accuracy {right:.2f} "
                f"scales {map_loss.log_scale.exp().tolist()} {time.time() - started:.0f} s",
                flush=True,
            )
    return network.eval()


def main() -> None:
    """Train with one seed and save the state dict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("cache", type=Path, help="folder that fetch.py filled")
    parser.add_argument("output", type=Path, help="the .pt file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--map-weight", type=float, default=1.0, help="weight of the loss on the class map")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network = train(arguments.bundle, arguments.cache, arguments.seed, arguments.map_weight, arguments.steps)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), arguments.output)


if __name__ == "__main__":
    main()

"""Synthetic heads and synthetic lesions, shared by the scripts beside this file.

A *head* is a real brain without its skull. A *rendering* samples it through a random smooth warp
at any set of points, so the same code makes a 3 mm training volume, one 2 mm slice and a 1 mm file. A *lesion* is a
soft-edged, wobbly ellipsoid brighter than the brain around it. It imitates no disease.

Points and centres are world coordinates in mm, RAS+, relative to the middle of the head's brain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BOX_MM = 130.0
"""Half the edge of the cube on which displacement and bias fields are defined."""

CHANNELS = ("t1", "brain", "depth", "grey", "white")
"""Channels of `Head.channels`; depth is the distance to the brain's surface in mm."""


TEXTURE = 0.2
"""Share of the anatomy's own contrast that shows through a lesion."""


@dataclass(frozen=True)
class Head:
    """A skull-stripped brain on a RAS+ grid.

    Attributes
    ----------
    channels : Tensor
        `CHANNELS` along the first axis, then the three voxel axes; t1 is scaled to a 99th percentile of 1.
    spacing : Tensor
        Voxel size in mm.
    centre : Tensor
        Voxel index of the middle of the brain's bounding box, the origin of all points.
    has_tissue : bool
        Whether grey and white hold tissue maps; zeros otherwise.
    """

    channels: Tensor
    spacing: Tensor
    centre: Tensor
    has_tissue: bool

    def sample(self, points: Tensor) -> Tensor:
        """Return the channels at points of shape (a, b, c, 3), as (channel, a, b, c); zero outside."""
        size = torch.tensor(self.channels.shape[1:], dtype=torch.float32)
        index = points / self.spacing + self.centre
        grid = (2 * index + 1) / size - 1
        values = functional.grid_sample(
            self.channels[None], grid.flip(-1)[None], mode="bilinear", padding_mode="zeros", align_corners=False
        )
        return values[0]


def make_head(
    t1: NDArray[np.float32],
    brain: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    tissue: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> Head:
    """Build a `Head` from RAS+ arrays."""
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(brain, iterations=3))
    depth = ndimage.distance_transform_edt(filled & ndimage.binary_dilation(brain, iterations=2), sampling=spacing)
    grey, white = tissue if tissue is not None else (np.zeros_like(t1), np.zeros_like(t1))
    scaled = np.where(brain, t1 / np.percentile(t1[brain], 99), 0)
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    centre = [(part.start + part.stop - 1) / 2 for part in box]
    stack = np.stack([scaled, brain, depth, grey, white]).astype(np.float32)
    return Head(torch.from_numpy(stack), torch.tensor(spacing), torch.tensor(centre), tissue is not None)


def read_ras(path: Path) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Return a NIfTI file's values in RAS+ order and its voxel size in mm."""
    image = nib.as_closest_canonical(nib.load(path))
    sx, sy, sz = (float(size) for size in image.header.get_zooms()[:3])
    return np.asarray(image.get_fdata(dtype=np.float32)), (sx, sy, sz)


def load_mni(cache: Path) -> Head:
    """Return the MNI152 brain of nilearn's wheel, the only head used for training."""
    pattern = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
    t1, grey, white = (read_ras(next(cache.rglob(pattern.format(name)))) for name in ("t1", "gm", "wm"))
    return make_head(t1[0], t1[0] > 0, t1[1], (grey[0] / 255, white[0] / 255))


def load_colin(cache: Path) -> Head:
    """Return Colin27 with its skull removed by BET, used for the final measurement alone."""
    t1, spacing = read_ras(next(cache.rglob("ch2bet.nii.gz")))
    return make_head(t1, t1 > 0, spacing)


def load_itk(cache: Path) -> Head:
    """Return the head of ITK's k-means test, crudely stripped, used for selection alone.

    The brightest 2 % are capped: one temporal lobe is bright enough to pass for a lesion.
    """
    t1, spacing = read_ras(next(cache.rglob("KmeansTest_T1UCharRaw.nii.gz")))
    brain = strip_skull(t1, spacing)
    return make_head(np.minimum(t1, np.percentile(t1[brain], 98)), brain, spacing)


def strip_skull(t1: NDArray[np.float32], spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Return a rough brain mask: the largest piece of tissue left after erosion, grown back and closed."""
    tissue = (t1 > 0.30 * np.percentile(t1, 98)) & (t1 < 1.15 * np.percentile(t1, 98))
    depth = ndimage.distance_transform_edt(tissue, sampling=spacing)
    labels, _ = ndimage.label(depth > 4.5)
    core = labels == (np.bincount(labels.ravel())[1:].argmax() + 1)
    grown = (ndimage.distance_transform_edt(~core, sampling=spacing) < 6.5) & (t1 > 0.08 * np.percentile(t1, 98))
    closed = ndimage.binary_closing(grown, iterations=2) & (t1 > 0)
    return np.asarray(ndimage.binary_fill_holes(closed) & (t1 > 0))


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Return one number between low and high."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def field(points: Tensor, values: Tensor) -> Tensor:
    """Interpolate control values (channel, n, n, n) over the cube of `BOX_MM` at points (a, b, c, 3)."""
    grid = (points / BOX_MM).flip(-1)[None]
    return functional.grid_sample(values[None], grid, padding_mode="border", align_corners=True)[0]


@dataclass(frozen=True)
class Warp:
    """A random affine followed by a smooth displacement of two scales, from output to source points."""

    matrix: Tensor
    shift: Tensor
    displacement: Tensor

    @classmethod
    def random(cls, generator: torch.Generator, strength: float = 1.0, shift_mm: float = 4.0) -> Warp:
        """Draw rotations up to 12 degrees, scales of 0.88 to 1.15, shears, flips and displacements."""
        angles = (torch.rand(3, generator=generator) - 0.5) * strength * math.radians(24)
        cos, sin = torch.cos(angles).tolist(), torch.sin(angles).tolist()
        turn_x = torch.tensor([[1, 0, 0], [0, cos[0], -sin[0]], [0, sin[0], cos[0]]])
        turn_y = torch.tensor([[cos[1], 0, sin[1]], [0, 1, 0], [-sin[1], 0, cos[1]]])
        turn_z = torch.tensor([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
        scale = torch.exp((torch.rand(3, generator=generator) * 0.26 - 0.14) * strength)
        shear = torch.eye(3) + torch.triu((torch.rand(3, 3, generator=generator) - 0.5) * 0.2 * strength, 1)
        flip = torch.diag(torch.tensor([-1.0 if uniform(0, 1, generator) < 0.5 else 1.0, 1.0, 1.0]))
        matrix = flip @ turn_x @ turn_y @ turn_z @ shear @ torch.diag(scale)
        coarse = torch.randn(1, 3, 5, 5, 5, generator=generator) * 5.0 * strength * uniform(0.3, 1, generator)
        fine = torch.randn(3, 11, 11, 11, generator=generator) * 2.2 * strength * uniform(0, 1, generator)
        return cls(
            matrix=matrix,
            shift=(torch.rand(3, generator=generator) * 2 - 1) * shift_mm,
            displacement=functional.interpolate(coarse, size=11, mode="trilinear", align_corners=True)[0] + fine,
        )

    def __call__(self, points: Tensor) -> Tensor:
        """Return the source points for output points of shape (a, b, c, 3)."""
        moved = (points - self.shift) @ self.matrix.T
        return moved + field(points, self.displacement).movedim(0, -1)


@dataclass(frozen=True)
class Lesion:
    """A soft-edged wobbly ellipsoid.

    Attributes
    ----------
    centre, semi_axes : Tensor
        In mm.
    rotation : Tensor
        Columns are the directions of the semi-axes.
    wobble : Tensor
        Phases and directions of the sine waves that deform the border.
    contrast : float
        Brightness in standard deviations of the brain above the brain's mean.
    edge_mm : float
        Width of the soft border.
    """

    centre: Tensor
    semi_axes: Tensor
    rotation: Tensor
    wobble: Tensor
    contrast: float
    edge_mm: float

    @classmethod
    def random(cls, centre: Tensor, generator: torch.Generator, ease: float = 0.0) -> Lesion:
        """Draw a lesion of semi-axes 8 to 15 mm and mean + 2.3 to 3.6 sd; ease (0 to 1) enlarges and brightens it."""
        rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
        return cls(
            centre=centre,
            semi_axes=(8 + 7 * torch.rand(3, generator=generator)) * (1 + 0.35 * ease),
            rotation=rotation,
            wobble=torch.randn(3, 4, generator=generator),
            contrast=uniform(2.3, 3.6, generator) + 1.2 * ease,
            edge_mm=uniform(1.5, 4, generator),
        )

    def weight(self, points: Tensor) -> Tensor:
        """Return 1 inside, 0 outside and 0.5 on the border for points of shape (..., 3)."""
        local = (points - self.centre) @ self.rotation / self.semi_axes
        radius = local.norm(dim=-1)
        direction = local / radius.clamp(min=1e-3)[..., None]
        waves = torch.sin(3 * direction @ self.wobble[:, :3] + self.wobble[:, 3]).sum(-1)
        distance = (radius - 1 - 0.06 * waves) * self.semi_axes.mean()
        return torch.sigmoid(-4 * distance / self.edge_mm)


@dataclass(frozen=True)
class Rendering:
    """One warped head with random contrast, before noise: image, soft brain mask and depth, each (a, b, c)."""

    image: Tensor
    brain: Tensor
    depth: Tensor

    def lesion_centre(self, points: Tensor, generator: torch.Generator, depth_mm: float = 8.0) -> Tensor | None:
        """Return a random point at least depth_mm inside the brain, None where there is none."""
        inside = (self.depth > depth_mm).flatten().nonzero()[:, 0]
        if len(inside) == 0:
            return None
        pick = inside[int(torch.randint(len(inside), (), generator=generator))]
        return points.reshape(-1, 3)[pick]

    def with_lesion(self, lesion: Lesion, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image with the lesion and the lesion's weight, zero outside the brain."""
        inside = self.brain > 0.5
        weight = lesion.weight(points) * inside
        values = self.image[inside]
        level = values.mean() + lesion.contrast * values.std() + TEXTURE * (self.image - values.mean())
        return self.image * (1 - weight) + level * weight, weight


def smooth(image: Tensor, sigma: float) -> Tensor:
    """Blur an (a, b, c) image by a Gaussian of sigma voxels; axes of length 1 are left alone."""
    reach = max(1, math.ceil(2.5 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    result = image[None, None]
    for axis in range(3):
        if image.shape[axis] > 1:
            shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
            shape[axis + 2], padding[axis] = len(kernel), reach
            result = functional.conv3d(result, kernel.reshape(shape), padding=tuple(padding))
    return result[0, 0]


def render(
    head: Head, warp: Warp, points: Tensor, voxel_mm: float, generator: torch.Generator, contrast: float = 1.0
) -> Rendering:
    """Return the head through the warp, with random tissue contrast, sharpness and mask edge.

    `contrast` between 0 and 1 scales how far the tissue contrast and the mask edge may vary.
    """
    t1, brain, depth, grey, white = head.sample(warp(points)).unbind()
    image = t1 / brain.clamp(min=0.2)
    if head.has_tissue:
        csf, middle = uniform(0.1, 0.45, generator), uniform(0.55, 0.8, generator)
        made = csf + (middle - csf) * grey + (1 - csf) * white
        share = uniform(0, 0.7, generator) * contrast
        image = (1 - share) * image + share * made
    sigma = uniform(0.5, 2.0, generator) / voxel_mm
    if uniform(0, 1, generator) < 0.7 and sigma > 0.15:
        blurred = smooth(image * brain, sigma) / smooth(brain, sigma).clamp(min=0.05)
        image = image + uniform(-0.8, 1.2, generator) * contrast * (image - blurred)
    image = image.clamp(min=0.02) ** math.exp(uniform(-0.35, 0.35, generator) * contrast)
    if uniform(0, 1, generator) < 0.5 * contrast:
        edge = field(points, torch.randn(1, 14, 14, 14, generator=generator))[0]
        brain = brain * torch.sigmoid(2 * (depth - 1.5 - 2.0 * edge))
    if uniform(0, 1, generator) < 0.3 * contrast:
        brain = brain * ~((image < uniform(0.2, 0.45, generator)) & (depth < 8))
    return Rendering(image, brain, depth)


def finish(image: Tensor, points: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Return the image times a smooth bias field, plus noise, never below a small positive value."""
    log_bias = torch.randn(1, 4, 4, 4, generator=generator) * 0.12 * strength
    noise = torch.randn(image.shape, generator=generator) * uniform(0, 0.06, generator) * strength
    return (image * torch.exp(field(points, log_bias)[0]) + noise).clamp(min=0.01)


def normalise(image: Tensor, brain: Tensor, clip: float = 4.0) -> Tensor:
    """Return the z-score over the brain, clipped, with a background of 0: what the bundles' preprocessing does."""
    inside = brain > 0.5
    if not bool(inside.any()):
        return torch.zeros_like(image)
    values = image[inside]
    spread = values.std(correction=0)
    scored = (image - values.mean()) / spread if float(spread) > 0 else image - values.mean()
    return scored.clamp(-clip, clip) * brain


def grid_points(shape: tuple[int, int, int], voxel_mm: float) -> Tensor:
    """Return the (a, b, c, 3) points of a grid centred on the origin."""
    axes = [(torch.arange(size) - (size - 1) / 2) * voxel_mm for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)

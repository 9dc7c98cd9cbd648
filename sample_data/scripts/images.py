"""Fresh 1 mm NIfTI images of a head, half of them with a lesion, for selection and for the final measurement."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import torch
from lesions import Lesion, Warp, finish, grid_points, load_colin, load_itk, load_mni, render

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADS = {"mni": load_mni, "itk": load_itk, "colin": load_colin}

SHAPE = (180, 216, 180)
"""Voxels of 1 mm: holds every warped head."""

WARP_STRENGTH = 0.7
CONTRAST_STRENGTH = 0.5


def write_images(head_name: str, cache: Path, folder: Path, count: int, seed: int) -> None:
    """Write `count` volumes and the slices cut from them; odd numbers hold a lesion.

    `volume_000.nii.gz` and `mask_000.nii.gz` are 3D. `slice_000.nii.gz` and `slice_mask_000.nii.gz` are one axial slice
    of the volume: with a lesion, a random one in which the section is at least half of the largest; without, a random
    one of all that hold brain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    head = HEADS[head_name](cache)
    generator = torch.Generator().manual_seed(seed)
    points = grid_points(SHAPE, 1.0)
    for index in range(count):
        rendering = render(head, Warp.random(generator, WARP_STRENGTH), points, 1.0, generator, CONTRAST_STRENGTH)
        image, weight = rendering.image, torch.zeros(SHAPE)
        if index % 2:
            centre = rendering.lesion_centre(points, generator)
            assert centre is not None
            image, weight = rendering.with_lesion(Lesion.random(centre, generator), points)
        image = finish(image, points, generator, 0.7) * (rendering.brain > 0.5)
        mask = (weight > 0.5).numpy().astype(np.uint8)
        values = (image * 400).round().numpy().astype(np.int16)
        values[(rendering.brain > 0.5).numpy() & (values <= 0)] = 1
        origin = points[0, 0, 0].numpy() + torch.randn(3, generator=generator).numpy() * 10
        affine = np.eye(4)
        affine[:3, 3] = origin
        save(values, affine, folder / f"volume_{index:03d}.nii.gz")
        save(mask, affine, folder / f"mask_{index:03d}.nii.gz")
        areas = mask.sum((0, 1)) if index % 2 else (values > 0).sum((0, 1)) > 0
        fitting = np.flatnonzero(areas >= max(1, areas.max() / 2))
        chosen = int(fitting[int(torch.randint(len(fitting), (), generator=generator))])
        affine = affine.copy()
        affine[2, 3] += chosen
        save(values[:, :, chosen : chosen + 1], affine, folder / f"slice_{index:03d}.nii.gz")
        save(mask[:, :, chosen : chosen + 1], affine, folder / f"slice_mask_{index:03d}.nii.gz")


def save(values: NDArray[np.generic], affine: NDArray[np.float64], path: Path) -> None:
    """Write one NIfTI file in millimetres."""
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def main() -> None:
    """Write one head's images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("head", choices=HEADS)
    parser.add_argument("cache", type=Path, help="folder that fetch.py filled")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=2027)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write_images(arguments.head, arguments.cache, arguments.folder, arguments.count, arguments.seed)


if __name__ == "__main__":
    main()

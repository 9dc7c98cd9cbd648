"""Compare candidate weights on the validation images, choose a bias shift, and write the chosen weights to the bundle.

Candidates are trained with different seeds; the images come from `images.py` for the heads `mni` (fresh warps of the
training head) and `itk` (a head never trained on). Colin27 takes no part. Preprocessing is the bundle's own.

The shift moves the bias of the class 'lesion' so that a probability of 0.5 lies between the two groups; it changes no
class map.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from scipy.spatial import cKDTree
from torch import Tensor, nn
from train import forward

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Image:
    """One preprocessed image: the network's input, and the lesion's voxels in world mm (none when healthy)."""

    tensor: MetaTensor
    lesion_mm: NDArray[np.float64]


def load(path: Path) -> MetaTensor:
    """Return a NIfTI file as a channel-first MetaTensor."""
    image = nib.load(path)
    return MetaTensor(torch.from_numpy(image.get_fdata(dtype=np.float32))[None], affine=torch.from_numpy(image.affine))


def lesion_voxels(path: Path) -> NDArray[np.float64]:
    """Return the world positions of a mask's voxels."""
    mask = nib.load(path)
    return np.asarray(nib.affines.apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0)))


def preprocessing(bundle: Path) -> Any:
    """Return the bundle's transforms without the two that load a file."""
    parser = ConfigParser(json.loads((bundle / "configs" / "inference.json").read_text()))
    parser["preprocessing"]["transforms"] = parser["preprocessing"]["transforms"][2:]
    return parser.get_parsed_content("preprocessing")


def network(bundle: Path, weights: Path) -> nn.Module:
    """Return the bundle's network with the given weights, in evaluation mode."""
    parser = ConfigParser(json.loads((bundle / "configs" / "inference.json").read_text()))
    result: nn.Module = parser.get_parsed_content("network_def")
    result.load_state_dict(torch.load(weights, weights_only=True))
    return result.eval()


def slices(volume: MetaTensor) -> list[MetaTensor]:
    """Cut a RAS volume into axial slices, each with the volume's affine moved to its height."""
    result = []
    for index in range(volume.shape[-1]):
        affine = volume.affine.clone()
        affine[:3, 3] += index * affine[:3, 2]
        result.append(MetaTensor(volume.as_tensor()[..., index].clone(), affine=affine))
    return result


def hottest_mm(class_map: Tensor, tensor: MetaTensor) -> NDArray[np.float64]:
    """Return the world position of the centre of a map's largest cell."""
    cell = np.array(np.unravel_index(int(class_map.argmax()), tuple(class_map.shape)), float)
    ratio = np.array(tensor.shape[1:]) / np.array(class_map.shape)
    voxel = np.zeros(3)
    voxel[: len(cell)] = cell * ratio + (ratio - 1) / 2
    return np.asarray(nib.affines.apply_affine(np.asarray(tensor.affine), voxel))


@dataclass(frozen=True)
class Outcome:
    """What one network says of one image: the difference of the logits, the map's maximum, and its distance."""

    margin: float
    maximum: float
    distance_mm: float
    """From the hottest cell's centre to the nearest lesion voxel; nan on a healthy image."""


@torch.inference_mode()
def judge(model: nn.Module, image: Image) -> Outcome:
    """Run one image and take the Grad-CAM of the class 'lesion' at class_layers.relu."""
    logits, maps = forward(model, image.tensor.as_tensor()[None])
    lesion = maps[0, 1].clamp(min=0) / maps[0, 1].numel()
    distance = float("nan")
    if len(image.lesion_mm) and float(lesion.max()) > 0:
        distance = float(cKDTree(image.lesion_mm).query(hottest_mm(lesion, image.tensor))[0])
    elif len(image.lesion_mm):
        distance = float("inf")
    return Outcome(float(logits[0, 1] - logits[0, 0]), float(lesion.max()), distance)


def auc(healthy: NDArray[np.float64], lesioned: NDArray[np.float64]) -> float:
    """Return the probability that a lesioned image scores higher than a healthy one; ties count half."""
    difference = lesioned[:, None] - healthy[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def best_threshold(healthy: list[NDArray[np.float64]], lesioned: list[NDArray[np.float64]]) -> float:
    """Return the threshold with the best mean accuracy over groups, the middle of the widest best interval."""
    values = np.unique(np.concatenate([*healthy, *lesioned]))
    middles = (values[1:] + values[:-1]) / 2
    right = sum((group[None] < middles[:, None]).mean(1) for group in healthy)
    right = right + sum((group[None] > middles[:, None]).mean(1) for group in lesioned)
    best = np.flatnonzero(right >= right.max() - 1e-9)
    widest = best[np.argmax(values[best + 1] - values[best])]
    return float(middles[widest])


def describe(name: str, outcomes: list[Outcome], labels: NDArray[np.int_], shift: float, cell_mm: float) -> str:
    """Return one row of the README's table."""
    margins = np.array([o.margin for o in outcomes]) + shift
    said = margins > 0
    distances = np.array([o.distance_mm for o in outcomes])[said & (labels == 1)]
    maxima = np.array([o.maximum for o in outcomes])
    return (
        f"| {name} | {auc(margins[labels == 0], margins[labels == 1]):.3f} | {(said == labels).mean():.3f} "
        f"| {(distances <= 0.87).mean():.0%} | {(distances <= cell_mm).mean():.0%} of {len(distances)} "
        f"| {np.median(maxima[labels == 0]):.4g} / {maxima[labels == 0].max():.4g} "
        f"| {np.median(maxima[labels == 1]):.4g} / {maxima[labels == 1].min():.4g} "
        f"| {margins[labels == 0].max():+.2f} / {margins[labels == 1].min():+.2f} |"
    )


def main() -> None:
    """Print the validation table and, with --write, the weights with their shift into the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, help="folder with one folder of images for each validation head")
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true", help="write the one set of weights given, shifted")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transforms = preprocessing(arguments.bundle)
    models = [network(arguments.bundle, path) for path in arguments.weights]
    flat = next(m for m in models[0].modules() if isinstance(m, nn.Conv2d | nn.Conv3d)).weight.ndim == 4
    cell_mm = 8.0 if flat else 12.0
    outcomes: dict[tuple[str, int], list[Outcome]] = {}
    tops: dict[tuple[str, int], list[float]] = {}
    labels: dict[str, NDArray[np.int_]] = {}
    for folder in sorted(path for path in arguments.images.iterdir() if path.is_dir()):
        paths = sorted(folder.glob("slice_[0-9]*.nii.gz" if flat else "volume_*.nii.gz"))
        labels[folder.name] = np.array([int(path.name[-10:-7]) % 2 for path in paths])
        for path in paths:
            volume = load(path)
            tensor = transforms({"image": slices(volume)[0] if flat else volume})["image"]
            mask = path.name.replace("slice", "slice_mask") if flat else path.name.replace("volume", "mask")
            image = Image(tensor, lesion_voxels(path.with_name(mask)))
            for number, model in enumerate(models):
                outcomes.setdefault((folder.name, number), []).append(judge(model, image))
        for path in sorted(folder.glob("volume_*.nii.gz")) if flat else []:
            stack = torch.stack([transforms({"image": part})["image"].as_tensor() for part in slices(load(path))])
            for number, model in enumerate(models):
                with torch.inference_mode():
                    logits = torch.cat([forward(model, part)[0] for part in stack.split(32)])
                tops.setdefault((folder.name, number), []).append(float((logits[:, 1] - logits[:, 0]).max()))
    print(
        "| weights, head | AUC | accuracy | hottest inside | within a cell "
        "| raw maximum, healthy: median / largest | raw maximum, lesion: median / smallest "
        "| margin: largest healthy / smallest lesion |"
    )
    for number, path in enumerate(arguments.weights):
        healthy, lesioned = [], []
        for name, label in labels.items():
            single = np.array([o.margin for o in outcomes[name, number]])
            for margins in (single, np.array(tops.get((name, number), []))):
                if len(margins):
                    healthy.append(margins[label == 0])
                    lesioned.append(margins[label == 1])
        shift = -best_threshold(healthy, lesioned)
        for name, label in labels.items():
            print(describe(f"{path.stem} {name} unshifted", outcomes[name, number], label, 0, cell_mm))
            print(describe(f"{path.stem} {name} shift {shift:+.2f}", outcomes[name, number], label, shift, cell_mm))
            if flat:
                top = np.array(tops[name, number])
                print(
                    f"  volumes (max over slices) {name}: AUC {auc(top[label == 0], top[label == 1]):.3f}, "
                    f"accuracy {((top + shift > 0) == label).mean():.3f}, largest healthy margin "
                    f"{top[label == 0].max() + shift:.2f}, smallest lesion margin {top[label == 1].min() + shift:.2f}"
                )
        if arguments.write and len(models) == 1:
            with torch.no_grad():
                models[0].class_layers.out.bias[1] += shift
            target = arguments.bundle / "models" / "model.pt"
            target.parent.mkdir(exist_ok=True)
            torch.save(models[0].state_dict(), target)
            print(f"written {target.name} with shift {shift:+.2f}")


if __name__ == "__main__":
    main()

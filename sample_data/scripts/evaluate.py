"""Measure a bundle the way a person meets it: NIfTI files read, classified and explained by napari-gradcam.

The images come from `images.py`; for the final numbers they are Colin27's. Files are `volume_*` for the 3D bundle and,
for the 2D bundle, `slice_*` (one axial slice each) or, with --volumes, whole volumes whose score is the largest of
their slices.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from napari_gradcam import Classifier, explain, load_classifier, read_volume


@dataclass(frozen=True)
class Result:
    """One image: the truth, the probability of 'lesion', and where and how hot its map is hottest."""

    lesion: bool
    probability: float
    maximum: float
    inside: bool
    distance_mm: float
    """From the hottest voxel to the nearest voxel of the lesion; 0 inside, nan on a healthy image."""
    cell_mm: float
    slices_over: int
    """Slices with a probability over 0.5; 0 for a 3D network."""


def measure(path: Path, mask_path: Path, classifier: Classifier) -> Result:
    """Explain the class 'lesion' on one file."""
    volume = read_volume(path)
    explanation = explain(volume, classifier, target="lesion")
    mask = nib.load(mask_path)
    lesion = np.argwhere(np.asarray(mask.dataobj) > 0)
    distance, inside = float("nan"), False
    if len(lesion):
        positions = nib.affines.apply_affine(mask.affine, lesion)
        distance = float(np.linalg.norm(positions - np.array(explanation.peak.position), axis=1).min())
        distance = distance if explanation.peak.value > 0 else float("inf")
        inside = distance < 0.5
    over = 0 if explanation.slice_scores is None else int((explanation.slice_scores[:, 1] > 0.5).sum())
    return Result(
        lesion=bool(len(lesion)),
        probability=explanation.scores["lesion"],
        maximum=explanation.peak.value,
        inside=inside,
        distance_mm=distance,
        cell_mm=max(explanation.cell_size),
        slices_over=over,
    )


def summary(results: list[Result]) -> str:
    """Return the numbers as a Markdown table."""
    healthy = [r for r in results if not r.lesion]
    lesioned = [r for r in results if r.lesion]
    found = [r for r in lesioned if r.probability > 0.5]
    wins = [(a.probability > b.probability) + 0.5 * (a.probability == b.probability) for a in lesioned for b in healthy]
    right = len(found) + sum(r.probability <= 0.5 for r in healthy)
    over = [r.slices_over for r in healthy]
    cold, hot = np.array([r.maximum for r in healthy]), np.array([r.maximum for r in lesioned])
    rows = [
        ("images, with a lesion", f"{len(results)}, {len(lesioned)}"),
        ("AUC", f"{np.mean(wins):.3f}"),
        ("accuracy at probability 0.5", f"{right / len(results):.3f}"),
        ("lesions found (sensitivity)", f"{len(found)} of {len(lesioned)}"),
        ("healthy called healthy (specificity)", f"{sum(r.probability <= 0.5 for r in healthy)} of {len(healthy)}"),
        ("hottest voxel inside the lesion", f"{sum(r.inside for r in found)} of {len(found)}"),
        (
            f"inside or within one cell ({results[0].cell_mm:.0f} mm)",
            f"{sum(r.distance_mm <= r.cell_mm for r in found)} of {len(found)}",
        ),
        ("raw maximum, healthy: median, largest", f"{np.median(cold):.3g}, {cold.max():.3g}"),
        ("raw maximum, lesion: smallest, median", f"{hot.min():.3g}, {np.median(hot):.3g}"),
        ("slices over 0.5 in a healthy image: mean, largest", f"{np.mean(over):.2f}, {max(over)}"),
    ]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def main() -> None:
    """Measure one bundle on one folder of images and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, help="folder that images.py filled")
    parser.add_argument("--volumes", action="store_true", help="give a 2D bundle whole volumes")
    parser.add_argument("--count", type=int, help="measure only the first so many images")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    classifier = load_classifier(arguments.bundle)
    whole = classifier.spatial_dims == 3 or arguments.volumes
    paths = sorted(arguments.images.glob("volume_*.nii.gz" if whole else "slice_[0-9]*.nii.gz"))[: arguments.count]
    results = []
    for path in paths:
        mask = path.name.replace("volume", "mask") if whole else path.name.replace("slice", "slice_mask")
        results.append(measure(path, path.with_name(mask), classifier))
    print(summary(results))


if __name__ == "__main__":
    main()

"""Make `mni152_lesion/`: the MNI152 T1 brain of nilearn's wheel with one synthetic lesion, and the lesion's mask."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from lesions import Lesion, Rendering

CENTRE_MM = (32.0, 20.0, 34.0)
"""World position (RAS+): the white matter of the right frontal lobe, off every middle plane."""

SEMI_AXES_MM = (13.0, 10.0, 11.0)
CONTRAST_SD = 2.7


def main() -> None:
    """Write the image, the mask and lesion.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path, help="folder that fetch.py filled")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "mni152_lesion")
    arguments = parser.parse_args()
    source = nib.load(next(arguments.cache.rglob("mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")))
    values = torch.from_numpy(np.asarray(source.dataobj).astype(np.float32))
    indices = torch.stack(torch.meshgrid(*(torch.arange(size) for size in values.shape), indexing="ij"), -1)
    affine = torch.from_numpy(source.affine).float()
    points = indices.float() @ affine[:3, :3].T + affine[:3, 3]

    generator = torch.Generator().manual_seed(7)
    drawn = Lesion.random(torch.tensor(CENTRE_MM), generator)
    lesion = Lesion(drawn.centre, torch.tensor(SEMI_AXES_MM), drawn.rotation, drawn.wobble, CONTRAST_SD, 3.0)
    image, weight = Rendering(values, (values > 0).float(), values).with_lesion(lesion, points)
    mask = (weight > 0.5).numpy()

    arguments.output.mkdir(parents=True, exist_ok=True)
    nib.openers.Opener.default_compresslevel = 9
    arrays = {"mni152_t1_lesion": image.round().numpy().astype(np.int16), "lesion_mask": mask.astype(np.uint8)}
    for name, array in arrays.items():
        written = nib.Nifti1Image(array, source.affine)
        written.set_qform(source.affine, "mni")
        written.set_sform(source.affine, "mni")
        written.header.set_xyzt_units("mm")
        nib.save(written, arguments.output / f"{name}.nii.gz")
    centre = nib.affines.apply_affine(source.affine, np.argwhere(mask)).mean(0)
    facts = {
        "synthetic": True,
        "coordinates": "RAS+ world, mm",
        "hemisphere": "right",
        "centre_mm": [round(float(value), 2) for value in centre],
        "semi_axes_mm": list(SEMI_AXES_MM),
        "contrast_sd_above_brain_mean": CONTRAST_SD,
        "mask_volume_mm3": int(mask.sum()),
    }
    (arguments.output / "lesion.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()

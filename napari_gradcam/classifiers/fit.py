"""The scan against what the model was made for: sentences on where they differ, none where they fit.

A network answers whatever it is given: that a scan has another modality, other values or other channels than those it
was trained on shows in no score. Only what both sides say is compared; what either leaves open says nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from napari_gradcam.classifiers.channels import COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.classifiers.channels import Channels
    from napari_gradcam.classifiers.classifier import Classifier
    from napari_gradcam.classifiers.preprocessing import Prepared
    from napari_gradcam.volumes import Volume

KINDS = {
    "MR": "MR MRI MRT FMRI T1 T1W T2 T2W T1C T1CE FLAIR DWI ADC PD MAGNETIC",
    "CT": "CT CBCT HRCT CTA HOUNSFIELD",
    "X-ray": "XRAY RADIOGRAPH RADIOGRAPHS RADIOGRAPHY CXR CR DX DR MG MAMMOGRAM MAMMOGRAPHY RF XA PX IO",
    "ultrasound": "US IVUS ULTRASOUND SONOGRAPHY ECHOCARDIOGRAPHY",
    "PET": "PT PET",
    "nuclear medicine": "NM SPECT SCINTIGRAPHY",
    "optical coherence tomography": "OCT OPT OPTOCT",
    "microscopy": "SM GM WSI HISTOLOGY HISTOPATHOLOGY MICROSCOPY",
    "endoscopy": "ES ENDOSCOPY COLONOSCOPY",
}
"""Kinds of pictures as they are said, and the words for each: DICOM's codes (PS3.3 C.7.3.1.1.1) and those of people."""

SLACK = 0.1
"""So much of the range of values that a model was made for may be overstepped: interpolation and noise do."""

NARROWEST = 0.02
"""Values that fill less than this share of that range are in other units."""

FINEST = 2.0
"""Voxels of the network that are so many times finer than the scan's are mostly interpolated."""

_KIND_OF = {word: kind for kind, words in KINDS.items() for word in words.split()}
_COLOUR_NAMES = {*COLOURS, "r", "g", "b", "rgb", "image", "img", "color", "colour"}


def fit_notices(
    channels: Channels, prepared: Prepared, classifier: Classifier, values: tuple[float, float] | None = None
) -> tuple[str, ...]:
    """Say where a scan differs from what a classifier was made for.

    Parameters
    ----------
    channels
        The scans as they entered the preprocessing.
    prepared
        What the network read; of many slices, some of them.
    classifier
        What it was made for stands in its ``wants``.
    values
        Lowest and highest value of all that the network read; by default of `prepared`.

    Returns
    -------
    tuple of str
        Whole sentences.
    """
    wants = classifier.wants
    read = values or (float(prepared.tensor.min()), float(prepared.tensor.max()))
    found = (
        _modality(wants.modality, channels),
        _values(wants.value_range, read, channels),
        _number(classifier, int(prepared.tensor.shape[1])),
        _colours(wants.channels, channels),
        _size(wants.size, tuple(prepared.tensor.shape[2:])) if classifier.windows is None else "",
        _interpolated(channels.volume, prepared),
    )
    return tuple(notice for notice in found if notice)


def kinds_of(modality: str) -> set[str]:
    """Give the kinds of pictures that a text names, such as ``{"MR"}`` for ``"T1-weighted MR"``; empty where none."""
    words = re.split(r"[^A-Z0-9]+", re.sub(r"X[- ]?RAYS?", "XRAY", modality.upper()))
    kinds = {_KIND_OF[word] for word in words if word in _KIND_OF}
    text = modality.casefold()
    for told, kind in (("computed tomography", "CT"), ("positron emission", "PET"), ("coherence tomography", "OCT")):
        if told in text:
            kinds.add(_KIND_OF[kind])
    return kinds


def _modality(wanted: str, channels: Channels) -> str:
    made_for = kinds_of(wanted)
    if not made_for:
        return ""
    volumes = list(dict.fromkeys(channels.volumes))
    for volume in volumes:
        if (given := kinds_of(volume.modality)) and not given & made_for:
            which = "this one" if len(volumes) == 1 else f"“{volume.name}”"
            return (
                f"The model was made for {_either(made_for)} scans and {which} is {_either(given)}: its scores and map "
                "may mean nothing."
            )
    unknown = [volume.name for volume in volumes if not volume.modality]
    if not unknown:
        return ""
    which = "this one" if len(volumes) == 1 else f"“{unknown[0]}”"
    return f"The model was made for {_either(made_for)} scans and the file does not say what {which} is: make sure."


def _either(kinds: set[str]) -> str:
    return " or ".join(kind for kind in KINDS if kind in kinds)


def _values(wanted: tuple[float, float] | None, read: tuple[float, float], channels: Channels) -> str:
    """Say that neither the scan's own values nor what was made of them fit the range that a model was made for.

    Of that range some makers mean the one and some the other: MONAI's schema does not say.
    """
    if wanted is None or not np.isfinite(wanted).all() or not wanted[1] > wanted[0] or _fit(read, wanted):
        return ""
    own = float(channels.array.min()), float(channels.array.max())
    # Colours are whole numbers up to 255 in one file and fractions in another.
    fractions = (own[0] / 255, own[1] / 255) if channels.array.dtype == np.uint8 else own
    if _fit(own, wanted) or _fit(fractions, wanted):
        return ""
    scan, network, model = (f"{low:.3g} to {high:.3g}" for low, high in (own, read, wanted))
    of_scan = "" if scan == network else f", from a scan with values from {scan},"
    return (
        f"The network read values from {network}{of_scan} and was made for values from {model}: the scan may be in "
        "other units than those it was trained on."
    )


def _fit(values: tuple[float, float], wanted: tuple[float, float]) -> bool:
    width = wanted[1] - wanted[0]
    outside = values[0] < wanted[0] - SLACK * width or values[1] > wanted[1] + SLACK * width
    return not outside and not 0 < values[1] - values[0] < NARROWEST * width


def _number(classifier: Classifier, read: int) -> str:
    """Say that a network took another number of channels than was declared; most refuse to."""
    names = classifier.wants.channels
    if not names or len(names) == read or len(names) == 1:
        return ""
    return f"The model was made for {len(names)} channels ({', '.join(names)}) and read {read}."


def _colours(names: Sequence[str], channels: Channels) -> str:
    """Say that the colours of a picture were read as something else."""
    plain = [name.strip().casefold() for name in names]
    if len(plain) != len(channels) or any(name in _COLOUR_NAMES or "rgb" in name for name in plain):
        return ""
    read = [f"{one} as “{name}”" for one, name in zip(channels.reads, names, strict=True) if one in COLOURS]
    return f"The network read {', '.join(read)}: the colours of a picture are no such channels." if read else ""


def _size(wanted: tuple[int, ...] | None, read: tuple[int, ...]) -> str:
    if wanted is None or wanted == read:
        return ""
    sizes = (" × ".join(map(str, size)) for size in (wanted, read))
    return "The model was made for an input of {} voxels and read one of {}: its scores may differ.".format(*sizes)


def _interpolated(volume: Volume, prepared: Prepared) -> str:
    """Say that the network's voxels are much finer than the scan's along an axis, of those that were read."""
    steps = np.linalg.solve(prepared.affines[0], volume.affine)[: prepared.tensor.ndim - 2, :3]
    finer = np.linalg.norm(steps, axis=0) * (np.array(volume.shape) > 1)
    axis = int(finer.argmax())
    if not finer[axis] > FINEST:
        return ""
    if volume.unit == "pixels":
        return f"The picture was enlarged {finer[axis]:.2g} times: most of what the network read was interpolated."
    apart = volume.spacing[axis]
    between = "slices" if prepared.tensor.ndim == 5 and apart == max(volume.spacing) else "voxels"
    return (
        f"The scan's {between} lie {apart:.3g} mm apart and the network's voxels {apart / finer[axis]:.3g} mm: most of "
        f"what it read between {between} was interpolated."
    )

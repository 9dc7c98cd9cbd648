"""Where an explanation comes from: all that someone else needs to make it again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Model:
    """The classifier that was asked.

    Attributes
    ----------
    name, version
        As its makers give them.
    source
        The bundle's folder or zip, or the recipe; None of a network in memory.
    contents
        SHA-256 of all files of the bundle, names included, as they were when it was first asked; "" of a network in
        memory, and where they cannot be read any more.
    weights
        SHA-256 of the weights that ran (:func:`napari_gradcam.origin.weights_digest`).
    preprocessing
        The steps that ran, each ``{"name": class, …its settings}``.
    activation
        How its output was read, ``"softmax"`` or ``"sigmoid"``.
    spatial_dims
        2 or 3.
    """

    name: str
    version: str
    source: Path | None
    contents: str
    weights: str
    preprocessing: tuple[Mapping[str, Any], ...]
    activation: str
    spatial_dims: int


@dataclass(frozen=True)
class Asked:
    """What was asked for; see :func:`napari_gradcam.explain`. What is None was left to the classifier."""

    target: str | None = None
    method: str = "gradcam"
    layers: tuple[str, ...] | None = None
    plane: str | None = None
    against: str | None = None
    signed: bool = False
    smooth: int = 0
    device: str | None = None


@dataclass(frozen=True)
class Provenance:
    """How an explanation was made.

    Attributes
    ----------
    model
        Who was asked.
    asked
        What was asked for.
    device
        Where the network ran, such as ``"cpu"`` or ``"cuda:0"``.
    seed
        What the noise of a smooth map was drawn with; None where nothing is left to chance.
    seconds
        How long reading the scan by the network and mapping took, ``{"network": …, "map": …, "placing": …}``; what was
        at hand from an earlier run is not among them.
    versions
        Of this package, Python, torch, MONAI and numpy.
    """

    model: Model
    asked: Asked
    device: str
    seed: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

"""Small scans with hand-made maps: what export needs, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_gradcam.explanation import Explanation
from napari_gradcam.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

RAS = np.array([[2.0, 0, 0, -10], [0, 2, 0, -12], [0, 0, 3, -9], [0, 0, 0, 1]])
"""2 × 2 × 3 mm, axes to the patient's right, front and top."""


def volume_of(affine: Any = RAS, shape: tuple[int, ...] = (10, 12, 8), **given: Any) -> Volume:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Volume(**({"array": array, "affine": np.asarray(affine), "name": "scan"} | given))


def explanation_of(volume: Volume, hottest: tuple[int, int, int] = (7, 9, 5), **given: Any) -> Explanation:
    """Weak noise and one hot voxel; of another shape than 10 × 12 × 8, the last voxel."""
    heatmap = np.random.default_rng(0).random(volume.shape, dtype=np.float32) * 0.01
    heatmap[hottest if volume.shape == (10, 12, 8) else (-1, -1, -1)] = 0.083
    fields = {
        "heatmap": heatmap,
        "affine": volume.affine,
        "coarse": heatmap[::2, ::2, ::2],
        "coarse_affine": volume.affine @ np.diag([2.0, 2, 2, 1]),
        "scores": {"no lesion": 0.0131, "lesion": 0.9869},
        "logits": {"no lesion": -2.1, "lesion": 2.2},
        "target": "lesion",
        "layer": "class_layers.relu",
        "method": "gradcam",
        "volume_name": volume.name,
        "classifier_name": "two classes",
        "notices": ("The scan is made by hand.",),
        "volumes": (volume,),
    }
    return Explanation(**(fields | given))


@pytest.fixture
def make_volume() -> Callable[..., Volume]:
    return volume_of


@pytest.fixture
def make_explanation() -> Callable[..., Explanation]:
    return explanation_of


@pytest.fixture
def volume() -> Volume:
    return volume_of()


@pytest.fixture
def explanation(volume: Volume) -> Explanation:
    return explanation_of(volume)


@pytest.fixture
def empty(volume: Volume) -> Explanation:
    return explanation_of(volume, heatmap=np.zeros(volume.shape, dtype=np.float32))

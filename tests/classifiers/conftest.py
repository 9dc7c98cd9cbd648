"""Small bundles, written to disk as MONAI's are."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from monai.networks.nets import DenseNet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NETWORK = {
    "_target_": "DenseNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "init_features": 4,
    "growth_rate": 4,
    "block_config": [2],
    "bn_size": 1,
}
INFERENCE: dict[str, Any] = {
    "network_def": NETWORK,
    "size": 32,
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": ["image", "label"]},
            {"_target_": "EnsureChannelFirstd", "keys": ["image", "label"]},
            {"_target_": "monai.transforms.Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "AsDiscreted", "keys": "label", "to_onehot": 2},
            {"_target_": "Resized", "keys": ["image", "label"], "spatial_size": ["@size", "$@size // 2 + 16", 32]},
        ],
    },
    "inferer": {"_target_": "SimpleInferer"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False]},
        ],
    },
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
}
METADATA: dict[str, Any] = {
    "name": "Small",
    "version": "0.1.0",
    "description": "Random weights.",
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1, "spatial_shape": [32, 32, 32]}},
        "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "calm", "1": "storm"}}},
    },
}


@pytest.fixture
def write_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the small bundle, changed as asked, and gives its folder."""

    def write(change: Callable[[dict[str, Any], dict[str, Any]], None] | None = None) -> Path:
        inference, metadata = copy.deepcopy(INFERENCE), copy.deepcopy(METADATA)
        torch.manual_seed(0)
        network = DenseNet(**{key: value for key, value in NETWORK.items() if key != "_target_"})
        if change:
            change(inference, metadata)
        folder = tmp_path / "small"
        for name in ("configs", "models"):
            (folder / name).mkdir(parents=True)
        (folder / "configs" / "inference.json").write_text(json.dumps(inference))
        (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
        torch.save(network.state_dict(), folder / "models" / "model.pt")
        return folder

    return write

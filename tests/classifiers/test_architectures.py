"""Every classifier of MONAI's is there by its name, in 2D and 3D, and can be explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigComponent

from napari_gradcam import GradCamError, Volume, explain, load_classifier
from napari_gradcam.cam import output_scores
from napari_gradcam.classifiers.architectures import ARCHITECTURES, architecture

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

FEW = {"layers": [1, 1, 1, 1], "inplanes": 8, "reduction": 2}
SMALL: dict[str, dict[str, Any]] = {
    "DenseNet": {"block_config": [2, 2], "init_features": 4, "growth_rate": 4},
    **{f"DenseNet{depth}": {"block_config": [1, 1], "init_features": 4, "growth_rate": 4} for depth in (121, 169, 201)},
    "ResNet": {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 4, 8, 8]},
    "SENet": {"block": "se_resnet_bottleneck", "groups": 1, **FEW},
    **{f"SEResNet{depth}": FEW for depth in (50, 101, 152)},
    **{f"SEResNext{depth}": {**FEW, "inplanes": 64} for depth in (50, 101)},
    "EfficientNetBN": {"model_name": "efficientnet-b0"},
    "EfficientNet": {"blocks_args_str": ["r1_k3_s11_e1_i32_o16_se0.25", "r1_k3_s22_e6_i16_o24_se0.25"]},
    "Classifier": {"channels": [4, 8], "strides": [2, 2]},
    "Discriminator": {"channels": [4, 8], "strides": [2, 2]},
    "ViT": {"hidden_size": 24, "mlp_dim": 24, "num_layers": 1, "num_heads": 2},
}
"""Options that make a network small; what is not here has none, and is large."""


def built(name: str, dims: int, outputs: int = 3, size: int = 32, device: str = "meta", **options: Any) -> nn.Module:
    node = architecture(name, dims, 2, outputs, (size,) * dims, options)
    with torch.device(device):
        return ConfigComponent(dict(node)).instantiate().eval()


def scores(network: nn.Module, dims: int, size: int = 32, device: str = "meta") -> torch.Size:
    with torch.no_grad():
        return output_scores(network(torch.zeros(1, 2, *(size,) * dims, device=device))).shape


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "TorchVisionFCModel"])
def test_every_network_is_built_in_two_and_three_dimensions(name: str, dims: int) -> None:
    outputs = 1 if name == "Discriminator" else 3
    # Without values on PyTorch's meta device: the large ones take gigabytes otherwise.
    network = built(name, dims, outputs, **SMALL.get(name, {}))
    assert type(network).__name__ == ("ResNet" if name.startswith("resnet") else name)
    assert scores(network, dims) == (1, outputs)


def test_the_largest_of_efficientnet_that_people_use_is_built() -> None:
    assert scores(built("efficientnet-b8", 2), 2) == (1, 3)


@pytest.mark.parametrize("size", ["b1", "b8", "l2"])
def test_the_sizes_of_efficientnet_have_names(size: str) -> None:
    for node in (
        architecture("EfficientNetBN", 2, 1, 3, (64, 64), {"model_name": f"efficientnet-{size}"}),
        architecture("EfficientNetBN", 2, 1, 3, (64, 64), {"model_name": size}),
        architecture(f"efficientnet-{size}", 2, 1, 3, (64, 64)),
    ):
        assert node["model_name"] == f"efficientnet-{size}"
        assert node["pretrained"] is False


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("densenet121", "DenseNet121"),
        ("Densenet121", "DenseNet121"),
        ("monai.networks.nets.DenseNet121", "DenseNet121"),
        ("ResNet-50", "resnet50"),
        ("SEresnet50", "SEResNet50"),
        ("SEResNeXt101", "SEResNext101"),
        ("senet154", "SENet154"),
        ("vit", "ViT"),
    ],
)
def test_names_are_found_however_they_are_written(written: str, name: str) -> None:
    assert architecture(written, 2, 1, 2, (32, 32))["_target_"] == f"monai.networks.nets.{name}"


def test_weights_from_elsewhere_are_never_asked_for() -> None:
    for name in ARCHITECTURES:
        if name not in ("TorchVisionFCModel", "Discriminator"):
            node = architecture(name, 2, 1, 2, (32, 32), {**SMALL.get(name, {}), "pretrained": True})
            assert not node.get("pretrained")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("DenseNet12", {}, r"no network “DenseNet12” among MONAI's classifiers: did you mean DenseNet121"),
        ("qwertz", {}, r"no network “qwertz” among MONAI's classifiers: napari-gradcam bundle networks lists them"),
        ("NaViT", {}, "reads lists of pictures rather than one"),
        ("DenseNet121", {"grow_rate": 4}, r"no option “grow_rate”: did you mean “growth_rate”\?"),
        ("DenseNet121", {"in_channels": 1}, "is given its “in_channels” already"),
        ("resnet18", {"layers": [1, 1, 1, 1]}, "is given its “layers” already"),
        ("ResNet", {"block": "basic"}, "needs “block_inplanes”, “layers”; add them"),
        ("Classifier", {"channels": [2]}, "needs “strides”; add them"),
        ("EfficientNetBN", {}, "needs “model_name”; add them"),
        ("Discriminator", {"channels": [2], "strides": [2]}, "has one output, not 2"),
        ("TorchVisionFCModel", {}, "read pictures of 3 channels, not 2D ones of 1"),
    ],
)
def test_a_mistake_in_name_or_options_is_told_with_the_way_out(
    name: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(GradCamError, match=sentence):
        architecture(name, 2, 1, 2, (32, 32), options)


def test_torchvision_is_asked_for_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_gradcam.classifiers.architectures.find_spec", lambda _: None)
    with pytest.raises(GradCamError, match="which is not installed; install torchvision"):
        architecture("TorchVisionFCModel", 2, 3, 2, (224, 224), {"model_name": "resnet18"})
    monkeypatch.setattr("napari_gradcam.classifiers.architectures.find_spec", lambda _: object())
    node = architecture("TorchVisionFCModel", 2, 3, 2, (224, 224), {"model_name": "resnet18", "use_conv": True})
    assert node == {
        "_target_": "monai.networks.nets.TorchVisionFCModel",
        "num_classes": 2,
        "model_name": "resnet18",
        "use_conv": True,
    }


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["DenseNet", "resnet10", "SEResNet50", "EfficientNet", "Classifier", "ViT"])
def test_each_family_is_explained_from_its_name_and_a_file_of_weights(name: str, dims: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"widen_factor": 0.1} if name == "resnet10" else SMALL[name]
    options = {**options, "patch_size": 8} if name == "ViT" else options
    network = built(name, dims, 3, device="cpu", **options)
    torch.save(
        {"state_dict": {f"net.{key}": value for key, value in network.state_dict().items()}}, tmp_path / "w.ckpt"
    )
    recipe = {
        "network": {"name": name, **options},
        "weights": "w.ckpt",
        "channels": 2,
        "classes": ["a", "b", "c"],
        "activation": "softmax",
        "size": [32] * dims,
        "preprocessing": [{"Resize": {"spatial_size": [32] * dims}}, {"RepeatChannel": {"repeats": 2}}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    classifier = load_classifier(tmp_path / "recipe.yaml")
    volume = Volume(np.random.default_rng(0).random((20, 24, 6), dtype=np.float32), np.eye(4), name="noise")
    explanation = explain(volume, classifier, "b", signed=True)
    assert explanation.heatmap.shape == volume.shape
    assert np.isfinite(explanation.heatmap).all()
    assert np.ptp(explanation.heatmap) > 0
    assert sum(explanation.scores.values()) == pytest.approx(1)

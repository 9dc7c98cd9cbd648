"""A network and transforms in memory make a classifier, and the same one as a bundle of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet, ViT
from monai.transforms import (
    AsDiscreted,
    Compose,
    EnsureChannelFirst,
    EnsureChannelFirstd,
    LoadImage,
    LoadImaged,
    OneOf,
    Orientation,
    Orientationd,
    Resize,
    Resized,
)
from torch import nn

from napari_gradcam import Classifier, GradCamError, Volume, explain, load_classifier
from napari_gradcam.classifiers.probing import count_outputs, input_channels, spatial_dims
from napari_gradcam.classifiers.scores import Head

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VOLUME = Volume(
    np.random.default_rng(0).normal(size=(20, 24, 28)).astype(np.float32), np.diag([2.0, 2, 2, 1]), name="noise"
)
SOFTMAX = "No activation is named: softmax was assumed for the probabilities."
SIGMOID = "No activation is named: sigmoid was assumed for the probabilities."
NUMBERED = "The classes are not named: they are numbered."


class Net(nn.Module):
    """A few scores of a volume or a picture, and how often it ran."""

    def __init__(self, outputs: int = 2, dims: int = 3, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = (nn.Conv2d, nn.Conv3d)[dims - 2](channels, 4, 3, stride=2, padding=1)
        self.norm = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2](4)
        self.head = nn.Linear(4, outputs)
        self.ran = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.ran += 1
        return self.head(self.norm(self.conv(x)).relu().flatten(2).mean(dim=2))


def test_a_network_alone_is_a_classifier() -> None:
    network = Net(3)
    classifier = Classifier(network)
    assert classifier.class_names == ("class 0", "class 1", "class 2")
    assert classifier.head == Head(3, "softmax", 3)
    assert (classifier.spatial_dims, classifier.input_shape) == (3, (1, 96, 96, 96))
    assert classifier.name == "Net"
    assert classifier.notices == (NUMBERED, SOFTMAX)
    found = explain(VOLUME, classifier)
    assert sum(found.scores.values()) == pytest.approx(1)
    assert found.heatmap.shape == VOLUME.shape
    assert set(classifier.notices) <= set(found.notices)


def test_a_network_in_training_is_explained_as_it_is_and_left_so() -> None:
    network = Net()
    assert network.training
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = explain(VOLUME, Classifier(network, None, ["a", "b"], "softmax"))
    assert all(module.training for module in network.modules())
    assert all(one.requires_grad and one.grad is None for one in network.parameters())
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(VOLUME.array)[None, None])[0]
    assert list(found.logits.values()) == pytest.approx(expected.tolist(), rel=1e-4)


def test_what_is_given_is_neither_looked_for_nor_told() -> None:
    network = Net()
    given = Classifier(network, Resize((8, 8, 8)), ["calm", "storm"], Head(2, "sigmoid"), 3, (1, 8, 8, 8), "mine")
    assert (given.class_names, given.name, given.notices) == (("calm", "storm"), "mine", ())
    assert isinstance(given.preprocess, Resize)
    assert network.ran == 0


def test_shapes_are_found_without_a_value_being_computed() -> None:
    seen = []

    class Watching(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.device.type)
            return super().forward(x)

    assert Classifier(Watching(2, dims=2, channels=3)).input_shape == (3, 224, 224)
    assert seen == ["meta"]


@pytest.mark.parametrize(
    ("outputs", "names", "head", "expected", "activation", "told"),
    [
        (2, ["a", "b"], None, ("a", "b"), "softmax", (SOFTMAX,)),
        (2, ("a", "b"), "sigmoid", ("a", "b"), "sigmoid", ()),
        (1, ["storm"], None, ("no storm", "storm"), "sigmoid", (SIGMOID,)),
        (1, ["calm", "storm"], None, ("calm", "storm"), "sigmoid", (SIGMOID,)),
        (1, (), "sigmoid", ("class 0", "class 1"), "sigmoid", (NUMBERED,)),
    ],
)
def test_names_and_activation_follow_the_number_of_scores(
    outputs: int, names: Any, head: Any, expected: tuple[str, ...], activation: str, told: tuple[str, ...]
) -> None:
    classifier = Classifier(Net(outputs), None, names, head)
    assert (classifier.class_names, classifier.head.activation, classifier.notices) == (expected, activation, told)
    found = explain(VOLUME, classifier)
    assert found.scores.keys() == set(expected)
    if outputs == 1:
        assert found.logits[expected[0]] == -found.logits[expected[1]]
        assert sum(found.scores.values()) == pytest.approx(1)


def test_a_copy_with_another_setting_is_not_told_again() -> None:
    classifier = Classifier(Net())
    again = replace(classifier, name="other")
    assert again.notices == classifier.notices
    assert again.head == classifier.head


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"network": "resnet18"}, "The network is a str: give a torch.nn.Module"),
        ({"class_names": ["a", "b", "c"]}, "gives 2 scores and 3 classes are named (“a”, “b”, “c”)"),
        ({"class_names": ["a", "a"]}, "Two classes are called “a”"),
        ({"class_names": ["a"], "head": Head(2, "softmax")}, "The head has 2 classes and 1 are named"),
        ({"head": "relu"}, "There is no activation “relu”: give softmax or sigmoid"),
        ({"spatial_dims": 4}, "give spatial_dims 2 or 3"),
        ({"input_shape": (1, 8, 8)}, "none of a 3D network: give its channels and 3 sizes"),
        ({"network": nn.Linear(4, 2)}, "has no 2D or 3D convolution to tell"),
        ({"network": nn.Conv3d(1, 2, 3)}, "does not give one score for each class on an input of 1 × 96 × 96 × 96"),
        ({"preprocess": 5}, "The preprocessing is a int: give MONAI transforms"),
    ],
)
def test_what_contradicts_the_network_is_refused_with_the_way_out(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GradCamError) as told:
        Classifier(**{"network": Net(), **given})
    assert sentence in str(told.value)


def test_too_many_names_for_a_given_head_are_refused_at_first_use() -> None:
    wrong = Classifier(Net(3), None, ["a", "b"], Head(2, "softmax"))
    with pytest.raises(GradCamError, match="gives 3 scores but 2 class names are declared"):
        explain(VOLUME, wrong)


@pytest.mark.parametrize("side", [64, 96])
def test_the_heat_lies_on_a_blob_although_the_network_pads_by_a_layer(side: int) -> None:
    """As EfficientNets do: the map of the padding layer, the deepest with 4 cells a side, would lie further inside."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.coarse = nn.Conv2d(1, 1, 8, stride=8, bias=False), nn.AvgPool2d(side // 16)
            self.pad, self.conv, self.head = nn.ConstantPad2d(1, 0.0), nn.Conv2d(1, 1, 3, bias=False), nn.Linear(1, 2)
            for one in (self.fine, self.conv):
                nn.init.ones_(one.weight)
            self.head.weight.data = torch.tensor([[-1.0], [1.0]])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(self.pad(self.coarse(self.fine(x)))).mean(dim=(2, 3)))

    values = np.zeros((side, side, 1), np.float32)
    values[1:7, side - 7 : side - 1] = 1
    classifier = Classifier(Padded(), None, ["a", "b"], "softmax", input_shape=(1, side, side))
    found = explain(Volume(values, np.eye(4)), classifier, "b")
    assert found.layer == "fine"
    heat = found.heatmap[..., 0]
    assert (np.indices(heat.shape) * heat).sum(axis=(1, 2)) / heat.sum() == pytest.approx([3.5, side - 4.5], abs=2)
    with pytest.raises(GradCamError, match="“pad” puts a border"):
        explain(Volume(values, np.eye(4)), classifier, "b", layer="pad")


# Preprocessing, as a person has it from training

RESIZED = [Orientation("RAS", labels=None), Resize((32, 32, 32))]


def trained_with() -> Compose:
    """Give a chain as a training script has it: files are loaded, and the label goes the same way."""
    return Compose(
        [
            LoadImaged(["image", "label"]),
            EnsureChannelFirstd(["image", "label"]),
            Orientationd(["image", "label"], "RAS", labels=None),
            Resized(["image", "label"], (32, 32, 32), mode=["area", "nearest"]),
            AsDiscreted("label", to_onehot=2),
        ]
    )


@pytest.mark.parametrize(
    "preprocess",
    [
        lambda: RESIZED,
        lambda: tuple(RESIZED),
        lambda: Compose(RESIZED),
        lambda: Compose([LoadImage(image_only=True), EnsureChannelFirst(), Compose(RESIZED)]),
        lambda: [Orientationd("image", "RAS", labels=None), Resized("image", (32, 32, 32))],
        trained_with,
        lambda: [Orientationd(["mri"], "RAS", labels=None), Resized("mri", (32, 32, 32))],
        lambda: lambda image: RESIZED[1](RESIZED[0](image)),
    ],
    ids=["list", "tuple", "Compose", "loading", "dictionary", "labels", "another key", "function"],
)
@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")  # MONAI's loader looks for a plugin
def test_transforms_of_any_kind_give_the_same(preprocess: Callable[[], Any]) -> None:
    turned = Volume(VOLUME.array, np.array([[0, -2.0, 0, 3], [2, 0, 0, 5], [0, 0, -2, 7], [0, 0, 0, 1]]))
    network = Net()
    expected = explain(turned, Classifier(network, lambda image: RESIZED[1](RESIZED[0](image)), ["a", "b"], "softmax"))
    found = explain(turned, Classifier(network, preprocess(), ["a", "b"], "softmax"))
    assert found.logits == pytest.approx(expected.logits)
    np.testing.assert_allclose(found.heatmap, expected.heatmap)


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
def test_the_callers_own_transforms_are_left_alone() -> None:
    step = Resized(["image", "label"], (32, 32, 32))
    chain = Compose([LoadImaged(["image", "label"]), step])
    Classifier(Net(), chain, ["a", "b"], "softmax")
    assert not step.allow_missing_keys
    assert len(chain.transforms) == 2


def test_one_transform_or_a_choice_of_them_is_run_as_it_is() -> None:
    choice = OneOf([Resize((32, 32, 32))])
    assert Classifier(Net(), choice, head="softmax").preprocess is choice
    one = Classifier(Net(), Resized("image", (32, 32, 32)), head="softmax")
    assert explain(VOLUME, one).coarse.shape == (16, 16, 16)


def test_a_bundle_and_its_parts_in_memory_give_the_same(write_bundle: Callable[..., Path]) -> None:
    folder = write_bundle()
    bundle = load_classifier(folder)
    settings = json.loads((folder / "configs" / "inference.json").read_text())["network_def"]
    network = DenseNet(**{name: value for name, value in settings.items() if name != "_target_"})
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    chain = [Orientationd("image", "RAS", labels=None), Resized(["image", "label"], (32, 32, 32))]
    plain = Classifier(network, chain, ["calm", "storm"], input_shape=(1, 32, 32, 32))
    ours, theirs = explain(VOLUME, plain), explain(VOLUME, bundle)
    assert (ours.scores, ours.layer, ours.target) == (theirs.scores, theirs.layer, theirs.target)
    np.testing.assert_array_equal(ours.heatmap, theirs.heatmap)


# What a network shows of itself


def test_a_network_shows_its_axes_its_channels_and_its_scores() -> None:
    assert (spatial_dims(Net(dims=2)), input_channels(Net(channels=4))) == (2, 4)
    assert (spatial_dims(nn.Linear(2, 2)), input_channels(nn.Linear(2, 2))) == (None, None)
    assert input_channels(nn.LazyConv2d(4, 3)) is None
    small = {"hidden_size": 24, "mlp_dim": 24, "num_layers": 1, "num_heads": 2}
    transformer = ViT(3, (32, 32), (8, 8), **small, classification=True, num_classes=7, spatial_dims=2)
    assert count_outputs(Net(5), (1, 8, 8, 8)) == 5
    assert count_outputs(Net(5), (2, 8, 8, 8)) is None
    assert count_outputs(transformer, (3, 32, 32)) == 7
    assert count_outputs(transformer, (3, 48, 48)) is None  # its tokens are counted


def test_a_network_that_looks_at_its_values_is_counted_on_zeros() -> None:
    class Looking(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.mean().item() > 1 else x + 1)

    network = Looking(4)
    assert count_outputs(network, (1, 8, 8, 8)) == 4
    assert network.training
    assert network.norm.num_batches_tracked == 0

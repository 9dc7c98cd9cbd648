"""Nothing that memory cannot hold is made of a stranger's sizes: it is known before it is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import torch
from monai.transforms import Compose, Lambdad, RepeatChanneld, Resized, ScaleIntensityd, Zoomd

from napari_gradcam import Classifier, GradCamError, Volume, explain
from napari_gradcam.classifiers.bounds import Bounded, TooLargeError
from napari_gradcam.classifiers.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 1 << 30


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have 300 MiB free."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=300 << 20, total=GIB))


def network() -> torch.nn.Module:
    layers = (torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return torch.nn.Sequential(*layers)


def noise() -> Volume:
    return Volume(np.random.default_rng(0).random((20, 24, 2), dtype=np.float32), np.eye(4), name="noise")


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (Resized("image", [15_000, 15_000]), "Resized"),
        (Zoomd("image", 800, keep_size=False), "Zoomd"),
        (RepeatChanneld("image", 10**6), "RepeatChanneld"),
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_a_step_that_the_memory_cannot_hold_is_refused_by_name(step: Any, name: str) -> None:
    classifier = Classifier(network(), Compose([ScaleIntensityd("image"), step]), ["a", "b"])
    sentence = rf"^There is not enough memory for the model's preprocessing of “noise” \(its step {name}: .* GiB are"
    with pytest.raises(GradCamError, match=sentence):
        explain(noise(), classifier)


@pytest.mark.usefixtures("little_memory")
def test_a_run_that_the_memory_cannot_hold_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = torch.nn.Sequential(torch.nn.Upsample(scale_factor=500), *network())
    monkeypatch.setattr(torch.nn.Upsample, "forward", refuse_values(torch.nn.Upsample.forward))
    classifier = Classifier(wide, [], ["a", "b"])
    with pytest.raises(GradCamError, match=r"not enough memory to run the network on an input of 1 × 20 × 24"):
        explain(noise(), classifier, layer="1")


def refuse_values(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Let a layer tell the shape it gives, and no more."""

    def run(self: torch.nn.Module, inputs: torch.Tensor) -> Any:
        assert inputs.is_meta, "it was run"
        return forward(self, inputs)

    return run


def test_numpy_too_says_that_memory_is_short() -> None:
    def full(_: Any) -> Any:
        raise MemoryError("Unable to allocate 8 GiB")

    classifier = Classifier(network(), [Lambdad("image", full)], ["a", "b"])
    with pytest.raises(GradCamError, match=r"not enough memory .*\(its step Lambdad: Unable to allocate 8 GiB\)"):
        explain(noise(), classifier)


def test_steps_of_many_operations_run() -> None:
    def long(image: Any) -> Any:
        for _ in range(1 << 15):
            torch.neg(torch.zeros(()))
        return image

    classifier = Classifier(network(), [Lambdad("image", long)], ["a", "b"])
    volume = Volume(noise().array[..., :1], np.eye(4), name="noise")
    assert explain(volume, classifier).scores.keys() == {"a", "b"}


@pytest.mark.parametrize(
    "make",
    [
        lambda one: torch.zeros(1 << 14, 1 << 14),
        lambda one: torch.eye(1 << 14),
        lambda one: torch.arange(0, 1, 1e-9),
        lambda one: one.repeat(1 << 14, 1 << 14),
        lambda one: one.expand(1 << 14, 1 << 14) + 1,
        lambda one: one.expand(1 << 14, 1 << 14).clone(),
        lambda one: one.expand(1 << 28, 2).sum(1),
        lambda one: one.expand(1 << 14, 1 << 14).contiguous(),
        lambda _: torch.arange(1 << 14).expand(1 << 14, -1).reshape(-1),
        lambda one: one.expand(1 << 14, 1 << 14).to(torch.float64),
        lambda one: one.expand(1 << 14, 1) * one.expand(1, 1 << 14),
        lambda one: one.expand(1 << 14, 1) @ one.expand(1, 1 << 14),
        lambda one: torch.nn.functional.pad(one, [1 << 14] * 4),
        lambda one: torch.nn.functional.interpolate(one[None, None], [1 << 14, 1 << 14]),
        lambda one: torch.nn.functional.interpolate(one[None, None], scale_factor=1 << 14, mode="bilinear"),
        lambda one: torch.nn.functional.grid_sample(
            one[None, None], one.expand(1, 1 << 14, 1 << 14, 2), align_corners=True
        ),
        lambda one: torch.nn.functional.one_hot(one.long().expand(1 << 14, 1)[:, 0], 1 << 14),
        lambda one: torch.nn.functional.unfold(one.expand(1, 1, 1 << 9, 1 << 9), 64),
    ],
)
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.usefixtures("little_memory")
def test_no_operation_makes_what_memory_cannot_hold(
    make: Callable[[torch.Tensor], torch.Tensor], inference: bool
) -> None:
    with torch.inference_mode(inference), Bounded(), pytest.raises(TooLargeError, match="GiB are needed"):
        make(torch.ones(1, 1))


@pytest.mark.usefixtures("little_memory")
def test_what_shows_or_reduces_what_is_there_takes_no_memory() -> None:
    large = torch.empty(200 << 18)  # 200 MiB, which are not filled
    with Bounded():
        for _ in range(3):
            shown = large.view(-1, 2).T.detach()[None].expand(100, 2, -1)
            assert shown.shape[0] == 100
        assert large.view(2, -1)[:, :4].add(1).sum(1).shape == (2,)


def test_what_is_bounded_computes_the_same() -> None:
    image = torch.rand(1, 1, 40, 40)
    plain = torch.nn.functional.interpolate(image, [50, 50], mode="bilinear").mean(1)
    with Bounded():
        assert torch.equal(torch.nn.functional.interpolate(image, [50, 50], mode="bilinear").mean(1), plain)


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (
            {"_target_": "RegUNet", "spatial_dims": 2, "in_channels": 1, "num_channel_initial": 4, "depth": 10**5},
            "depth",
        ),
        (
            {
                "_target_": "torch.nn.TransformerEncoder",
                "encoder_layer": {"_target_": "torch.nn.ReLU"},
                "num_layers": 1001,
            },
            "num_layers",
        ),
        (
            {"_target_": "monai.networks.layers.SavitzkyGolayFilter", "window_length": 11_001, "order": 3000},
            "window_length",
        ),
        ({"_target_": "SavitzkyGolaySmoothd", "keys": "image", "window_length": 5, "order": 3000}, "order"),
        ({"_target_": "DenseNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "block_config": [2]}, None),
        ({"_target_": "DenseNet", "layers": [1, 10**5]}, "layers"),
        ({"_target_": "DeleteItemsd", "keys": ["(a|a)*!"], "use_re": True}, "use_re"),
        ({"_target_": "DeleteItemsd", "keys": ["label"]}, None),
        ({"_target_": "monai.networks.nets.TopologySearch", "channel_mul": 0.1}, "TopologySearch"),
        ({"_target_": "DiNTS"}, "DiNTS"),
    ],
)
def test_what_would_be_built_without_end_is_refused_by_name(node: dict[str, Any], sentence: str | None) -> None:
    config = Config({"part": node})
    if sentence is None:
        assert config.build("part") is not None
        return
    with pytest.raises(GradCamError, match=rf"The bundle.*“part::.*{sentence}"):
        config.build("part")

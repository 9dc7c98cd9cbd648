"""A bundle opens by pointing at it, or is refused with a sentence."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from monai.networks.nets import DenseNet

from napari_gradcam import GradCamError, Volume, explain, load_classifier
from napari_gradcam.classifiers.channels import channels_of
from napari_gradcam.classifiers.classifier import Windows
from napari_gradcam.classifiers.preprocessing import prepare_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    WriteBundle = Callable[..., Path]
    Content = dict[str, Any]

VOLUME = Volume(
    np.random.default_rng(0).normal(size=(20, 24, 28)).astype(np.float32), np.diag([2.0, 2, 2, 1]), name="noise"
)


def test_a_folder_gives_network_classes_and_preprocessing(write_bundle: WriteBundle) -> None:
    classifier = load_classifier(write_bundle())
    assert isinstance(classifier.network, DenseNet)
    assert not classifier.network.training
    assert classifier.class_names == ("calm", "storm")
    assert classifier.spatial_dims == 3
    assert classifier.default_layer == "class_layers.relu"
    assert classifier.head.activation == "softmax"
    # Loading, label keys and the channel axis are left out; a reference and an expression were computed.
    assert prepare_volume(channels_of(VOLUME, classifier), classifier.preprocess).tensor.shape == (1, 1, 32, 32, 32)


def test_the_weights_are_those_of_the_file(write_bundle: WriteBundle) -> None:
    folder = write_bundle()
    stored = torch.load(folder / "models" / "model.pt", weights_only=True)
    for name, tensor in load_classifier(folder).network.state_dict().items():
        torch.testing.assert_close(tensor, stored[name], rtol=0, atol=0)


@pytest.mark.parametrize("inner", ["", "some-bundle-v1/"])
def test_a_zip_gives_the_same_as_its_folder(write_bundle: WriteBundle, tmp_path: Path, inner: str) -> None:
    folder = write_bundle()
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, inner + str(file.relative_to(folder)))
    ours = explain(VOLUME, load_classifier(tmp_path / "bundle.zip"), target="storm")
    theirs = explain(VOLUME, load_classifier(folder), target="storm")
    assert ours.scores == theirs.scores
    np.testing.assert_array_equal(ours.heatmap, theirs.heatmap)


def test_yaml_is_read_too(write_bundle: WriteBundle) -> None:
    folder = write_bundle()
    path = folder / "configs" / "inference.json"
    (folder / "configs" / "inference.yaml").write_text(yaml.safe_dump(json.loads(path.read_text())))
    path.unlink()
    assert load_classifier(folder).class_names == ("calm", "storm")


def test_wrapped_state_dicts_are_unwrapped(write_bundle: WriteBundle) -> None:
    folder = write_bundle()
    weights = folder / "models" / "model.pt"
    torch.save({"epoch": 3, "state_dict": torch.load(weights, weights_only=True)}, weights)
    assert load_classifier(folder).class_names == ("calm", "storm")


def test_an_activation_that_is_not_named_is_assumed_and_said(write_bundle: WriteBundle) -> None:
    def change(inference: Content, _metadata: Content) -> None:
        del inference["postprocessing"]

    classifier = load_classifier(write_bundle(change))
    assert classifier.head.activation == "softmax"
    assert any("softmax was assumed" in notice for notice in classifier.notices)


@pytest.mark.parametrize(
    ("steps", "more"),
    [
        ([{"_target_": "Activationsd", "keys": "pred", "sigmoid": "@sg"}], {"sg": True}),
        ([{"_target_": "Activationsd", "keys": "pred", "sigmoid": "$True"}], {}),
        ([{"_target_": "Activationsd", "keys": ["label", "pred"], "sigmoid": [False, True]}], {}),
        ([{"_target_": "Activationsd", "keys": ["pred", "label"], "sigmoid": [True, False]}], {}),
        (
            [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True, "_disabled_": True},
                {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            ],
            {},
        ),
        (
            [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True, "_disabled_": "$not @keep"},
                {"_target_": "monai.transforms.Activations", "sigmoid": True},
            ],
            {"keep": False},
        ),
    ],
)
def test_the_activation_is_read_as_monai_would(write_bundle: WriteBundle, steps: list[Any], more: Content) -> None:
    def change(inference: Content, _metadata: Content) -> None:
        inference["postprocessing"]["transforms"] = steps
        inference.update(more)

    classifier = load_classifier(write_bundle(change))
    assert classifier.head.activation == "sigmoid"
    assert not any("assumed" in notice for notice in classifier.notices)


@pytest.mark.parametrize(
    "step",
    [
        {"_target_": "Activationsd", "keys": "pred", "other": "$torch.sigmoid"},
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": "$open('x')"},
        {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: torch.sigmoid(x)"},
        {"_target_": "scripts.post.Sigmoid"},
        "$scripts.post.sigmoid()",
    ],
)
def test_a_step_that_may_be_the_activation_is_not_called_none(write_bundle: WriteBundle, step: Any) -> None:
    def change(inference: Content, _metadata: Content) -> None:
        inference["postprocessing"]["transforms"] = [step]

    classifier = load_classifier(write_bundle(change))
    assert classifier.head.activation == "softmax"
    (told,) = (notice for notice in classifier.notices if "assumed" in notice)
    assert "not run and may be its activation" in told


def test_multi_label_bundles_give_independent_probabilities(write_bundle: WriteBundle) -> None:
    def change(inference: Content, _metadata: Content) -> None:
        inference["postprocessing"]["transforms"][0] = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}

    explanation = explain(VOLUME, load_classifier(write_bundle(change)))
    for name, logit in explanation.logits.items():
        assert explanation.scores[name] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-6)


@pytest.mark.parametrize(
    "change_of",
    [
        lambda metadata: metadata["network_data_format"].update(class_names=["dry", "wet"]),
        lambda metadata: metadata.update(makers={"notes": {"labels": {"0": "dry", "1": "wet"}}}),
        lambda metadata: metadata["network_data_format"].update(
            outputs={"pred": {"num_channels": 2, "channel_def": {"1": "dry", "2": "wet"}}}
        ),
    ],
)
def test_class_names_anywhere_in_the_metadata_are_found(
    write_bundle: WriteBundle, change_of: Callable[[Content], None]
) -> None:
    def change(_inference: Content, metadata: Content) -> None:
        metadata["network_data_format"]["outputs"] = {"pred": {"num_channels": 2}}
        change_of(metadata)

    assert load_classifier(write_bundle(change)).class_names == ("dry", "wet")


def test_the_names_of_the_channels_are_not_taken_for_classes(write_bundle: WriteBundle) -> None:
    def change(_inference: Content, metadata: Content) -> None:
        metadata["network_data_format"]["outputs"] = {"pred": {"num_channels": 2}}
        metadata["network_data_format"]["inputs"]["other"] = {"channel_def": {"0": "T1", "1": "T2"}}

    assert load_classifier(write_bundle(change)).class_names == ("class 0", "class 1")


def test_classes_without_names_are_numbered_and_that_is_said(write_bundle: WriteBundle) -> None:
    def change(_inference: Content, metadata: Content) -> None:
        del metadata["network_data_format"]["outputs"]

    classifier = load_classifier(write_bundle(change))
    assert classifier.class_names == ("class 0", "class 1")
    assert any("numbered" in notice for notice in classifier.notices)


def test_one_logit_decides_between_a_class_and_its_absence(write_bundle: WriteBundle) -> None:
    def change(inference: Content, metadata: Content) -> None:
        inference["network_def"]["out_channels"] = 1
        metadata["network_data_format"]["outputs"]["pred"] = {"num_channels": 1, "channel_def": {"0": "storm"}}
        del inference["postprocessing"]

    folder = write_bundle(change)
    torch.manual_seed(3)
    network = DenseNet(3, 1, 1, init_features=4, growth_rate=4, block_config=(2,), bn_size=1)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    classifier = load_classifier(folder)
    assert classifier.class_names == ("no storm", "storm")
    for_it, against = explain(VOLUME, classifier, "storm"), explain(VOLUME, classifier, "no storm")
    assert for_it.logits["no storm"] == -for_it.logits["storm"]
    assert sum(for_it.scores.values()) == pytest.approx(1)
    # What speaks for a class and what speaks against it are two halves of one signed map.
    assert not np.any((for_it.coarse > 0) & (against.coarse > 0))
    assert for_it.coarse.max() > 0 or against.coarse.max() > 0


def test_the_bundle_may_declare_its_target_layer(write_bundle: WriteBundle) -> None:
    def change(_inference: Content, metadata: Content) -> None:
        metadata["explanation"] = {"target_layer": "features.denseblock1"}

    assert load_classifier(write_bundle(change)).default_layer == "features.denseblock1"


# What is refused


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (remove("models/model.pt"), r"small has no weights: models/model\.pt is missing"),
        (remove("configs/inference.json"), r"has no configs/inference\.json"),
        (lambda folder: shutil.rmtree(folder / "configs"), "is not a MONAI bundle: it has no folder “configs”"),
        (write("configs/inference.json", b"{"), r"inference\.json of the bundle small cannot be understood"),
        (write("configs/inference.json", b"[]"), r"inference\.json of the bundle small holds no keys"),
        (write("configs/metadata.json", b"\xff"), r"metadata\.json of the bundle small cannot be understood"),
        (write("models/model.pt", b"no weights"), "is damaged or holds no weights of PyTorch"),
        (lambda folder: torch.save([1, 2], folder / "models/model.pt"), "holds no state dict"),
        (
            lambda folder: torch.save({"other.weight": torch.zeros(1)}, folder / "models/model.pt"),
            r"do not fit its network: \d+ missing \(first features",
        ),
    ],
)
def test_a_damaged_bundle_is_refused_with_what_is_wrong(
    write_bundle: WriteBundle, damage: Callable[[Path], None], sentence: str
) -> None:
    folder = write_bundle()
    damage(folder)
    with pytest.raises(GradCamError, match=sentence):
        load_classifier(folder)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GradCamError, match="There is no model at"):
        load_classifier(tmp_path / "nowhere")
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(GradCamError, match=r"text\.zip is neither a folder nor a readable zip"):
        load_classifier(tmp_path / "text.zip")


def test_weights_of_another_size_name_the_first_that_differs(write_bundle: WriteBundle) -> None:
    def change(inference: Content, _metadata: Content) -> None:
        inference["network_def"]["out_channels"] = 3

    with pytest.raises(
        GradCamError, match=r"2 of another size \(first class_layers.out.weight: \[2, \d+\], not \[3, \d+\]\)"
    ):
        load_classifier(write_bundle(change))


def test_a_pickle_that_runs_code_is_not_opened(write_bundle: WriteBundle, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "canary"), "w"))

    folder = write_bundle()
    torch.save({"weight": Payload()}, folder / "models" / "model.pt")
    with pytest.raises(GradCamError, match="holds more than weights"):
        load_classifier(folder)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "hostile",
    [
        {"_target_": "os.system", "command": "touch canary"},
        {"_target_": "builtins.eval", "source": "1"},
        {"_target_": "monai.transforms.Lambdad", "keys": "image", "func": "$lambda x: x"},
        {"_target_": "Resized", "keys": "image", "spatial_size": "$__import__('os').system('touch canary')"},
        {"_target_": "Resized", "keys": "image", "spatial_size": "$@size.__class__"},
        {"_target_": "Resized", "keys": "image", "spatial_size": "$[0] * 10**9"},
        {"_target_": "Resized", "keys": "image", "spatial_size": "%other.json"},
        {"_target_": "Resized", "keys": "image", "spatial_size": 8, "_requires_": "$print(1)"},
        {"_target_": "Resized", "keys": "image", "spatial_size": 8, "_mode_": "debug"},
        {"_target_": "monai.bundle.run"},
        {"_target_": "monai.networks.utils.save_state"},
        {"_target_": "torch.nn.modules.module.torch.load"},
        "no transform",
    ],
)
def test_what_would_run_code_is_refused_by_its_place(
    write_bundle: WriteBundle, hostile: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    def change(inference: Content, _metadata: Content) -> None:
        inference["preprocessing"]["transforms"].append(hostile)

    with pytest.raises(GradCamError, match=r"“preprocessing"):
        load_classifier(write_bundle(change))
    assert not (tmp_path / "canary").exists()


def test_a_reference_in_a_circle_is_refused(write_bundle: WriteBundle) -> None:
    def change(inference: Content, _metadata: Content) -> None:
        inference["size"] = "@size"

    with pytest.raises(GradCamError, match="refers to “size” in a circle"):
        load_classifier(write_bundle(change))


def test_a_reference_to_nothing_is_refused(write_bundle: WriteBundle) -> None:
    def change(inference: Content, _metadata: Content) -> None:
        inference["network_def"]["in_channels"] = "@nowhere"

    with pytest.raises(GradCamError, match="refers to “nowhere”, which it does not hold"):
        load_classifier(write_bundle(change))


def test_an_inferer_that_has_no_map_is_refused(write_bundle: WriteBundle) -> None:
    def change(inference: Content, _metadata: Content) -> None:
        inference["inferer"] = {"_target_": "PatchInferer"}

    with pytest.raises(GradCamError, match="“PatchInferer”; only SimpleInferer"):
        load_classifier(write_bundle(change))


def test_sliding_windows_are_read_as_the_bundle_writes_them(write_bundle: WriteBundle) -> None:
    def change(inference: Content, _metadata: Content) -> None:
        inference["inferer"] = {
            "_target_": "SlidingWindowInferer", "roi_size": [16, 16, -1], "overlap": 0.5, "mode": "gaussian",
            "sigma_scale": 0.25, "padding_mode": "reflect", "cval": -1, "sw_batch_size": 4,
        }  # fmt: skip

    windows = load_classifier(write_bundle(change)).windows
    assert windows == Windows((16, 16, -1), (0.5, 0.5, 0.5), "gaussian", 0.25, "reflect", -1.0, 4)

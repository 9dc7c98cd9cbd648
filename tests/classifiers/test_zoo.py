"""Bundles written as those of MONAI's model zoo open, or say what they need."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from monai.networks.nets import DenseNet, torchvision_fc

from napari_gradcam import GradCamError, Volume, explain, load_classifier
from napari_gradcam.classifiers.trust import UntrustedError
from tests.classifiers import zoo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Content = dict[str, Any]
    WriteBundle = Callable[..., Path]


@pytest.fixture
def vision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where MONAI looks for torchvision's networks."""
    monkeypatch.setattr(torchvision_fc, "models", zoo.Vision)


def photo(size: int, name: str = "photo") -> Volume:
    """Make a picture in colours without a place in a patient, ``size`` pixels along each axis."""
    color = np.random.default_rng(1).integers(0, 255, (size, size, 1, 3)).astype(np.uint8)
    return Volume(
        color.mean(axis=-1).astype(np.float32), np.eye(4), name=name, in_patient_space=False, color=color, unit="pixels"
    )


def gray(size: int) -> Volume:
    array = np.random.default_rng(2).random((size, size, 1)).astype(np.float32)
    return Volume(array, np.eye(4), name="gray", in_patient_space=False, unit="pixels")


# Name, whether it must be trusted, classes, activation, input, layer, and what of notices
SHAPES = [
    ("breast_density_classification", False, ("A", "B", "C", "D"), "sigmoid", (3, 299, 299), "features.Mixed_7c"),
    (
        "classification_template", False, ("class0", "class1", "class2", "class3"), "softmax", (1, 128, 128),
        "class_layers.relu",
    ),
    ("endoscopic_inbody_classification", False, ("out body", "in body"), "softmax", (3, 256, 256), "layer4"),
    ("pathology_tumor_detection", False, ("no metastasis", "metastasis"), "sigmoid", (3, 224, 224), "features"),
    (
        "pathology_nuclei_classification", True, ("Other", "Inflammatory", "Epithelial", "Spindle-Shaped"), "softmax",
        (4, 128, 128), "class_layers.relu",
    ),
]  # fmt: skip


@pytest.mark.usefixtures("vision")
@pytest.mark.parametrize(("name", "trust", "classes", "activation", "shape", "layer"), SHAPES)
def test_each_classifier_of_the_zoo_opens_with_its_classes(
    tmp_path: Path,
    name: str,
    trust: bool,
    classes: tuple[str, ...],
    activation: str,
    shape: tuple[int, ...],
    layer: str,
) -> None:
    folder = zoo.BUNDLES[name](tmp_path / name)
    if trust:
        with pytest.raises(UntrustedError):
            load_classifier(folder)
    classifier = load_classifier(folder, trust=trust)
    assert classifier.class_names == classes
    assert classifier.head.activation == activation
    assert classifier.input_shape == shape
    assert classifier.default_layer == layer
    assert classifier.intended_use == "A test of its reading."
    assert classifier.licence == "Apache License"
    assumed = [notice for notice in classifier.notices if "assumed" in notice]
    assert bool(assumed) == (name == "endoscopic_inbody_classification")


@pytest.mark.usefixtures("vision")
@pytest.mark.parametrize(("name", "trust", "classes", "activation", "shape", "layer"), SHAPES)
def test_each_classifier_of_the_zoo_explains_a_picture(
    tmp_path: Path,
    name: str,
    trust: bool,
    classes: tuple[str, ...],
    activation: str,
    shape: tuple[int, ...],
    layer: str,
) -> None:
    torch.manual_seed(0)
    classifier = load_classifier(zoo.BUNDLES[name](tmp_path / name), trust=trust)
    size = shape[1]
    given: Any = {1: gray(size), 3: photo(size), 4: [photo(size), gray(size)]}[shape[0]]
    explanation = explain(given, classifier, classes[-1])
    assert explanation.layer == layer
    assert explanation.heatmap.shape == (size, size, 1)
    assert np.isfinite(explanation.heatmap).all()
    total = sum(explanation.scores.values())
    exclusive = activation == "softmax" or len(classes) == 2
    assert total == pytest.approx(1) if exclusive else 0 < total < len(classes)
    # The pictures are what each was made for: beside what the bundle says, it is said how they were given.
    order = "row by row" if name == "pathology_tumor_detection" else "column by column"
    given_as = ["The network reads pictures", "The channels were taken in the order given"][: 1 + (shape[0] == 4)]
    ours = [notice for notice in explanation.notices if notice not in classifier.notices]
    assert [notice.startswith(start) for notice, start in zip(ours, given_as, strict=True)] == [True] * len(given_as)
    assert order in ours[0]


def test_the_bundle_with_scripts_names_each_of_them(tmp_path: Path) -> None:
    with pytest.raises(UntrustedError) as refused:
        load_classifier(zoo.nuclei_classification(tmp_path / "nuclei"))
    # The step of the label is none that is run.
    assert [(found.key, found.asks) for found in refused.value.findings] == [
        ("imports::2", "$import scripts"),
        ("preprocessing::transforms::4::_target_", "scripts.own.AddMaskd"),
    ]


def test_a_network_of_torchvision_needs_it_and_the_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = torchvision_fc.models
    monkeypatch.setattr(torchvision_fc, "models", zoo.Vision)
    folder = zoo.tumor_detection(tmp_path / "tumour")
    monkeypatch.setattr(torchvision_fc, "models", absent)
    with pytest.raises(
        GradCamError, match=r"needs the Python package torchvision, which is not installed; install"
    ) as refused:
        load_classifier(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("vision")
def test_no_weights_are_downloaded_where_the_bundle_asks_for_them(tmp_path: Path) -> None:
    # The stand-in asserts that it is asked for none.
    load_classifier(zoo.breast_density(tmp_path / "breast"))


@pytest.mark.usefixtures("vision")
@pytest.mark.parametrize("arguments", [{"model_name": "get_model"}, {"weights_backbone": "DEFAULT"}])
def test_torchvision_is_asked_for_networks_without_weights_alone(tmp_path: Path, arguments: Content) -> None:
    folder = zoo.tumor_detection(tmp_path / "tumour")
    path = folder / "configs/inference.json"
    inference = json.loads(path.read_text())
    inference["network_def"] |= arguments
    path.write_text(json.dumps(inference))
    if "model_name" in arguments:
        with pytest.raises(GradCamError, match="“network_def::model_name” is “get_model”"):
            load_classifier(folder)
    else:
        load_classifier(folder)


@pytest.mark.usefixtures("vision")
@pytest.mark.parametrize("name", ["breast_density_classification", "classification_template"])
def test_a_zip_and_the_other_format_give_the_same(tmp_path: Path, name: str) -> None:
    folder = zoo.BUNDLES[name](tmp_path / name)
    size = 299 if name.startswith("breast") else 128
    given = photo(size) if name.startswith("breast") else gray(size)
    first = explain(given, load_classifier(folder))
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, name)
    old = next((folder / "configs").glob("inference.*"))
    content = yaml.safe_load(old.read_text())
    old.unlink()
    other = "yaml" if old.suffix == ".json" else "json"
    (folder / f"configs/inference.{other}").write_text(
        yaml.safe_dump(content) if other == "yaml" else json.dumps(content)
    )
    for path in (packed, folder):
        again = explain(given, load_classifier(path))
        assert again.scores == first.scores
        np.testing.assert_array_equal(again.heatmap, first.heatmap)


# Ways of writing that MONAI's bundles use


def test_references_macros_and_marks_are_read(write_bundle: WriteBundle) -> None:
    def change(inference: Content, _metadata: Content) -> None:
        inference["sizes"] = {"small": {"side": 24, "same": "@##small::side", "more": "$@#same + 8"}}
        inference["preprocessing"]["transforms"][-1] = {
            "_target_": "Resized",
            "_desc_": "to one size",
            "_requires_": ["$@size"],
            "_disabled_": "$@size > 99",
            "_mode_": "default",
            "keys": "%keys",
            "spatial_size": ["@sizes#small#side", "@sizes::small::more", "%more.json::deep::0"],
        }
        inference["preprocessing"]["transforms"].append({"_target_": "Flipd", "_disabled_": True, "keys": "image"})
        inference["keys"] = ["image", "label"]

    folder = write_bundle(change)
    (folder / "configs" / "more.json").write_text(json.dumps({"deep": [40]}))
    scan = Volume(np.random.default_rng(0).random((20, 20, 20)).astype(np.float32), np.eye(4))
    classifier = load_classifier(folder)
    image = _prepared(classifier, scan)
    assert tuple(image.shape) == (1, 24, 32, 40)


def _prepared(classifier: Any, scan: Volume) -> Any:
    from monai.data import MetaTensor

    return classifier.preprocess(MetaTensor(torch.from_numpy(scan.array)[None], affine=torch.eye(4)))


@pytest.mark.parametrize(
    ("place", "value", "names"),
    [
        ("outputs", {"pred": {"num_channels": 2}, "class_names": ["dry", "wet"]}, ("dry", "wet")),
        ("outputs", {"out": {"num_channels": 2, "channel_def": {"0": "a", "1": "b"}}}, ("a", "b")),
        ("outputs", {"pred": {"num_channels": 2, "channel_def": {"wet": 1, "dry": 0}}}, ("dry", "wet")),
        ("outputs", {"pred": {"num_channels": 2, "channel_def": {"0": "same", "1": "same"}}}, ("class 0", "class 1")),
        ("outputs", {"pred": {"num_channels": 2, "channel_def": {"0": "a"}}}, ("class 0", "class 1")),
        ("outputs", "none", ("class 0", "class 1")),
    ],
)
def test_class_names_are_found_where_makers_put_them(
    write_bundle: WriteBundle, place: str, value: Any, names: tuple[str, ...]
) -> None:
    def change(_inference: Content, metadata: Content) -> None:
        metadata["network_data_format"][place] = value

    classifier = load_classifier(write_bundle(change))
    assert classifier.class_names == names
    assert any("numbered" in notice for notice in classifier.notices) == (names[0] == "class 0")


def test_letters_that_a_terminal_would_obey_are_left_out(write_bundle: WriteBundle) -> None:
    def change(_inference: Content, metadata: Content) -> None:
        metadata["name"] = "\x1b[2Jname\x07"
        metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "a\x1b]0;x", "1": "b\nc"}

    classifier = load_classifier(write_bundle(change))
    assert classifier.name == "[2Jname"
    assert classifier.class_names == ("a]0;x", "b c")


@pytest.mark.parametrize("dims", [2, 3])
def test_one_logit_of_any_shape_and_either_number_of_axes_opens(write_bundle: WriteBundle, dims: int) -> None:
    def change(inference: Content, metadata: Content) -> None:
        inference["network_def"] |= {"out_channels": 1, "spatial_dims": dims}
        metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] = [32] * dims
        metadata["network_data_format"]["outputs"] = {"pred": {"num_channels": 1, "channel_def": {"0": "storm"}}}
        if dims == 2:
            inference["preprocessing"]["transforms"] = [
                {"_target_": "ScaleIntensityd", "keys": "image"},
            ]

    folder = write_bundle(change)
    network = DenseNet(dims, 1, 1, init_features=4, growth_rate=4, block_config=(2,), bn_size=1)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    classifier = load_classifier(folder)
    assert classifier.spatial_dims == dims
    assert classifier.class_names == ("no storm", "storm")
    assert classifier.head.outputs == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"roi_size": [16, 16]},
        {"roi_size": ["a", "b", "c"]},
        {"roi_size": [16, 16, 16], "overlap": 1.5},
        {"roi_size": [16, 16, 16], "overlap": "x"},
        {"roi_size": [16, 16, 16], "sigma_scale": []},
        {"roi_size": [16, 16, 16], "sigma_scale": None},
        {"roi_size": [16, 16, 16], "sw_batch_size": "many"},
        {"roi_size": [16, 16, 16], "cval": {}},
        {"roi_size": {"a": 1}},
        {"roi_size": [1e400, 16, 16]},
    ],
)
def test_windows_that_make_no_sense_are_refused_in_a_sentence(write_bundle: WriteBundle, arguments: Content) -> None:
    def change(inference: Content, _metadata: Content) -> None:
        inference["inferer"] = {"_target_": "SlidingWindowInferer", **arguments}

    with pytest.raises(GradCamError, match=r"inferer|window"):
        load_classifier(write_bundle(change))

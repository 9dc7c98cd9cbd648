"""A network's name, a file of weights and a short list of steps make a classifier, or a sentence says why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.networks.nets import DenseNet, DenseNet121

from napari_gradcam import GradCamError, Volume, explain, load_classifier, read_volume
from napari_gradcam.classifiers import fields, recipe
from napari_gradcam.classifiers.channels import channels_of
from napari_gradcam.classifiers.preprocessing import prepare_volume
from napari_gradcam.classifiers.recipe import _WINDOW, KEYS, read_recipe

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL = {"block_config": [2], "init_features": 4, "growth_rate": 4, "bn_size": 1}
RECIPE: dict[str, Any] = {
    "network": {"name": "DenseNet", **SMALL},
    "weights": "best.ckpt",
    "dimensions": 3,
    "classes": ["healthy", "lesion"],
    "activation": "softmax",
    "size": [24, 24, 24],
    "modality": "MR",
    "value_range": [0, 1],
    "preprocessing": [
        {"Orientation": {"axcodes": "RAS"}},
        "ScaleIntensity",
        {"Resized": {"keys": "image", "spatial_size": [24, 24, 24]}},
    ],
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the small recipe, changed as asked, beside its weights, and gives its path."""

    def written(shape: tuple[int, int, int] = (3, 1, 2), **changes: Any) -> Path:
        torch.manual_seed(0)
        network = DenseNet(*shape, **SMALL)  # dimensions, channels, outputs
        state = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "best.ckpt")
        content = {key: value for key, value in {**RECIPE, **changes}.items() if value is not None}
        (tmp_path / "liver.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "liver.yaml"

    return written


def changed(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    array = np.random.default_rng(0).random((20, 24, 28), dtype=np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([-2.0, 2, 2, 1])), tmp_path / "noise.nii.gz")
    return tmp_path / "noise.nii.gz"


def test_a_recipe_gives_a_classifier(write: Callable[..., Path]) -> None:
    classifier = load_classifier(write(intended_use="Research only.", licence="MIT", version="1.2", name="Liver"))
    assert isinstance(classifier.network, DenseNet)
    assert classifier.class_names == ("healthy", "lesion")
    assert classifier.head.activation == "softmax"
    assert classifier.input_shape == (1, 24, 24, 24)
    assert (classifier.wants.modality, classifier.wants.value_range) == ("MR", (0.0, 1.0))
    assert (classifier.name, classifier.version) == ("Liver", "1.2")
    assert (classifier.intended_use, classifier.licence) == ("Research only.", "MIT")


@pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning", "ignore::FutureWarning:monai")
def test_plain_monai_reads_the_same_configuration_to_the_same_scores(write: Callable[..., Path], scan: Path) -> None:
    path = write()
    parser = ConfigParser(read_recipe(path).inference)
    network = parser.get_parsed_content("network_def").eval()
    state = torch.load(path.parent / "best.ckpt", weights_only=True)["state_dict"]
    network.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state.items()})
    image = parser.get_parsed_content("preprocessing")({"image": str(scan)})["image"]
    with torch.no_grad():
        predicted = parser.get_parsed_content("inferer")(image[None], network)[0]
    probabilities = parser.get_parsed_content("postprocessing")({"pred": predicted})["pred"]

    classifier, volume = load_classifier(path), read_volume(scan)
    prepared = prepare_volume(channels_of(volume, classifier), classifier.preprocess)
    torch.testing.assert_close(prepared.tensor, image[None].as_tensor())
    assert list(explain(volume, classifier).scores.values()) == pytest.approx(probabilities.tolist(), abs=1e-6)


def test_metadata_follow_the_schema_of_monai(write: Callable[..., Path]) -> None:
    content = read_recipe(write()).metadata
    needed = "version changelog monai_version pytorch_version numpy_version required_packages_version task description"
    assert set(needed.split()) | {"authors", "copyright", "network_data_format"} <= set(content)
    image, pred = content["network_data_format"]["inputs"]["image"], content["network_data_format"]["outputs"]["pred"]
    assert (image["type"], image["num_channels"], image["spatial_shape"]) == ("image", 1, [24, 24, 24])
    assert (image["is_patch_data"], image["value_range"], image["modality"]) == (False, [0, 1], "MR")
    assert (pred["type"], pred["format"], pred["num_channels"]) == ("probabilities", "classes", 2)
    assert pred["channel_def"] == {"0": "healthy", "1": "lesion"}
    assert "explanation" not in content


def test_channels_have_names_where_they_are_given_any(write: Callable[..., Path]) -> None:
    path = write((3, 2, 2))
    assert load_classifier(changed(path, channels=["T1", "T2"])).wants.channels == ("T1", "T2")
    assert load_classifier(changed(path, channels=2)).wants.channels == ()
    assert load_classifier(path).input_shape[0] == 2


def test_an_activation_that_is_left_out_is_assumed_and_said(write: Callable[..., Path]) -> None:
    classifier = load_classifier(write(activation=None))
    assert classifier.head.activation == "softmax"
    assert any("softmax was assumed" in notice for notice in classifier.notices)


def test_one_score_decides_between_two_classes_or_one_and_its_absence(write: Callable[..., Path]) -> None:
    two = load_classifier(changed(write((3, 1, 1)), outputs=1, activation="sigmoid"))
    assert two.class_names == ("healthy", "lesion")
    assert two.head.exclusive
    one = load_classifier(changed(write((3, 1, 1)), classes=["lesion"], activation="sigmoid"))
    assert one.class_names == ("no lesion", "lesion")


def test_sliding_windows_are_those_of_the_recipe(write: Callable[..., Path]) -> None:
    windows = load_classifier(write(window={"overlap": 0.5, "mode": "gaussian"})).windows
    assert windows is not None
    assert (windows.roi, windows.overlap, windows.mode) == ((24, 24, 24), (0.5, 0.5, 0.5), "gaussian")
    windows = load_classifier(write(window={"size": [16, 24, 24]})).windows
    assert windows is not None
    assert (windows.roi, windows.overlap, windows.mode) == ((16, 24, 24), (0.25, 0.25, 0.25), "constant")


def test_a_2d_recipe_says_how_a_volume_is_read(write: Callable[..., Path]) -> None:
    steps = [{"Resize": {"spatial_size": [24, 24]}}]
    said = {"plane": "coronal", "aggregation": "top-k", "top": 2, "positive_class": "healthy", "rows_first": True}
    path = write((2, 1, 2), dimensions=2, size=24, preprocessing=steps, target_layer="class_layers.relu", **said)
    classifier = load_classifier(path)
    rule = classifier.slice_rule
    assert (rule.plane, rule.aggregation, rule.top, rule.positive) == ("coronal", "top-k", 2, 0)
    assert classifier.wants.rows_first
    assert classifier.default_layer == "class_layers.relu"
    assert classifier.input_shape == (1, 24, 24)


def test_dimensions_follow_from_a_size_for_each_axis(write: Callable[..., Path]) -> None:
    assert load_classifier(write(dimensions=None)).spatial_dims == 3


def test_a_networks_name_is_enough(tmp_path: Path) -> None:
    torch.save(DenseNet121(2, 1, 2).state_dict(), tmp_path / "w.pt")
    (tmp_path / "r.yml").write_text("network: DenseNet121\nweights: w.pt\nclasses: [a, b]\nsize: [32, 32]\n")
    assert isinstance(load_classifier(tmp_path / "r.yml").network, DenseNet121)


@pytest.mark.parametrize(
    "step",
    [
        {"Resize": {"spatial_size": [8, 8, 8]}},
        {"Resized": {"spatial_size": [8, 8, 8]}},
        {"ResizeD": {"keys": ["image"], "spatial_size": [8, 8, 8]}},
        {"_target_": "monai.transforms.Resized", "keys": "image", "spatial_size": [8, 8, 8]},
    ],
)
def test_steps_are_understood_as_people_write_them(write: Callable[..., Path], step: Any) -> None:
    transforms = read_recipe(write(preprocessing=["LoadImage", "EnsureChannelFirstd", step])).inference["preprocessing"]
    assert transforms["transforms"][2:] == [{"_target_": "Resized", "keys": "image", "spatial_size": [8, 8, 8]}]


def test_a_step_that_takes_its_source_from_the_image_is_told_so(write: Callable[..., Path]) -> None:
    steps = read_recipe(write(preprocessing=["CropForeground", {"Flip": None}])).inference["preprocessing"]
    assert steps["transforms"][2] == {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}
    assert steps["transforms"][3]["_target_"] == "Flipd"


# What is refused


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"netwrok": "x"}, "has the unknown key “netwrok”: did you mean “network”"),
        ({"license": "MIT"}, "unknown key “license”: did you mean “licence”"),
        ({"qqq": "x"}, "unknown key “qqq”: it knows network, weights"),
        ({"weights": None}, "has no “weights”; add it"),
        ({"network": None}, "has no “network”; add it"),
        ({"weights": "other.pt"}, r"names the weights “other\.pt”, which are not there"),
        ({"weights": "."}, "which are not there"),
        ({"network": "DenseNet12"}, "cannot be followed: there is no network “DenseNet12”.*did you mean DenseNet121"),
        ({"network": ["x"]}, "gives “network” as .*: give a network's name"),
        ({"dimensions": 4}, "gives “dimensions” as 4: give 2 or 3 dimensions"),
        ({"dimensions": None, "size": 24}, "has no “dimensions”"),
        ({"size": [24, 24]}, r"gives “size” as \[24, 24\]: give 3 whole numbers"),
        ({"size": [24, 24, 0]}, "give 3 whole numbers above zero"),
        ({"size": [24, 24, True]}, "give 3 whole numbers above zero"),
        ({"classes": ["a", "a"]}, "gives “classes” as .*a name of its own"),
        ({"classes": [False, "yes"]}, "in quotes where it is a word such as yes or no"),
        ({"classes": "a, b"}, "give a list of names"),
        ({"outputs": 3}, "gives “outputs” as 3: give 2, as many as there are classes"),
        ({"outputs": 1}, "gives “activation” as softmax: give sigmoid"),
        ({"activation": "relu"}, "gives “activation” as relu: give softmax or sigmoid"),
        ({"channels": 0}, "gives “channels” as 0"),
        ({"value_range": [1, 0]}, "give the lowest and the highest value"),
        ({"plane": "oblique"}, "gives “plane” as oblique: give axial, coronal or sagittal"),
        ({"aggregation": "median"}, "give max, mean or top-k"),
        ({"positive_class": "other"}, "one of the classes: healthy, lesion"),
        ({"top": 0}, "gives “top” as 0"),
        ({"rows_first": "yes"}, "gives “rows_first” as yes: give true or false"),
        ({"name": ["x"]}, "gives “name” as .*: give a text"),
        ({"window": {"overlap": 1}}, "at “window” gives “overlap” as 1: give the share"),
        ({"window": {"mode": "box"}}, "gives “mode” as box: give constant or gaussian"),
        ({"window": {"width": 3}}, "at “window” has the unknown key “width”"),
        ({"window": 3}, "at “window” is no list of keys and values"),
        ({"preprocessing": "Resize"}, "gives “preprocessing” as no list"),
        ({"preprocessing": [{"a": {}, "b": {}}]}, "has a step 1 of “preprocessing” that is no transform"),
        ({"preprocessing": ["Resise"]}, "step 1 of “preprocessing” “Resise”, which is no transform of MONAI: did you"),
        ({"preprocessing": ["RandFlip"]}, "“RandFlip”, which changes the image at random"),
        ({"preprocessing": [{"Lambda": {"func": "x"}}]}, "“Lambda”, which a recipe cannot run"),
        ({"preprocessing": ["Resize"]}, "“Resize” without its “spatial_size”; add it"),
        ({"preprocessing": [{"Resize": {"size": 3}}]}, "the unknown argument “size”"),
        ({"preprocessing": [{"Flip": {"keys": "label"}}]}, "with the keys label"),
        ({"preprocessing": ["os.system"]}, r"“os\.system”, which is no transform"),
    ],
)
def test_each_mistake_is_told_in_one_sentence(
    write: Callable[..., Path], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(GradCamError, match=rf"^The recipe liver\.yaml .*{sentence}"):
        read_recipe(write(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocessing": [{"Resize": {"spatial_size": "$__import__('os').system('touch canary')"}}]},
        {"preprocessing": [{"Resize": {"spatial_size": ["@size"]}}]},
        {"preprocessing": [{"Flip": {"spatial_axis": "%other.json::x"}}]},
        {"network": {"name": "DenseNet", "block_config": ["$print(1)"]}},
        {"network": {"name": "DenseNet", "norm": {"_target_": "os.system", "command": "@x"}}},
    ],
)
def test_expressions_are_refused_by_name(write: Callable[..., Path], changes: dict[str, Any]) -> None:
    with pytest.raises(GradCamError, match=r"take numbers, words and lists alone"):
        read_recipe(write(**changes))


def test_a_recipe_names_nothing_but_networks_and_transforms(write: Callable[..., Path], tmp_path: Path) -> None:
    hostile = {"_target_": "pathlib.Path.touch", "self": str(tmp_path / "canary")}
    with pytest.raises(GradCamError, match=r"pathlib\.Path\.touch"):
        load_classifier(write(network={"name": "DenseNet", **SMALL, "norm": hostile}))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"network: [", "cannot be understood as YAML"),
        (b"\xff\xfe\x00", "cannot be understood as YAML"),
        (b"network: !!python/object/apply:os.system ['touch canary']", "cannot be understood as YAML"),
        (b"- a\n- b\n", "is no list of keys and values"),
        (b"", "is no list of keys and values"),
        (b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
            b"%c: &%c [%s]\n" % (name, name, b", ".join([b"*%c" % (name - 1)] * 10)) for name in b"bcdefgh"
        ), "has more values than a recipe can have"),
        (b"network: &a [*a]\n", "has more values than a recipe can have"),
        (b"x" * (fields.LARGEST + 1), "is larger than a recipe can be"),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(GradCamError, match=rf"^The recipe odd\.yaml {sentence}"):
        read_recipe(path)


HUGE = "0x" + "f" * 6000
PLACES = {
    "outputs": HUGE,
    "channels": HUGE,
    "name": HUGE,
    "value_range": f"[0, {HUGE}]",
    "window": f"{{overlap: {HUGE}}}",
    "preprocessing": f"[{{Resize: {{spatial_size: {HUGE}}}}}]",
    HUGE: "1",
    "weights": "a" * 5000,
    "network": "a" * 70_000,
    "classes": f"[{'a' * 70_000}, b]",
    "positive_class": "a" * 70_000,
    "plane": "a" * 70_000,
    "target_layer": "a" * 70_000,
    "description": "a" * 70_000,
    "modality": "!!timestamp x",
    "licence": "!!int ''",
    "authors": "{=: 1}",
    "a" * 70_000: "1",
    "!!bool x": "1",
    "version": "!!float ''",
    "size": "[" * 1000 + "]" * 1000,
    "top": "9" * 60,
}


@pytest.mark.parametrize("key", PLACES, ids=[str(number) for number in range(len(PLACES))])
def test_what_no_person_writes_is_refused_in_one_short_sentence(write: Callable[..., Path], key: str) -> None:
    path = write()
    content = {name: value for name, value in RECIPE.items() if name != key}
    path.write_text(f"{yaml.safe_dump(content)}? {key}\n: {PLACES[key]}\n")
    with pytest.raises(GradCamError, match=r"^The recipe liver\.yaml ") as told:
        read_recipe(path)
    assert len(str(told.value)) < 1000
    assert str(told.value).isprintable()


def test_names_that_sentences_list_are_cut(write: Callable[..., Path]) -> None:
    classes = [f"{number} {'a' * 400}" for number in range(100)]
    with pytest.raises(GradCamError, match="gives “positive_class” as other: give one of the classes: 0 aaa") as told:
        read_recipe(write(classes=classes, positive_class="other"))
    assert len(str(told.value)) < 1000


@pytest.mark.parametrize(
    "place", ["//server/share/w.pt", r"\\server\share\w.pt", r"\\?\UNC\server\share\w.pt", r"/\server/w.pt"]
)
def test_weights_on_another_computer_are_not_looked_for(
    write: Callable[..., Path], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(weights=place)
    monkeypatch.setattr(recipe, "isfile", lambda _: pytest.fail("it was looked for"))
    with pytest.raises(GradCamError, match="which are on another computer; copy them beside the recipe"):
        read_recipe(path)


def test_weights_may_lie_anywhere_on_this_computer(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write()
    (tmp_path / "deeper").mkdir()
    for place in (str(tmp_path / "best.ckpt"), "deeper/../best.ckpt"):
        assert read_recipe(changed(path, weights=place)).weights.samefile(tmp_path / "best.ckpt")


def test_weights_that_do_not_fit_the_named_network_are_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(GradCamError, match="do not fit its network"):
        load_classifier(write((3, 1, 3)))


def test_a_volume_is_explained(write: Callable[..., Path]) -> None:
    volume = Volume(np.random.default_rng(0).random((20, 24, 28), dtype=np.float32), np.eye(4), name="noise")
    explanation = explain(volume, load_classifier(write()), "lesion")
    assert explanation.heatmap.shape == volume.shape


def test_the_example_in_the_documentation_names_every_key_and_opens(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    text = page.split("```yaml\n")[1].split("```")[0]
    content = yaml.safe_load(text)
    assert set(content) == set(KEYS)
    assert set(content["window"]) == set(_WINDOW)
    torch.save(DenseNet(2, 3, 2, init_features=32).state_dict(), tmp_path / content["weights"])
    (tmp_path / "recipe.yaml").write_text(text)
    model = load_classifier(tmp_path / "recipe.yaml")
    assert (model.class_names, model.declared_layer) == (("healthy", "lesion"), content["target_layer"])
    assert any(layer.name == content["target_layer"] and layer.problem is None for layer in model.layers())

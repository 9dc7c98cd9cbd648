"""The commands that make a bundle and that say what one would run."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.networks.nets import DenseNet
from typer.testing import CliRunner

from napari_gradcam import GradCamError, cli, load_classifier
from napari_gradcam.classifiers.checking import check_bundle
from napari_gradcam.export import bundle as writing
from napari_gradcam.export.bundle import write_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    WriteBundle = Callable[..., Path]

SMALL = {"block_config": [2], "init_features": 4, "growth_rate": 4, "bn_size": 1}


@pytest.fixture
def run() -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(cli.app, ["bundle", *map(str, arguments)])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Write a recipe beside a checkpoint in half precision, as a Lightning module of a training left it."""
    torch.manual_seed(0)
    state = DenseNet(2, 1, 2, **SMALL).state_dict()
    wrapped = {f"model.{name}": value.half() if value.is_floating_point() else value for name, value in state.items()}
    (tmp_path / "given").mkdir()
    torch.save({"state_dict": wrapped | {"criterion.weight": torch.ones(2)}}, tmp_path / "given/best.ckpt")
    content = {
        "network": {"name": "DenseNet", **SMALL},
        "weights": "best.ckpt",
        "classes": ["healthy", "lesion"],
        "size": [24, 24],
        "modality": "MR",
        "plane": "coronal",
        "aggregation": "max",
        "intended_use": "Research only.",
        "licence": "MIT License\nPermission is granted.",
        "preprocessing": [{"Resize": {"spatial_size": [24, 24]}}],
    }
    (tmp_path / "given/liver.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "given/liver.yaml"


# New


def test_new_writes_a_bundle_that_gives_what_the_recipe_gives(
    run: Callable[..., Result], recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "liver"
    result = run("new", recipe, folder)
    assert result.exit_code == 0, result.output
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert files == {
        "configs/metadata.json",
        "configs/inference.json",
        "models/model.pt",
        "docs/README.md",
        "LICENSE",
    }
    for file in files:
        assert f"Wrote {folder / file}" in result.output
    assert f"napari-gradcam explain SCAN --model {folder}" in result.output
    assert "first criterion.weight" in result.output

    ours, theirs = load_classifier(folder), load_classifier(recipe)
    for name in ("class_names", "head", "spatial_dims", "input_shape", "name", "slice_rule", "wants", "licence"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.slice_rule.plane == "coronal"
    # The weights are the network's own: a plain state dict in its number format.
    stored = torch.load(folder / "models/model.pt", weights_only=True)
    for name, tensor in theirs.network.state_dict().items():
        torch.testing.assert_close(stored.pop(name), tensor, rtol=0, atol=0)
    assert not stored


def test_plain_monai_opens_what_new_wrote(recipe: Path, tmp_path: Path) -> None:
    write_bundle(recipe, tmp_path / "liver")
    parser = ConfigParser()
    parser.read_config(str(tmp_path / "liver/configs/inference.json"))
    parser.read_meta(str(tmp_path / "liver/configs/metadata.json"))
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(tmp_path / "liver/models/model.pt", weights_only=True))
    image = torch.rand(1, 1, 24, 24)
    with torch.no_grad():
        theirs = parser.get_parsed_content("inferer")(image, network)
        ours = load_classifier(tmp_path / "liver").network(image)
    torch.testing.assert_close(theirs, ours)
    assert parser.get("_meta_")["network_data_format"]["outputs"]["pred"]["channel_def"]["1"] == "lesion"


def test_a_folder_with_files_in_it_is_left_alone(run: Callable[..., Result], recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    result = run("new", recipe, tmp_path / "full")
    assert result.exit_code == cli.BAD_INPUT
    assert "has files in it" in result.stderr
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine.txt"]
    result = run("new", recipe, tmp_path / "full/mine.txt")
    assert result.exit_code == cli.BAD_INPUT
    assert "is a file, not a folder" in result.stderr


def test_an_empty_folder_is_used(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert load_classifier(write_bundle(recipe, tmp_path / "empty").files[0].parents[1]).class_names


@pytest.mark.parametrize("change", [{"classes": ["a", "b", "c"]}, {"weights": "other.ckpt"}, {"network": "qwertz"}])
def test_what_does_not_open_is_not_written(
    run: Callable[..., Result], recipe: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | change))
    result = run("new", recipe, tmp_path / "models/liver")
    assert result.exit_code == cli.BAD_INPUT
    assert "Traceback" not in result.output
    assert not (tmp_path / "models").exists()


def test_a_bundle_that_would_open_otherwise_is_not_written(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = writing._write

    def spoiled(read: Any, classifier: Any, draft: Path) -> Any:
        names = write(read, classifier, draft)
        state = torch.load(draft / "models/model.pt", weights_only=True)
        state["class_layers.out.bias"] += 1
        torch.save(state, draft / "models/model.pt")
        return names

    monkeypatch.setattr(writing, "_write", spoiled)
    with pytest.raises(GradCamError, match="would not open as its recipe does, and was not written"):
        write_bundle(recipe, tmp_path / "models/liver")
    assert not (tmp_path / "models").exists()


def test_an_interrupted_copy_leaves_nothing(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[Path] = []

    def full(source: Path, target: Path) -> None:
        copied.append(source)
        if len(copied) == 3:
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(writing.shutil, "copyfile", full)
    with pytest.raises(GradCamError, match="the disk is full"):
        write_bundle(recipe, tmp_path / "models/liver")
    assert not (tmp_path / "models").exists()


# Check


def test_check_prints_what_would_run(run: Callable[..., Result], recipe: Path, tmp_path: Path) -> None:
    folder = write_bundle(recipe, tmp_path / "liver").files[0].parents[1]
    for place in (recipe, folder, shutil.make_archive(str(tmp_path / "liver"), "zip", folder)):
        result = run("check", place)
        assert result.exit_code == 0, result.output
        parameters = sum(parameter.numel() for parameter in load_classifier(place).network.parameters())
        for said in (
            f"DenseNet, {parameters:,} parameters",
            "best.ckpt" if place == recipe else "models/model.pt",
            "“healthy”, “lesion”",
            "softmax (assumed); they exclude one another",
            "1 × 24 × 24 (channels first), 2D",
            "modality",
            "Resized(spatial_size=[24, 24])",
            "LoadImaged: the scan is in memory",
            "SimpleInferer",
            "coronal slices, max, by “lesion”",
            "class_layers.relu",
            "Research only.",
            "MIT License (2 lines)",
            "It opens.",
        ):
            assert said in result.stdout, said
        assert ("SHA-256" in result.stdout) == (place != recipe)


def test_check_says_more_where_the_bundle_does(run: Callable[..., Result], write_bundle: WriteBundle) -> None:
    def change(_inference: Any, metadata: Any) -> None:
        image = metadata["network_data_format"]["inputs"]["image"]
        image.update(modality="CT", value_range=[-1000, 1000], channel_def={"0": "portal phase"})

    result = run("check", write_bundle(change))
    assert result.exit_code == 0, result.output
    for said in ("softmax (read)", "“portal phase”", "CT", "-1000 to 1000", "Small 0.1.0"):
        assert said in result.stdout, said
    assert "AsDiscreted: it does not touch the image, but label" in result.stdout


def test_check_lists_every_refusal_by_key_and_runs_nothing(
    run: Callable[..., Result], write_bundle: WriteBundle, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"

    def change(inference: Any, _metadata: Any) -> None:
        inference["preprocessing"]["transforms"] += [
            {"_target_": "os.system", "command": f"touch {canary}"},
            {"_target_": "Resized", "keys": "image", "spatial_size": f"$__import__('os').system('touch {canary}')"},
        ]
        inference["imports"] = ["$import subprocess"]

    folder = write_bundle(change)

    class Payload:
        def __reduce__(self) -> Any:
            return (open, (str(canary), "w"))

    torch.save({"weight": Payload()}, folder / "models/model.pt")
    result = run("check", folder)
    assert result.exit_code == cli.BAD_INPUT, result.output
    for said in (
        "preprocessing::transforms::5::_target_",
        "preprocessing::transforms::6::spatial_size",
        "imports::0",
        "models/model.pt",
        "io.open",
        "SHA-256",
    ):
        assert said in result.stdout, said
    assert "It does not open: " in result.stderr
    assert "It opens." not in result.output
    found = check_bundle(folder)
    assert len(found.findings) == 4
    assert found.classifier is None
    assert found.digest in result.stdout
    assert not canary.exists()


@pytest.mark.parametrize("name", ["models/model.pt", "configs/inference.json"])
def test_check_says_what_is_missing(run: Callable[..., Result], write_bundle: WriteBundle, name: str) -> None:
    folder = write_bundle()
    (folder / name).unlink()
    result = run("check", folder)
    assert result.exit_code == cli.BAD_INPUT
    assert name in result.stderr
    assert ("SimpleInferer" in result.stdout) == (name == "models/model.pt")


def test_check_of_nothing_is_a_mistake_told_in_a_line(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("check", tmp_path / "nowhere")
    assert result.exit_code == cli.BAD_INPUT
    assert "There is no model" in result.stderr


def test_a_name_in_a_bundle_is_no_markup(run: Callable[..., Result], write_bundle: WriteBundle) -> None:
    def change(_inference: Any, metadata: Any) -> None:
        metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "[red]calm", "1": "\x1b[31mstorm"}

    result = run("check", write_bundle(change))
    assert "[red]calm" in result.stdout
    assert "\x1b" not in result.stdout


def test_networks_lists_the_names_a_recipe_may_use(run: Callable[..., Result]) -> None:
    result = run("networks")
    assert result.exit_code == 0
    assert "DenseNet121" in result.stdout
    assert "SEResNext101" in result.stdout


def test_the_help_needs_no_torch(run: Callable[..., Result]) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in ("new", "check", "networks"):
        assert command in result.stdout

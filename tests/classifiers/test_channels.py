"""Several scans, or the colours of one, as the channels of one input: which is which, and all on one grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet
from monai.transforms import RepeatChannel, RepeatChanneld
from nibabel.affines import apply_affine
from torch import nn
from typer.testing import CliRunner

from napari_gradcam import Classifier, GradCamError, Volume, cli, explain, load_classifier, read_volume
from napari_gradcam.classifiers.channels import BRIGHTNESS_READ, Channels, assigned, channels_of
from napari_gradcam.classifiers.classifier import Wants
from napari_gradcam.classifiers.preprocessing import cut
from napari_gradcam.classifiers.scores import Head
from napari_gradcam.volumes.values import brightness

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (6, 7, 8)
AFFINE = np.array([[-1.5, 0, 0, 20], [0, 0, 2, -30], [0, 1, 0, 5], [0, 0, 0, 1]], dtype=float)
COLOURED = np.random.default_rng(1).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def scan(name: str, seed: int = 0, affine: Any = AFFINE, shape: tuple[int, ...] = SHAPE, **more: Any) -> Volume:
    return Volume(np.random.default_rng(seed).random(shape, dtype=np.float32), np.array(affine), name=name, **more)


def coloured(name: str = "photo") -> Volume:
    return Volume(brightness(COLOURED), AFFINE, name=name, color=COLOURED)


class Net(nn.Module):
    """Two scores that each weigh the channels in another way."""

    def __init__(self, channels: int, dims: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = (nn.Conv2d, nn.Conv3d)[dims - 2](channels, 5, 1)
        self.head = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().flatten(2).mean(dim=2))


def classifier(channels: int, *names: str, preprocess: Any = None, dims: int = 3) -> Classifier:
    size = (channels, *SHAPE[:dims])
    return Classifier(
        Net(channels, dims), preprocess, ("a", "b"), Head(2, "softmax"), dims, size, "Net", wants=Wants(channels=names)
    )


def test_one_grey_scan_is_one_channel_and_is_not_copied() -> None:
    volume = scan("grey")
    channels = channels_of(volume, classifier(1))
    assert isinstance(channels, Channels)
    assert channels.volume is volume
    assert np.shares_memory(channels.array, volume.array)
    np.testing.assert_array_equal(channels.array, volume.array[None])
    assert (channels.volumes, channels.reads, channels.notices, len(channels)) == ((volume,), ("values",), (), 1)


def test_scans_in_the_order_of_the_channels_are_read_in_it() -> None:
    volumes = [scan("one", 1), scan("two", 2)]
    channels = channels_of(volumes, classifier(2))
    np.testing.assert_array_equal(channels.array, np.stack([volume.array for volume in volumes]))
    assert channels.volume is volumes[0]
    expected = Net(2)(torch.from_numpy(channels.array)[None])[0].tolist()
    assert list(explain(volumes, classifier(2)).logits.values()) == pytest.approx(expected, rel=1e-5)
    turned = explain(volumes[::-1], classifier(2))
    assert list(turned.logits.values()) != pytest.approx(expected, rel=1e-3)


def test_scans_by_name_are_put_in_the_order_of_the_channels_and_the_map_lies_on_the_first_one_given() -> None:
    one, two = scan("first", 1), scan("second", 2)
    channels = channels_of({"t2 ": two, "T1": one}, classifier(2, "T1", "T2"))
    np.testing.assert_array_equal(channels.array, np.stack([one.array, two.array]))
    assert channels.volume is two
    assert channels.notices == ()  # the names said which is which
    assert explain({"T2": two, "T1": one}, classifier(2, "T1", "T2")).volume_name == "second"


def test_an_order_that_nothing_but_the_list_gives_is_told() -> None:
    notices = channels_of([scan("x"), scan("y")], classifier(2, "T1", "T2")).notices
    assert notices == ("The channels were taken in the order given: T1 from “x”, T2 from “y”.",)
    assert channels_of([scan("x"), scan("y")], classifier(2)).notices == ()


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({"T1": 1, "FLAIR": 2}, "has no channel “FLAIR”; its channels are “T1”, “T2”"),
        ({"T1": 1}, "No scan is given for the channel “T2”; give one for each of “T1”, “T2”"),
        ({"T1": 1, "t1": 2, "T2": 3}, "The channel “t1” is given twice; give one scan for each of “T1”, “T2”"),
    ],
)
def test_names_that_are_no_channels_or_missing_or_doubled_are_refused_by_name(
    names: dict[str, int], sentence: str
) -> None:
    with pytest.raises(GradCamError, match=sentence):
        channels_of({name: scan(name, seed) for name, seed in names.items()}, classifier(2, "T1", "T2"))


def test_names_for_a_model_without_names_are_refused_with_the_way_out() -> None:
    with pytest.raises(GradCamError, match=r"“Net” does not name its channels.*give them as a list"):
        channels_of({"T1": scan("x")}, classifier(1))


@pytest.mark.parametrize("given", [[], {}, "scan.nii", np.zeros((2, 2, 2)), [scan("x"), None], {"T1": 5}])
def test_what_is_no_scan_is_refused(given: Any) -> None:
    with pytest.raises(GradCamError, match="where a scan is needed: give what read_volume gives"):
        channels_of(given, classifier(2, "T1", "T2"))


# Colours


def test_colours_are_three_channels_where_the_network_reads_three() -> None:
    channels = channels_of(coloured(), classifier(3))
    np.testing.assert_array_equal(channels.array, np.moveaxis(COLOURED, -1, 0))
    assert np.shares_memory(channels.array, COLOURED)
    assert channels.array.dtype == np.uint8
    assert (channels.reads, channels.notices) == (("red", "green", "blue"), ())


def test_colours_are_their_brightness_where_the_network_reads_one_and_that_is_said() -> None:
    channels = channels_of(coloured(), classifier(1))
    np.testing.assert_array_equal(channels.array, brightness(COLOURED)[None])
    assert (channels.reads, channels.notices) == (("brightness",), (BRIGHTNESS_READ,))
    assert BRIGHTNESS_READ in explain(coloured(), classifier(1)).notices
    assert BRIGHTNESS_READ not in explain(coloured(), classifier(3)).notices


def test_where_nothing_is_declared_the_first_convolution_tells() -> None:
    undeclared = Classifier(Net(3), None, ("a", "b"), Head(2, "softmax"), 3, (1, *SHAPE))
    assert channels_of(coloured(), undeclared).reads == ("red", "green", "blue")


@pytest.mark.parametrize("repeat", [RepeatChannel(3), [RepeatChanneld("image", 3)]])
def test_brightness_is_what_a_preprocessing_that_repeats_it_gets(repeat: Any) -> None:
    model = classifier(3, preprocess=repeat)
    assert channels_of(coloured(), model).reads == ("brightness",)
    assert explain(scan("grey"), model).notices == explain([scan("grey")], model).notices


def test_colours_and_a_mask_are_four_channels_in_either_order() -> None:
    mask = Volume((brightness(COLOURED) > 99).astype(np.uint8), AFFINE, name="mask")
    channels = channels_of([coloured(), mask], classifier(4))
    np.testing.assert_array_equal(channels.array, np.concatenate([np.moveaxis(COLOURED, -1, 0), mask.array[None]]))
    assert channels.reads == ("red", "green", "blue", "values")
    assert channels_of([mask, coloured()], classifier(4)).reads == ("values", "red", "green", "blue")
    assert len(explain([coloured(), mask], classifier(4)).scores) == 2


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (("R", "G", "B", "mask"), "rgb"),
        (("red", "green", "blue", "mask"), "RGB"),
        (("image", "image", "image", "mask"), "image"),
    ],
)
def test_colours_go_to_the_channels_that_are_called_so(names: tuple[str, ...], key: str) -> None:
    mask = scan("mask")
    channels = channels_of({key: coloured(), "mask": mask}, classifier(4, *names))
    np.testing.assert_array_equal(channels.array[:3], np.moveaxis(COLOURED, -1, 0))
    np.testing.assert_array_equal(channels.array[3], mask.array)
    with pytest.raises(GradCamError, match=r"3 channels of the model “Net” and “grey” has one"):
        channels_of({key: scan("grey"), "mask": mask}, classifier(4, *names))


def test_as_many_scans_in_colours_as_channels_are_a_channel_each() -> None:
    volumes = [coloured("a"), coloured("b"), coloured("c")]
    channels = channels_of(volumes, classifier(3))
    assert channels.reads == ("brightness",) * 3
    assert channels.notices == tuple(f"“{n}” is in colours; the network read their brightness." for n in "abc")


# The wrong number


def test_a_grey_scan_is_never_repeated_silently_and_the_way_out_is_said() -> None:
    with pytest.raises(GradCamError, match=r"wants 3 input channels but .* gives 1: .* give that scan 3 times") as told:
        explain(scan("grey"), classifier(3))
    assert "by their names" not in str(told.value)
    volume = scan("grey")
    assert channels_of([volume] * 3, classifier(3)).array.shape == (3, *SHAPE)
    assert explain([volume] * 3, classifier(3)).heatmap.shape == SHAPE


@pytest.mark.parametrize("dims", [2, 3])
def test_the_refusal_of_a_network_names_the_channels_it_wants(dims: int) -> None:
    model = classifier(4, "FLAIR", "T1", "T1c", "T2", dims=dims)
    sentence = (
        r"wants 4 input channels \(“FLAIR”, “T1”, “T1c”, “T2”\) but its preprocessing gives 2: .* by their names\."
    )
    with pytest.raises(GradCamError, match=sentence):
        explain([scan("x"), scan("y")], model)
    with pytest.raises(GradCamError, match=sentence):
        model.layers([scan("x"), scan("y")])
    with pytest.raises(GradCamError, match="gives 5: give fewer scans"):
        explain([scan("x")] * 5, model)


# Grids


def test_a_scan_on_another_grid_is_resampled_through_patient_space_and_that_is_said() -> None:
    grid = scan("grid", shape=(9, 10, 11), affine=AFFINE)
    # A field that is linear in the patient is met by linear interpolation wherever the other scan reaches.
    finer = np.diag([0.7, 0.8, 0.9, 1.0])
    finer[:3, 3] = apply_affine(AFFINE, (0, 0, 0)) - (20, 5, 5)
    places = apply_affine(finer, np.moveaxis(np.indices((60, 40, 40)), 0, -1))
    other = Volume((places @ (3.0, -2, 1) + 7).astype(np.float32), finer, name="other")
    channels = channels_of([grid, other], classifier(2))
    assert channels.array.shape == (2, 9, 10, 11)
    wanted = apply_affine(AFFINE, np.moveaxis(np.indices((9, 10, 11)), 0, -1))
    reached = apply_affine(np.linalg.inv(finer), wanted)
    inside = ((reached >= 0) & (reached <= np.array(other.shape) - 1)).all(axis=-1)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(channels.array[1][inside], (wanted @ (3.0, -2, 1) + 7)[inside], atol=1e-3)
    assert "“other” was resampled onto the grid of “grid” by linear interpolation." in channels.notices
    assert channels_of([other, other], classifier(2)).notices == ()


def test_what_another_scan_does_not_cover_is_its_background_and_that_is_said() -> None:
    grid = scan("grid", affine=np.eye(4), shape=(10, 10, 10))
    half = Volume(np.full((5, 10, 10), -1000, np.int16) + np.arange(5, dtype=np.int16)[:, None, None], np.eye(4))
    channels = channels_of([grid, half], classifier(2))
    np.testing.assert_array_equal(channels.array[1][5:], -1000)
    np.testing.assert_array_equal(channels.array[1][:5, 3, 3], np.arange(5) - 1000)
    assert any("covers 50 % of that grid; the rest was filled with its lowest value" in one for one in channels.notices)


def test_labels_are_taken_from_the_nearest_voxel() -> None:
    labels = np.zeros((5, 5, 5), np.int16)
    labels[2:] = 7
    mask = Volume(labels, np.diag([2.0, 2, 2, 1]), name="mask")
    channels = channels_of([scan("grid", affine=np.eye(4), shape=(9, 9, 9)), mask], classifier(2))
    assert set(np.unique(channels.array[1])) == {0, 7}
    assert (channels.array[1][:3] == 0).all()
    assert (channels.array[1][4:] == 7).all()
    assert "“mask” was resampled onto the grid of “grid” from the nearest voxels." in channels.notices


def test_colours_on_another_grid_stay_colours() -> None:
    shifted = AFFINE.copy()
    shifted[:3, 3] += AFFINE[:3, 0]
    photo = Volume(brightness(COLOURED), shifted, name="photo", color=COLOURED)
    channels = channels_of([scan("grid"), photo], classifier(4))
    np.testing.assert_allclose(channels.array[1:, 1:], np.moveaxis(COLOURED, -1, 0)[:, :-1], atol=1)


def test_grids_that_differ_by_rounding_are_one() -> None:
    near = AFFINE.copy()
    near[:3, 3] += 5e-4
    assert channels_of([scan("x"), scan("y", affine=near)], classifier(2)).notices == ()
    near[:3, 3] += 0.1
    assert len(channels_of([scan("x"), scan("y", affine=near)], classifier(2)).notices) == 1


def test_scans_that_cannot_be_laid_over_one_another_are_refused() -> None:
    far = AFFINE.copy()
    far[:3, 3] += 1000
    with pytest.raises(GradCamError, match="“y” and “x” have no place in the patient in common"):
        channels_of([scan("x"), scan("y", affine=far)], classifier(2))
    nowhere = scan("y", shape=(5, 5, 5), in_patient_space=False)
    for given in ([scan("x"), nowhere], [nowhere, scan("x")]):
        with pytest.raises(GradCamError, match="“y” does not say where in the patient it lies"):
            channels_of(given, classifier(2))


def test_what_is_known_of_the_other_scans_is_told_too() -> None:
    broken = scan("y", notices=("2 voxels hold no number.",))
    assert "Of “y”: 2 voxels hold no number." in channels_of([scan("x"), broken], classifier(2)).notices
    assert "2 voxels hold no number." in explain(broken, classifier(1)).notices


# From channels to slices


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_every_channel_is_cut_alike(plane: str) -> None:
    one, two = scan("one", 1), scan("two", 2)
    both = cut(channels_of([one, two], classifier(2)), plane)
    for number, volume in enumerate((one, two)):
        alone = cut(channels_of(volume, classifier(1)), plane)
        np.testing.assert_array_equal(both.array[number], alone.array[0])
        assert both.native_indices == alone.native_indices
    assert both.plane == plane


def test_a_single_slice_is_cut_along_its_own_axis_whatever_the_plane() -> None:
    flat = scan("flat", shape=(6, 1, 8))  # its second axis runs to Superior
    cuts = [cut(channels_of(flat, classifier(1)), plane) for plane in ("axial", "coronal", "sagittal")]
    for one in cuts:
        assert (len(one), one.plane, one.native_axis) == (1, "", 1)
        np.testing.assert_array_equal(one.array, cuts[0].array)
    assert cut(channels_of(scan("thick"), classifier(1)), "axial").plane == "axial"


def test_scans_of_which_some_are_named_take_the_channels_left() -> None:
    one, two, photo = scan("one"), scan("two"), coloured()
    model = classifier(3, "T1", "T2", "FLAIR")
    assert assigned(one, [], model) is one
    assert assigned(one, [("", two)], model) == [one, two]
    assert assigned(one, [("T1", two), ("", photo)], model) == {"T2": one, "T1": two, "FLAIR": photo}
    assert assigned(photo, [("mask", one)], classifier(4, "R", "G", "B", "mask")) == {"rgb": photo, "mask": one}
    with pytest.raises(GradCamError, match=r"4 scans are given .* has the channels “T1”, “T2”, “FLAIR”"):
        assigned(one, [("T1", two), ("", two), ("", two)], model)
    with pytest.raises(GradCamError, match="“T1” is given twice"):
        assigned(one, [("T1", two), ("T1", two)], model)
    with pytest.raises(GradCamError, match="does not name its channels"):
        channels_of(assigned(one, [("T1", two)], classifier(2)), classifier(2))


# At the command line


@pytest.fixture
def two_channels(write_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    """Write a bundle that reads T1 and T2, and the two scans, T2 in the opposite order of its slices."""

    def change(inference: Any, metadata: Any) -> None:
        inference["network_def"]["in_channels"] = 2
        image = metadata["network_data_format"]["inputs"]["image"]
        image |= {"num_channels": 2, "channel_def": {"0": "T1", "1": "T2"}}

    folder = write_bundle(change)
    torch.manual_seed(1)
    network = DenseNet(3, 2, 2, init_features=4, growth_rate=4, block_config=(2,), bn_size=1)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    for seed, (name, step) in enumerate({"t1": 2.0, "t2": -2.0}.items()):
        affine = np.diag([2.0, 2, step, 1])
        affine[2, 3] = 0 if step > 0 else 2 * 19
        array = np.random.default_rng(seed).random((20, 20, 20), dtype=np.float32)
        image = nib.Nifti1Image(array, affine)
        image.header.set_xyzt_units("mm")
        nib.save(image, tmp_path / f"{name}.nii.gz")
    return folder


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "300"})


def test_scans_for_the_channels_are_given_by_name_or_in_their_order(two_channels: Path, tmp_path: Path) -> None:
    t1, t2 = str(tmp_path / "t1.nii.gz"), str(tmp_path / "t2.nii.gz")
    classifier = load_classifier(two_channels)
    volumes = {"T1": read_volume(t1), "T2": read_volume(t2)}
    expected = explain(volumes, classifier)
    assert "“t2” was resampled onto the grid of “t1” by linear interpolation." in expected.notices
    model = ("--model", str(two_channels))
    by_name = run("explain", t1, "--channel", f"T2={t2}", *model)
    in_order = run("explain", t1, "--channel", t2, *model)
    for found in (by_name, in_order):
        assert found.exit_code == 0, found.output
        assert f"{expected.logits['calm']:.3g}" in found.stdout
        assert "t1, 20 × 20 × 20 voxels" in found.stdout
    assert "The channels were taken in the order given" in in_order.stdout
    assert "The channels were taken in the order given" not in by_name.stdout
    turned = run("explain", t2, "--channel", f"T1={t1}", *model)  # the same channels, and the map on the other grid
    assert "t2, 20 × 20 × 20 voxels" in turned.stdout
    listed = run("layers", t1, "--channel", f"T2={t2}", *model)
    assert listed.exit_code == 0, listed.output
    assert "cell (mm)" in listed.stdout


def test_mistakes_in_the_channels_are_told_in_one_line(two_channels: Path, tmp_path: Path) -> None:
    t1, model = str(tmp_path / "t1.nii.gz"), ("--model", str(two_channels))
    for channel, sentence in (
        ((), "wants 2 input channels (“T1”, “T2”) but its preprocessing gives 1"),
        (("--channel", f"PD={t1}"), "has no channel “PD”"),
        (("--channel", "T2="), "“T2=” names no scan"),
        (("--channel", "T2=nowhere.nii"), "“nowhere.nii” does not exist"),
    ):
        for command in ("explain", "layers"):
            found = run(command, t1, *channel, *model)
            assert found.exit_code == 2
            assert sentence in found.stderr
            assert "Traceback" not in found.output

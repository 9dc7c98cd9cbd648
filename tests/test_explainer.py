"""The map lands where the finding is, whatever the scan's axes and whatever the preprocessing did to them."""

from __future__ import annotations

from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    CropForeground,
    Orientation,
    RepeatChannel,
    Resize,
    ResizeWithPadOrCrop,
    ScaleIntensityRange,
    Spacing,
    SpatialCrop,
    ToTensor,
)
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation
from torch import nn

from napari_gradcam import Classifier, GradCamError, Volume, explain, passes
from napari_gradcam.cam import METHODS as ENGINE_METHODS
from napari_gradcam.classifiers.classifier import SliceRule
from napari_gradcam.classifiers.scores import Head
from napari_gradcam.explainer import explain_steps
from napari_gradcam.explanation import METHODS, Explanation
from napari_gradcam.verdict import Verdict, verdict_of_slices

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BLOB = np.array([21.0, -14.0, 33.0])
"""Centre of the finding in the patient, RAS+ mm; the body is an ellipsoid around (10, −5, 25)."""
BODY = np.array([10.0, -5.0, 25.0])
SIGNED_AXES = [
    np.eye(3)[list(order)] * np.array(signs)[:, None]
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
OBLIQUE = Rotation.from_euler("xyz", [12, -8, 20], degrees=True).as_matrix()


def scan(direction: NDArray[np.float64], spacing: tuple[float, ...] = (1.5, 2.0, 2.5)) -> Volume:
    """Make a body with one Gaussian finding, sampled on a grid of any direction that has room to spare on one side."""
    shape = np.array([64, 52, 44])
    affine = np.eye(4)
    affine[:3, :3] = direction @ np.diag(spacing)
    affine[:3, 3] = BODY + np.array([2.0, -3.0, 4.0]) - affine[:3, :3] @ ((shape - 1) / 2)
    places = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    inside = (((places - BODY) / [36, 38, 40]) ** 2).sum(axis=-1) < 1
    blob = np.exp(-((places - BLOB) ** 2).sum(axis=-1) / (2 * 5.0**2))
    return Volume((inside + 5 * blob * inside).astype(np.float32), affine, name="phantom")


class Finder(nn.Module):
    """Means of cells of 4 voxels, less the body, pooled: the map of class 1 is what is bright."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.mean = {2: nn.Conv2d, 3: nn.Conv3d}[dims](1, 1, 4, stride=4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.mean.weight.fill_(1 / 4**dims)
            self.mean.bias.fill_(-1.2)
            self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
            self.head.bias.copy_(torch.tensor([1e-4, -1e-4]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu(self.mean(x)).flatten(1).mean(dim=1, keepdim=True))


def finder(dims: int, preprocess: Callable[[Any], Any], **settings: Any) -> Classifier:
    return Classifier(
        network=Finder(dims),
        preprocess=preprocess,
        class_names=("calm", "finding"),
        head=Head(2, "softmax"),
        spatial_dims=dims,
        input_shape=(1, *(32,) * dims),
        name="Finder",
        **settings,
    )


CHAIN = Compose(
    [
        Orientation("RAS", labels=None),
        Spacing((2.0, 2.0, 2.0)),
        CropForeground(select_fn=lambda x: x > 0.5, margin=3),
        Resize((40, 44, 36), mode="trilinear"),
        ResizeWithPadOrCrop((48, 40, 40)),
    ]
)


def centre_of_mass(values: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the mass of `values` lies, RAS+ mm."""
    indices = np.argwhere(values > 0)
    return np.average(apply_affine(affine, indices), axis=0, weights=values[tuple(indices.T)])


@pytest.mark.parametrize("number", [*range(48), "oblique"])
def test_the_peak_is_in_the_cell_of_the_finding_for_every_orientation(number: int | str) -> None:
    volume = scan(OBLIQUE if number == "oblique" else SIGNED_AXES[int(number)])
    result = explain(volume, finder(3, CHAIN))
    assert result.target == "finding"
    assert result.heatmap.shape == volume.array.shape
    assert result.heatmap.dtype == np.float32
    # The hottest cell holds the finding.
    cell = np.unravel_index(result.coarse.argmax(), result.coarse.shape)
    in_cells = apply_affine(np.linalg.inv(result.coarse_affine), BLOB)
    assert np.abs(in_cells - cell).max() <= 0.5
    # The hottest voxel lies within half a voxel of that cell's centre, in the voxel's own axes.
    centre = apply_affine(result.coarse_affine, cell)
    off = apply_affine(np.linalg.inv(volume.affine), centre) - np.array(result.peak.index)
    assert np.abs(off).max() <= 0.5 + 1e-6
    # And the mass of the whole map, which sees shifts far below a cell, lies where the finding's does.
    assert np.linalg.norm(centre_of_mass(result.coarse, result.coarse_affine) - BLOB) < 0.5 * min(volume.spacing)
    assert np.linalg.norm(centre_of_mass(result.heatmap, volume.affine) - BLOB) < 0.5 * min(volume.spacing)


def test_inverting_the_transforms_is_a_second_way_to_the_same_place() -> None:
    volume = scan(SIGNED_AXES[29])
    result = explain(volume, finder(3, CHAIN))
    image = CHAIN(
        MetaTensor(torch.from_numpy(volume.array.copy())[None], affine=torch.from_numpy(volume.affine.copy()))
    )
    fine = nn.functional.interpolate(
        torch.from_numpy(result.coarse)[None, None], size=image.shape[1:], mode="trilinear", align_corners=False
    )[0]
    # MONAI inverts only what still carries the operations that were done to it: a plain tensor comes back unchanged.
    carried = MetaTensor(fine, affine=image.affine, applied_operations=image.applied_operations)
    inverted = CHAIN.inverse(carried)[0].numpy()
    seen = inverted > 0.05 * inverted.max()
    assert inverted.shape == result.heatmap.shape
    assert np.corrcoef(inverted[seen], result.heatmap[seen])[0, 1] > 0.99
    apart = centre_of_mass(inverted, volume.affine) - centre_of_mass(result.heatmap, volume.affine)
    assert np.linalg.norm(apart) < 0.5


def test_a_volume_that_was_cut_is_zero_where_the_network_did_not_look() -> None:
    volume = scan(np.eye(3))
    result = explain(volume, finder(3, Compose([Orientation("RAS", labels=None), ResizeWithPadOrCrop((16, 52, 44))])))
    outside = np.ones(64, dtype=bool)
    outside[24:40] = False
    assert not result.heatmap[outside].any()


def cut_by_content(image: MetaTensor) -> MetaTensor:
    """Cut off a few rows, another number in each slice, as a crop to the foreground does."""
    rows = int(image.sum()) % 5
    return SpatialCrop(roi_start=(rows, 4 - rows), roi_end=image.shape[1:])(image)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("number", [0, 5, 19, 29, 46, "oblique"])
@pytest.mark.parametrize("cropped", [False, True], ids=["one grid", "a grid for each slice"])
def test_a_2d_classifier_marks_the_finding_in_a_volume(plane: Any, number: int | str, cropped: bool) -> None:
    volume = scan(OBLIQUE if number == "oblique" else SIGNED_AXES[int(number)], spacing=(2.0, 2.0, 2.0))
    chain = Compose([*([cut_by_content] if cropped else []), Spacing((1.5, 1.5)), ResizeWithPadOrCrop((80, 80))])
    positive = SliceRule(plane=plane, aggregation="max", positive=1)
    result = explain(volume, finder(2, chain, slice_rule=positive), "finding")
    assert result.slice_axis is not None
    slices = volume.array.shape[result.slice_axis]
    assert result.slice_scores is not None
    assert result.slice_scores.shape == (slices, 2)
    assert result.coarse.shape == (20, 20, slices)
    assert result.coarse_affine.shape == ((slices, 4, 4) if cropped else (4, 4))
    peak = np.array(result.peak.position)
    assert np.linalg.norm(peak - BLOB) < 8  # a cell is 6 mm
    assert np.linalg.norm(centre_of_mass(result.heatmap, volume.affine) - BLOB) < 1
    # The normal of the slices is the plane's.
    normal = np.abs(volume.affine[:3, result.slice_axis])
    assert normal.argmax() == {"sagittal": 0, "coronal": 1, "axial": 2}[plane]


def test_the_score_of_a_volume_is_that_of_its_most_positive_slice() -> None:
    volume = scan(np.eye(3))
    chain = ResizeWithPadOrCrop((64, 64))
    highest = explain(volume, finder(2, chain, slice_rule=SliceRule(aggregation="max", positive=1)))
    mean = explain(volume, finder(2, chain))
    assert highest.slice_scores is not None
    assert highest.scores["finding"] == pytest.approx(float(highest.slice_scores[:, 1].max()))
    assert sum(highest.scores.values()) == pytest.approx(1)
    assert mean.scores["finding"] == pytest.approx(float(highest.slice_scores[:, 1].mean()))
    assert any("most probable" in notice for notice in highest.notices)
    assert any("mean of 44 axial slices" in notice for notice in mean.notices)


@pytest.mark.parametrize("top", [1, 3, 43, 44, 60])
def test_the_score_of_a_volume_is_the_mean_of_its_most_positive_slices(top: int) -> None:
    volume, chain = scan(np.eye(3)), ResizeWithPadOrCrop((64, 64))
    rule = SliceRule(aggregation="top-k", positive=1, top=top)
    result = explain(volume, finder(2, chain, slice_rule=rule), "calm")
    assert result.slice_scores is not None
    order = np.argsort(-result.slice_scores[:, 1].astype(np.float64), kind="stable")[:top]
    assert result.scores["finding"] == pytest.approx(float(result.slice_scores[order, 1].mean()))
    assert result.scores["calm"] == pytest.approx(float(result.slice_scores[order, 0].mean()))
    # The logits of the volume come from the same slices: of two classes they tell the probability of each.
    assert result.slice_scores.shape == (44, 2)
    if top == 1:
        highest = explain(volume, finder(2, chain, slice_rule=SliceRule(aggregation="max", positive=1)), "calm")
        assert (result.logits, result.scores) == (highest.logits, highest.scores)
    (told,) = [notice for notice in result.notices if notice.startswith("The scores are the mean of")]
    if top <= 44:
        assert told == f"The scores are the mean of the {top} axial slices of 44 where “finding” is most probable."
    else:
        assert told == (
            "The scores are the mean of all 44 axial slices: the model's rule takes the 60 where “finding” is most "
            "probable, and there are fewer."
        )


def test_the_logits_of_a_volume_come_from_the_slices_that_its_scores_come_from() -> None:
    probabilities = np.array([[0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9]])
    logits = np.array([[1.0, 0.0], [-2.0, 3.0], [5.0, 6.0], [-4.0, 7.0]])
    rule = SliceRule(aggregation="top-k", positive=1, top=2)
    verdict = verdict_of_slices(rule, ["a", "b"], "coronal", probabilities, logits)
    np.testing.assert_allclose(verdict.probabilities, [0.15, 0.85])
    np.testing.assert_allclose(verdict.logits, [-3.0, 5.0])
    assert verdict.best == 1
    verdict = verdict_of_slices(SliceRule(aggregation="max", positive=0), ["a", "b"], "", probabilities, logits)
    np.testing.assert_allclose(verdict.logits, [1.0, 0.0])
    assert verdict.best == 0
    np.testing.assert_allclose(verdict_of_slices(SliceRule(), ["a", "b"], "", probabilities, logits).logits, [0.0, 4.0])


def test_the_best_of_classes_that_are_all_certain_is_the_one_with_the_highest_score() -> None:
    verdict = Verdict(np.array([0.1, 1.0, 1.0]), np.array([-2.0, 40.0, 50.0]))
    assert verdict.best == 2


def test_a_rule_that_cannot_be_followed_is_refused() -> None:
    volume, chain = scan(np.eye(3)), ResizeWithPadOrCrop((64, 64))
    for rule, sentence in (
        (SliceRule(aggregation="median"), "There is no rule “median” to score a scan from its slices; correct"),
        (SliceRule(aggregation="top-k", top=0), "takes the 0 most probable ones; correct it to 1 or more"),
        (SliceRule(aggregation="max", positive=2), "names class 2 as the positive one, and it has 2"),
    ):
        with pytest.raises(GradCamError, match=sentence):
            explain(volume, finder(2, chain, slice_rule=rule))


@pytest.mark.parametrize("chosen", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("number", [0, 29])
def test_the_plane_can_be_chosen_and_it_is_said(number: int, chosen: Any) -> None:
    volume = scan(SIGNED_AXES[number], spacing=(2.0, 2.0, 2.0))
    chain = ResizeWithPadOrCrop((80, 80))
    own = SliceRule(plane="coronal", aggregation="max", positive=1)
    result = explain(volume, finder(2, chain, slice_rule=own), "finding", plane=chosen)
    made_for_it = SliceRule(plane=chosen, aggregation="max", positive=1)
    expected = explain(volume, finder(2, chain, slice_rule=made_for_it), "finding")
    np.testing.assert_array_equal(result.heatmap, expected.heatmap)
    assert (result.slice_axis, result.scores, result.plane) == (expected.slice_axis, expected.scores, chosen)
    said = f"The scan was read in {chosen} slices, as was asked for; the model's own plane is coronal."
    assert set(result.notices) - set(expected.notices) == ({said} if chosen != "coronal" else set())


def test_a_plane_that_does_not_exist_or_has_no_meaning_is_refused() -> None:
    volume = scan(np.eye(3))
    with pytest.raises(GradCamError, match="no plane “oblique”; choose one of axial, coronal, sagittal"):
        explain(volume, finder(2, ResizeWithPadOrCrop((64, 64))), plane="oblique")
    with pytest.raises(GradCamError, match="“Finder” reads a scan whole and not in axial slices; leave the plane out"):
        explain(volume, finder(3, ResizeWithPadOrCrop((64, 52, 44))), plane="axial")
    assert explain(volume, finder(3, ResizeWithPadOrCrop((64, 52, 44)))).plane == ""


def test_slices_of_different_sizes_are_refused() -> None:
    def uneven(image: MetaTensor) -> MetaTensor:
        return ResizeWithPadOrCrop((40 + 4 * (int(image.sum()) % 2), 40))(image)

    with pytest.raises(GradCamError, match="gives slices of “phantom” different sizes; end it with a resize"):
        explain(scan(np.eye(3)), finder(2, uneven))


def test_a_batch_of_slices_gives_each_slice_what_it_gets_alone() -> None:
    volume = scan(np.eye(3))
    chain = ResizeWithPadOrCrop((64, 64))
    together = explain(volume, finder(2, chain), "finding")
    assert together.slice_scores is not None
    k = int(together.slice_scores[:, 1].argmax())
    affine = volume.affine.copy()
    affine[:3, 3] += k * affine[:3, 2]
    alone = explain(Volume(volume.array[:, :, k : k + 1], affine), finder(2, chain), "finding")
    np.testing.assert_allclose(together.heatmap[:, :, k], alone.heatmap[:, :, 0], rtol=1e-5, atol=1e-7)
    assert alone.heatmap.max() > 0


def test_raw_values_are_kept_so_that_a_weaker_finding_has_a_weaker_map() -> None:
    volume = scan(np.eye(3))
    faint = Volume(np.minimum(volume.array, 3.0), volume.affine)
    chain = Compose([ResizeWithPadOrCrop((64, 52, 44))])
    strong, weak = (explain(v, finder(3, chain), "finding") for v in (volume, faint))
    assert 0 < weak.peak.value < 0.7 * strong.peak.value


def test_a_class_with_no_evidence_has_an_empty_map() -> None:
    result = explain(scan(np.eye(3)), finder(3, ResizeWithPadOrCrop((64, 52, 44))), "calm")
    assert result.is_empty
    assert not result.heatmap.any()


def test_scores_and_names() -> None:
    volume = scan(np.eye(3))
    result = explain(volume, finder(3, ResizeWithPadOrCrop((64, 52, 44))))
    exponentials = np.exp([result.logits["calm"], result.logits["finding"]])
    assert result.scores["finding"] == pytest.approx(exponentials[1] / exponentials.sum())
    assert (result.target, result.layer, result.method) == ("finding", "relu", "gradcam")
    assert (result.volume_name, result.classifier_name) == ("phantom", "Finder")
    assert result.affine is volume.affine
    assert result.cell_size == pytest.approx((6.0, 8.0, 10.0))


def test_closing_the_steps_between_stages_leaves_nothing_behind() -> None:
    classifier = finder(2, ResizeWithPadOrCrop((64, 64)))
    steps = explain_steps(scan(np.eye(3)), classifier, "finding")
    seen = [next(steps) for _ in range(4)]
    steps.close()
    assert [step.total for step in seen] == [45, 45, 45, 45]
    assert 0 < seen[-1].done < 45
    assert not any(module._forward_hooks for module in classifier.network.modules())


# What is refused


def test_classes_methods_and_layers_that_do_not_exist_are_named() -> None:
    volume, classifier = scan(np.eye(3)), finder(3, ResizeWithPadOrCrop((64, 52, 44)))
    with pytest.raises(GradCamError, match="no class “tumour”; its classes are “calm”, “finding”"):
        explain(volume, classifier, "tumour")
    with pytest.raises(GradCamError, match="no class “2”"):
        explain(volume, classifier, 2)
    with pytest.raises(GradCamError, match="no method “magic”"):
        explain(volume, classifier, method="magic")
    with pytest.raises(GradCamError, match="no layer “layer9”"):
        explain(volume, classifier, layer="layer9")
    with pytest.raises(GradCamError, match="gives no feature maps"):
        explain(volume, classifier, layer="head")


def test_the_wrong_number_of_channels_is_said() -> None:
    classifier = finder(3, RepeatChannel(3))
    with pytest.raises(GradCamError, match="“Finder” wants 1 input channels but its preprocessing gives 3"):
        explain(scan(np.eye(3)), classifier)


def test_preprocessing_that_does_not_fit_or_loses_the_place_is_refused() -> None:
    volume = scan(np.eye(3))
    with pytest.raises(GradCamError, match="preprocessing does not fit the scan “phantom”"):
        explain(volume, finder(3, Resize((8, 8), mode="nearest")))
    with pytest.raises(GradCamError, match="loses where the voxels lie"):
        explain(volume, finder(3, Compose([ResizeWithPadOrCrop((64, 52, 44)), ToTensor(track_meta=False)])))
    with pytest.raises(GradCamError, match="cannot read its own preprocessed input of 1 × 2 × 2 × 2"):
        explain(volume, finder(3, ResizeWithPadOrCrop((2, 2, 2))))


def test_a_network_that_ends_in_softmax_is_recognised() -> None:
    classifier = finder(3, Compose([ScaleIntensityRange(0, 1, 0, 1), ResizeWithPadOrCrop((64, 52, 44))]))
    plain = explain(scan(np.eye(3)), classifier, "finding")
    classifier.network.forward = lambda x: Finder.forward(classifier.network, x).softmax(dim=1)
    ended = explain(scan(np.eye(3)), classifier, "finding")
    assert ended.scores == pytest.approx(plain.scores)
    np.testing.assert_allclose(ended.coarse, plain.coarse, rtol=1e-6)
    assert any("ends in softmax; the map is of the score before it" in notice for notice in ended.notices)
    assert not any("softmax" in notice for notice in plain.notices)


def test_a_grid_too_coarse_to_place_a_finding_says_so() -> None:
    result = explain(scan(np.eye(3)), finder(3, ResizeWithPadOrCrop((12, 12, 12))), "finding")
    assert any("only 3 × 3 × 3 cells" in notice for notice in result.notices)


def test_every_coarse_layer_of_several_is_told_of() -> None:
    classifier = deep(3, ResizeWithPadOrCrop((24, 24, 24)))
    notices = explain(scan(np.eye(3), spacing=(4.0, 4.0, 4.0)), classifier, "finding", layer=["relu", "pool"]).notices
    coarse = [notice for notice in notices if "too coarse" in notice]
    assert len(coarse) == 1
    assert coarse[0].startswith("The layer “pool” has a grid of only 3 × 3 × 3 cells")


# What it is worth


def test_colours_are_said_to_be_read_as_brightness() -> None:
    grey = scan(np.eye(3))
    colored = Volume(grey.array, grey.affine, color=np.zeros((*grey.shape, 3), dtype=np.uint8))
    classifier = finder(3, ResizeWithPadOrCrop((64, 52, 44)))
    said = "The scan is in colours; the network read their brightness."
    assert said in explain(colored, classifier, "finding").notices
    assert said not in explain(grey, classifier, "finding").notices


def test_padding_that_drowns_the_scan_is_said() -> None:
    small = Volume(scan(np.eye(3)).array[30:36, 20:26, 20:26], np.eye(4))
    result = explain(small, finder(3, ResizeWithPadOrCrop((32, 32, 32))))
    assert any("Less than 1 % of what the network read is scan" in notice for notice in result.notices)


def test_content_that_nobody_looked_at_is_said() -> None:
    volume = scan(np.eye(3))
    cut_off = explain(volume, finder(3, ResizeWithPadOrCrop((64, 52, 20))))
    whole = explain(volume, finder(3, ResizeWithPadOrCrop((64, 52, 44))))
    (told,) = [notice for notice in cut_off.notices if "nobody looked" in notice]
    inside = volume.array > 0
    lost = 1 - inside[:, :, 12:32].sum() / inside.sum()
    assert float(told.split(" %")[0]) == pytest.approx(100 * lost, abs=2)
    assert not any("nobody looked" in notice or "padding" in notice for notice in whole.notices)


@pytest.mark.parametrize("cropped", [False, True], ids=["one grid", "a grid for each slice"])
def test_slices_that_were_read_whole_are_not_called_unseen(cropped: bool) -> None:
    chain = Compose([*([cut_by_content] if cropped else []), ResizeWithPadOrCrop((64, 64))])
    result = explain(scan(np.eye(3)), finder(2, chain))
    assert not any("nobody looked" in notice for notice in result.notices)


def test_a_blank_scan_gets_an_answer_that_is_said_to_be_none() -> None:
    blank = Volume(np.full((32, 32, 32), 5, dtype=np.int16), np.eye(4))
    result = explain(blank, finder(3, ResizeWithPadOrCrop((32, 32, 32))))
    assert any("the same everywhere" in notice for notice in result.notices)
    with pytest.raises(GradCamError, match="“none” is blank, every voxel 0"):
        explain(Volume(np.zeros((9, 9, 9)), np.eye(4), name="none"), finder(3, CHAIN))


def test_the_highest_score_without_evidence_is_called_no_finding() -> None:
    classifier = finder(3, ResizeWithPadOrCrop((64, 52, 44)))
    with torch.no_grad():
        classifier.network.head.bias.copy_(torch.tensor([5.0, 0.0]))
    result = explain(scan(np.eye(3)), classifier)
    assert result.target == "calm"
    assert any("is no finding" in notice for notice in result.notices)
    assert not any("is no finding" in notice for notice in explain(scan(np.eye(3)), classifier, "finding").notices)


def test_a_peak_in_the_padding_is_said() -> None:
    frame = Compose([ResizeWithPadOrCrop((96, 84, 76), constant_values=9)])
    result = explain(scan(np.eye(3)), finder(3, frame), "finding")
    assert result.coarse.max() > result.heatmap.max()
    assert any("lies outside of the scan" in notice for notice in result.notices)
    inside = explain(scan(np.eye(3)), finder(3, ResizeWithPadOrCrop((96, 84, 76))), "finding")
    assert not any("lies outside of the scan" in notice for notice in inside.notices)


# Methods, layers, devices


def test_the_methods_on_offer_are_the_engines_in_the_same_order() -> None:
    assert list(METHODS) == list(ENGINE_METHODS)
    assert len(set(METHODS.values())) == len(METHODS)


def cell_of_the_finding(result: Explanation) -> NDArray[np.float64]:
    """Where the finding lies on the network's own grid, from the middle of the hottest cell."""
    cell = np.unravel_index(result.coarse.argmax(), result.coarse.shape)
    return apply_affine(np.linalg.inv(result.coarse_affine), BLOB) - cell


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", [0, 29, "oblique"])
def test_every_method_finds_the_finding_in_a_volume(number: int | str, method: str) -> None:
    volume = scan(OBLIQUE if number == "oblique" else SIGNED_AXES[int(number)])
    result = explain(volume, finder(3, CHAIN), "finding", method)
    assert (result.method, result.target) == (method, "finding")
    assert result.layer == ("input" if method == "occlusion" else "relu")
    assert np.abs(cell_of_the_finding(result)).max() <= 0.5
    assert np.linalg.norm(np.array(result.peak.position) - BLOB) < np.linalg.norm(result.cell_size) / 2
    assert result.heatmap.min() >= 0


@pytest.mark.parametrize("number", range(0, 48, 5))
def test_occlusion_lies_right_in_every_orientation_though_it_has_no_layer(number: int) -> None:
    result = explain(scan(SIGNED_AXES[number]), finder(3, CHAIN), "finding", "occlusion", layer="of no meaning")
    assert result.coarse.shape == (8, 8, 8)
    assert np.abs(cell_of_the_finding(result)).max() <= 0.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("plane", "number"), [("axial", 0), ("sagittal", 29)])
def test_every_method_finds_the_finding_slice_by_slice(plane: Any, number: int, method: str) -> None:
    thin = scan(SIGNED_AXES[number], spacing=(4.0, 4.0, 4.0))
    rule = SliceRule(plane=plane, aggregation="max", positive=1)
    result = explain(thin, finder(2, ResizeWithPadOrCrop((64, 64)), slice_rule=rule), "finding", method)
    assert result.slice_scores is not None
    assert np.linalg.norm(np.array(result.peak.position) - BLOB) < np.linalg.norm(result.cell_size) / 2
    assert np.abs(cell_of_the_finding(result)).max() <= 0.5


class Deep(Finder):
    """A finder with a second, coarser layer after the first."""

    def __init__(self, dims: int) -> None:
        super().__init__(dims)
        self.pool = (nn.AvgPool2d, nn.AvgPool3d)[dims - 2](2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.relu(self.mean(x))).flatten(1).mean(dim=1, keepdim=True))


def deep(dims: int, preprocess: Callable[[Any], Any]) -> Classifier:
    network = Deep(dims)
    return Classifier(network, preprocess, ("calm", "finding"), Head(2, "softmax"), dims, (1, *(32,) * dims), "Deep")


@pytest.mark.parametrize("dims", [2, 3])
def test_each_of_several_layers_is_an_explanation_of_its_own(dims: int) -> None:
    volume = scan(SIGNED_AXES[5], spacing=(4.0, 4.0, 4.0))
    classifier = deep(dims, ResizeWithPadOrCrop((64, 48, 40)[:dims]))
    fused = explain(volume, classifier, "finding", layer=["relu", "pool"])
    assert fused.layer == "relu + pool"
    assert list(fused.parts) == ["relu", "pool"]
    for name, part in fused.parts.items():
        alone = explain(volume, classifier, "finding", layer=name)
        assert isinstance(part, Explanation)
        assert (part.layer, part.parts) == (name, {})
        np.testing.assert_allclose(part.coarse, alone.coarse, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(part.heatmap, alone.heatmap, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(part.coarse_affine, alone.coarse_affine)
        assert (part.scores, part.cell_size) == (alone.scores, alone.cell_size)
        assert part.notices == alone.notices
    assert fused.coarse.shape == fused.parts["relu"].coarse.shape
    assert fused.cell_size == fused.parts["relu"].cell_size
    assert fused.parts["pool"].cell_size[0] == 2 * fused.cell_size[0]
    if dims == 3:  # the sums of both layers' evidence are the same here, and fusing keeps them
        assert fused.coarse.sum() == pytest.approx(fused.parts["pool"].coarse.sum(), rel=0.01)
    assert np.abs(cell_of_the_finding(fused)).max() <= 1


def test_one_layer_in_a_list_has_no_parts() -> None:
    result = explain(scan(np.eye(3)), finder(3, ResizeWithPadOrCrop((64, 52, 44))), "finding", layer=["relu"])
    assert (result.layer, result.parts) == ("relu", {})


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "xgradcam", "ablationcam", "occlusion"])
def test_signed_maps_keep_what_speaks_against_a_class(method: str) -> None:
    volume, classifier = scan(np.eye(3)), finder(3, ResizeWithPadOrCrop((64, 52, 44)))
    signed, plain = (explain(volume, classifier, "calm", method, signed=signed) for signed in (True, False))
    finding = explain(volume, classifier, "finding", method)
    assert (signed.signed, plain.signed) == (True, False)
    assert plain.is_empty
    assert signed.heatmap.min() < 0
    np.testing.assert_allclose(signed.coarse, -finding.coarse, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(signed.heatmap, -finding.heatmap, rtol=1e-4, atol=1e-6)
    with pytest.raises(GradCamError, match="cannot be signed"):
        explain(volume, classifier, method="layercam", signed=True)


def test_a_smooth_map_and_a_map_of_no_class_say_what_they_are() -> None:
    volume, classifier = scan(np.eye(3)), finder(3, ResizeWithPadOrCrop((64, 52, 44)))
    plain = explain(volume, classifier, "finding")
    smooth = explain(volume, classifier, "finding", smooth=3)
    assert any("mean of 3 runs with a little noise" in notice for notice in smooth.notices)
    assert not any("noise" in notice for notice in plain.notices)
    assert smooth.scores == pytest.approx(plain.scores)
    assert not np.array_equal(smooth.heatmap, plain.heatmap)
    np.testing.assert_array_equal(smooth.heatmap, explain(volume, classifier, "finding", smooth=3).heatmap)
    eigen = explain(volume, classifier, "finding", "eigencam")
    assert any("Eigen-CAM" in notice and "no evidence for “finding”" in notice for notice in eigen.notices)
    assert not any("no evidence for" in notice for notice in plain.notices)


@pytest.mark.parametrize("dims", [2, 3])
def test_completeness_is_rounding_for_a_linear_head_and_unknown_elsewhere(dims: int) -> None:
    volume, chain = scan(np.eye(3)), ResizeWithPadOrCrop((64, 52, 44)[:dims])
    for method in ("gradcam", "hirescam", "eigencam", "scorecam"):
        result = explain(volume, finder(dims, chain), "finding", method)
        assert result.completeness is not None
        assert result.completeness < 1e-4
    # The evidence is that of the class score, whatever is asked for: one layer before, ReLU lies in between.
    assert explain(volume, finder(dims, chain), "finding", "occlusion").completeness is None
    classifier = finder(dims, chain)
    classifier.network.forward = lambda x: Finder.forward(classifier.network, x).tanh() * 2
    assert explain(volume, classifier, "finding").completeness is None


def test_slices_give_the_same_in_batches_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, chain = scan(SIGNED_AXES[19]), Compose([Spacing((2.0, 2.0)), ResizeWithPadOrCrop((48, 56))])
    results = []
    for size in (1, 3, 16):
        asked = []
        monkeypatch.setattr(
            passes, "samples_at_once", lambda *given, size=size, asked=asked: asked.append(given) or size
        )
        results.append(explain(volume, finder(2, chain), "finding"))
        (given,) = asked
        assert given[1] == (1, 48, 56)
    for other in results[1:]:
        np.testing.assert_allclose(other.heatmap, results[0].heatmap, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(other.slice_scores, results[0].slice_scores, rtol=1e-5)
        assert other.scores == pytest.approx(results[0].scores, rel=1e-5)
    assert results[0].heatmap.max() > 0.01


def test_an_unknown_device_is_refused_before_anything_runs() -> None:
    classifier = finder(3, lambda image: pytest.fail("the scan was prepared"))
    with pytest.raises(GradCamError, match="There is no device “nowhere” here; choose cpu"):
        explain(scan(np.eye(3)), classifier, device="nowhere")


@pytest.mark.parametrize("dims", [2, 3])
def test_a_device_that_there_is_gives_the_same(dims: int) -> None:
    volume, classifier = scan(np.eye(3)), finder(dims, ResizeWithPadOrCrop((64, 52, 44)[:dims]))
    here, there = (explain(volume, classifier, "finding", device=device) for device in (None, "cpu"))
    np.testing.assert_array_equal(here.heatmap, there.heatmap)


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "occlusion"])
@pytest.mark.parametrize("dims", [2, 3])
def test_cancelling_amid_a_method_leaves_the_network_untouched(dims: int, method: str) -> None:
    classifier = finder(dims, ResizeWithPadOrCrop((64, 52, 44)[:dims]))
    network = classifier.network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    steps = explain_steps(scan(np.eye(3)), classifier, "finding", method)
    for step in steps:
        if METHODS[method] in step.stage:
            break
    else:
        pytest.fail("the method never paused")
    steps.close()
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert not any("forward" in module.__dict__ for module in network.modules())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dims", [2, 3])
def test_progress_stays_within_its_total(dims: int, method: str) -> None:
    volume = scan(np.eye(3), spacing=(4.0, 4.0, 4.0))
    classifier = finder(dims, ResizeWithPadOrCrop((64, 52, 44)[:dims]))
    steps = list(explain_steps(volume, classifier, "finding", method))
    assert all(0 <= step.done <= step.total for step in steps)
    assert all(step.stage for step in steps)


def test_the_layer_recommended_is_that_for_the_scan_and_not_for_the_declared_size() -> None:
    # Declared at 32 pixels “pool” has 4 cells a side; this scan is read at 16, where it has 2 and “relu” has 4.
    volume = scan(np.eye(3), spacing=(4.0, 4.0, 4.0))
    classifier = deep(3, ResizeWithPadOrCrop((16, 16, 16)))
    assert classifier.default_layer == "pool"
    assert explain(volume, classifier, "finding").layer == "relu"
    assert [layer.name for layer in classifier.layers(volume) if layer.reason] == ["relu"]


def test_completeness_is_that_of_each_layer() -> None:
    class Two(Deep):
        def __init__(self) -> None:
            super().__init__(3)
            self.last = nn.Tanh()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.last(self.pool(self.relu(self.mean(x)))).flatten(1).mean(dim=1, keepdim=True))

    network = Two()
    classifier = Classifier(
        network, ResizeWithPadOrCrop((64, 48, 40)), ("calm", "finding"), Head(2, "softmax"), 3, (1, 32, 32, 32)
    )
    fused = explain(scan(np.eye(3), spacing=(4.0, 4.0, 4.0)), classifier, "finding", layer=["relu", "last"])
    assert fused.parts["relu"].completeness is None
    assert fused.parts["last"].completeness == pytest.approx(0, abs=1e-5)
    assert fused.completeness == fused.parts["last"].completeness

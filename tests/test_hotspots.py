"""Hot spots, slice profiles and comparisons, against answers known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_gradcam.comparing import compare
from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import Explanation
from napari_gradcam.hotspots import MOST, hot_spots
from napari_gradcam.profiles import hot_slices, scores_by_slice, slice_profile

AFFINE = np.array([[-2.0, 0, 0, 40], [0, 3.0, 0, -30], [0, 0, 5.0, 10], [0, 0, 0, 1]])
VOXEL_ML = 2 * 3 * 5 / 1000


def an_explanation(heat: np.ndarray[Any, Any], **more: Any) -> Explanation:
    given = {"scores": {"no": 0.2, "yes": 0.8}, "logits": {"no": -1.0, "yes": 1.0}, "target": "yes"}
    settings = {"affine": AFFINE, "layer": "l", "method": "gradcam", **given, **more}
    heat = heat.astype(np.float32)
    return Explanation(heatmap=heat, coarse=heat, coarse_affine=AFFINE, **settings)


def two_spots() -> np.ndarray[Any, Any]:
    heat = np.zeros((20, 16, 12))
    heat[2:4, 3, 5] = 3.0, 4.0  # the hottest voxel, and little evidence
    heat[10:14, 8:10, 2:4] = 2.0  # much evidence
    heat[11, 9, 3] = 2.5
    heat[0, 0, 0] = 1.0  # below the threshold
    heat[19, 15, 11] = -5.0  # against the class
    return heat


def test_hot_spots_are_ranked_by_evidence_and_measured() -> None:
    first, second = hot_spots(an_explanation(two_spots()), 1.5)
    assert (first.rank, second.rank) == (1, 2)
    assert first.voxels == 16
    assert first.evidence == pytest.approx(32.5)
    assert first.millilitres == pytest.approx(16 * VOXEL_ML)
    assert first.peak.index == (11, 9, 3)
    assert first.peak.position == pytest.approx((40 - 22, -30 + 27, 10 + 15))
    assert second.peak.index == (3, 3, 5)
    assert second.peak.value == 4.0
    # Of all positive evidence, what lies below the threshold included and what speaks against the class left out.
    assert first.share == pytest.approx(32.5 / (32.5 + 7 + 1))
    assert second.share == pytest.approx(7 / (32.5 + 7 + 1))


def test_voxels_that_touch_at_a_corner_are_one_hot_spot() -> None:
    heat = np.zeros((5, 5, 5))
    heat[1, 1, 1] = heat[2, 2, 2] = 1
    heat[4, 4, 4] = 1
    assert [spot.voxels for spot in hot_spots(an_explanation(heat), 0.5)] == [2, 1]


def test_spots_at_the_edges_of_the_scan_are_found_whole() -> None:
    heat = np.zeros((4, 5, 6))
    heat[0, 0, 0] = 2
    heat[3, 4, 5] = 1
    spots = hot_spots(an_explanation(heat), 0.5)
    assert [spot.peak.index for spot in spots] == [(0, 0, 0), (3, 4, 5)]


@pytest.mark.parametrize("at_least", [0.0, -1.0, 9.0])
def test_nothing_is_a_hot_spot_above_the_maximum_or_without_a_threshold(at_least: float) -> None:
    assert hot_spots(an_explanation(two_spots()), at_least) == ()


def test_a_map_without_heat_has_no_hot_spot() -> None:
    assert hot_spots(an_explanation(np.zeros((3, 3, 3))), 1e-9) == ()


def test_a_picture_that_does_not_say_its_size_has_no_volume() -> None:
    (spot,) = hot_spots(an_explanation(np.ones((1, 4, 4)), unit="pixels", in_patient_space=False), 0.5)
    assert spot.millilitres is None
    assert spot.voxels == 16


def test_a_map_of_noise_lists_the_strongest_spots_alone() -> None:
    heat = np.zeros((40, 40, 8))
    heat[::2, ::2, ::2] = 1 + np.arange(20 * 20 * 4).reshape(20, 20, 4)
    spots = hot_spots(an_explanation(heat), 0.5)
    assert len(spots) == MOST
    assert [spot.evidence for spot in spots] == [float(1600 - n) for n in range(MOST)]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_profile_is_each_slices_share_of_the_positive_evidence(axis: int) -> None:
    heat = two_spots()
    profile = slice_profile(an_explanation(heat), axis)
    wanted = np.moveaxis(heat.clip(min=0), axis, 0).reshape(heat.shape[axis], -1).sum(axis=1)
    np.testing.assert_allclose(profile, wanted / wanted.sum())


def test_the_profile_of_an_empty_map_is_zero() -> None:
    np.testing.assert_array_equal(slice_profile(an_explanation(np.zeros((3, 4, 5)) - 1), 1), np.zeros(4))


def test_hot_slices_hold_a_voxel_that_is_hot() -> None:
    hot = hot_slices(an_explanation(two_spots()), 2, 1.5)
    assert list(np.flatnonzero(hot)) == [2, 3, 5]
    assert not hot_slices(an_explanation(two_spots()), 2, 0.0).any()


def test_scores_of_slices_stand_where_the_slices_lie() -> None:
    read = np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6]])
    told = {"slice_scores": read, "slice_axis": 2, "slice_indices": range(2, -1, -1)}
    explanation = an_explanation(np.ones((4, 4, 3)), **told)
    np.testing.assert_allclose(scores_by_slice(explanation, "yes"), [0.6, 0.3, 0.1])
    assert scores_by_slice(an_explanation(np.ones((4, 4, 3))), "yes") is None


def test_a_map_equals_itself_and_its_scale_does_not_matter() -> None:
    heat = two_spots()
    same = compare(an_explanation(heat), an_explanation(3 * heat), 1.5, 4.5)
    assert same.rank_correlation == pytest.approx(1)
    assert same.overlap == 1


def test_maps_in_different_places_do_not_overlap() -> None:
    heat = two_spots()
    moved = compare(an_explanation(heat), an_explanation(np.roll(heat, 9, axis=1)), 1.5, 1.5)
    assert moved.overlap == 0
    assert moved.rank_correlation is not None
    assert moved.rank_correlation < 0


def test_half_of_two_equal_regions_overlaps() -> None:
    a, b = np.zeros((4, 4, 4)), np.zeros((4, 4, 4))
    a[0, 0, :2] = 1
    b[0, 0, 1:3] = 1
    assert compare(an_explanation(a), an_explanation(b), 0.5, 0.5).overlap == 0.5


def test_empty_maps_cannot_be_compared_in_numbers() -> None:
    empty = an_explanation(np.zeros((3, 3, 3)))
    nothing = compare(empty, empty, 0.5, 0.5)
    assert nothing.rank_correlation is None
    assert nothing.overlap is None


def test_maps_of_different_scans_are_not_compared() -> None:
    one = an_explanation(np.ones((3, 3, 3)))
    with pytest.raises(GradCamError, match="same scan"):
        compare(one, an_explanation(np.ones((3, 3, 4))), 1, 1)
    with pytest.raises(GradCamError, match="same scan"):
        compare(one, an_explanation(np.ones((3, 3, 3)), affine=np.eye(4)), 1, 1)


def test_the_rank_correlation_of_a_large_map_is_that_of_a_sample() -> None:
    random = np.random.default_rng(0)
    heat = random.random((90, 80, 70))
    noisy = compare(an_explanation(heat), an_explanation(heat + 0.1 * random.random(heat.shape)), 0.5, 0.5)
    assert noisy.rank_correlation == pytest.approx(0.99, abs=0.01)

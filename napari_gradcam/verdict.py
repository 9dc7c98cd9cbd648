"""What a classifier says of a scan as a whole: of a 2D one, from what it says of the slices, by its rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_gradcam.classifiers.classifier import SliceRule


class Verdict(NamedTuple):
    """The scores of a scan.

    Attributes
    ----------
    probabilities, logits
        ``(class,)``; the latter before softmax or sigmoid.
    told
        By which rule they were found, a whole sentence; empty where there was nothing to choose.
    """

    probabilities: NDArray[np.float64]
    logits: NDArray[np.float64]
    told: str = ""

    @property
    def best(self) -> int:
        """The most probable class; of those that are equally probable the one with the highest score."""
        # Probabilities round to 1 long before scores cease to differ.
        return max(range(len(self.probabilities)), key=lambda one: (self.probabilities[one], self.logits[one]))


def verdict_of_slices(
    rule: SliceRule, names: Sequence[str], plane: str, probabilities: NDArray[np.float64], logits: NDArray[np.float64]
) -> Verdict:
    """Score a volume from its slices by a classifier's rule, and say by which.

    Parameters
    ----------
    rule
        The rule. Its positive class decides which slices count; the scores of all classes come from the same slices.
    names
        The classes.
    plane
        Which slices they are.
    probabilities, logits
        ``(slice, class)``.

    Raises
    ------
    GradCamError
        If there is no such rule.
    """
    count = len(probabilities)
    wanted = _wanted(rule, names, count)
    if count == 1:
        return Verdict(probabilities[0], logits[0])
    if rule.aggregation == "mean":
        return Verdict(
            probabilities.mean(axis=0), logits.mean(axis=0), f"The scores are the mean of {count} {plane} slices."
        )
    name = names[rule.positive]
    # Of slices with the same probability the one with the higher score counts, then the first.
    order = np.lexsort((-logits[:, rule.positive], -probabilities[:, rule.positive]))
    chosen = order[:wanted]
    scores = probabilities[chosen].mean(axis=0), logits[chosen].mean(axis=0)
    if rule.aggregation == "max":
        told = f"The scores are those of the one {plane} slice of {count} where “{name}” is most probable."
    elif wanted > count:
        told = (
            f"The scores are the mean of all {count} {plane} slices: the model's rule takes the {wanted} where "
            f"“{name}” is most probable, and there are fewer."
        )
    else:
        told = f"The scores are the mean of the {wanted} {plane} slices of {count} where “{name}” is most probable."
    return Verdict(*scores, told)


def _wanted(rule: SliceRule, names: Sequence[str], count: int) -> int:
    """Tell how many slices a rule takes."""
    if not 0 <= rule.positive < len(names):
        raise GradCamError(
            f"The model's rule for slices names class {rule.positive} as the positive one, and it has {len(names)}, "
            "numbered from 0; correct its positive class."
        )
    if rule.aggregation == "top-k" and rule.top < 1:
        raise GradCamError(
            f"The model's rule for slices takes the {rule.top} most probable ones; correct it to 1 or more."
        )
    takes = {"max": 1, "mean": count, "top-k": rule.top}
    if rule.aggregation not in takes:
        raise GradCamError(
            f"There is no rule “{rule.aggregation}” to score a scan from its slices; correct the model's to one of "
            f"{', '.join(takes)}."
        )
    return takes[rule.aggregation]

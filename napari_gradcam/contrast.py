"""One class against another: where the scan speaks for the one rather than for the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from napari_gradcam.explanation import Explanation


def opposed(first: Explanation, second: Explanation) -> Explanation:
    """Take the evidence for one class from that for another.

    Methods that are linear in the gradient, such as Grad-CAM and HiResCAM with their signs kept, give so the map of the
    difference of the two class scores before softmax, which is what decides between the two.

    Parameters
    ----------
    first, second
        Two classes of one scan by one network, method and layer.

    Returns
    -------
    Explanation
        Of the first class, signed: positive values speak for it, negative ones for ``against``, the second.

    Raises
    ------
    GradCamError
        If they are not two maps of one kind.
    """
    if _kind(first) != _kind(second) or first.target == second.target:
        raise GradCamError("Only two classes of one scan, by one model, method and layer can be set against another.")
    told: tuple[str, ...] = (
        f"The map sets “{first.target}” against “{second.target}”: positive values speak for the first, negative ones "
        "for the second, both on one scale.",
    )
    if not (first.signed and second.signed):
        told += (
            "The method keeps no sign: this is the difference of two maps, not the map of a difference of scores.",
        )
    errors = [error for error in (first.completeness, second.completeness) if error is not None]
    return replace(
        first,
        heatmap=first.heatmap - second.heatmap,
        coarse=first.coarse - second.coarse,
        signed=True,
        against=second.target,
        completeness=max(errors, default=None),
        parts={},
        notices=tuple(dict.fromkeys((*told, *first.notices, *second.notices))),
    )


def _kind(one: Explanation) -> tuple[object, ...]:
    return one.volume_name, one.classifier_name, one.layer, one.method, one.heatmap.shape, one.affine.tobytes()

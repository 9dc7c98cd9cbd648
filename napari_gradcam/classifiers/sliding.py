"""How a bundle slides its network over an input that is larger than what the network reads at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monai.inferers import SimpleInferer, SlidingWindowInferer

from napari_gradcam.classifiers.bounds import Bounded
from napari_gradcam.classifiers.classifier import Windows
from napari_gradcam.classifiers.plan import not_explained
from napari_gradcam.classifiers.refusing import said
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from napari_gradcam.classifiers.config import Reader
    from napari_gradcam.classifiers.plan import Plan

_SPARE = 1 << 28
"""Bytes that an inferer may take to be built."""


def windows_of(config: Reader, what: Plan, dims: int, label: str) -> Windows | None:
    """Read how the network slides over its input; None where it reads all of it at once.

    Raises
    ------
    GradCamError
        If the bundle runs it in another way, which has no map.
    """
    if what.inferer is None:
        return None
    with Bounded(_SPARE):
        inferer = config.build_node(what.inferer.node, what.inferer.key)
    if isinstance(inferer, SimpleInferer):
        return None
    if not isinstance(inferer, SlidingWindowInferer):
        raise not_explained(label, what.inferer.name)

    def along(value: Any) -> tuple[Any, ...]:
        return tuple(value) if isinstance(value, list | tuple) else (value,) * dims

    try:
        roi = tuple(int(size) if size else 0 for size in along(inferer.roi_size))
        overlap = tuple(float(share) for share in along(inferer.overlap))
        sigma = inferer.sigma_scale if isinstance(inferer.sigma_scale, float | int) else inferer.sigma_scale[0]
        numbers = float(sigma), float(inferer.cval), int(inferer.sw_batch_size)
        if len(roi) != dims or len(overlap) != dims or not all(0 <= share < 1 for share in overlap):
            raise ValueError
    except (TypeError, ValueError, LookupError, OverflowError):
        raise GradCamError(
            f"The bundle {label} slides a window of {said(inferer.roi_size)} with an overlap of "
            f"{said(inferer.overlap)} "
            f"over an input of {dims} axes; give {dims} sizes, overlaps from 0 to below 1, and numbers for all else."
        ) from None
    return Windows(
        roi=roi,
        overlap=overlap,
        mode="gaussian" if str(getattr(inferer.mode, "value", inferer.mode)) == "gaussian" else "constant",
        sigma=numbers[0],
        padding=str(getattr(inferer.padding_mode, "value", inferer.padding_mode)),
        fill=numbers[1],
        at_once=numbers[2],
    )

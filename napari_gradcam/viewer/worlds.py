"""Two viewers' worlds: the same place, plane and slab in both.

They may differ in the axes before the last ones, such as time, and in the unit of length: either is made of the layers
that a viewer has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components.dims import Dims


def factors(source: Dims, target: Dims) -> list[float]:
    """Give what numbers of one world are multiplied by in the other, for each of the last axes that both have."""
    shared = min(source.ndim, target.ndim)
    if source.units is None or target.units is None or source.units[-shared:] == target.units[-shared:]:
        return [1.0] * shared
    pairs = zip(source.units[-shared:], target.units[-shared:], strict=True)
    return [float((1 * one).to(other).magnitude) for one, other in pairs]


def carried(values: Sequence[float], source: Dims, target: Dims) -> list[float]:
    """Carry a place, or a thickness, from one world to the other, for each of the last axes that both have."""
    scales = factors(source, target)
    return [float(value) * scale for value, scale in zip(values[-len(scales) :], scales, strict=True)]


def go_along(source: Dims, target: Dims, axes: Sequence[int]) -> None:
    """Move a viewer along some of its axes to where another one stands, and make its slab as thick."""
    values = carried(source.point, source, target)
    first = target.ndim - len(values)
    # To set what is there already makes napari check all that it knows of its axes.
    moved = [axis for axis in axes if axis >= first and target.point[axis] != values[axis - first]]
    if moved:
        target.set_point(moved, [values[axis - first] for axis in moved])
    for name in ("margin_left", "margin_right"):
        margins = list(getattr(target, name))
        margins[first:] = carried(getattr(source, name), source, target)
        if tuple(margins) != getattr(target, name):
            setattr(target, name, tuple(margins))


def order_in(source: Dims, target: Dims) -> tuple[int, ...]:
    """Give the order of one viewer's axes in the other's; axes that it has alone come first."""
    difference = target.ndim - source.ndim
    shared = [axis + difference for axis in source.order if axis + difference >= 0]
    return (*range(target.ndim - len(shared)), *shared)

"""How a scan was read, where a reader of the map must know: in another plane, in windows, short of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.seen import Reading
    from napari_gradcam.volumes import Volume


def windows_told(reading: Reading, parts: str) -> str:
    """Say that a network read windows, how many, and what that means; empty where it read its input at once.

    Parameters
    ----------
    reading
        What it saw.
    parts
        What its inputs are called, such as ``"slices"``.
    """
    tiling = reading.tiling
    if tiling.count == 1:
        return ""
    size = " × ".join(map(str, tiling.window)) + (" pixels" if len(tiling.window) == 2 else " voxels")
    each = "each slice" if parts == "slices" else f"the {parts}"
    blended = "their middle counts more" if reading.tiling.weighted else "where they overlap each counts the same"
    return (
        f"The network read {each} in {tiling.count} windows of {size} and judged each window for itself; scores and "
        f"map are put together from theirs, and {blended}."
    )


def order_told(volume: Volume, classifier: Classifier) -> str:
    """Say in which order a 2D network read what has no place in a patient; empty of a scan that has one.

    Nothing shows whether that is the order it was trained in: of the wrong one it sees each picture transposed.
    """
    if volume.in_patient_space or classifier.spatial_dims != 2:
        return ""
    first = classifier.wants.rows_first
    order = "row by row, as numpy and torchvision do" if first else "column by column, as MONAI loads them"
    return f"The network reads pictures {order}; if it was trained otherwise, set rows_first."


def shortage_told(shortages: Sequence[tuple[str, int]], parts: str) -> str:
    """Say where memory ran short and how the scan was read then; empty where it did not.

    Parameters
    ----------
    shortages
        See :class:`napari_gradcam.seen.Reading`.
    parts
        What was read, such as ``"slices"``.
    """
    if not shortages:
        return ""
    first = shortages[0][0]
    were = "were" if parts.endswith("s") else "was"
    here = [count for device, count in shortages if device == first and count > 0]
    there = [count for device, count in shortages if device != first and count > 0]
    ways = [_at_a_time(here[-1])] if here else []
    if (first, 0) in shortages:
        ways.append("then on the CPU" if ways else "on the CPU")
    if there:
        ways.append(_at_a_time(there[-1]))
    place = "" if first == "cpu" else f" on {first}"
    return f"Memory ran short{place}: the {parts} {were} read {', '.join(ways)}."


def unable_told(device: str, parts: str) -> str:
    """Say that a device could not run the network; empty where all could."""
    if not device:
        return ""
    were = "were" if parts.endswith("s") else "was"
    return f"The device {device} cannot do all that the network asks for: the {parts} {were} read on the CPU."


def _at_a_time(count: int) -> str:
    return "one at a time" if count == 1 else f"{count} at a time"

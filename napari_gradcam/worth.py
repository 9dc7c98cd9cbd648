"""What an explanation is worth: sentences on answers that do not come from the scan, and places nobody looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from nibabel.affines import apply_affine

from napari_gradcam import words
from napari_gradcam.cam import METHODS as ENGINE_METHODS
from napari_gradcam.cam.layers import is_fine
from napari_gradcam.cam.results import INPUT
from napari_gradcam.explanation import METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_gradcam.inference import Request
    from napari_gradcam.seen import Mapped, Reading
    from napari_gradcam.volumes import Volume
    from napari_gradcam.volumes.volume import Unit

LEAST_SCAN = 0.25
"""Below this share of scan among what the network read, its answer is mostly about the padding around the scan."""

MOST_UNSEEN = 0.02
"""Above this share of a scan's content that the network did not read, a reader must know that nobody looked."""

INCOMPLETE = 1e-4
"""Evidence that adds up to the score no better than this is said to be wrong; rounding is far smaller."""

_SAMPLES = 48
"""Places along each axis that a share is estimated from."""


def worth_notices(
    volume: Volume,
    coarse: NDArray[np.float32],
    fields: Sequence[tuple[tuple[int, ...], NDArray[np.float64]]],
    spread: float,
    heatmap: NDArray[np.float32],
    scores: Mapping[str, float],
    target: str,
) -> tuple[str, ...]:
    """Say where scores or map must not be read as they look.

    Parameters
    ----------
    volume
        The scan.
    coarse
        The map on the network's own grid, ``(a, b, c)``.
    fields
        What the network read: for each of its inputs the map's cells ``(a, b, c)`` and their affine to RAS+ mm.
    spread
        The largest difference between two values of one input it read.
    heatmap
        The map on the scan's grid.
    scores
        Probability by class name.
    target
        The class explained.
    """
    notices = []
    if spread == 0:
        notices.append(
            "What the network read is the same everywhere, so its answer is that to an empty picture and says nothing "
            "of this scan."
        )
    filled, unseen = _shares(volume, fields)
    if filled < LEAST_SCAN:
        notices.append(
            f"{_percent(filled)} of what the network read is scan and the rest is padding: its answer is mostly that "
            "to an empty picture."
        )
    if unseen > MOST_UNSEEN:
        notices.append(
            f"{_percent(unseen)} of the scan's content lies outside of what the network read: no heat there means that "
            "nobody looked."
        )
    if coarse.max() > 0 and not _peak_in_scan(volume, coarse, fields):
        notices.append(
            f"The network's hottest cell for “{target}” lies outside of the scan, in the padding around it: what is "
            "shown inside is the weaker part of the map."
        )
    if not heatmap.max() > 0 and target == max(scores, key=lambda name: scores[name]):
        notices.append(
            f"“{target}” has the highest score although nothing in the scan speaks for it at this layer: the score "
            "comes from the network's bias or from what speaks against the other classes, and is no finding."
        )
    return tuple(notices)


def answer_notices(request: Request, reading: Reading, target: str, completeness: float | None) -> tuple[str, ...]:
    """Say what the method and the network's end mean for the reader of a map.

    Parameters
    ----------
    request, reading
        What was asked of the network, and what it answered.
    target
        The class explained.
    completeness
        How far the evidence is from adding up to the class score, as a share; None where it need not.
    """
    notices = []
    if ENGINE_METHODS[request.method].needs == "activations":
        label = METHODS[request.method]
        notices.append(
            f"{label} shows what the layer holds, the same for every class: it is no evidence for “{target}”."
        )
    if request.smooth > 0:
        notices.append(
            f"The map is the mean of {request.smooth} runs with a little noise on the input, the same noise every time."
        )
    if reading.ending is not None:
        notices.append(f"The network ends in {reading.ending}; the map is of the score before it.")
    if request.method == "scorecam":
        notices.append(
            "Score-CAM's weights are never negative: it paints a map even where nothing speaks for the class."
        )
    if reading.returns_probabilities:
        notices.append(
            "The network returns probabilities instead of scores before softmax: where it is certain, the map vanishes."
        )
    if completeness is not None and completeness > INCOMPLETE:
        notices.append(
            f"The evidence over the layer does not add up to the class score, it is {100 * completeness:.2g} % off: do "
            "not trust this map."
        )
    return tuple(notices)


def layer_notices(
    layer: str, reading: Reading, mapped: Mapped, cells: Mapping[str, Sequence[float]], unit: Unit = "mm"
) -> tuple[str, ...]:
    """Say where a layer's grid is too coarse to place a finding, or a layer ran more than once.

    Parameters
    ----------
    layer
        Name of the layer; of several that were fused, all of them are told of.
    reading, mapped
        What the network read, and each layer's map.
    cells
        Size of a cell of each layer's grid on the scan.
    unit
        What lengths on the scan are measured in.
    """
    notices = []
    for name in [layer] if layer in mapped.calls else mapped.calls:
        own, calls = mapped.canvases[name].grid, mapped.calls[name]
        if calls > 1:
            notices.append(f"The layer “{name}” runs {calls} times in the network; the map is of its last run.")
        if name != INPUT and not is_fine(own, reading.tiling.window):
            grid = " × ".join(map(str, own))
            size = words.size(cells[name][: len(own)], unit)
            notices.append(
                f"The layer “{name}” has a grid of only {grid} cells, each {size}: "
                "its map is too coarse to place a finding."
            )
    return tuple(notices)


def _peak_in_scan(
    volume: Volume, coarse: NDArray[np.float32], fields: Sequence[tuple[tuple[int, ...], NDArray[np.float64]]]
) -> bool:
    """Tell whether any part of the hottest cell lies in the scan."""
    a, b, c = (int(n) for n in np.unravel_index(int(coarse.argmax()), coarse.shape))
    # Slices with a grid of their own count as fields of one cell's depth.
    number, cell = (0, (a, b, c)) if len(fields) == 1 else (c, (a, b, 0))
    places = np.array(cell) + _grid((1, 1, 1), (5, 5, 5))
    return bool(_inside(places, fields[number][1], volume.shape, volume.affine).any())


def _shares(volume: Volume, fields: Sequence[tuple[tuple[int, ...], NDArray[np.float64]]]) -> tuple[float, float]:
    """Estimate the share of scan among what was read, and the share of the scan's content that was not read."""
    parts = [
        _inside(_grid(cells, [_SAMPLES if n > 1 else 1 for n in cells]), affine, volume.shape, volume.affine).mean()
        for cells, affine in fields
    ]
    filled = float(np.mean(parts))
    places = _grid(volume.shape, [min(n, _SAMPLES) for n in volume.shape])
    nearest = tuple(places.round().astype(int).T)
    values = volume.array[nearest]
    # Content is what differs from the darkest value, which is the background of nearly every scan.
    places = places[values > values.min()]
    if len(places) == 0:
        return filled, 0.0
    read = np.zeros(len(places), dtype=bool)
    for cells, affine in fields:
        read |= _inside(places, volume.affine, cells, affine)
    return filled, float(1 - read.mean())


def _grid(shape: Sequence[int], samples: Sequence[int]) -> NDArray[np.float64]:
    """Spread indices evenly over a grid, ``(places, 3)``: the middles of so many equal boxes along each axis."""
    axes = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(shape, samples, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _inside(
    indices: NDArray[np.float64],
    affine: NDArray[np.float64],
    other_shape: Sequence[int],
    other_affine: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Tell which places of one grid lie inside of another one's voxels."""
    there = apply_affine(np.linalg.inv(other_affine) @ affine, indices)
    inside: NDArray[np.bool_] = ((there >= -0.5 - 1e-6) & (there <= np.array(other_shape) - 0.5 + 1e-6)).all(axis=-1)
    return inside


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "Less than 1 %"

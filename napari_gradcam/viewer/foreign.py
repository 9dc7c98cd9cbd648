"""A layer of any plugin or script as a scan: what its data, transforms, axis labels and metadata say, and no more.

The voxels are taken in the order of the layer's own axes, so that a map on the scan's grid is a map on the layer's.
Where they lie is told by the first of these that says it:

1. the scan that our own reader kept with the layer it was cropped or computed from;
2. axis labels that name directions in the patient, such as ``("I", "P", "L")``, with transforms in a unit of length;
3. metadata that can be read in one way only (:mod:`napari_gradcam.viewer.claims`);
4. scale, translate, rotate, shear and affine alone: sizes and angles, but no place in the patient. napari's world axes
   are then laid out as our own display is, so that planes and pictures look as they do in the window;
5. of a picture with two axes and no unit of length, nothing: it is measured in pixels, as photographs are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image

from napari_gradcam.errors import GradCamError
from napari_gradcam.viewer.claims import patient_claim
from napari_gradcam.viewer.world import PICTURE_MM, data_shape, data_to_world, drawn_in_mm, named_axes, usable
from napari_gradcam.volumes.orientation import DISPLAY_AXES, DisplayGrid, obliquity_notices
from napari_gradcam.volumes.values import brightness, colours, finite, refuse_too_large
from napari_gradcam.volumes.volume import SCREEN, Unit, Volume

if TYPE_CHECKING:
    from napari.layers import Layer
    from numpy.typing import NDArray

UNPLACED = "The layer does not say where in the patient it lies: left and right, and every position, are unknown."
UNITLESS = "The layer does not say in which unit of length its scale is: it is taken as mm."
PICTURE = "The layer is taken as a plain picture, without a place in a patient: its sizes are told in pixels."


class Place(NamedTuple):
    """Where a layer's voxels lie.

    Attributes
    ----------
    affine
        Index of the layer's data, its last three axes, to RAS+ mm, 4 × 4; a single picture counts its one slice first.
    in_patient_space
        Whether the layer says so; else the directions are those of the screen.
    notices
        Whole sentences: what it was taken from, and what is missing.
    unit
        What lengths are measured in.
    """

    affine: NDArray[np.float64]
    in_patient_space: bool
    notices: tuple[str, ...]
    unit: Unit = "mm"


class _Read(NamedTuple):
    """A scan that was made of a layer, and what it was made of."""

    data: Any
    place: Place
    volume: Volume


_reads: WeakKeyDictionary[Layer, _Read] = WeakKeyDictionary()
_compared: WeakKeyDictionary[Layer, tuple[Any, Volume, bool]] = WeakKeyDictionary()


def read_layer(layer: Layer, kept: Volume | None = None) -> Volume:
    """Make a scan of a layer; the same one for as long as its data and its place stay what they are.

    Values that the layer computes or loads as they are looked at are read here. The layer's own array is shared, not
    copied, where its type can stay; it is never written to.

    Parameters
    ----------
    layer
        Any layer.
    kept
        The scan whose reader's layer this one was made from.

    Returns
    -------
    Volume
        On the layer's own axes; of a picture with two, ``(1, row, column)``.

    Raises
    ------
    GradCamError
        If it holds no single volume of real numbers, or cannot be read.
    """
    place = place_of(layer, kept)
    held = _current(layer, place)
    if held is None:
        held = _Read(layer.data, place, _volume(layer, place))
        layer.events.data.connect(_forget)  # the same array, set again, may hold other values
        _reads[layer] = held
    return held.volume


def is_read_as(layer: Layer, volume: Volume, kept: Volume | None = None) -> bool:
    """Whether a scan that was made of a layer is still what :func:`read_layer` would give; reads nothing."""
    try:
        held = _current(layer, place_of(layer, kept))
    except GradCamError:
        return False
    return held is not None and held.volume is volume


def shows(layer: Layer, kept: Volume) -> bool:
    """Whether a layer still holds the voxels of a scan as our reader shows them, or a copy of them.

    A layer that a person cropped, flipped or filtered keeps the metadata, but is another scan.
    """
    if not isinstance(layer, Image):
        return False
    data = layer.data
    before = _compared.get(layer)
    if before is None or before[0] is not data or before[1] is not kept:
        stored = kept.color if layer.rgb else kept.array
        same = stored is not None and isinstance(data, np.ndarray) and _same(data, DisplayGrid.of(kept), stored)
        layer.events.data.connect(_forget)
        before = _compared[layer] = (data, kept, same)
    return before[2]


def place_of(layer: Layer, kept: Volume | None = None) -> Place:
    """Find where a layer's voxels lie; reads no voxel.

    Raises
    ------
    GradCamError
        If the layer holds no single volume of real numbers, or its transforms cannot be inverted.
    """
    _check(layer)
    drawn, in_lengths = drawn_in_mm(layer)
    if usable(drawn) is None:
        raise GradCamError(
            f"Layer “{layer.name}” is flattened by its own transforms: give it an affine that keeps its axes apart."
        )
    told: tuple[str, ...] = () if in_lengths else (UNITLESS,)
    if layer.ndim == 2:
        told += (f"The layer is a single picture: its thickness is unknown and taken as {PICTURE_MM:.0f} mm.",)
    if kept is not None:
        return _derived(layer, kept, drawn, in_lengths, told)
    named = named_axes(layer.axis_labels)
    if named is not None and in_lengths:
        return Place(named @ drawn, True, (_labels_read(layer, drawn), *told))
    i, j, k = (1, *data_shape(layer))[-3:]
    claim, doubts = patient_claim(layer.metadata, (i, j, k), drawn, picture=layer.ndim == 2)
    if claim is not None:
        picture = told[-1:] if layer.ndim == 2 else ()
        return Place(claim.affine, True, (claim.told, *picture, *obliquity_notices(claim.affine)))
    if named is not None:
        doubts = ("Its axis labels name directions in the patient, but its units are no lengths: set them to mm.",)
    return _unplaced(layer, drawn, in_lengths, doubts, told)


def _unplaced(
    layer: Layer, drawn: NDArray[np.float64], in_lengths: bool, doubts: tuple[str, ...], told: tuple[str, ...]
) -> Place:
    if layer.ndim == 2 and not in_lengths:
        return Place(SCREEN, False, (PICTURE, *doubts), "pixels")
    return Place(SCREEN @ drawn, False, (UNPLACED, *doubts, *told))


def _labels_read(layer: Layer, drawn: NDArray[np.float64]) -> str:
    labels = ", ".join(layer.axis_labels[-3:])
    told = f"The layer's axis labels ({labels}) are taken as the directions in the patient that its axes run to"
    if drawn[:3, 3].any():
        return told + "."
    return told + "; it has no translate, so that positions are counted from its first voxel."


def _derived(layer: Layer, kept: Volume, drawn: NDArray[np.float64], in_lengths: bool, told: tuple[str, ...]) -> Place:
    """Place what was cropped or computed from one of our layers: in its world, if the layer says that it is there.

    The world of an oblique scan is turned against the patient; the kept scan tells by how much.
    """
    if tuple(layer.axis_labels[-3:]) != DISPLAY_AXES or not in_lengths or not kept.in_patient_space:
        return _unplaced(layer, drawn, in_lengths, (), told)
    grid = DisplayGrid.of(kept)
    reader = np.diag([*grid.scale, 1.0])
    reader[:3, 3] = grid.translate
    affine = grid.affine @ np.linalg.inv(reader) @ drawn
    place = f"The layer was made from “{kept.name}”: its scale and translate place it in the same patient."
    return Place(affine, True, (place, *told, *obliquity_notices(affine)))


def _check(layer: Layer) -> None:
    """Refuse what holds no single volume of real numbers."""
    label = f"Layer “{layer.name}”"
    if not isinstance(layer, Image):
        kind = type(layer).__name__
        raise GradCamError(f"{label} is of napari's kind {kind}, not a scan: choose an image layer.")
    shape = data_shape(layer)
    written = " × ".join(map(str, shape))
    if not np.prod(shape):
        raise GradCamError(f"{label} holds no voxels (its shape is {written}): open the scan again.")
    if any(n > 1 for n in shape[:-3]):
        count = int(np.prod(shape[:-3]))
        raise GradCamError(
            f"{label} holds {count} volumes ({written}), over time or by channel: take out the one to look at, for "
            "example with napari's Split Stack, and choose that."
        )
    whole = data_to_world(layer)
    if len(shape) > 3 and (whole[-4:-1, :-4].any() or whole[:-4, -4:-1].any()):
        raise GradCamError(
            f"{label} is turned between its first axes and its last three: take out the last three and choose those."
        )
    kind = np.dtype(layer.dtype).kind
    if kind not in "iufb":
        held = "complex numbers" if kind == "c" else f"values of the type {np.dtype(layer.dtype)}"
        raise GradCamError(f"{label} holds {held}, which no classifier reads: add its magnitude as a layer of its own.")
    if layer.rgb and kind in "iu" and np.dtype(layer.dtype) != np.uint8:
        raise GradCamError(
            f"{label} holds colours as {np.dtype(layer.dtype)}, whose brightest is not said: convert them to uint8."
        )


def _current(layer: Layer, place: Place) -> _Read | None:
    """Give what was made of a layer, if that is still as it was then."""
    held = _reads.get(layer)
    if held is None or held.data is not layer.data or held.place[1:] != place[1:]:
        return None
    return held if np.array_equal(held.place.affine, place.affine) else None


def _forget(event: Any) -> None:
    _reads.pop(event.source, None)
    _compared.pop(event.source, None)


def _same(data: NDArray[Any], grid: DisplayGrid, stored: NDArray[Any]) -> bool:
    shown = grid.to_display(stored)
    if data.shape != shown.shape or data.dtype != shown.dtype:
        return False
    at, strides = (data.ctypes.data, shown.ctypes.data), (data.strides, shown.strides)
    return (at[0] == at[1] and strides[0] == strides[1]) or np.array_equal(data, shown)


def _volume(layer: Layer, place: Place) -> Volume:
    label = f"Layer “{layer.name}”"
    values = _loaded(layer, label)
    color, notices = None, place.notices
    if layer.rgb:
        color, told = colours(values.reshape((1, *values.shape)[-4:]))
        color.setflags(write=False)  # of a view, not of the layer's own array
        values, notices = brightness(color), notices + told
    array = _stored_type(values.reshape((1, *values.shape)[-3:]))
    array.setflags(write=False)  # of a view, not of the layer's own array
    array, broken = finite(array, label)
    return Volume(
        array=array,
        affine=place.affine,
        name=layer.name,
        notices=(*notices, *broken),
        in_patient_space=place.in_patient_space,
        color=color,
        unit=place.unit,
    )


def _loaded(layer: Layer, label: str) -> NDArray[Any]:
    """Read the finest level into memory."""
    data = layer.data[0] if layer.multiscale else layer.data
    bytes_needed = int(np.prod(data.shape, dtype=object)) * np.dtype(layer.dtype).itemsize
    if not isinstance(data, np.ndarray):
        refuse_too_large(bytes_needed, label)
    try:
        return np.asarray(data)
    except Exception as error:  # whatever loads or computes the values may raise whatever it likes
        raise GradCamError(f"{label} cannot be read ({type(error).__name__}: {error}): open the scan again.") from error


def _stored_type(values: NDArray[Any]) -> NDArray[Any]:
    """View values in a type that the rest of the house knows; copied only where the type must change."""
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # too large for float32 is counted as infinite
            return values.astype(np.float32, copy=False).view()
    return values.astype(values.dtype.newbyteorder("="), copy=False).view()

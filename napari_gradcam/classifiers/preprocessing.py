"""From a volume in patient space to what the network reads, and where each of its voxels lies.

MONAI's spatial transforms keep ``MetaTensor.affine`` true, so the place of the network's input, and with it of the
map, is read from there. A volume enters channel-first, never as ``(i, j, k)`` with a channel axis added later: that
order loses the shift of a later crop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage, LoadImaged, MapTransform, RepeatChannel, RepeatChanneld
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from napari_gradcam.cam.memory import is_out_of_memory
from napari_gradcam.classifiers.bounds import Bounded
from napari_gradcam.classifiers.refusing import shortened
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_gradcam.classifiers.channels import Channels

PLANES: Mapping[str, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Anatomical plane to the axis it is cut along in a volume whose axes run to Right, Anterior, Superior."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a network reads.

    Attributes
    ----------
    tensor
        ``(batch, channel, *spatial)``, float32.
    affines
        Index of each sample's voxels to RAS+ mm, ``(batch, 4, 4)``. For a 2D network an index is ``(u, v, number of the
        slice)``.
    """

    tensor: Tensor
    affines: NDArray[np.float64]


@dataclass(frozen=True)
class Chain:
    """A chain of MONAI transforms of dictionaries, as a function of the image in them.

    Attributes
    ----------
    transforms
        The chain.
    image_key
        What the image is called in it.
    """

    transforms: Compose
    image_key: str = "image"

    def __call__(self, image: MetaTensor) -> Any:
        """Run the chain on an image."""
        return self.transforms({self.image_key: image})[self.image_key]


def compose(transforms: Sequence[Callable[..., Any]], image_key: str = "image") -> Callable[[MetaTensor], Any]:
    """Make one function of a chain of MONAI transforms, of arrays or of dictionaries with `image_key`."""
    chain: Callable[[Any], Any] = Compose(list(transforms))
    return Chain(chain, image_key) if any(isinstance(one, MapTransform) for one in transforms) else chain


def repeats_channels(preprocess: Callable[[MetaTensor], Any]) -> bool:
    """Whether a chain of transforms makes several channels of one by repeating it."""
    return any(isinstance(step, RepeatChannel | RepeatChanneld) for step in steps_of(preprocess))


def reads_rows_first(preprocess: Any) -> bool:
    """Tell the order in which a preprocessing gets pictures, from how it was given, with its loading.

    MONAI's ``LoadImage`` gives ``(channel, column, row)`` of a picture unless it is told not to reverse the axes. All
    else that reads pictures gives ``(channel, row, column)``: numpy, torchvision, readers of slides.
    """
    for step in steps_of(preprocess):
        loader = step._loader if isinstance(step, LoadImaged) else step
        if isinstance(loader, LoadImage):
            turns = (one.reverse_indexing for one in reversed(loader.readers) if hasattr(one, "reverse_indexing"))
            return not next(turns, True)
    return True


def steps_of(preprocess: Any) -> Sequence[Any]:
    """List the steps of a preprocessing; a function is the only step."""
    chain = preprocess.transforms if isinstance(preprocess, Chain) else preprocess
    if isinstance(chain, list | tuple):
        chain = Compose(list(chain))
    return chain.flatten().transforms if isinstance(chain, Compose) else (chain,)


def prepare_volume(channels: Channels, preprocess: Callable[[MetaTensor], Any]) -> Prepared:
    """Preprocess whole volumes, one for each channel, for a 3D network.

    Raises
    ------
    GradCamError
        If the preprocessing does not fit the scan, or loses the place of its voxels.
    """
    values = torch.from_numpy(np.array(channels.array, dtype=np.float32, order="C"))
    affine = torch.from_numpy(channels.volume.affine.copy())
    image = _run(preprocess, MetaTensor(values, affine=affine), 3, channels.volume.name)
    return Prepared(image.as_tensor().float()[None], image.affine.cpu().numpy().astype(np.float64)[None])


@dataclass(frozen=True, eq=False)
class Slices:
    """A volume cut into slices, for a 2D network.

    Attributes
    ----------
    array
        The channels with the cut axis last, ``(channel, u, v, slice)``: a view. Of a scan in patient space `u` and `v`
        run to Right, Anterior or Superior. Of any other they are column and row as stored, neither of them flipped.
    affine
        Index ``(u, v, slice)`` to RAS+ mm.
    native_axis
        The axis of the volume's own grid that was cut.
    native_indices
        Where each slice stands along it.
    plane
        The anatomical plane it was cut along; empty of a picture, which has one slice.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    native_axis: int
    native_indices: range
    plane: str = ""

    def __len__(self) -> int:
        """Count the slices."""
        return int(self.array.shape[3])


def cut(channels: Channels, plane: str, *, rows_first: bool = False) -> Slices:
    """Cut a volume along the voxel axis nearest to the normal of a plane: no voxel is resampled.

    Parameters
    ----------
    channels
        The volume. One that is a single voxel thick is a picture, and is cut along that axis whatever the plane.
    plane
        A key of :data:`PLANES`.
    rows_first
        Whether a slice without a place in a patient is given as ``(channel, row, column)``, rather than in MONAI's
        order, ``(channel, column, row)``.
    """
    volume = channels.volume
    to_ras = io_orientation(volume.affine)
    if not volume.in_patient_space:
        to_ras[:, 1] = 1  # where nothing says left from right, a flip would turn pictures upside down
    array = apply_orientation(np.moveaxis(channels.array, 0, 3), to_ras)
    affine = volume.affine @ inv_ornt_aff(to_ras, volume.shape)
    axis = PLANES[plane]
    thin = [axis for axis in range(3) if array.shape[axis] == 1]
    if thin and axis not in thin:
        axis = thin[0]
    across, down = (n for n in range(3) if n != axis)
    order = (down, across, axis) if rows_first and not volume.in_patient_space else (across, down, axis)
    native = int(np.flatnonzero(to_ras[:, 0] == axis)[0])
    indices = range(volume.shape[native])
    return Slices(
        array=array.transpose(3, *order),
        affine=affine[:, [*order, 3]],
        native_axis=native,
        native_indices=indices if to_ras[native, 1] > 0 else indices[::-1],
        plane="" if thin else plane,
    )


def prepare_slices(
    slices: Slices,
    preprocess: Callable[[MetaTensor], Any],
    name: str,
    at_once: Callable[[tuple[int, ...]], int],
) -> Iterator[Prepared]:
    """Preprocess slice by slice for a 2D network, in batches.

    Each slice enters as ``(channel, u, v)`` with its in-plane spacing; where the preprocessing put it is carried back
    to patient space.

    Parameters
    ----------
    slices, name
        The slices, and what the scan is called.
    preprocess
        The classifier's preprocessing.
    at_once
        Tells, from the shape of the first slice ``(channel, u, v)``, how many slices make a batch.
    """
    batch: list[tuple[Tensor, NDArray[np.float64]]] = []
    size = 0
    for index in range(len(slices)):
        batch.append(_prepared_slice(slices, index, preprocess, name))
        if batch[-1][0].shape != batch[0][0].shape:
            raise GradCamError(
                f"The preprocessing gives slices of “{name}” different sizes; end it with a resize or pad to one size."
            )
        size = size or at_once(tuple(batch[0][0].shape))
        if len(batch) == size or index == len(slices) - 1:
            yield Prepared(torch.stack([tensor for tensor, _ in batch]), np.stack([affine for _, affine in batch]))
            batch = batch[:0]


def prepare_example(
    channels: Channels, preprocess: Callable[[MetaTensor], Any], plane: str | None, *, rows_first: bool = False
) -> Prepared:
    """Preprocess what shows which input the network will read: the volume, or the middle slice of a plane."""
    if plane is None:
        return prepare_volume(channels, preprocess)
    slices = cut(channels, plane, rows_first=rows_first)
    tensor, affine = _prepared_slice(slices, len(slices) // 2, preprocess, channels.volume.name)
    return Prepared(tensor[None], affine[None])


def _prepared_slice(
    slices: Slices, index: int, preprocess: Callable[[MetaTensor], Any], name: str
) -> tuple[Tensor, NDArray[np.float64]]:
    """Preprocess one slice, ``(channel, u, v)``, and tell where ``(u, v, number of the slice)`` lies in RAS+ mm."""
    spacing = voxel_sizes(slices.affine)
    in_plane = np.diag([spacing[0], spacing[1], 1.0, 1.0])
    values = torch.from_numpy(np.array(slices.array[..., index], dtype=np.float32, order="C"))
    image = _run(preprocess, MetaTensor(values, affine=torch.from_numpy(in_plane)), 2, name)
    placed = np.eye(4)
    moved = np.linalg.solve(in_plane, image.affine.cpu().numpy())
    placed[:2, :2], placed[:2, 3] = moved[:2, :2], moved[:2, 3]
    return image.as_tensor().float(), slices.affine @ placed


def _run(preprocess: Callable[[MetaTensor], Any], image: MetaTensor, dims: int, name: str) -> MetaTensor:
    try:
        with Bounded(parts=None):
            prepared = preprocess(image)
    except Exception as error:
        if (short := _shortage(error)) is not None:
            raise GradCamError(
                f"There is not enough memory for the model's preprocessing of “{name}” ({short}); give a smaller scan, "
                "or choose a model made for such scans."
            ) from error
        if image.min() == image.max():
            raise GradCamError(
                f"“{name}” is blank, every voxel {float(image.min()):g}, and the model's preprocessing finds nothing "
                "in it; give a scan with content."
            ) from error
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        if "non-empty" in reason[0] or "is empty" in reason[0]:
            reason = ["its crop leaves nothing of it"]
        raise GradCamError(
            f"The model's preprocessing does not fit the scan “{name}”: {reason[0]}; choose a model made for such "
            f"scans."
        ) from error
    if not isinstance(prepared, MetaTensor):
        raise GradCamError(
            "The model's preprocessing loses where the voxels lie (it returns no MetaTensor), so its map cannot be "
            "placed; remove the step that drops the metadata."
        )
    if prepared.ndim != dims + 1:
        raise GradCamError(
            f"The model's preprocessing gives an array of {prepared.ndim} axes where channels and {dims} spatial "
            f"axes are needed."
        )
    return prepared


def _shortage(error: BaseException | None) -> str | None:
    """Tell what a step would take, if an error says that it is more memory than there is; MONAI hands on the cause."""
    step = ""
    while error is not None and not is_out_of_memory(error):
        named = re.search(r"(\w+) object at ", str(error))
        step = named[1] if named else step
        error = error.__cause__
    if error is None:
        return None
    told = shortened(str(error) or type(error).__name__)
    return f"its step {step}: {told}" if step else told

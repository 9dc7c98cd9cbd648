"""A classifier: what explain() needs of a network, and nothing else."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from nibabel.affines import voxel_sizes

from napari_gradcam.cam import LayerInfo, on_scan, recommended, survey
from napari_gradcam.classifiers.channels import channels_of, misfit
from napari_gradcam.classifiers.plain import chain_of, completed
from napari_gradcam.classifiers.preprocessing import prepare_example, reads_rows_first, repeats_channels
from napari_gradcam.classifiers.probing import input_channels
from napari_gradcam.classifiers.weights import weights_digest
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import nn

    from napari_gradcam.classifiers.channels import Given
    from napari_gradcam.classifiers.scores import Head

Plane = Literal["axial", "coronal", "sagittal"]
Aggregation = Literal["max", "mean", "top-k"]


@dataclass(frozen=True)
class SliceRule:
    """How a 2D classifier reads a volume.

    Attributes
    ----------
    plane
        The plane it is cut along.
    aggregation
        ``"mean"``: the volume's probabilities are the mean of its slices'; ``"max"``: they are those of the one slice
        where `positive` is most probable; ``"top-k"``: they are the mean of the `top` slices where it is.
    positive
        Index of the class that few slices are enough for; without meaning for ``"mean"``.
    top
        How many slices ``"top-k"`` takes.
    """

    plane: Plane = "axial"
    aggregation: Aggregation = "mean"
    positive: int = 0
    top: int = 3


@dataclass(frozen=True)
class Windows:
    """How a network that reads one window at a time slides over a larger input, as MONAI's ``SlidingWindowInferer``.

    Attributes
    ----------
    roi
        Size of a window in voxels of the network's input, ``spatial_dims`` numbers; 0 or less is the whole axis.
    overlap
        The share of a window that the next one covers too, along each axis.
    mode
        ``"constant"``: a window counts the same everywhere; ``"gaussian"``: less towards its edges.
    sigma
        Standard deviation of the Gaussian as a share of the window.
    padding, fill
        How an input smaller than a window is filled up: a mode of ``torch.nn.functional.pad``, and its value.
    at_once
        How many windows the bundle runs in a batch; memory may ask for fewer.
    """

    roi: tuple[int, ...]
    overlap: tuple[float, ...]
    mode: Literal["constant", "gaussian"] = "constant"
    sigma: float = 0.125
    padding: str = "constant"
    fill: float = 0.0
    at_once: int = 1

    def over(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Give the size of one window over an input ``(*spatial)``, voxels.

        Raises
        ------
        GradCamError
            If sizes or overlaps do not fit an input with so many axes.
        """
        if len(self.roi) != len(shape) or len(self.overlap) != len(shape):
            raise GradCamError(
                f"The model's windows have {len(self.roi)} sizes and {len(self.overlap)} overlaps but its input has "
                f"{len(shape)} axes; give one of each for each axis (roi_size and overlap of the inferer)."
            )
        if not all(0 <= share < 1 for share in self.overlap):
            raise GradCamError(
                f"The model's windows overlap by {', '.join(f'{share:g}' for share in self.overlap)} of their size; "
                "give shares of 0 or more, below 1 (overlap of the inferer)."
            )
        return tuple(size if size > 0 else side for size, side in zip(self.roi, shape, strict=True))


@dataclass(frozen=True)
class Wants:
    """What a classifier's makers say of the input it is made for; empty where they do not.

    Attributes
    ----------
    modality
        As the metadata write it, such as ``"MR"`` or ``"CT"``.
    channels
        What each channel of the input is, such as ``("T1", "T2")``.
    value_range
        Lowest and highest value of the network's input, after the preprocessing.
    rows_first
        For a picture without a place in a patient: whether the network reads ``(channel, row, column)``, as numpy and
        torchvision do, rather than ``(channel, column, row)``, as MONAI loads pictures. A classifier always says: where
        it is None, the second if MONAI's ``LoadImage`` is among the preprocessing, else the first.
    size
        Voxels along the axes of the network's input, after the preprocessing, where it was made for one size alone.
    """

    modality: str = ""
    channels: tuple[str, ...] = ()
    value_range: tuple[float, float] | None = None
    rows_first: bool | None = None
    size: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network, its preprocessing and its classes.

    A bundle gives one (:func:`napari_gradcam.load_classifier`), and so does a network in memory, of which only the
    network must be given:

    >>> classifier = Classifier(network, Compose([Resize((224, 224)), ScaleIntensity()]), ["cat", "dog"])
    >>> explain(scan, classifier).scores  # doctest: +SKIP

    The network need be neither frozen nor in evaluation mode, and is handed back untouched.

    Attributes
    ----------
    network
        Takes ``(batch, channel, *spatial)``, returns class scores.
    preprocess
        From a channel-first ``MetaTensor`` in patient space to the network's input, a ``MetaTensor`` too. MONAI's
        transforms may be given, of arrays or of dictionaries, one, a list or a ``Compose``, with the loading and the
        label keys they were trained with; by default the network reads the scan as it is.
    class_names
        In the order of the network's outputs; by default numbers. One name for one logit is the class and its absence.
    head
        How its output is read. ``"softmax"`` or ``"sigmoid"`` may be given; by default softmax is assumed, or sigmoid
        for one logit, and a notice says so.
    spatial_dims
        2 or 3; by default those of the network's first convolution.
    input_shape
        ``(channel, *spatial)`` that the network is surveyed with; by default the channels of its first convolution, and
        224 or 96 along each axis.
    name, version, description
        As the bundle gives them, for a person; the name is that of the network's class where there is none.
    slice_rule
        How a 2D classifier reads a volume.
    declared_layer
        The target layer that the bundle itself names, or None.
    notices
        Whole sentences on what was assumed.
    wants
        The input it is made for.
    windows
        How it slides over its input; None where it reads all of it at once.
    intended_use, licence
        As the bundle gives them: a sentence, and the text of its LICENSE file or of its metadata.
    source
        Where it was read from: a bundle's folder or zip, or a recipe; None of a network in memory.
    rows_first
        Given, it is what ``wants.rows_first`` says.
    """

    network: nn.Module
    preprocess: Callable[[Any], Any] = None  # type: ignore[assignment]  # what is left open is filled in below
    class_names: tuple[str, ...] = ()
    head: Head = None  # type: ignore[assignment]
    spatial_dims: int = 0
    input_shape: tuple[int, ...] = ()
    name: str = ""
    version: str = ""
    description: str = ""
    slice_rule: SliceRule = field(default_factory=SliceRule)
    declared_layer: str | None = None
    notices: tuple[str, ...] = ()
    wants: Wants = field(default_factory=Wants)
    windows: Windows | None = None
    intended_use: str = ""
    licence: str = ""
    source: Path | None = None
    rows_first: InitVar[bool | None] = None

    def __post_init__(self, rows_first: bool | None) -> None:
        """Fill in what was left open, or given in short, by what the network shows.

        Raises
        ------
        GradCamError
            If the network does not show it, or it contradicts what was given.
        """
        parts = completed(self.network, self.class_names, self.head, self.spatial_dims, self.input_shape)
        filled = {"preprocess": chain_of(self.preprocess), **parts._asdict()}
        rows_first = self.wants.rows_first if rows_first is None else rows_first
        rows_first = reads_rows_first(self.preprocess) if rows_first is None else rows_first
        filled["wants"] = replace(self.wants, rows_first=rows_first)
        filled |= {"name": self.name or type(self.network).__name__, "notices": (*self.notices, *parts.notices)}
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    @cached_property
    def _surveys(self) -> dict[tuple[int, ...], tuple[LayerInfo, ...]]:
        return {}

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the network's weights; see :func:`napari_gradcam.classifiers.weights.weights_digest`."""
        return weights_digest(self.network)

    def layers_for(self, shape: tuple[int, ...]) -> tuple[LayerInfo, ...]:
        """List the network's layers as :meth:`layers` does, for inputs of a shape ``(channel, *spatial)``."""
        if shape not in self._surveys:
            self._surveys[shape] = self._marked(survey(self.network, shape, self.head.class_scores))
        return self._surveys[shape]

    def _marked(self, layers: tuple[LayerInfo, ...]) -> tuple[LayerInfo, ...]:
        if self.declared_layer is None:
            return layers
        reason = "The target layer that the model's own metadata name."
        return tuple(replace(layer, reason=reason if layer.name == self.declared_layer else None) for layer in layers)

    def layers(self, volume: Given | None = None) -> tuple[LayerInfo, ...]:
        """List the network's layers in the order they finish, one of them recommended with its reason.

        Parameters
        ----------
        volume
            A scan, or several as :func:`napari_gradcam.explain` takes them: the sizes of the layers' cells are told in
            mm on it (of a picture, which has no size in mm, in voxels of the input alone), and grids are those that it
            leads to. Without one they are those of the declared input. The network runs once on zeros, the first time
            for each shape.

        Raises
        ------
        GradCamError
            If the scan does not fit the preprocessing, or the network its input.
        """
        if volume is None:
            return self.layers_for(self.input_shape)
        channels = channels_of(volume, self)
        plane = self.slice_rule.plane if self.spatial_dims == 2 else None
        prepared = prepare_example(channels, self.preprocess, plane, rows_first=bool(self.wants.rows_first))
        try:
            layers = self.layers_for(self.sample_shape(tuple(prepared.tensor.shape[1:])))
        except GradCamError as error:
            if told := misfit(self, prepared.tensor.shape[1], str(error)):
                raise GradCamError(told) from error
            raise
        if channels.volume.unit != "mm":
            return layers
        return on_scan(layers, voxel_sizes(prepared.affines[0])[: self.spatial_dims])

    def sample_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Give what the network reads at once of an input ``(channel, *spatial)``: all of it, or a window."""
        return shape if self.windows is None else (shape[0], *self.windows.over(shape[1:]))

    @property
    def channels_read(self) -> int:
        """How many channels the scans must give: those the network reads, or one that the preprocessing repeats."""
        return 1 if repeats_channels(self.preprocess) else input_channels(self.network) or self.input_shape[0]

    @property
    def default_layer(self) -> str:
        """The target layer for inputs of the declared shape: the bundle's own, else the survey's recommendation."""
        return self.default_layer_for(self.input_shape)

    def default_layer_for(self, shape: tuple[int, ...]) -> str:
        """Name the target layer that is taken when none is asked for, for inputs ``(channel, *spatial)``."""
        return self.declared_layer or recommended(self.layers_for(shape)).name

    def class_index(self, target: str | int) -> int:
        """Index of a class given by name or index.

        Raises
        ------
        GradCamError
            If there is no such class, naming those there are.
        """
        if isinstance(target, str) and target in self.class_names:
            return self.class_names.index(target)
        if isinstance(target, int) and 0 <= target < len(self.class_names):
            return target
        known = ", ".join(f"“{name}”" for name in self.class_names)
        raise GradCamError(f"The model has no class “{target}”; its classes are {known}.")

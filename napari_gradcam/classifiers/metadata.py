"""What a bundle's metadata.json says of its network, defensively: any part of it may be absent or odd."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, get_args

from napari_gradcam.classifiers.classifier import Aggregation, SliceRule
from napari_gradcam.classifiers.preprocessing import PLANES
from napari_gradcam.classifiers.refusing import said
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LARGEST_INPUT = 1 << 31
"""Bytes of one input of a network; a scan of 512 × 512 × 1024 has half of it."""

_CLASS_KEYS = ("channel_def", "class_names", "classes", "class_def", "labels", "label_def", "label_names")
"""Where bundles name their classes."""

_DEEPEST = 5
"""So deep in the metadata class names are looked for."""

_INPUTS = ("inputs", "input")

_LARGEST_VALUE = 1e30
"""No scan has larger values; whole numbers of JSON have any length."""

_MOST_CLASSES = 1 << 16
"""More outputs are none of a classifier's: they are counted instead."""

_SURVEY_SIZE = {2: 224, 3: 96}
"""Pixels along each axis that a network is surveyed with where its metadata gives no size."""


class Metadata:
    """Read access to ``metadata.json`` by MONAI's schema, with our own optional block ``explanation``.

    Parameters
    ----------
    content
        The mapping as read from the file.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content
        formats = _mapping(content.get("network_data_format"))
        self._input = _first(_mapping(formats.get("inputs")), "image")
        self._outputs = _mapping(formats.get("outputs"))
        self._output = _first(self._outputs, "pred")
        self._explanation = _mapping(content.get("explanation"))

    @property
    def name(self) -> str:
        """The bundle's name, or empty."""
        return _text(self._content.get("name"))

    @property
    def version(self) -> str:
        """The bundle's version, or empty."""
        return _text(self._content.get("version"))

    @property
    def description(self) -> str:
        """What the bundle says of itself."""
        return _lines(self._content.get("description"))

    @property
    def intended_use(self) -> str:
        """What the bundle says it is for."""
        return _text(self._content.get("intended_use"))

    @property
    def licence(self) -> str:
        """The licence as the metadata name it; most bundles have a file of it instead."""
        return _lines(self._content.get("license")) or _lines(self._content.get("copyright"))

    @property
    def modality(self) -> str:
        """The modality of the input, such as ``"MR"``, or empty."""
        return _text(self._input.get("modality"))

    @property
    def channels(self) -> tuple[str, ...]:
        """What each channel of the input is, where every one has a name of its own; else empty."""
        names = _numbered(self._input.get("channel_def"))
        return names if len(names) == (self._input.get("num_channels") or len(names)) else ()

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Lowest and highest value of the network's input, or None."""
        limits = self._input.get("value_range")
        if not isinstance(limits, list) or len(limits) != 2:
            return None
        lowest, highest = limits
        plain = all(isinstance(end, int | float) and abs(end) < _LARGEST_VALUE for end in (lowest, highest))
        return (float(lowest), float(highest)) if plain and lowest < highest else None

    @property
    def rows_first(self) -> bool | None:
        """Whether the network reads pictures with their rows first, by our own block; None where it does not say."""
        said_so = self._explanation.get("rows_first")
        return said_so if isinstance(said_so, bool) else None

    def notices(self, outputs: int) -> tuple[str, ...]:
        """Say what a reader must know of these metadata, for a network with so many outputs."""
        told = (f"The model's own intended use: {self.intended_use}",) if self.intended_use else ()
        named = self.class_names(outputs)
        return told if named else (*told, "The bundle does not name its classes: they are numbered.")

    @property
    def outputs(self) -> int | None:
        """Number of outputs of the network, or None."""
        count = self._output.get("num_channels")
        return count if isinstance(count, int) and 0 < count <= _MOST_CLASSES else None

    def class_names(self, outputs: int) -> tuple[str, ...]:
        """Names of the classes in the order of their numbers; empty where there are none, or not one for each output.

        They stand in ``channel_def`` of the output or, in bundles of their makers' own taste, elsewhere; never in
        what describes the input, whose channels may be as many. One output with one name decides between that class
        and its absence.
        """
        places = (self._output, self._outputs, *_within(self._content))
        every = [_numbered(place.get(key)) for place in places for key in _CLASS_KEYS]
        names = next((names for names in every if len(names) == outputs or (outputs, len(names)) == (1, 2)), ())
        return (f"no {names[0]}", names[0]) if len(names) == 1 else names

    @property
    def spatial_dims(self) -> int | None:
        """2 or 3 by the declared input shape, or None."""
        shape = self._input.get("spatial_shape")
        return len(shape) if isinstance(shape, list) and len(shape) in (2, 3) else None

    @property
    def size(self) -> tuple[int, ...] | None:
        """Voxels along the axes of the network's input, where one size is declared rather than any or a formula."""
        shape = self._input.get("spatial_shape")
        if not isinstance(shape, list) or len(shape) != self.spatial_dims:
            return None
        return tuple(shape) if all(isinstance(size, int) and size > 0 for size in shape) else None

    def input_shape(self, spatial_dims: int) -> tuple[int, ...]:
        """Shape ``(channel, *spatial)`` to survey the network with.

        Raises
        ------
        GradCamError
            If it is one that no network is run on.
        """
        channels = self._input.get("num_channels")
        shape = self._input.get("spatial_shape")
        spatial = (_SURVEY_SIZE[spatial_dims],) * spatial_dims
        if isinstance(shape, list) and len(shape) == spatial_dims:
            # MONAI also allows "*" and formulas such as "16*n" here.
            spatial = tuple(
                size if isinstance(size, int) and size > 0 else default
                for size, default in zip(shape, spatial, strict=True)
            )
        found = (channels if isinstance(channels, int) and channels > 0 else len(self.channels) or 1, *spatial)
        if 4 * math.prod(found) > LARGEST_INPUT:
            sizes = " × ".join(str(size) if size < LARGEST_INPUT else "far too many" for size in found)
            raise GradCamError(
                f"The bundle's metadata.json gives the network's input as {sizes} (channels "
                "first), which no memory holds; correct network_data_format."
            )
        return found

    @property
    def target_layer(self) -> str | None:
        """The target layer that the bundle's ``explanation`` block declares, or None."""
        layer = self._explanation.get("target_layer")
        return str(layer) if layer else None

    def slice_rule(self, class_names: Sequence[str]) -> SliceRule:
        """How a 2D classifier reads a volume, by the ``explanation`` block; the mean of axial slices without one.

        Raises
        ------
        GradCamError
            If the block names a plane, an aggregation or a class that does not exist.
        """
        plane = self._explanation.get("plane", "axial")
        aggregation = self._explanation.get("aggregation", "mean")
        positive = self._explanation.get("positive_class", class_names[-1])
        top = self._explanation.get("top", SliceRule.top)
        known = isinstance(plane, str) and plane in PLANES and aggregation in get_args(Aggregation)
        if not known or positive not in class_names or not (isinstance(top, int) and top > 0):
            raise GradCamError(
                f"The bundle's metadata.json asks to read slices by plane “{said(plane)}”, aggregation "
                f"“{said(aggregation)}” (top {said(top)}), positive class “{said(positive)}”; use axial, coronal or "
                "sagittal, max, mean or top-k with a number of slices, and one of its own classes."
            )
        return SliceRule(plane, aggregation, tuple(class_names).index(positive), top)


def _within(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give the metadata and the mappings in it that do not describe an input, the outermost first."""
    level = [content]
    for _ in range(_DEEPEST):
        yield from level
        level = [
            value for outer in level for key, value in outer.items() if isinstance(value, dict) and key not in _INPUTS
        ]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    """Give what a person reads: a text or number; nothing of anything else."""
    return printable(str(value)) if isinstance(value, str | int | float) else ""


def _lines(value: Any) -> str:
    """Give a text of several lines that a person reads."""
    return lines_of(value) if isinstance(value, str) else _text(value)


def lines_of(text: str) -> str:
    """Leave out what is no letter of each line: a terminal would obey it."""
    return "\n".join("".join(letter for letter in line if letter.isprintable()) for line in text.splitlines()).strip()


def _numbered(value: Any) -> tuple[str, ...]:
    """Read names in the order of their numbers: ``{"0": name}``, ``{name: 0}`` or a list; empty of anything else.

    Numbers may begin with 1, where there is one for each name.
    """
    if isinstance(value, list):
        names = tuple(map(_text, value))
    else:
        pairs = list(_mapping(value).items())
        if all(isinstance(number, int) for _, number in pairs):
            pairs = [(number, name) for name, number in pairs]
        by_number = {str(number): _text(name) for number, name in pairs}
        first = 0 if "0" in by_number else 1
        names = tuple(by_number.get(str(number), "") for number in range(first, first + len(pairs)))
    return names if all(names) and len(set(names)) == len(names) else ()


def _first(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return _mapping(values.get(key) or next(iter(values.values()), {}))

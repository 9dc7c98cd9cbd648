"""What a bundle's metadata.json says of its network, defensively: any part of it may be absent or odd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_gradcam.classifiers.classifier import SliceRule
from napari_gradcam.classifiers.preprocessing import PLANES
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        self._output = _first(_mapping(formats.get("outputs")), "pred")
        self._explanation = _mapping(content.get("explanation"))

    @property
    def name(self) -> str:
        """The bundle's name, or empty."""
        return str(self._content.get("name", ""))

    @property
    def version(self) -> str:
        """The bundle's version, or empty."""
        return str(self._content.get("version", ""))

    @property
    def description(self) -> str:
        """What the bundle says of itself."""
        return str(self._content.get("description", ""))

    @property
    def notices(self) -> tuple[str, ...]:
        """What a reader must know of these metadata."""
        use = str(self._content.get("intended_use", "")).strip()
        told = (f"The model's own intended use: {use}",) if use else ()
        return told if self.class_names else (*told, "The bundle does not name its classes: they are numbered.")

    @property
    def outputs(self) -> int | None:
        """Number of outputs of the network, or None."""
        count = self._output.get("num_channels")
        return count if isinstance(count, int) and count > 0 else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names from ``channel_def``, in the order of their numbers; empty where there are none.

        One output with one name decides between that class and its absence.
        """
        channel_def = _mapping(self._output.get("channel_def"))
        numbers = sorted(int(key) for key in channel_def if str(key).isdecimal())
        named = {int(key): str(value) for key, value in channel_def.items() if str(key).isdecimal()}
        if not numbers or numbers != list(range(len(numbers))):
            return ()
        names = tuple(named[n] for n in numbers)
        if len(set(names)) < len(names):
            return ()
        return (f"no {names[0]}", names[0]) if len(names) == 1 else names

    @property
    def spatial_dims(self) -> int | None:
        """2 or 3 by the declared input shape, or None."""
        shape = self._input.get("spatial_shape")
        return len(shape) if isinstance(shape, list) and len(shape) in (2, 3) else None

    def input_shape(self, spatial_dims: int) -> tuple[int, ...]:
        """Shape ``(channel, *spatial)`` to survey the network with."""
        channels = self._input.get("num_channels")
        shape = self._input.get("spatial_shape")
        spatial = (_SURVEY_SIZE[spatial_dims],) * spatial_dims
        if isinstance(shape, list) and len(shape) == spatial_dims:
            # MONAI also allows "*" and formulas such as "16*n" here.
            spatial = tuple(
                size if isinstance(size, int) and size > 0 else default
                for size, default in zip(shape, spatial, strict=True)
            )
        return (channels if isinstance(channels, int) and channels > 0 else 1, *spatial)

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
        if plane not in PLANES or aggregation not in ("max", "mean") or positive not in class_names:
            raise GradCamError(
                f"The bundle's metadata.json asks to read slices by plane “{plane}”, aggregation “{aggregation}”, "
                f"positive class “{positive}”; use axial, coronal or sagittal, max or mean, and one of its own classes."
            )
        return SliceRule(plane, aggregation, tuple(class_names).index(positive))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return _mapping(values.get(key) or next(iter(values.values()), {}))

"""What stands in the dock's lists for a model that is loaded: pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_gradcam.viewer.contract import ChannelRow, Choice, ScoreRow
from napari_gradcam.viewer.kept import AUTOMATIC, DEFAULT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_gradcam.classifiers import Classifier

COLOURS = 3
"""So many channels a scan in colours gives to a model that reads as many or more."""

PLANES = ("axial", "coronal", "sagittal")

NO_LAYER = Choice("choose a layer…", DEFAULT)


def layers_of(classifier: Classifier | None) -> list[Choice]:
    """List the network's layers that can be a target, its own choice first."""
    if classifier is None:
        return [Choice("default", DEFAULT)]
    usable = [layer for layer in classifier.layers() if layer.problem is None]
    return [
        Choice(f"default: {classifier.default_layer}", DEFAULT),
        *(Choice(f"{layer.name} ({' × '.join(map(str, layer.grid))})", layer.name) for layer in usable),
    ]


def classes_of(classifier: Classifier | None, scores: Mapping[str, ScoreRow]) -> list[Choice]:
    """List the classes, with their scores as they are said where there are any."""
    names = classifier.class_names if classifier is not None else tuple(scores)
    listed = [Choice(f"{name} ({scores[name].said})" if name in scores else name, name) for name in names]
    return [Choice("highest score", DEFAULT), *listed]


def score_rows(classifier: Classifier | None, scores: Mapping[str, ScoreRow]) -> list[ScoreRow]:
    """List the classes for the table of scores, the most probable first; before a run, in the model's own order."""
    names = classifier.class_names if classifier is not None else tuple(scores)
    rows = [scores.get(name, ScoreRow(name)) for name in names]
    return sorted(rows, key=lambda row: -1.0 if row.probability is None else -row.probability)


def slicings_of(classifier: Classifier | None, picture: bool) -> list[Choice]:
    """List the planes that a 2D model can cut a scan along; none for a 3D one, and none for a picture."""
    if classifier is None or classifier.spatial_dims != 2 or picture:
        return []
    return [Choice(f"default: {classifier.slice_rule.plane}", DEFAULT), *(Choice(plane, plane) for plane in PLANES)]


def devices_of(names: Sequence[str]) -> list[Choice]:
    """List devices by torch's names, such as ``"cuda:0"``; before torch is loaded there are none but the CPU."""
    return [Choice("automatic", AUTOMATIC), *(Choice(_device(name), name) for name in names or ("cpu",))]


def _device(name: str) -> str:
    kind, _, number = name.partition(":")
    return f"{kind.upper()} {number}".strip()


def channels_given(classifier: Classifier | None, colour: bool) -> int:
    """Count the channels of a model that the scan alone gives."""
    return COLOURS if colour and classifier is not None and classifier.channels_read >= COLOURS else 1


def channel_label(classifier: Classifier, channel: int) -> str:
    """Name a channel of a model's input."""
    names = classifier.wants.channels
    return names[channel] if channel < len(names) else f"Channel {channel + 1}"


def further_channels(classifier: Classifier | None, colour: bool) -> list[str]:
    """Name the channels of a model that the scan alone does not give."""
    if classifier is None:
        return []
    return [channel_label(classifier, n) for n in range(channels_given(classifier, colour), classifier.channels_read)]


def first_channels(classifier: Classifier | None, colour: bool) -> str:
    """Name the channels that the scan gives, where others are asked for beside it; else empty."""
    if classifier is None or not further_channels(classifier, colour):
        return ""
    return ", ".join(channel_label(classifier, n) for n in range(channels_given(classifier, colour)))


def channel_rows(labels: Sequence[str], layers: Sequence[Choice], picked: Sequence[str]) -> list[ChannelRow]:
    """Put together a list of layers for each further channel."""
    return [ChannelRow(label, (NO_LAYER, *layers), current) for label, current in zip(labels, picked, strict=True)]

"""Scans to the channels of a network's input: which scan is which channel, all of them on one grid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_gradcam.classifiers.preprocessing import repeats_channels
from napari_gradcam.classifiers.probing import input_channels
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes import Volume
from napari_gradcam.volumes.common_grid import on_grid_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_gradcam.classifiers.classifier import Classifier

Given = Volume | Sequence[Volume] | Mapping[str, Volume]
"""What a person may give to be explained: one scan, scans in the order of the channels, or ``{channel name: scan}``."""

COLOURS = ("red", "green", "blue")

VALUES, BRIGHTNESS = "values", "brightness"
"""What a channel is of its scan, where it is none of :data:`COLOURS`."""

BRIGHTNESS_READ = "The scan is in colours; the network read their brightness."

_SHORT = {"r": "red", "g": "green", "b": "blue"}
_ALL_COLOURS = "rgb"


@dataclass(frozen=True, eq=False)
class Channels:
    """What a network is given to read, before its preprocessing.

    Attributes
    ----------
    volume
        The scan that was given first: the channels lie on its grid, and the heat map will.
    array
        ``(channel, i, j, k)``; a view of the scan where it is one alone.
    volumes
        The scan that each channel is of, as it was given.
    reads
        What each channel is of its scan: :data:`VALUES`, one of :data:`COLOURS`, or :data:`BRIGHTNESS`.
    notices
        Whole sentences on what was done to make channels of the scans.
    """

    volume: Volume
    array: NDArray[Any]
    volumes: tuple[Volume, ...]
    reads: tuple[str, ...]
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the channels."""
        return len(self.reads)


class _Part(NamedTuple):
    """A scan, and what of it is read, one channel each."""

    volume: Volume
    reads: tuple[str, ...]

    def arrays(self, laid: Volume) -> list[NDArray[Any]]:
        """Give the channels of the scan as it was laid on the common grid."""
        return [laid.color[..., COLOURS.index(one)] if one in COLOURS else laid.array for one in self.reads]  # type: ignore[index]


def channels_of(given: Given, classifier: Classifier) -> Channels:
    """Put scans into the channels of a classifier's input.

    A scan in colours is three channels where the network reads three or more, and its brightness where it reads one. A
    scan on another grid is resampled onto that of the first one given, through patient space. No scan is ever repeated
    to fill channels: one that is meant for several is given several times.

    Parameters
    ----------
    given
        One scan, several in the order of the channels, or ``{channel name: scan}``.
    classifier
        Whose input it will be.

    Raises
    ------
    GradCamError
        If a name is no channel's, or a channel is left out or given twice; or if the scans cannot be put on one grid.
    """
    first, volumes = _checked(given)
    parts = _named(given, classifier) if isinstance(given, Mapping) else _ordered(volumes, classifier)
    laid = {id(first): first}
    notices: list[str] = []
    for volume in volumes:
        if id(volume) not in laid:
            laid[id(volume)], told = on_grid_of(volume, first)
            notices += [*told, *(f"Of “{volume.name}”: {notice}" for notice in volume.notices)]
    if not isinstance(given, Mapping) and len(volumes) > 1:
        notices += _order_told(parts, classifier)
    notices += _brightness_told(parts)
    return Channels(
        volume=first,
        array=_array([array for part in parts for array in part.arrays(laid[id(part.volume)])], parts, first),
        volumes=tuple(part.volume for part in parts for _ in part.reads),
        reads=tuple(one for part in parts for one in part.reads),
        notices=tuple(notices),
    )


def assigned(first: Volume, further: Sequence[tuple[str, Volume]], classifier: Classifier) -> Given:
    """Give scans of which only some are called by a channel's name as :func:`channels_of` takes them.

    Parameters
    ----------
    first
        The scan that the map will lie on.
    further
        Others, each with the name of its channel, or "". Those without take the channels left, `first` before them.
    classifier
        Whose channels they are.

    Raises
    ------
    GradCamError
        If there are names, but not for as many channels as there are scans.
    """
    if not further:
        return first
    if not any(name for name, _ in further):
        return [first, *(volume for _, volume in further)]
    names = classifier.wants.channels
    taken = {position for name, _ in further for position in (_positions(name, names) if name else ())}
    left = list(dict.fromkeys(name for position, name in enumerate(names) if position not in taken))
    unnamed = [first, *(volume for name, volume in further if not name)]
    if len(unnamed) == 1 and first.color is not None and tuple(map(_plain, left)) == COLOURS:
        left = [_ALL_COLOURS]
    given = dict(zip(left or [""], unnamed, strict=False))
    for name, volume in further:
        if name in given:
            raise GradCamError(f"The channel “{name}” is given twice; give one scan for each channel.")
        given |= {name: volume} if name else {}
    if names and len(given) != 1 + len(further):
        listed = ", ".join(f"“{name}”" for name in dict.fromkeys(names))
        raise GradCamError(
            f"{1 + len(further)} scans are given and the model “{classifier.name}” has the channels {listed}: give one "
            "scan for each."
        )
    return given


def misfit(classifier: Classifier, given: int, reason: str) -> str:
    """Say why a network did not take its channels, from what torch says; "" where the reason is another one."""
    wanted = re.search(rf"to have (\d+) channels, but got {given} channels", reason)
    return wrong_channels(classifier, given, int(wanted[1])) if wanted else ""


def wrong_channels(classifier: Classifier, given: int, wanted: int) -> str:
    """Say that a network reads another number of channels than its preprocessing gave, and what to do.

    Parameters
    ----------
    classifier
        The network, and the names of its channels.
    given
        How many channels the preprocessing gave.
    wanted
        How many the network reads.
    """
    names = ", ".join(f"“{name}”" for name in dict.fromkeys(classifier.wants.channels))
    told = (
        f"The model “{classifier.name}” wants {wanted} input channels{f' ({names})' if names else ''} but its "
        f"preprocessing gives {given}: "
    )
    if given > wanted:
        return told + "give fewer scans, or choose a model made for such scans."
    by_name = " or by their names" if names else ""
    told += f"give a scan for each channel, in their order{by_name}"
    if given == 1:
        told += f"; if it was trained on one scan repeated, give that scan {wanted} times"
    return told + "."


def _checked(given: Given) -> tuple[Volume, list[Volume]]:
    """Give the first scan and all of them; what is no scan is refused."""
    # A person may give anything: an array is a sequence too, and so is a path.
    volumes: list[Any] = [given]
    if isinstance(given, Mapping):
        volumes = list(given.values())
    elif isinstance(given, list | tuple):
        volumes = list(given)
    wrong = [type(one).__name__ for one in volumes if not isinstance(one, Volume)]
    if wrong or not volumes:
        what = f"a {wrong[0]}" if wrong else "nothing"
        raise GradCamError(
            f"To explain there is {what}, where a scan is needed: give what read_volume gives, or several of them as a "
            "list or by the names of the channels."
        )
    return volumes[0], volumes


def _array(arrays: list[NDArray[Any]], parts: list[_Part], first: Volume) -> NDArray[Any]:
    """Stack the channels; a view where they are those of one scan."""
    if len(arrays) == 1:
        return arrays[0][None]
    if len(parts) == 1 and parts[0].reads == COLOURS and first.color is not None:
        return np.moveaxis(first.color, -1, 0)
    one_type = all(array.dtype == arrays[0].dtype for array in arrays)
    return np.stack(arrays, dtype=None if one_type else np.float32)


def _ordered(volumes: list[Volume], classifier: Classifier) -> list[_Part]:
    """Read scans in the order given, those in colours as three channels where the network has room for them."""
    declared = classifier.input_shape[0]
    wanted = declared if declared >= len(COLOURS) else input_channels(classifier.network) or declared
    # As many scans as channels: each is one of them. And what the preprocessing repeats is made of one channel.
    split = wanted >= len(COLOURS) and len(volumes) != wanted and not repeats_channels(classifier.preprocess)
    return [_Part(volume, _reads(volume, split)) for volume in volumes]


def _reads(volume: Volume, split: bool) -> tuple[str, ...]:
    if volume.color is None:
        return (VALUES,)
    return COLOURS if split else (BRIGHTNESS,)


def _named(given: Mapping[str, Volume], classifier: Classifier) -> list[_Part]:
    """Find the channel that each scan is meant for."""
    names = classifier.wants.channels
    if not names:
        raise GradCamError(
            f"The model “{classifier.name}” does not name its channels, so that scans cannot be given by name: give "
            "them as a list, in the order of the channels."
        )
    listed = ", ".join(f"“{name}”" for name in names)
    taken: dict[int, tuple[Volume, str]] = {}
    for name, volume in given.items():
        positions = _positions(name, names)
        if not positions:
            raise GradCamError(f"The model “{classifier.name}” has no channel “{name}”; its channels are {listed}.")
        if any(position in taken for position in positions):
            raise GradCamError(f"The channel “{name}” is given twice; give one scan for each of {listed}.")
        if len(positions) > 1 and (volume.color is None or len(positions) != len(COLOURS)):
            raise GradCamError(
                f"“{name}” is {len(positions)} channels of the model “{classifier.name}” and “{volume.name}” has one; "
                "give a scan in colours, or a list with a scan for each channel."
            )
        reads = COLOURS if len(positions) > 1 else _reads(volume, split=False)
        taken |= {position: (volume, read) for position, read in zip(positions, reads, strict=True)}
    missing = [name for position, name in enumerate(names) if position not in taken]
    if missing:
        left = ", ".join(f"“{name}”" for name in dict.fromkeys(missing))
        raise GradCamError(f"No scan is given for the channel {left}; give one for each of {listed}.")
    return [_Part(volume, (read,)) for _, (volume, read) in sorted(taken.items(), key=lambda item: item[0])]


def _positions(name: str, names: Sequence[str]) -> tuple[int, ...]:
    """Find the channels of a name; “RGB” stands for channels that are called red, green and blue."""
    known = [_plain(one) for one in names]
    wanted = _plain(name)
    if wanted == _ALL_COLOURS and wanted not in known and all(colour in known for colour in COLOURS):
        return tuple(known.index(colour) for colour in COLOURS)
    return tuple(position for position, one in enumerate(known) if one == wanted)


def _plain(name: str) -> str:
    name = name.strip().casefold()
    return _SHORT.get(name, name)


def _order_told(parts: list[_Part], classifier: Classifier) -> list[str]:
    """Say which scan was taken for which channel, where nothing but their order said so."""
    names = classifier.wants.channels
    given = [part.volume.name for part in parts for _ in part.reads]
    if len(names) != len(given):
        return []
    pairs = ", ".join(f"{name} from “{scan}”" for name, scan in zip(names, given, strict=True))
    return [f"The channels were taken in the order given: {pairs}."]


def _brightness_told(parts: list[_Part]) -> list[str]:
    read = [part.volume for part in parts if BRIGHTNESS in part.reads]
    if len(parts) == 1 and read:
        return [BRIGHTNESS_READ]
    return [f"“{volume.name}” is in colours; the network read their brightness." for volume in dict.fromkeys(read)]

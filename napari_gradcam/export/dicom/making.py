"""What all DICOM results have in common: who made them, how they are numbered, and how they are written."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from struct import error as StructError
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_gradcam import __version__, words
from napari_gradcam.errors import GradCamError
from napari_gradcam.export.dicom.identity import Identity, identity_of
from napari_gradcam.export.dicom.source import source_of
from napari_gradcam.export.dicom.uids import new_uid
from napari_gradcam.export.files import written_whole
from napari_gradcam.volumes.wording import reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom.dataset import Dataset

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.dicom.images import Source
    from napari_gradcam.export.manner import Manner

MAKER = "napari-gradcam"
SERIES = {"parametric map": 1, "segmentation": 2, "secondary capture": 3, "structured report": 4}
"""The kinds of results, and what is added to a hundred times the source's Series Number (0020,0011) for each."""
_WITHOUT_NUMBER = 90
"""Stands for the Series Number of a source that has none, or such a large one that no hundredfold fits."""
_LARGEST_NUMBER = 10**6
_SIDED = ("parametric map", "secondary capture")
"""What must say of which side of the body it is, if it can (Laterality (0020,0060), type 2C)."""
UTF8 = "ISO_IR 192"

_LONG, _PARAMETERS = 64, 10240
"""So many characters fit into a value of LO and of LT (PS3.5, table 6.2-1)."""


_REFUSALS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, StructError)
"""What highdicom and pydicom raise on what they do not take."""


def refuse(sentence: str) -> None:
    """Raise what keeps a result from being written, if something does.

    Raises
    ------
    GradCamError
        With the sentence, unless it is empty.
    """
    if sentence:
        raise GradCamError(sentence)


@dataclass(frozen=True, eq=False)
class Written:
    """A result that was written.

    Attributes
    ----------
    sop_class, sop_instance, series
        Its UIDs.
    slices
        The slice of the map that each of its frames is, from 0.
    tracking
        The tracking UID of each of its segments.
    """

    sop_class: str
    sop_instance: str
    series: str
    slices: tuple[int, ...] = ()
    tracking: tuple[str, ...] = ()


_written: WeakKeyDictionary[Explanation, dict[tuple[Path, Manner, str], Written]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Making:
    """A DICOM result that is being made of an explanation.

    Attributes
    ----------
    explanation, manner
        What is told, and how.
    kind
        A name of :data:`SERIES`.
    path
        Where it goes.
    source
        The scan's files.
    identity
        Whose it is.
    """

    explanation: Explanation
    manner: Manner
    kind: str
    path: Path
    source: Source
    identity: Identity

    def common(self) -> dict[str, Any]:
        """Give the arguments that highdicom takes for every object: UIDs are new ones, of the form 2.25.uuid."""
        date, time = self.identity.now()
        return {
            "series_instance_uid": new_uid(),
            "series_number": _series_number(self.source) + SERIES[self.kind],
            "sop_instance_uid": new_uid(),
            "instance_number": 1,
            "manufacturer": MAKER,
            "manufacturer_model_name": MAKER,
            "software_versions": list(versions(self.explanation)),
            "device_serial_number": __version__,
            "series_description": short(self.title),
            "specific_character_set": UTF8,
            "content_date": date,
            "content_time": time,
        }

    @property
    def title(self) -> str:
        """Say in a line what it is."""
        against = f" against {self.explanation.against}" if self.explanation.against else ""
        return f"{words.method(self.explanation)}, {self.explanation.target}{against}, {self.kind}"

    def beside(self, kind: str) -> Written | None:
        """Give what another result was written as, in the same folder and manner; None where it was not."""
        return _written.get(self.explanation, {}).get((self.path.parent, self.manner, kind))

    def write(self, dataset: Dataset, slices: tuple[int, ...] = (), tracking: tuple[str, ...] = ()) -> None:
        """Write it whole or not at all, the patient's and the study's elements put into it; see :class:`Written`."""
        date, time = self.identity.now()
        for equipment in dataset.get("ContributingEquipmentSequence", ()):
            equipment.pop("ContributionDateTime", None)  # of this machine's clock, which the source's is not
        for element in self.identity.elements:
            dataset.add(deepcopy(element))
        dataset.SpecificCharacterSet = UTF8
        dataset.InstanceCreationDate, dataset.InstanceCreationTime = date, time
        if self.identity.hidden:
            del dataset.InstanceCreationDate, dataset.InstanceCreationTime
        for keyword in ("BodyPartExamined", "Laterality") if self.kind in _SIDED else ():
            if self.source.dataset.get(keyword):
                dataset.add(deepcopy(self.source.dataset[keyword]))
        if "Laterality" not in dataset and self.kind in _SIDED:
            dataset.Laterality = ""  # whether the body part is one of a pair is not known
        if self.identity.timezone:
            dataset.TimezoneOffsetFromUTC = self.identity.timezone
        with written_whole(self.path) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
        done = Written(dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID, slices, tracking)
        _written.setdefault(self.explanation, {})[self.path.parent, self.manner, self.kind] = done


@contextmanager
def making(explanation: Explanation, path: Path, manner: Manner, kind: str) -> Iterator[Making]:
    """Make a DICOM result; what highdicom cannot make of a source is said in a sentence.

    Parameters
    ----------
    explanation, path, manner
        As the writers take them.
    kind
        A name of :data:`SERIES`.

    Raises
    ------
    GradCamError
        If the source's files are gone or no DICOM, no such object can be made of them, or it cannot be written.
    """
    source = source_of(explanation)
    try:
        with _quiet():
            identity = identity_of(source, hidden=manner.deidentified)
            yield Making(explanation, manner, kind, path, source, identity)
    except (GradCamError, OSError, MemoryError):
        raise
    except _REFUSALS as error:
        raise GradCamError(
            f"No DICOM {kind} can be made of “{explanation.volume.name}” ({reason(error)}): save as NIfTI or as a "
            "picture instead."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the person what pydicom says of values that it takes over from the source as they are."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Invalid value for VR", UserWarning)
        warnings.filterwarnings("ignore", "The value length .* exceeds the maximum length", UserWarning)
        yield


@dataclass(frozen=True)
class Algorithm:
    """What made the map, for the places where DICOM asks for an algorithm."""

    name: str
    version: str
    parameters: dict[str, str]

    @property
    def told(self) -> str:
        """Give all parameters in one text."""
        return "; ".join(f"{name}={value}" for name, value in self.parameters.items())[:_PARAMETERS]


def algorithm(explanation: Explanation, least: float | None = None) -> Algorithm:
    """Say what made a map: the method, and as its parameters the model with its hashes, class and layer.

    Parameters
    ----------
    explanation
        The map.
    least
        The raw value from which on a place is a hot spot; None where that plays no part.
    """
    parameters = {"model": explanation.classifier_name}
    made = explanation.provenance
    if made is not None:
        parameters |= {
            "model": made.model.name,
            "model version": made.model.version,
            "model weights SHA-256": made.model.weights,
            "model contents SHA-256": made.model.contents,
            "smooth": str(made.asked.smooth) if made.asked.smooth else "",
        }
    parameters |= {
        "class": explanation.target,
        "against class": explanation.against,
        "layer": explanation.layer,
        "cell": words.cell(explanation),
        "signed": "yes" if explanation.signed else "",
        "threshold": "" if least is None else repr(float(least)),
        "unit": words.unit(explanation),
    }
    told = {name: _line(value) for name, value in parameters.items() if value}
    return Algorithm(short(f"{words.method(explanation)} ({MAKER})"), __version__, told)


def versions(explanation: Explanation) -> tuple[str, ...]:
    """Give Software Versions (0018,1020): this package and what computed the map."""
    made = explanation.provenance
    others = {name: value for name, value in (made.versions if made else {}).items() if name != MAKER}
    return tuple(short(f"{name} {value}") for name, value in ({MAKER: __version__} | others).items())


def short(text: str, most: int = _LONG) -> str:
    """Give a text that fits into a value of so many characters, without what divides values (PS3.5, 6.2)."""
    line = _line(text)
    return line if len(line) <= most else line[: most - 1] + "…"


def _line(text: str) -> str:
    return " ".join(text.replace("\\", "/").split())


def _series_number(source: Source) -> int:
    """Give a hundred times the source's Series Number: what is made of a series is listed behind it."""
    try:
        number = int(source.dataset.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        number = 0
    return 100 * (number if 0 < number < _LARGEST_NUMBER else _WITHOUT_NUMBER)

"""A record read back: what it says, where its scan and its model are, and the explanation as it was."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import Explanation
from napari_gradcam.export.manner import Manner
from napari_gradcam.export.record import FORMAT, digest
from napari_gradcam.provenance import Asked, Model, Provenance
from napari_gradcam.volumes.reading import choose, find_scans_steps
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_gradcam.progress import Steps
    from napari_gradcam.volumes import Volume

SCHEMA = "explanation.schema.json"
_LARGEST = 256 << 20
"""Bytes of a record: what is larger is none of ours."""


@dataclass(frozen=True, eq=False)
class Record:
    """A record as it lies on disk.

    Attributes
    ----------
    path
        Where.
    told
        What it says, checked against the schema.
    """

    path: Path
    told: Mapping[str, Any]

    @property
    def manner(self) -> Manner:
        """How the map was painted."""
        return Manner(**self.told["manner"], deidentified=self.told["deidentified"])

    @property
    def asked(self) -> Asked:
        """What was asked for."""
        given = dict(self.told["asked"])
        layers = given.pop("layers")
        return Asked(**given, layers=None if layers is None else tuple(layers))

    @property
    def model(self) -> Path | None:
        """Where the model is: where it was, or as seen from the record; None where it is in neither place."""
        place = self.told["model"]["place"]
        return None if place is None else self._found(place)

    @property
    def scans(self) -> list[list[Path]]:
        """The files of each scan, where they were or as seen from the record; empty where one is missing."""
        return [self._files(scan["files"]) for scan in self.told["scans"]]

    def _files(self, told: Sequence[Mapping[str, Any]]) -> list[Path]:
        found = [self._found(one) for one in told]
        return [path for path in found if path is not None] if all(found) else []

    def _found(self, place: Mapping[str, Any]) -> Path | None:
        folder = self.path.absolute().parent
        told = (place["absolute"], None if place["relative"] is None else folder / place["relative"])
        return next((path for path in map(Path, filter(None, told)) if path.exists()), None)


def read_record(path: Path) -> Record:
    """Read a record and check it against the schema.

    Raises
    ------
    GradCamError
        If it cannot be read, or is none.
    """
    name = printable(path.name)
    try:
        if path.stat().st_size > _LARGEST:
            raise GradCamError(f"“{name}” has more than {_LARGEST >> 20} MiB: it is no record of an explanation.")
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GradCamError(f"“{name}” cannot be read ({error.strerror or error}): check the path.") from error
    except (ValueError, RecursionError) as error:
        raise GradCamError(f"“{name}” is no JSON: give the explanation.json that was saved with a map.") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise GradCamError(f"“{name}” is no record of an explanation: give the explanation.json saved with a map.")
    import jsonschema

    wrong = next(jsonschema.Draft202012Validator(schema()).iter_errors(told), None)
    if wrong is not None:
        at = "/".join(map(str, wrong.absolute_path)) or "its top"
        raise GradCamError(
            f"“{name}” was changed since it was written: at “{printable(at)}” it says something that no record says "
            f"({printable(wrong.message)[:120]}); give it as it was saved."
        )
    return Record(path, told)


@cache
def schema() -> dict[str, Any]:
    """Give the JSON Schema of a record."""
    text = files("napari_gradcam.export").joinpath(SCHEMA).read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))


def read_scan(record: Record, number: int, path: str | None = None, series: str | None = None) -> Steps[Volume]:
    """Read a scan of a record as it was read then: the same frame, interpolated or not.

    Parameters
    ----------
    record
        The record.
    number
        Which scan, from 0.
    path
        Where it is; by default where the record says.
    series
        Which one, where there are several; by default the one of the recorded name.

    Raises
    ------
    GradCamError
        If it is not there, or cannot be read.
    """
    told, files = record.told["scans"][number], record.scans[number]
    if path is None and not files:
        name = f" “{told['name']}”" if told["name"] else ""
        raise GradCamError(
            f"The scan{name} of the record {record.path.name} is not where it was, nor as seen from the record: put it "
            "back, or give its place (--scan)."
        )
    catalogue = yield from find_scans_steps(files if path is None else path)
    named = [scan.name for scan in catalogue.scans].count(told["name"]) == 1 and len(catalogue.scans) > 1
    scan, notices = choose(catalogue, told["name"] if series is None and named else series)
    frame = told["frame"] if scan.frames > 1 else None
    volume: Volume = yield from scan.steps(frame, resample=told["resampled"])
    return replace(volume, notices=(*volume.notices, *notices, *catalogue.notices))


def reopened(record: Record, volumes: Sequence[Volume]) -> Explanation:
    """Give an explanation as it was when it was saved; nothing is computed anew.

    Parameters
    ----------
    record
        Its record. The heat map lies beside it.
    volumes
        The scans that it is of, in the order of the record.

    Returns
    -------
    Explanation
        As it was saved, without the single maps of several layers (``parts``).

    Raises
    ------
    GradCamError
        If a scan is not the one that was explained, or the heat map is gone or another one.
    """
    told = record.told["result"]
    _check_scans(record, volumes)
    scores = told["slice_scores"]
    indices = told["slice_indices"]
    return Explanation(
        heatmap=heatmap_of(record),
        affine=volumes[0].affine,
        coarse=unpacked(told["coarse"]),
        coarse_affine=np.array(told["coarse_affine"], dtype=np.float64),
        cell_span=tuple(told["cell_span"]),
        scores=_numbers(told["scores"]),
        logits=_numbers(told["logits"]),
        target=told["target"],
        layer=told["layer"],
        method=told["method"],
        volume_name=volumes[0].name,
        classifier_name=record.told["model"]["name"],
        plane=told["plane"] or "",
        slice_scores=None if scores is None else np.array(scores, dtype=np.float32),
        slice_axis=told["slice_axis"],
        slice_indices=None if indices is None else range(*indices),
        in_patient_space=volumes[0].in_patient_space,
        unit=volumes[0].unit,
        signed=told["signed"],
        against=told["against"] or "",
        completeness=told["completeness"],
        notices=tuple(record.told["notices"]),
        volumes=tuple(volumes),
        provenance=_provenance(record),
    )


def heatmap_of(record: Record) -> NDArray[np.float32]:
    """Read the heat map that lies beside a record.

    Raises
    ------
    GradCamError
        If it is gone, cannot be read, or is not the one that was saved with the record.
    """
    told = record.told["result"]["heatmap"]
    path = record.path.parent / Path(told["file"]).name
    try:
        heat = np.asarray(nib.load(path).dataobj, dtype=np.float32)
    except FileNotFoundError:
        raise GradCamError(
            f"The heat map “{path.name}” does not lie beside the record {record.path.name}: keep both together, or run "
            "it again with napari-gradcam verify."
        ) from None
    except (OSError, ValueError, EOFError, zlib.error, ImageFileError) as error:
        raise GradCamError(f"The heat map “{path.name}” beside the record is damaged: copy it again.") from error
    if digest(heat) != told["sha256"]:
        raise GradCamError(f"The heat map “{path.name}” is not the one that was saved with the record: copy it again.")
    return heat


def unpacked(told: Mapping[str, Any]) -> NDArray[np.float32]:
    """Unpack what :func:`napari_gradcam.export.record.packed` packed.

    Raises
    ------
    GradCamError
        If it is no such array.
    """
    shape = tuple(told["shape"])
    size = 4 * int(np.prod(shape, dtype=np.int64))
    try:
        unzip = zlib.decompressobj()
        data = unzip.decompress(base64.b64decode(told["float32_zlib_base64"], validate=True), size + 1)
    except (ValueError, zlib.error):
        data = b""
    if len(data) != size:
        raise GradCamError("The map in the record is damaged: give the record as it was saved.")
    return np.frombuffer(data, dtype="<f4").reshape(shape).astype(np.float32)


def _check_scans(record: Record, volumes: Sequence[Volume]) -> None:
    told = record.told["scans"]
    if len(told) != len(volumes):
        raise GradCamError(f"The record is of {len(told)} scans, not of {len(volumes)}: give all of them.")
    for one, volume in zip(told, volumes, strict=True):
        voxels = volume.array if volume.color is None else volume.color
        if one["voxels_sha256"] != digest(voxels) or not np.allclose(one["affine"], volume.affine, atol=1e-6):
            raise GradCamError(
                f"“{volume.name}” is not the scan that the record {record.path.name} is of, or it was changed since: "
                "give the scan as it was, or run napari-gradcam verify to see what differs."
            )


def _provenance(record: Record) -> Provenance:
    model, run = record.told["model"], record.told["run"]
    return Provenance(
        Model(
            name=model["name"],
            version=model["version"],
            source=record.model,
            contents=model["contents_sha256"] or "",
            weights=model["weights_sha256"],
            preprocessing=tuple(model["preprocessing"]),
            activation=model["activation"],
            spatial_dims=model["spatial_dims"],
        ),
        record.asked,
        run["device"],
        run["seed"],
        run["seconds"],
        run["versions"],
    )


def _numbers(by_class: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else float(value) for name, value in by_class.items()}

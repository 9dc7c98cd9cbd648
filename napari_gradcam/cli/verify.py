"""The command ``verify``: whether what was saved is still what comes out."""

from __future__ import annotations

import math
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from napari_gradcam.cli.console import progress, shown, tell
from napari_gradcam.cli.models import place_of
from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import finish

if TYPE_CHECKING:
    from napari_gradcam.export.reopening import Record
    from napari_gradcam.export.verifying import Verification
    from napari_gradcam.volumes import Volume

DIFFERENT = 1
"""Exit code where something differs."""


def verify(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="The explanation.json that was saved with a map.")],
    scan: Annotated[
        str | None, typer.Option(metavar="SCAN", help="The scan; by default where the record says that it lies.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model; by default where the record says that it lies.")
    ] = None,
    channel: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]SCAN", help="A further scan, as for explain. Repeat it.")
    ] = None,
    series: Annotated[str | None, typer.Option(metavar="N|NAME", help="Which scan, where there are several.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Let the model run code of its own, as for explain.")] = False,
) -> None:
    """Run a saved explanation again, and say whether it is equal, or what differs (exit code 1)."""
    from napari_gradcam.export.reopening import read_record

    read = read_record(record)
    with progress() as bar:
        bar.add_task("Reading the scan", total=None)
        first, further = _scans(read, scan, channel or (), series)
        from napari_gradcam import load_classifier
        from napari_gradcam.classifiers.channels import assigned
        from napari_gradcam.export.verifying import verify_steps

        classifier = load_classifier(_model(read, model), trust=trust)
        given = assigned(first, further, classifier)
        volumes = [first, *(volume for _, volume in further)]
        found = shown(bar, verify_steps(read, given, volumes, classifier))
    _tell(found)
    if found.verdict == "different":
        raise typer.Exit(DIFFERENT)


def _tell(found: Verification) -> None:
    for note in found.notes:
        tell(f"Note: {note}")
    for difference in found.differences:
        tell(difference)
    if found.verdict == "equal":
        tell("Equal: every number and every voxel of the heat map is the same.")
    elif found.verdict == "different":
        tell(f"Different: {len(found.differences)} of what was compared.")
    else:
        tell(f"Equal within tolerance: nothing differs by more than {_share(found.largest)} of its scale.")


def _share(value: float) -> str:
    return f"{max(value, 1e-9):.1g}" if math.isfinite(value) else "?"


def _scans(
    record: Record, scan: str | None, channels: list[str] | tuple[str, ...], series: str | None
) -> tuple[Volume, list[tuple[str, Volume]]]:
    """Read the scans of a record, as they were read then."""
    from napari_gradcam.cli.scans import read_further
    from napari_gradcam.export.reopening import read_scan

    told = record.told["scans"]
    if scan is None:
        volumes = [finish(read_scan(record, number)) for number in range(len(told))]
        return volumes[0], [("", volume) for volume in volumes[1:]]
    return finish(read_scan(record, 0, scan, series)), finish(read_further(channels))


def _model(record: Record, model: str | None) -> Path:
    if model is not None:
        return place_of(model)
    if record.model is None:
        raise GradCamError(
            f"The record does not say where its model “{record.told['model']['name']}” lies, or it is not there any "
            "more: give --model MODEL."
        )
    return record.model

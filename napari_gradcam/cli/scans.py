"""Scans at the command line: the command ``info``, what a reader saw, and further scans for a model's channels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from napari_gradcam import words
from napari_gradcam.cli.console import console, progress, row, shown, table, tell
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.reading import choose, find_scans_steps, read_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.progress import Steps
    from napari_gradcam.volumes import Catalogue, Scan, Volume


def read_further(channels: Sequence[str]) -> Steps[list[tuple[str, Volume]]]:
    """Read the scans of ``[NAME=]SCAN``, each with its name or "".

    Raises
    ------
    GradCamError
        If one is no scan.
    """
    further = []
    for text in channels:
        name, named, path = text.partition("=")
        if not named or Path(text).exists():
            name, path = "", text
        if not path:
            raise GradCamError(f"“{text}” names no scan: give --channel NAME=SCAN, or --channel SCAN.")
        further.append((name.strip(), (yield from read_steps(path))))
    return further


def print_scans(path: str, series: str | None, *, personal: bool) -> None:
    """List the scans at a path; of one, print all that its headers say."""
    with progress() as bar:
        catalogue = shown(bar, find_scans_steps(path))
    for notice in catalogue.notices:
        tell(f"Note: {notice}")
    if series is None and len(catalogue.scans) > 1:
        _print_list(catalogue, personal)
        tell("Give --series with a number or a name to see one of them.")
        return
    scan = catalogue.scans[0] if series is None else choose(catalogue, series)[0]
    _print_one(scan, personal)


def _print_list(catalogue: Catalogue, personal: bool) -> None:
    whose = ("name", "ID", "born") if personal else ()
    listed = table("", "patient", *whose, "study", "scan", "series", "modality", "images", "voxels", "remark")
    for number, scan in enumerate(catalogue.scans, start=1):
        of = scan.series
        person = (of.person.name, of.person.identifier, of.person.born) if of else ("",) * 3
        study = " ".join(filter(None, (str(of.study), of.study_description))) if of else ""
        grid = " × ".join(map(str, scan.shape)) if scan.shape else ""
        remark = scan.aside or scan.problem or (f"{scan.frames} frames" if scan.frames > 1 else "")
        cells = (of.patient if of else "", *(person if personal else ()), study, scan.name, of.number if of else "")
        row(listed, number, *cells, scan.modality, scan.images, grid, remark, style="dim" if scan.aside else "")
    console().print(listed)


def _print_one(scan: Scan, personal: bool) -> None:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in words.facts(scan, personal=personal):
        row(facts, name, value)
    console().print(facts)
    for notice in scan.notices:
        tell(f"Note: {notice}")
    if scan.problem:
        tell(f"It cannot be read: {scan.problem}")

"""Results at the command line: what is written, and where."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import typer

from napari_gradcam.cli.console import listed, tell
from napari_gradcam.coordinates import SYSTEMS
from napari_gradcam.errors import GradCamError
from napari_gradcam.export import ExistingFileError, check_folder, save
from napari_gradcam.export.formats import DEFAULT, FORMATS, USUAL, expanded
from napari_gradcam.export.manner import Manner, Slice
from napari_gradcam.volumes.orientation import Plane

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_gradcam.coordinates import System
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

__all__ = ["DEFAULT", "FORMATS", "USUAL", "Saving", "manner_of"]


@dataclass(frozen=True)
class Saving:
    """What a person wants to keep.

    Attributes
    ----------
    folder
        Where; None for nowhere.
    formats, manner, overwrite
        See :func:`napari_gradcam.export.save`.
    """

    folder: Path | None
    formats: Sequence[str] = DEFAULT
    manner: Manner = field(default_factory=Manner)
    overwrite: bool = False

    def check(self, volumes: Sequence[Volume]) -> None:
        """Refuse what could not be written before the network runs.

        Raises
        ------
        GradCamError
            If it could not, or results are there already and nobody can be asked or the answer is no.
        """
        formats = expanded(self.formats)
        if self.folder is not None:
            names = [file.name for name in formats for file in FORMATS[name]]
            check_folder(self.folder, names, volumes)
            existing = [name for name in names if (self.folder / name).exists()]
            if existing and not self.overwrite and not sys.stdin.isatty():
                raise ExistingFileError(self.folder, existing)  # before the network runs, since nobody can be asked

    def save(self, explanation: Explanation) -> None:
        """Write the results, and ask before any are replaced where somebody can answer.

        Raises
        ------
        GradCamError
            If they cannot be written, or some are there already and may not be replaced.
        """
        if self.folder is None:
            tell("Nothing was written; give --out DIR to keep heat map, pictures, report and numbers.")
            return
        try:
            written = save(explanation, self.folder, self.formats, self.manner, overwrite=self.overwrite)
        except ExistingFileError as error:
            if not (sys.stdin.isatty() and typer.confirm(f"“{error.folder}” holds {error.names[0]} already. Replace?")):
                raise
            replace(self, overwrite=True).save(explanation)
            return
        for path in written:
            tell(f"Wrote {path}")


def manner_of(
    threshold: float, top: float | None, coordinates: str, deidentify: bool, chosen: str | None = None
) -> Manner:
    """Make of options how results are painted and told.

    Raises
    ------
    GradCamError
        If there is no such system of coordinates, or a number is out of range.
    """
    if coordinates.upper() not in SYSTEMS:
        raise GradCamError(f"There are no coordinates “{coordinates}”; choose {listed(SYSTEMS)}.")
    system = cast("System", coordinates.upper())
    return Manner(
        threshold=threshold,
        top=top,
        system=system,
        deidentified=deidentify,
        chosen=slice_of(chosen) if chosen else None,
    )


def slice_of(text: str) -> Slice:
    """Read ``PLANE:NUMBER``, such as ``axial:82``, as pictures and window tell slices: from 1.

    Raises
    ------
    GradCamError
        If it is none.
    """
    name, _, number = text.partition(":")
    planes = {plane.value: plane for plane in Plane}
    if name.lower() not in planes or not number.isdecimal() or int(number) < 1:
        raise GradCamError(f"“{text}” is no slice: give a plane and a number from 1, such as axial:82.")
    return Slice(planes[name.lower()], int(number) - 1)

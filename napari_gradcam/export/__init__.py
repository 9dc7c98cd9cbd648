"""Explanations as files: what leaves the viewer and opens elsewhere.

Each kind of file is a module with a pure part that makes the contents and a ``write_…`` that writes them whole or not
at all; :data:`napari_gradcam.export.formats.FORMATS` lists them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_gradcam.errors import GradCamError
from napari_gradcam.export.files import gathered_in, refuse_unwritable
from napari_gradcam.export.formats import DEFAULT, FORMATS, GROUPS, files_of
from napari_gradcam.export.manner import Manner
from napari_gradcam.progress import Progress, finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.progress import Steps
    from napari_gradcam.volumes import Volume

__all__ = ["DEFAULT", "FORMATS", "GROUPS", "ExistingFileError", "Manner", "check_folder", "save", "save_steps"]


class ExistingFileError(GradCamError):
    """A file that would be written is there already, and nobody said that it may be replaced."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, tuple(names)
        more = f" and {len(names) - 1} more of what would be written" if len(names) > 1 else ""
        super().__init__(
            f"“{folder}” holds {names[0]}{more} already, and nothing was replaced: choose another folder, or say that "
            "they may be replaced (overwrite=True, --force)."
        )


def save(
    explanation: Explanation,
    folder: Path | str,
    formats: Sequence[str] = DEFAULT,
    manner: Manner | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Save an explanation as files: all of them or none.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    folder
        Where to; made if it does not exist.
    formats
        Names of :data:`FORMATS` or :data:`GROUPS`.
    manner
        How they are painted and told.
    overwrite
        Whether files of the same names in the folder may be replaced, which they are when all new ones are complete.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ExistingFileError
        If a file is there already and may not be replaced.
    GradCamError
        If a format does not exist or does not fit, the scan's own files would be replaced, or the files cannot be
        written; the folder is then as it was.
    """
    return finish(save_steps(explanation, folder, formats, manner, overwrite=overwrite))


def save_steps(
    explanation: Explanation,
    folder: Path | str,
    formats: Sequence[str] = DEFAULT,
    manner: Manner | None = None,
    *,
    overwrite: bool = False,
) -> Steps[list[Path]]:
    """Do as :func:`save`, pausing before each file: close the generator there to cancel, and nothing is left."""
    folder, manner = Path(folder), manner or Manner()
    files = files_of(explanation, formats)
    names = [file.name for file in files]
    check_folder(folder, names, explanation.volumes)
    existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise ExistingFileError(folder, existing)
    with gathered_in(folder) as meanwhile:
        for number, file in enumerate(files):
            yield Progress(number, len(files), f"Writing {file.name}")
            file.write(explanation, meanwhile / file.name, manner)
    return [folder / name for name in names]


def check_folder(folder: Path, names: Sequence[str] = (), volumes: Sequence[Volume] = ()) -> None:
    """Say beforehand, without touching the disk, that :func:`save` could not write into a folder.

    Parameters
    ----------
    folder
        Where the files would go.
    names
        What they are called; by default as all that there are.
    volumes
        The scans, whose own files are never replaced.

    Raises
    ------
    GradCamError
        If a file or folder is in the way, the folder may not be written, or a file of a scan would be replaced.
    """
    sources = {source.resolve() for volume in volumes for source in volume.source}
    for name in names or [file.name for files in FORMATS.values() for file in files]:
        refuse_unwritable(folder / name)
        if (folder / name).resolve() in sources:
            raise GradCamError(f"“{folder / name}” is the scan itself and would be replaced: choose another folder.")

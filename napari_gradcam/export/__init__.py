"""Explanations as files: what leaves the viewer and opens elsewhere.

Each kind of file is a module with a pure part that makes the contents and a ``write_…`` that writes them whole or not
at all; :data:`FILES` lists what :func:`save` writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_gradcam.errors import GradCamError
from napari_gradcam.export.files import folder_for, refuse_unwritable, written_together
from napari_gradcam.export.nifti import write_heatmap
from napari_gradcam.export.picture import write_overlay
from napari_gradcam.export.scores import write_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

__all__ = ["FILES", "check_folder", "save", "write_heatmap", "write_overlay", "write_scores"]

FILES: Mapping[str, Callable[[Explanation, Volume, Path], None]] = {
    "heatmap.nii.gz": lambda explanation, _, path: write_heatmap(explanation, path),
    "overlay.png": lambda explanation, volume, path: write_overlay(explanation, volume, path),
    "scores.json": lambda explanation, _, path: write_scores(explanation, path),
}
"""File name and writer, ``write(explanation, volume, path)``, of everything that an explanation is saved as."""


def save(explanation: Explanation, volume: Volume, folder: Path | str) -> list[Path]:
    """Save an explanation as NIfTI, picture and scores: all of them or none.

    Files of the same names in the folder are replaced, and only when all new ones are complete.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    volume
        The scan it was asked about.
    folder
        Where to; made if it does not exist.

    Returns
    -------
    list of Path
        The files, ``heatmap.nii.gz``, ``overlay.png``, ``scores.json``.

    Raises
    ------
    GradCamError
        If the explanation is not of this scan or the files cannot be written; the folder is then as it was.
    """
    folder = Path(folder)
    check_folder(folder, volume)
    targets = [folder / name for name in FILES]
    with folder_for(folder), written_together(targets) as temporaries:
        for write, temporary in zip(FILES.values(), temporaries, strict=True):
            write(explanation, volume, temporary)
    return targets


def check_folder(folder: Path, volume: Volume | None = None) -> None:
    """Say beforehand, without touching the disk, that :func:`save` could not write into a folder.

    Parameters
    ----------
    folder
        Where the files would go.
    volume
        The scan, whose own files are never replaced.

    Raises
    ------
    GradCamError
        If a file or folder is in the way, the folder may not be written, or a file of the scan would be replaced.
    """
    sources = {source.resolve() for source in volume.source} if volume else set()
    for name in FILES:
        refuse_unwritable(folder / name)
        if (folder / name).resolve() in sources:
            raise GradCamError(f"“{folder / name}” is the scan itself and would be replaced: choose another folder.")

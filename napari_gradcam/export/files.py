"""Files that are either written whole or not at all.

A file is written under a temporary name beside its target, on the same disk, and renamed onto it when it is complete:
nobody ever meets half a file, and an interrupted run leaves what was there before.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MEANWHILE = ".saving-"
"""What the folder is called that files lie in until all of them are complete."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write one file whole or not at all.

    Parameters
    ----------
    path
        The target. Its folder must exist.

    Yields
    ------
    Path
        Where to write meanwhile: beside the target, with its suffixes, so that a writer that goes by the suffix
        chooses the same format. It does not exist yet.

    Raises
    ------
    GradCamError
        If the disk is full, the folder may not be written, a folder of that name is in the way, or the like.
    """
    with written_together([path]) as (temporary,):
        yield temporary


@contextmanager
def written_together(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Write several files whole or not at all: none is renamed before all are complete.

    Parameters
    ----------
    paths
        The targets. Their folders must exist.

    Yields
    ------
    list of Path
        Where to write meanwhile, in the same order; see :func:`written_whole`.

    Raises
    ------
    GradCamError
        As :func:`written_whole`.
    """
    temporaries = [_beside(path) for path in paths]
    try:
        for path in paths:
            refuse_unwritable(path)
        with _explained(paths[0]):
            yield temporaries
            for temporary in temporaries:
                _flush(temporary)
            for temporary, path in zip(temporaries, paths, strict=True):
                os.replace(temporary, path)
    finally:
        for temporary in temporaries:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def gathered_in(folder: Path) -> Iterator[Path]:
    """Write several files of a folder together: all of them or none.

    Parameters
    ----------
    folder
        Where the files belong; made, with its parents, if it does not exist.

    Yields
    ------
    Path
        An empty folder inside of it to write the files into meanwhile. When the body ends without an error each of
        them is put in its place, where a file of its name is replaced; else they are taken away, and so is what was
        made of the folder.

    Raises
    ------
    GradCamError
        As :func:`written_whole`.
    """
    with folder_for(folder), _explained(folder / "any"):
        meanwhile = folder / f"{_MEANWHILE}{secrets.token_hex(4)}"
        meanwhile.mkdir()
        try:
            yield meanwhile
            complete = sorted(meanwhile.iterdir())
            for path in complete:
                _flush(path)
            for path in complete:
                refuse_unwritable(folder / path.name)
            for path in complete:
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(meanwhile, ignore_errors=True)


def final_folder(path: Path) -> Path:
    """Give the folder that a file which is being written will lie in."""
    return path.parent.parent if path.parent.name.startswith(_MEANWHILE) else path.parent


@contextmanager
def folder_for(folder: Path) -> Iterator[Path]:
    """Make a folder, with its parents, and take away again what was made if the body fails.

    Parameters
    ----------
    folder
        The folder; one that exists is used as it is.

    Yields
    ------
    Path
        The same folder.

    Raises
    ------
    GradCamError
        If a file is in the way or the folder cannot be made.
    """
    refuse_unwritable(folder / "any")
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with _explained(folder / "any"):
            folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except BaseException:
        for place in missing:
            with suppress(OSError):  # no longer empty: somebody else's files are in it
                place.rmdir()
        raise


def refuse_unwritable(path: Path) -> None:
    """Say beforehand, without touching the disk, that a file could not be written.

    Parameters
    ----------
    path
        The target; folders above it that do not exist are taken as still to be made.

    Raises
    ------
    GradCamError
        If a folder is in the file's place, a file in a folder's place, or the nearest folder may not be written.
    """
    with _explained(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        nearest = next((place for place in path.absolute().parents if place.exists()), Path())
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(nearest))


def _beside(path: Path) -> Path:
    """Give a name for the file in the making: hidden, in the same folder, with the same suffixes."""
    stem, dot, suffixes = path.name.partition(".")
    return path.with_name(f".{stem}-{secrets.token_hex(4)}{dot}{suffixes}")


def _flush(path: Path) -> None:
    """Wait until the file's bytes are on the disk, so that a power cut after the rename finds them there."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Turn an OSError on the way to a target into a sentence."""
    try:
        yield
    except OSError as error:
        raise GradCamError(_sentence(target, error)) from error


def _sentence(target: Path, error: OSError) -> str:
    """Say which file or folder could not be written, why, and what to do."""
    name = error.filename2 or error.filename or target
    if isinstance(error, IsADirectoryError):
        return f"“{name}” cannot be written: a folder of that name is in the way; rename it or choose another place."
    if isinstance(error, NotADirectoryError | FileExistsError):
        return f"“{name}” is a file, not a folder: nothing can be written into it; choose another folder."
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        reason = "no permission to write there"
    elif error.errno in _FULL:
        reason = "the disk is full"
    else:
        reason = error.strerror or str(error)
    return f"Nothing was written to “{target.parent}”: {reason}; choose another folder."

"""The files of a bundle, in a folder or in a zip that is read in place, so that none of its paths can reach outside."""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

import psutil
import yaml

from napari_gradcam.classifiers.plain_yaml import read_yaml
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

LARGEST_TEXT = 1 << 22
"""Bytes of a configuration; a larger one is no configuration."""

_DENSEST = 100
"""A file of a zip that claims to unpack to more than so many times its size is a bomb: weights hardly shrink."""

_SMALL = 1 << 24
"""Bytes that the files of a zip may claim whatever its size."""

_LONGEST, _DEEPEST = 1024, 32
"""Letters and folders of a name in a zip; each folder of each name is kept in memory."""

_ROOT_MARK = "configs"

_UNREADABLE = (OSError, EOFError, LookupError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What a damaged or odd file can make a reader raise."""


class BundleFiles:
    """The files of a bundle, by their names inside of it, with forward slashes.

    Parameters
    ----------
    path
        The bundle's folder, or a zip of it; either may hold the bundle in one folder more.

    Attributes
    ----------
    path
        As it was given.
    label
        How sentences call the bundle: by the last part of its path.
    root
        Where its files lie.

    Raises
    ------
    GradCamError
        If there is nothing there, it is no bundle, or a zip has names that lead outside of it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.label = path, printable(path.name)
        if not path.exists():
            raise GradCamError(f"There is no model at {path}; give the folder or zip of a MONAI bundle.")
        self.root: Path | zipfile.Path = self._inner(path if path.is_dir() else zipfile.Path(self._archive(path)))

    def has(self, name: str) -> bool:
        """Whether there is a file or folder of this name."""
        return _has(self.root, name)

    def read(self, name: str, most: int | None = None) -> bytes:
        """Read a file whole.

        Raises
        ------
        GradCamError
            If it cannot be read, has more than `most` bytes, or more than there is memory for.
        """
        file = self.root.joinpath(name)
        try:
            size = file.root.getinfo(file.at).file_size if isinstance(file, zipfile.Path) else _size(file)
            if size > (psutil.virtual_memory().available if most is None else most):
                raise GradCamError(
                    f"{name} of the bundle {self.label} has {size / 2**30:.2g} GiB, too much for what it is; this is "
                    "no classifier that can be opened here."
                )
            return file.read_bytes()
        except GradCamError:
            raise
        except _UNREADABLE as error:
            raise self._unreadable(name, error) from error

    def mapping(self, name: str) -> dict[str, Any]:
        """Read a JSON or YAML file that holds keys.

        Raises
        ------
        GradCamError
            If it is damaged or holds no keys; YAML that asks for Python objects is not obeyed.
        """
        try:
            text = self.read(name, LARGEST_TEXT).decode("utf-8-sig")
            content = json.loads(text) if name.endswith(".json") else read_yaml(text)
        except GradCamError:
            raise
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            told = printable(" ".join(str(error).split()))
            raise GradCamError(f"{name} of the bundle {self.label} cannot be understood: {told}.") from error
        if not isinstance(content, dict):
            raise GradCamError(
                f"{name} of the bundle {self.label} holds no keys; give a bundle with a proper {name.split('/')[-1]}."
            )
        return content

    def names(self) -> list[str]:
        """List all files, sorted; those in folders that are links are none of the bundle's."""
        if isinstance(self.root, Path):
            return sorted(file.relative_to(self.root).as_posix() for file in self.root.rglob("*") if file.is_file())
        inside = self.root.at
        every = [name for name in self.root.root.namelist() if not name.endswith("/")]
        return sorted(name.removeprefix(inside) for name in every if name.startswith(inside))

    def inside(self, folder: str) -> list[str]:
        """List the files that lie in a folder, sorted."""
        return [name for name in self.names() if name.rpartition("/")[0] == folder]

    def digest(self) -> str:
        """Give the SHA-256 of all names and contents, in hexadecimal: what a person trusts is this and nothing else.

        Raises
        ------
        GradCamError
            If a file cannot be read, or a folder is a link: what lies there could change unseen.
        """
        whole = hashlib.sha256()
        if isinstance(self.root, Path):
            self._refuse_linked_folders(self.root)
        for name in self.names():
            one = hashlib.sha256()
            try:
                with self.root.joinpath(name).open("rb") as file:
                    while part := file.read(1 << 20):
                        one.update(part)
            except _UNREADABLE as error:
                raise self._unreadable(name, error) from error
            whole.update(json.dumps([name, one.hexdigest()]).encode())
        return whole.hexdigest()

    def _refuse_linked_folders(self, root: Path) -> None:
        for entry in root.rglob("*"):
            if entry.is_symlink() and entry.is_dir():
                name = printable(entry.relative_to(root).as_posix())
                raise GradCamError(
                    f"The folder “{name}” of the bundle {self.label} is a link to another place, whose files could "
                    "change unseen: copy them into the bundle."
                )

    def unpack(self, folder: Path) -> Path:
        """Give the bundle as a folder: its own, or `folder` with all files of the zip in it."""
        if isinstance(self.root, Path):
            return self.root
        for name in self.names():
            content = self.read(name)
            target = folder.joinpath(*name.split("/"))
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            except OSError as error:
                raise GradCamError(
                    f"{printable(name)} of the zip {self.label} cannot be unpacked ({error.strerror or error}); "
                    "unpack it yourself and give its folder."
                ) from error
        return folder

    def _unreadable(self, name: str, error: Exception) -> GradCamError:
        told = printable(str(error)) or type(error).__name__
        return GradCamError(
            f"{printable(name)} of the bundle {self.label} cannot be read ({told}); copy the bundle again."
        )

    def _archive(self, path: Path) -> zipfile.ZipFile:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            raise GradCamError(
                f"{self.label} is neither a folder nor a readable zip; give the folder or zip of a MONAI bundle."
            ) from None
        for entry in archive.infolist():
            self._check_entry(entry)
        claimed, size = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
        if claimed > max(_SMALL, _DENSEST * size):
            raise GradCamError(
                f"The zip {self.label} claims to unpack to {claimed / 2**30:.1f} GiB from {size:,} bytes; this is no "
                "classifier, do not open it."
            )
        return archive

    def _check_entry(self, entry: zipfile.ZipInfo) -> None:
        """Refuse a file of a zip whose name or size is none of a bundle's."""
        name, parts = printable(entry.filename[:80]), entry.filename.split("/")
        if "\\" in entry.filename or ":" in entry.filename or entry.filename.startswith("/") or ".." in parts:
            raise GradCamError(
                f"The zip {self.label} holds “{name}”, a path that leads outside of it; do not open it, and ask where "
                "it comes from."
            )
        if len(entry.filename) > _LONGEST or len(parts) > _DEEPEST:
            raise GradCamError(
                f"The zip {self.label} holds “{name}…”, a name of {len(entry.filename)} letters; this is no "
                "classifier, do not open it."
            )
        if entry.file_size > max(_SMALL, _DENSEST * entry.compress_size):
            raise GradCamError(
                f"The zip {self.label} holds “{name}”, which claims to unpack to {entry.file_size / 2**30:.1f} GiB "
                f"from {entry.compress_size:,} bytes; this is no classifier, do not open it."
            )
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise GradCamError(
                f"The zip {self.label} holds “{name}”, packed in a way that is rarely used; unpack it and give the "
                "folder."
            )

    def _inner(self, root: Path | zipfile.Path) -> Path | zipfile.Path:
        """Find the bundle: here, or in the one folder that holds one."""
        if _has(root, _ROOT_MARK):
            return root
        try:
            folders = [one for one in root.iterdir() if one.is_dir()]
        except OSError as error:
            raise GradCamError(f"{self.label} cannot be read ({error.strerror or error}); check the folder.") from error
        inner = [one for one in folders if _has(one, _ROOT_MARK)]
        if len(inner) != 1:
            raise GradCamError(
                f"{self.label} is not a MONAI bundle: it has no folder “configs”; give the folder that holds configs "
                f"and models."
            )
        return inner[0]


def _size(file: Path) -> int:
    """Give the bytes of a file; a device or pipe may have no end."""
    state = file.stat()
    if not stat.S_ISREG(state.st_mode):
        raise OSError("it is no file")
    return state.st_size


def _has(root: Path | zipfile.Path, name: str) -> bool:
    """Whether there is a file or folder; one in a zip is a folder by the stroke at its end alone."""
    return root.joinpath(name).exists() or (isinstance(root, zipfile.Path) and root.joinpath(name + "/").exists())

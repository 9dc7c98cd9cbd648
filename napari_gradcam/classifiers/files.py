"""The files of a bundle, in a folder or in a zip that is read in place, so that none of its paths can reach outside."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil
import yaml

from napari_gradcam.classifiers import plain_yaml
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST_TEXT = 1 << 22
"""Letters of all files of a configuration; more are no configuration."""

_YAML_COSTS = LARGEST_TEXT // plain_yaml.LONGEST
"""One letter of YAML takes as long to read as so many of JSON, and counts as so many."""

LARGEST_BUNDLE = 1 << 32
"""Bytes of all files of a bundle that a person trusts whole: they are copied and hashed."""

_DENSEST = 100
"""A file of a zip that claims to unpack to more than so many times its size is a bomb: weights hardly shrink."""

_SMALL = 1 << 24
"""Bytes that the files of a zip may claim whatever its size."""

_MOST_ENTRIES = 10_000
"""Files and folders of a zip; those of MONAI's model zoo have some dozens."""

_LONGEST, _DEEPEST = 1024, 32
"""Letters and folders of a name in a zip; each folder of each name is kept in memory."""

_LONGEST_REASON = 400
"""Letters of what a parser says."""

_ROOT_MARK = "configs"

_UNREADABLE = (OSError, EOFError, LookupError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What a damaged or odd file can make a reader raise."""


class BundleFiles:
    """The files of a bundle, by their names inside of it, with forward slashes.

    Parameters
    ----------
    path
        The bundle's folder, or a zip of it; either may hold the bundle in one folder more.
    label
        How sentences call the bundle: by the last part of its path, if not otherwise.

    Attributes
    ----------
    path, label
        As they were given.
    root
        Where its files lie.

    Raises
    ------
    GradCamError
        If there is nothing there, it is no bundle, or a zip has names that lead outside of it.
    """

    def __init__(self, path: Path, label: str = "") -> None:
        self.path, self.label = path, label or printable(path.name)
        self._mappings: dict[str, dict[str, Any]] = {}
        self._letters = 0
        if not path.exists():
            raise GradCamError(f"There is no model at {path}; give the folder or zip of a MONAI bundle.")
        self.root: Path | zipfile.Path = self._inner(path if path.is_dir() else zipfile.Path(self._archive(path)))

    def has(self, name: str) -> bool:
        """Whether there is a file or folder of this name."""
        return _has(self.root, name)

    def place(self, name: str) -> Path | zipfile.Path:
        """Find a file.

        Raises
        ------
        GradCamError
            If it is a link that leads out of the bundle: a bundle from elsewhere has no say in what else is read here.
        """
        file = self.root.joinpath(name)
        if isinstance(file, Path) and not any(file.resolve().is_relative_to(home) for home in _homes(self.path)):
            raise GradCamError(
                f"{printable(name)} of the bundle {self.label} is a link to a place outside of it; copy the file into "
                "the bundle if it belongs there."
            )
        return file

    def read(self, name: str, most: int | None = None) -> bytes:
        """Read a file whole.

        Raises
        ------
        GradCamError
            If it cannot be read, has more than `most` bytes, or more than there is memory for.
        """
        file = self.place(name)
        try:
            size = _size(file)
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
        """Read a JSON or YAML file that holds keys, once.

        Raises
        ------
        GradCamError
            If it is damaged, holds no keys, or is too long together with those that were read before; YAML that asks
            for Python objects is not obeyed.
        """
        if name not in self._mappings:
            self._mappings[name] = self._mapping(name)
        return self._mappings[name]

    def _mapping(self, name: str) -> dict[str, Any]:
        is_json = name.endswith(".json")
        try:
            text = self.read(name, LARGEST_TEXT).decode("utf-8-sig")
            self._letters += len(text) * (1 if is_json else _YAML_COSTS)
            if self._letters > LARGEST_TEXT:
                raise GradCamError(
                    f"The configuration of the bundle {self.label} has too many letters, last in {name}; this is no "
                    "classifier."
                )
            content = json.loads(text) if is_json else plain_yaml.read_yaml(text)
        except GradCamError:
            raise
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            told = printable(" ".join(str(error)[:_LONGEST_REASON].split()))
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
            If a file cannot be read, a folder is a link (what lies there could change unseen), or there is more than
            in any bundle.
        """
        whole = hashlib.sha256()

        def add(name: str, file: IO[bytes]) -> None:
            one = hashlib.sha256()
            while part := file.read(1 << 20):
                one.update(part)
            whole.update(json.dumps([name, one.hexdigest()]).encode())

        self._each(add)
        return whole.hexdigest()

    def copied(self, folder: Path) -> BundleFiles:
        """Copy all files into an empty folder, which nobody else writes to, and give the bundle there.

        Raises
        ------
        GradCamError
            As for :meth:`digest`, or if there is no room.
        """

        def copy(name: str, file: IO[bytes]) -> None:
            target = folder.joinpath(*name.split("/"))
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as written:
                    shutil.copyfileobj(file, written, 1 << 20)
            except OSError as error:
                raise GradCamError(
                    f"{printable(name)} of the bundle {self.label} cannot be copied to {folder} "
                    f"({error.strerror or error}); make room there, or set TMPDIR to a folder with room."
                ) from error

        self._each(copy)
        return BundleFiles(folder, self.label)

    def _each(self, use: Callable[[str, IO[bytes]], None]) -> None:
        """Open all files, one after the other."""
        if isinstance(self.root, Path):
            self._refuse_linked_folders(self.root)
        left = LARGEST_BUNDLE
        for name in self.names():
            file = self.place(name)
            try:
                left -= _size(file)
                if left < 0:
                    raise GradCamError(
                        f"The files of the bundle {self.label} have more than {LARGEST_BUNDLE >> 30} GiB, last "
                        f"{printable(name)}, too much to copy and hash before code from it runs; take out what is no "
                        "part of the model."
                    )
                with file.open("rb") as opened:
                    use(name, opened)
            except GradCamError:
                raise
            except _UNREADABLE as error:
                raise self._unreadable(name, error) from error

    def _refuse_linked_folders(self, root: Path) -> None:
        for entry in root.rglob("*"):
            if entry.is_symlink() and entry.is_dir():
                name = printable(entry.relative_to(root).as_posix())
                raise GradCamError(
                    f"The folder “{name}” of the bundle {self.label} is a link to another place, whose files could "
                    "change unseen: copy them into the bundle."
                )

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
        known: set[str] = set()
        for entry in archive.infolist():
            self._check_entry(entry)
            # Some systems keep one file of names that differ by case alone.
            if entry.filename.casefold() in known:
                raise GradCamError(
                    f"The zip {self.label} holds “{printable(entry.filename[:80])}” twice, so that nobody knows which "
                    "is meant; pack it anew."
                )
            known.add(entry.filename.casefold())
        claimed, size = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
        if claimed > max(_SMALL, _DENSEST * size):
            raise GradCamError(
                f"The zip {self.label} claims to unpack to {claimed / 2**30:.1f} GiB from {size:,} bytes; this is no "
                "classifier, do not open it."
            )
        if len(known) > _MOST_ENTRIES:
            raise GradCamError(
                f"The zip {self.label} holds {len(known):,} files, too many for a classifier; unpack it and give the "
                "bundle's own folder."
            )
        return archive

    def _check_entry(self, entry: zipfile.ZipInfo) -> None:
        """Refuse a file of a zip whose name or size is none of a bundle's."""
        name, parts = printable(entry.filename[:80]), entry.filename.split("/")
        odd = {".."} if entry.is_dir() else {"", ".", ".."}
        if {"\\", ":"}.intersection(entry.filename) or entry.filename.startswith("/") or odd.intersection(parts):
            raise GradCamError(
                f"The zip {self.label} holds “{name}”, a path that leads outside of it or takes a detour; do not open "
                "it, and ask where it comes from."
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


def _homes(path: Path) -> list[Path]:
    """List where links of a bundle may lead: into it, or to where a cache of Hugging Face's hub keeps all contents."""
    folder = path.resolve()
    return [folder, *(one.parent / "blobs" for one in folder.parents if one.name == "snapshots")]


def _size(file: Path | zipfile.Path) -> int:
    """Give the bytes of a file; a device or pipe may have no end."""
    if isinstance(file, zipfile.Path):
        return file.root.getinfo(file.at).file_size
    state = file.stat()
    if not stat.S_ISREG(state.st_mode):
        raise OSError("it is no file")
    return state.st_size


def _has(root: Path | zipfile.Path, name: str) -> bool:
    """Whether there is a file or folder; one in a zip is a folder by the stroke at its end alone."""
    return root.joinpath(name).exists() or (isinstance(root, zipfile.Path) and root.joinpath(name + "/").exists())

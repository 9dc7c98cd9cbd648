"""Zip archives: unpacked into a folder of their own, which goes when nobody needs it any longer."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING
from weakref import finalize

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import Progress
from napari_gradcam.volumes.wording import reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.progress import Steps

_END, _MANY = 22, 0xFFFF
"""Bytes of the record that ends an archive, and the count of files that only its larger form holds."""
_PAUSE = 20
"""Files from one pause to the next."""
_BLOCK = 8 << 20
"""Bytes of a large file from one pause to the next."""
_MIB = 1 << 20
_NOT_ON_WINDOWS = re.compile(r'[:<>|"?*]')


def is_zip(path: Path) -> bool:
    """Tell by content whether a file is a zip archive."""
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


class Unpacked:
    """The files of a zip archive, for as long as this object lives.

    Attributes
    ----------
    archive
        The archive.
    folder
        Where its files lie, below a folder of the archive's own name.
    """

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        temporary = mkdtemp(prefix="napari-gradcam-")
        finalize(self, shutil.rmtree, temporary, ignore_errors=True)
        self.folder = Path(temporary, archive.name)

    def renamed(self, text: str) -> str:
        """Write the archive's own path in place of the folder's."""
        return text.replace(str(self.folder), str(self.archive))

    def origin(self, path: Path) -> Path:
        """Give what a person gave for a file: the archive, of one that was unpacked."""
        return self.archive if path.is_relative_to(self.folder) else path


def _check_directory(packed: zipfile.ZipFile) -> None:
    """Prove that no file is missing: zipfile passes over those that a damaged entry hides, and counts none."""
    assert packed.fp is not None
    packed.fp.seek(-_END - len(packed.comment), os.SEEK_END)
    end = packed.fp.read(_END)
    counted, listed = int.from_bytes(end[10:12], "little"), len(packed.infolist())
    if end[:4] != b"PK\x05\x06" or counted not in (listed & _MANY, _MANY):
        raise zipfile.BadZipFile(f"it holds {counted} files and lists {listed}")


def unpack(archive: Path) -> Steps[Unpacked]:
    """Unpack a zip archive in steps.

    Raises
    ------
    GradCamError
        If it is damaged, encrypted, or larger than the free space on the disk.
    """
    unpacked = Unpacked(archive)
    try:
        with zipfile.ZipFile(archive) as packed:
            _check_directory(packed)
            members = [member for member in packed.infolist() if not member.is_dir()]
            if any(member.flag_bits & 1 for member in members):
                raise GradCamError(f"“{archive}” is encrypted: unpack it with its password and give the folder.")
            size = sum(member.file_size for member in members)
            if size > shutil.disk_usage(unpacked.folder.parent).free:
                raise GradCamError(
                    f"“{archive}” unpacks to {size / 2**30:.1f} GiB, for which there is no space: unpack a part of it."
                )
            unpacked.folder.mkdir()
            yield from _extract(packed, members, unpacked.folder)
    except GradCamError:
        raise
    except Exception as error:  # zipfile, zlib and the file system raise a dozen types
        raise GradCamError(f"“{archive}” cannot be unpacked ({reason(error)}): copy or download it again.") from error
    return unpacked


def _extract(packed: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], folder: Path) -> Steps[None]:
    """Unpack files, pausing between them and within those that are large."""
    done, total = 0, sum(member.file_size for member in members)
    for number, member in enumerate(members):
        if number % _PAUSE == 0:
            yield Progress(done // _MIB, total // _MIB + 1, "Unpacking, MiB")
        path = _inside(folder, member.filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        with packed.open(member) as source, path.open("wb") as target:
            while block := source.read(_BLOCK):
                target.write(block)
                done += len(block)
                if len(block) == _BLOCK:
                    yield Progress(done // _MIB, total // _MIB + 1, "Unpacking, MiB")


def _inside(folder: Path, name: str) -> Path:
    """Give where a member goes, as zipfile does: names such as “../x” and “/x” stay inside of the folder."""
    if os.altsep:
        name = _NOT_ON_WINDOWS.sub("_", name.replace("\\", "/"))
    return folder.joinpath(*(part for part in name.split("/") if part not in ("", ".", "..")))

"""A file is there whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from napari_gradcam.errors import GradCamError
from napari_gradcam.export.files import folder_for, refuse_unwritable, written_together, written_whole

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def full_disk() -> Iterator[None]:
    """Let the operating system itself refuse every file beyond 64 bytes, pytest's own output included."""
    resource = pytest.importorskip("resource", reason="limits on file sizes are a POSIX affair")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_file_appears_under_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "map.nii.gz"
    with written_whole(target) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["map.nii.gz"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_keeps_the_old_file_and_leaves_nothing_else(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    target = tmp_path / "map.nii"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with written_whole(target) as temporary:
            temporary.write_bytes(b"ne")
            raise failure

    with pytest.raises(failure):
        interrupted()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["map.nii"]


def test_of_several_files_none_appears_before_all_are_complete(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.png"

    def interrupted() -> None:
        with written_together([first, second]) as temporaries:
            temporaries[0].write_bytes(b"a")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_the_file_has_the_rights_that_any_new_file_would_have(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with written_whole(tmp_path / "whole") as temporary:
        temporary.write_bytes(b"")
    plain, whole = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "whole"))
    assert whole == plain


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with written_whole(tmp_path / "map.nii") as temporary:
            temporary.write_bytes(bytes(1000))

    told = r"Nothing was written to “.*”: the disk is full; choose another folder"
    with full_disk(), pytest.raises(GradCamError, match=told):
        fill()
    assert names(tmp_path) == []


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "map.nii").mkdir()
    with pytest.raises(GradCamError, match=r"map\.nii” cannot be written: a folder of that name is in the way"):
        refuse_unwritable(tmp_path / "map.nii")


@pytest.mark.parametrize("below", ["map.nii", "deep/map.nii"])
def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(GradCamError, match="out” is a file, not a folder"):
        refuse_unwritable(tmp_path / "out" / below)
    with (
        pytest.raises(GradCamError, match="out” is a file, not a folder"),
        folder_for((tmp_path / "out" / below).parent),
    ):
        pass
    assert (tmp_path / "out").read_bytes() == b"mine"


def test_missing_permission_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere, so a real folder would not do
    with pytest.raises(GradCamError, match="no permission to write there; choose another folder"):
        refuse_unwritable(tmp_path / "map.nii")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where nobody may make a folder")
def test_a_folder_that_cannot_be_made_is_told() -> None:
    with pytest.raises(GradCamError, match="Nothing was written to “/proc/out”"), folder_for(Path("/proc/out")):
        pass


def test_a_failure_takes_away_the_folders_it_made_and_no_others(tmp_path: Path) -> None:
    def failing() -> None:
        with folder_for(tmp_path / "new" / "out"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert names(tmp_path) == []


def test_a_failure_leaves_a_new_folder_that_somebody_else_has_used_meanwhile(tmp_path: Path) -> None:
    def failing() -> None:
        with folder_for(tmp_path / "out") as folder:
            (folder / "theirs").write_bytes(b"")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert names(tmp_path / "out") == ["theirs"]

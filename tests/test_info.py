"""``napari-gradcam info``: what a reader saw, and whose it is only for those who ask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_gradcam import cli
from napari_gradcam.volumes import Catalogue, Scan, Volume
from napari_gradcam.volumes.scan import Person, Series
from napari_gradcam.words import facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

AFFINE = np.array([[-0.9, 0, 0, 100], [0, -0.9, 0, 120], [0, 0, 2.5, -80], [0, 0, 0, 1.0]])
EXPLAIN = ("explain", "SCAN", "--model", "brain_lesion_3d")
PERSON = Person("Doe^Jane", "ID-4711", "19700101")


def scan_of(**given: object) -> Scan:
    series = Series(1, 2, "CT abdomen", "Portal venous", "4", "HFS", PERSON)
    fields = {
        "name": "Portal venous",
        "modality": "CT",
        "images": 30,
        "shape": (512, 512, 30),
        "affine": AFFINE,
        "source": (Path("a.dcm"),),
        "reader": lambda frame, *, resample: None,
        "series": series,
    }
    return Scan(**(fields | given))


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(scans: list[Scan], *arguments: str, notices: tuple[str, ...] = ()) -> Result:
        def found(path: str) -> object:
            yield from ()
            return Catalogue("“folder”", tuple(scans), notices)

        monkeypatch.setattr("napari_gradcam.cli.scans.find_scans_steps", found)
        return CliRunner().invoke(cli.app, ["info", "folder", *arguments])

    return run


def test_one_scan_is_told_whole(printed: Callable[..., Result], tmp_path) -> None:
    one = scan_of(source=(tmp_path / "a.dcm", tmp_path / "b.dcm"), notices=("The slices lean by 12.0°.",))
    result = printed([one])
    assert result.exit_code == 0, result.output
    for said in (
        "Portal venous",
        "2 CT abdomen",
        "CT",
        "512 × 512 × 30 voxels",
        "0.9 × 0.9 × 2.5 mm",
        "LPS: its axes run to the patient's left, back, head",
        "0.0°",
        "R 100.0 A 120.0 I 80.0 mm",
        "2, a.dcm to b.dcm",
        "Note: The slices lean by 12.0°.",
    ):
        assert said in result.stdout


@pytest.mark.parametrize("scans", [1, 2])
def test_names_ids_and_birth_dates_are_printed_for_those_who_ask_alone(printed, scans) -> None:
    private = ("Doe^Jane", "ID-4711", "19700101")
    silent = printed([scan_of()] * scans).stdout
    assert not any(word in silent for word in private)
    asked = printed([scan_of()] * scans, "--personal").stdout
    assert all(word in asked for word in private)


@pytest.mark.parametrize(("files", "said"), [(["Doe_1.dcm", "Doe_2.dcm", "x.dcm"], "3"), (["JANE.dcm"], "1")])
def test_files_called_after_the_patient_are_counted_and_not_named(files, said) -> None:
    one = scan_of(source=tuple(map(Path, files)))
    assert dict(facts(one))["files"] == said
    assert files[0] in dict(facts(one, personal=True))["files"]


def test_a_single_voxel_is_one() -> None:
    assert dict(facts(scan_of(shape=(1, 1, 1))))["grid"] == "1 × 1 × 1 voxel"


def test_several_scans_are_listed_and_one_of_them_can_be_asked_for(printed) -> None:
    gap = scan_of(name="Arterial", shape=None, affine=None, problem="“Arterial” has a gap.")
    scout = scan_of(name="Scout", aside="localizer", images=2)
    result = printed([gap, scan_of(), scout], notices=("Files that are not DICOM were left out: “x”.",))
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    assert "Note: Files that are not DICOM were left out: “x”." in lines[0]
    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert "“Arterial” has a gap." in result.stdout
    assert "localizer" in result.stdout
    for wanted in ("2", "portal"):
        assert "512 × 512 × 30 voxels" in printed([gap, scan_of(), scout], "--series", wanted).stdout


def test_a_scan_that_cannot_be_read_says_why(printed) -> None:
    result = printed([scan_of(shape=None, affine=None, problem="“Arterial” has a gap.")])
    assert "It cannot be read: “Arterial” has a gap." in result.stdout


def test_a_number_that_does_not_exist_is_one_sentence(printed) -> None:
    result = printed([scan_of(), scan_of()], "--series", "7")
    assert result.exit_code == 2
    assert "has no scan number 7" in result.stderr


def test_what_no_file_places_has_no_letters() -> None:
    told = dict(facts(scan_of(in_patient_space=False)))
    assert told["orientation"] == "unknown"
    assert "first voxel" not in told
    assert "obliquity" not in told


def test_a_series_and_a_frame_are_chosen_in_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def read(path: str, **chosen: object) -> object:
        yield from ()
        asked.update(chosen)
        return Volume(np.zeros((2, 2, 2), np.float32), np.eye(4))

    monkeypatch.setattr("napari_gradcam.volumes.reading.read_steps", read)
    CliRunner().invoke(
        cli.app,
        [*EXPLAIN, "--series", "2", "--frame", "3", "--resample"],
    )
    assert asked == {"series": "2", "frame": 3, "resample": True}

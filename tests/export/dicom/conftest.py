"""Maps on small DICOM scans, and the programs that read what is written of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from napari_gradcam import read_volume
from napari_gradcam.export.formats import FORMATS
from napari_gradcam.export.manner import Manner
from tests.export.dicom.scans import provenance_of, straight, two_spots, write_series

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam.explanation import Explanation

AWKWARD = Path(__file__).parents[4] / "shared" / "data" / "awkward"


@pytest.fixture
def explained(make_explanation: Callable[..., Explanation]) -> Callable[..., Explanation]:
    """Give a function that reads a scan and makes a map of it."""

    def explained(path: Any, *, signed: bool = False, series: int | None = None, **given: Any) -> Explanation:
        resample = given.pop("resample", False)
        volume = read_volume(path, series=series, resample=resample)
        fields = {"heatmap": two_spots(volume.shape, signed=signed), "signed": signed, "provenance": provenance_of()}
        return make_explanation(volume, **(fields | given))

    return explained


@pytest.fixture
def straight_series(tmp_path: Path) -> Path:
    """Write a series of six axial slices."""
    write_series(tmp_path / "scan", straight())
    return tmp_path / "scan"


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., dict[str, Path]]:
    """Give a function that writes all DICOM files that fit, or some, by their names without suffix."""

    def written(explanation: Explanation, *only: str, folder: str = "out", **manner: Any) -> dict[str, Path]:
        (tmp_path / folder).mkdir(exist_ok=True)
        paths = {}
        for file in FORMATS["dicom"]:
            path = tmp_path / folder / file.name
            if (not only or path.stem in only) and not file.refused(explanation):
                file.write(explanation, path, Manner(**manner))
                paths[path.stem] = path
        return paths

    return written


@pytest.fixture(scope="session")
def awkward() -> Path:
    if not AWKWARD.is_dir():
        pytest.skip("the real awkward scans (../shared/data/awkward) are on the project's own machines only")
    return AWKWARD


@pytest.fixture(scope="session")
def run() -> Callable[..., str]:
    """Give a function that runs another program and gives what it says; the test skips where it is not installed."""

    def run(program: str, *given: object) -> str:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed here; .ci/run installs it from Debian's packages")
        done = subprocess.run([program, *map(str, given)], capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    return run

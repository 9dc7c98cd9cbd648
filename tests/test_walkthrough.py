"""The walkthrough runs to its end, says what it said when it was stored, and tells nothing of the machine it ran on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

DOCS = Path(__file__).parents[1] / "docs"
WALKTHROUGH = DOCS / "walkthrough.ipynb"
MOST_BYTES = 2_500_000
SECONDS = 240
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def stored() -> Any:
    return nbformat.read(WALKTHROUGH, as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [one for cell in notebook.cells for one in cell.get("outputs", ())]


def printed(notebook: Any) -> dict[str, str]:
    """Give what each cell printed, by its name."""
    return {
        cell.id: "".join(one.text for one in cell.outputs if one.output_type == "stream")
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def count_pictures(notebook: Any) -> int:
    return sum("image/png" in one.get("data", ()) for one in outputs(notebook))


def test_it_runs_to_its_end_and_says_what_is_stored(stored: Any, tmp_path: Path) -> None:
    # In a process of its own, so that no loop or socket of the kernel's client outlives the test.
    own = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | own
    run = subprocess.run(
        [sys.executable, DOCS / "make_walkthrough.py", tmp_path / "fresh.ipynb"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    fresh = nbformat.read(tmp_path / "fresh.ipynb", as_version=4)
    kinds = {(one.output_type, one.get("name")) for one in outputs(fresh)}
    assert kinds == {("display_data", None), ("stream", "stdout")}, "pictures and what is printed: no error, no warning"
    assert count_pictures(fresh) == count_pictures(stored) >= 9
    now, then = printed(fresh), printed(stored)
    for name in then:
        stale = f"the cell “{name}” says something else than is stored; run make walkthrough and read it again"
        assert NUMBER.sub("#", now[name]) == NUMBER.sub("#", then[name]), stale
        numbers = ([float(one) for one in NUMBER.findall(each)] for each in (now[name], then[name]))
        assert next(numbers) == pytest.approx(next(numbers), rel=0.02, abs=0.02), stale


def test_what_is_stored_is_whole_and_small(stored: Any) -> None:
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "a fresh kernel, from the top"
    assert {one.output_type for one in outputs(stored)} == {"display_data", "stream"}, "and no error"
    assert WALKTHROUGH.stat().st_size < MOST_BYTES


def test_what_is_stored_tells_nothing_of_the_machine(stored: Any) -> None:
    assert stored.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert not any(cell.metadata for cell in stored.cells)
    shown = [text for one in outputs(stored) for kind, text in one.get("data", {}).items() if kind != "image/png"]
    told = "\n".join([*shown, *printed(stored).values(), *(cell.source for cell in stored.cells)])
    assert not re.search(r"(?<![\w.)])/\w+/|\b[A-Za-z]:\\|~/|file:", told), "no path"
    assert not re.search(r"https?:|\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d|\bat 0x", told), "no address, date or time"

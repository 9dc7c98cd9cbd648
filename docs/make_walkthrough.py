"""Run ``docs/walkthrough.ipynb`` and store what it shows: ``python docs/make_walkthrough.py [FILE]``."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

WALKTHROUGH = Path(__file__).with_name("walkthrough.ipynb")

SECONDS = 120
"""A cell that takes longer is given up."""

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""All that is kept of it: versions and times would change with each run."""


def executed(path: Path) -> nbformat.NotebookNode:
    """Run all cells of a notebook in a fresh kernel and an empty folder, and give it with what it shows.

    Parameters
    ----------
    path
        The notebook; it is read alone.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails; it shows the cell and its traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
    return notebook


def main(to: Path = WALKTHROUGH) -> None:
    """Run the walkthrough and write it, by default in its own place."""
    nbformat.write(executed(WALKTHROUGH), to)
    print(f"{to.name}: {to.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))

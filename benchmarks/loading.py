"""What loading a bundle safely costs, against MONAI's own way: ``python -m benchmarks.loading``.

MONAI's ConfigParser builds what the same files say and loads the same state dict; it evaluates expressions and checks
nothing. Both run side by side in one process, on warm files; the median of the ratios is given.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from monai.bundle import ConfigParser
from monai.networks.nets import DenseNet121
from rich.console import Console

from benchmarks import report
from benchmarks.measuring import time_ratios
from benchmarks.pages import write_part
from benchmarks.results import Number, Result, Section
from napari_gradcam import load_classifier

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
TITLE = "Loading bundles"
BAR = 1.3

LEAD = """\
The floor is MONAI's own way with the same files: ConfigParser builds network, preprocessing, inferer and
postprocessing, and the network loads the state dict, read with `weights_only=True`. Ours finds all that would run code
before anything is built, bounds the memory, checks the weights against the network, and gives a classifier ready to
explain. Times are wall clock times, side by side in one process, on warm files.
"""


def _write_bundle(folder: Path, dims: int) -> Path:
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True)
    steps = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "ScaleIntensityd", "keys": "image"},
        {"_target_": "Resized", "keys": "image", "spatial_size": [96] * dims},
    ]
    network = {"_target_": "DenseNet121", "spatial_dims": dims, "in_channels": 1, "out_channels": 2}
    inference = {
        "network_def": network,
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
        },
    }
    image = {"num_channels": 1, "spatial_shape": [96] * dims}
    classes = {"num_channels": 2, "channel_def": {"0": "calm", "1": "storm"}}
    metadata = {"network_data_format": {"inputs": {"image": image}, "outputs": {"pred": classes}}}
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    torch.save(DenseNet121(dims, 1, 2).state_dict(), folder / "models" / "model.pt")
    return folder


def _monai(folder: Path) -> Any:
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.read_meta(str(folder / "configs" / "metadata.json"))
    network = parser.get_parsed_content("network_def")
    for key in ("preprocessing", "inferer", "postprocessing"):
        parser.get_parsed_content(key)
    network.load_state_dict(torch.load(folder / "models" / "model.pt", map_location="cpu", weights_only=True))
    return network.eval()


def _wall(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Measure, print, and write the part of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--dry", action="store_true", help="write no page")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        for dims in (2, 3):
            folder = _write_bundle(Path(temporary) / f"{dims}d", dims)
            ours = {"ours": partial(load_classifier, folder)}
            times, noise = time_ratios(partial(_monai, folder), ours, options.rounds, _wall)
            note = f"floors differed by {noise:.1%}"
            results.append(Result(f"DenseNet121 {dims}D", "ours", Number(times["ours"], BAR), note=note))
    section = Section("Loading DenseNet121 from a bundle", "Time as a multiple of MONAI's.", tuple(results))
    Console().print(report.terminal_table(section))
    if not options.dry:
        write_part(PAGE, TITLE, _part(section))


def _part(section: Section) -> str:
    written = f"Written by `make bench-loading` on {datetime.now(UTC):%Y-%m-%d}."
    versions = report.versions(("torch", "monai"))
    parts = [
        written,
        f"{report.machine()}. {versions}.",
        LEAD.rstrip(),
        report.bars([section]),
        report.missed([section]),
    ]
    return "\n\n".join([*parts, f"## {section.title}", section.lead, report.markdown(section)])


if __name__ == "__main__":
    main()

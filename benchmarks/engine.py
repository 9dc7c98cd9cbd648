"""Time and peak memory of one Grad-CAM against one plain forward pass, and against captum.

The floor is ``network(x)`` under ``torch.inference_mode()``. CPU times are taken in one process, interleaved, and given
as the median of the ratios of neighbours; peak memory is measured in fresh processes, as growth over network and input.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from captum.attr import LayerGradCam
from monai.networks.nets import DenseNet121, resnet18
from rich.console import Console
from rich.table import Table

from napari_gradcam.cam import class_activation_map

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "DenseNet121 3D 96³": (
        lambda: DenseNet121(spatial_dims=3, in_channels=1, out_channels=2),
        (1, 1, 96, 96, 96),
        "class_layers.relu",
    ),
    "ResNet18 3D 96³, layer4": (
        lambda: resnet18(spatial_dims=3, n_input_channels=1, num_classes=2),
        (1, 1, 96, 96, 96),
        "layer4",
    ),
    "ResNet18 3D 96³, layer2": (
        lambda: resnet18(spatial_dims=3, n_input_channels=1, num_classes=2),
        (1, 1, 96, 96, 96),
        "layer2",
    ),
    "DenseNet121 2D 224²": (
        lambda: DenseNet121(spatial_dims=2, in_channels=1, out_channels=2),
        (1, 1, 224, 224),
        "class_layers.relu",
    ),
}
ROUNDS = 9


def plain(network: nn.Module, inputs: Tensor, _layer: str) -> None:
    """Run the network and nothing else: the floor."""
    with torch.inference_mode():
        network(inputs)


def ours(network: nn.Module, inputs: Tensor, layer: str) -> None:
    """Run one Grad-CAM by this project's engine."""
    class_activation_map(network, inputs, layer=layer, targets=[1])


def captum(network: nn.Module, inputs: Tensor, layer: str) -> None:
    """Run one Grad-CAM by captum."""
    LayerGradCam(network, dict(network.named_modules())[layer]).attribute(inputs, target=1)


WAYS = {"floor": plain, "napari-gradcam": ours, "captum": captum}


def build(case: str) -> tuple[nn.Module, Tensor, str]:
    """Make a case's network with random weights, its input and its layer's name."""
    torch.manual_seed(0)
    make, shape, layer = CASES[case]
    return make().eval(), torch.randn(shape), layer


def time_ratios(case: str) -> dict[str, float]:
    """Give each way's median time as a multiple of the floor's in the same round."""
    network, inputs, layer = build(case)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for round_number in range(ROUNDS + 1):
        for way, run in WAYS.items():
            start = time.process_time()
            run(network, inputs, layer)
            if round_number:  # the first round warms up
                times[way].append(time.process_time() - start)
    return {way: statistics.median(a / b for a, b in zip(times[way], times["floor"], strict=True)) for way in WAYS}


def peak_growth(case: str, way: str) -> int:
    """Measure, in a fresh process, how far the peak of memory grows over network and input, in KiB."""
    result = subprocess.run([sys.executable, __file__, case, way], check=True, capture_output=True, text=True)
    return int(result.stdout.split()[-1])


def memory(field: str) -> int:
    """Read one line of this process's status, in KiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def main() -> None:
    """Print the table, or, called with a case and a way, measure that one's memory."""
    if len(sys.argv) == 3:
        network, inputs, layer = build(sys.argv[1])
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the imports
        WAYS[sys.argv[2]](network, inputs, layer)
        print(memory("VmHWM") - before)
        return
    table = Table("case", *(f"{way}: {what}" for way in list(WAYS)[1:] for what in ("time", "peak memory")))
    for case in CASES:
        ratios = time_ratios(case)
        floor = peak_growth(case, "floor")
        cells = [[f"{ratios[way]:.2f} ×", f"{peak_growth(case, way) / floor:.2f} ×"] for way in list(WAYS)[1:]]
        table.add_row(case, *(cell for pair in cells for cell in pair))
    console = Console()
    console.print(
        f"Multiples of network(x) under inference_mode; torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    console.print(table)


if __name__ == "__main__":
    main()

"""Which cases are measured, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.networks import Case
from benchmarks.ways import SLOW_PEERS

LONG = (*SLOW_PEERS, "folded", "folded, channels last")
"""What the largest cases leave out, where one run takes a minute."""


@dataclass(frozen=True)
class Plan:
    """One run of the benchmark.

    Attributes
    ----------
    cases
        Measured in every way.
    one_slice
        The network and the size of a slice of a volume.
    slices, slice_loop, slice_rounds
        How many slices the volume has, how many of them the floor and MONAI run on, and how often.
    placed, placed_rounds
        The native grid that a map is put on, and how often.
    masked, masked_rounds
        The case for Score-CAM and Ablation-CAM, and how often.
    """

    cases: tuple[Case, ...]
    one_slice: Case
    slices: int
    slice_loop: int
    slice_rounds: int
    placed: tuple[int, int, int]
    placed_rounds: int
    masked: Case
    masked_rounds: int


FULL = Plan(
    cases=(
        Case("DenseNet121", 2, 224, rounds=9, slow_rounds=3, repeats=3),
        Case("ResNet18", 2, 224, rounds=9, slow_rounds=3, repeats=3),
        Case("ResNet50", 2, 224, rounds=9, slow_rounds=3, repeats=3),
        Case("DenseNet121", 3, 96, rounds=7, slow_rounds=2, repeats=3),
        Case("ResNet18", 3, 96, rounds=3),
        Case("ResNet50", 3, 96, rounds=2, left_out=LONG),
        Case("DenseNet121", 3, 128, rounds=4),
        Case("ResNet18", 3, 128, rounds=2, left_out=(*LONG, "torchcam")),
        Case("ResNet50", 3, 128, rounds=2, left_out=(*LONG, "torchcam", "channels last")),
    ),
    one_slice=Case("DenseNet121", 2, 224, rounds=9),
    slices=128,
    slice_loop=8,
    slice_rounds=3,
    placed=(512, 512, 300),
    placed_rounds=9,
    masked=Case("ResNet18", 2, 96),
    masked_rounds=2,
)

QUICK = Plan(
    cases=(
        Case("DenseNet121", 2, 224, rounds=5),
        Case("ResNet18", 2, 224, rounds=5),
        Case("DenseNet121", 3, 96, rounds=3),
    ),
    one_slice=Case("DenseNet121", 2, 224, rounds=5),
    slices=32,
    slice_loop=4,
    slice_rounds=1,
    placed=(512, 512, 300),
    placed_rounds=5,
    masked=Case("ResNet18", 2, 64),
    masked_rounds=1,
)

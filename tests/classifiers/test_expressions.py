"""Expressions of bundles are computed as Python would, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_gradcam.classifiers import expressions
from napari_gradcam.classifiers.config import Config
from napari_gradcam.errors import GradCamError

VALUES = {"size": 32, "half": 0.5, "sizes": [64, 48], "deep": {"a": [1, {"b": 7}]}, "name": "axial", "none": None}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$1", 1),
        ("$-2.5e1", -25.0),
        ("$not True", False),
        ("$@size // 3 % 4", 2),
        ("$@size / 2 - @half", 15.5),
        ("$(@size + 1) * 2", 66),
        ("$[@size, (1, 2), 'x', None]", [32, (1, 2), "x", None]),
        ("$@sizes[1] * 2", 96),
        ("$@sizes[-1]", 48),
        ("$@sizes::1", 48),
        ("$@sizes#0", 64),
        ("$@deep::a::1::b", 7),
        ("$@deep['a'][1]['b']", 7),
        ("$@size > 16 and @half < 1", True),
        ("$@size == 1 or @name == 'axial'", True),
        ("$@none is None", True),
        ("$@none is not None", False),
        ("$8 if @size >= 32 else 4", 8),
        ("$torch.float32", torch.float32),
        ("$torch.long", torch.int64),
        ("$np.uint8", np.uint8),
        ("$numpy.float32", np.float32),
        ("$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')", "cpu"),
        ("@size", 32),
        ("@deep", {"a": [1, {"b": 7}]}),
        ("%sizes", [64, 48]),
        ("plain", "plain"),
        ("user@example", "user@example"),
    ],
)
def test_what_bundles_compute_is_computed(text: str, value: Any) -> None:
    found = Config({**VALUES, "asked": text}).build("asked")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *("$2 ** 8", "$1 << 3", "$~1", "$1 @ 2", "$1 | 2", "$1 < 2 < 3", "$1 in [1]", "$[1][0:1]", "$len([1])"),
        *("$str(1)", "$@size.real", "$'a' + 'b'", "$[1] + [2]", "$[0] * 3", "$'x' * 3", "$-'x'", "$+[1]", "$'%d' % 1"),
        *("$f'{1}'", "$lambda: 1", "$[x for x in [1]]", "${1: 2}", "${1}", "$(yield)", "$(x := 1)", "$*[1]", "$..."),
        *("$b'x'", "$1j", "$torch.load('x')", "$torch.nn", "$torch.device(type='cpu')", "$np.load('x')", "$np.pi"),
        *("$x", "$reference_0", "$__import__('os')", "$os.system('x')", "$torch.float32.__class__", "$", "$ ", "$1;2"),
        *("$import os", "$(1).__class__", "$@name[0]", "$[1][[0]][0]", "$@sizes.append(1)", "$@size(1)", "$@deep()"),
        *("$[1] == [1]", "$@deep == 1", "$torch.float32 == 1", "$torch.cuda.is_available.__call__()", "$9e999 + 1 @"),
    ],
)
def test_what_is_more_than_arithmetic_is_refused_by_its_place(text: str) -> None:
    with pytest.raises(GradCamError, match="“asked”"):
        Config({**VALUES, "asked": text}).build("asked")


@pytest.mark.parametrize(
    "text", ["$1 / 0", "$1 % 0", "$@sizes[9]", "$@deep['z']", "$@sizes['a']", "$1 < 'a'", "$-None"]
)
def test_what_cannot_be_computed_is_said_with_its_place(text: str) -> None:
    with pytest.raises(GradCamError, match="“asked”"):
        Config({**VALUES, "asked": text}).build("asked")


def test_numbers_stay_small_however_often_they_are_multiplied() -> None:
    with pytest.raises(GradCamError, match="arithmetic with what is no number"):
        Config({"a": "$" + "*".join(["9999999999"] * 50)}).build("a")


@pytest.mark.parametrize("depth", [90, 5_000])
def test_depth_is_no_way_to_end_the_process(depth: int) -> None:
    for text in ("(" * depth + "1" + ")" * depth, "-" * depth + "1", "1+" * depth + "1", "[" * depth + "]" * depth):
        try:
            Config({"a": "$" + text[: expressions.LONGEST]}).build("a")
        except (GradCamError, RecursionError):
            continue


def test_relative_references_are_found_from_where_they_stand() -> None:
    config = Config(
        {"a": {"b": {"c": "@##d", "e": "@#f", "f": 2}, "d": 1}, "list": [5, "@#0", "$@#0 + @##top"], "top": 3}
    )
    assert config.build("a") == {"b": {"c": 1, "e": 2, "f": 2}, "d": 1}
    assert config.build("list") == [5, 5, 8]

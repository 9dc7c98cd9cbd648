"""Whatever stands in a bundle, nothing of it runs, nothing is written, no memory is filled, and a sentence names it."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest

from napari_gradcam import GradCamError, load_classifier
from napari_gradcam.classifiers.allowlist import allowed_import, allowed_target
from tests.classifiers.hostile import CASES, INFERENCE, METADATA, write_bundle

_SECONDS = 5
"""Of the processor; on a machine that nobody else uses it takes half as long."""
_MOST_GIB = 2

Told = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def told() -> Told:
    """Open every hostile bundle in one process that is watched, and return what came of each."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.classifiers.hostile"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    results = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    after = results[-1]["name"] if results else "none"
    assert run.returncode == 0, f"the process ended after “{after}”: {run.stderr[-2000:]}"
    return {result.pop("name"): result for result in results}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_bundle_runs_nothing_and_is_refused_by_name(told: Told, name: str) -> None:
    result, tells = told[name], CASES[name].tells
    assert not result["canary"]
    assert not result["seen"]
    assert not result["traceback"]
    assert result["seconds"] < _SECONDS
    assert result["peak_gib"] < _MOST_GIB
    assert result["checked"].isprintable()
    assert len(result["checked"]) < 1000
    if tells:
        assert re.search(tells, result["said"])
        assert result["said"].isprintable()
        assert len(result["said"]) < 1000
    else:
        assert not result["said"]


def test_the_watch_sees_what_would_be_wrong(tmp_path: Path) -> None:
    # The same watch on deeds themselves: without it, a test of nothing would pass.
    deeds = [
        "os.system('true')",
        "eval('1 + 1')",
        "exec('x = 1')",
        f"open({str(tmp_path / 'x')!r}, 'w')",
        "__import__('socket').socket()",
        "__import__('subprocess').Popen(['true'])",
        "__import__('antigravity')",
        "__import__('pickle').loads(__import__('pickle').dumps(os.system))",
    ]
    code = f"""
import os, sys, socket, subprocess
from tests.classifiers.hostile import Watch
watch = Watch((*(path for path in sys.path if path), sys.prefix, "<frozen"))
sys.addaudithook(watch)
for text in {deeds!r}:
    deed = compile(text, sys.prefix + "/deed.py", "eval")
    watch.seen, watch.on = [], True
    try:
        eval(deed)
    except BaseException:
        pass
    watch.on = False
    print(len(watch.seen))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert run.stdout.split() == ["1"] * len(deeds), run.stderr[-500:]


# What MONAI offers changes with its versions


_READS_OR_RUNS = frozenset(
    (
        *("open", "load", "save", "system", "Popen", "exec", "import_module", "__import__", "locate", "load_module"),
        *("load_state_dict_from_url", "download_url", "load_url", "cached_file", "hf_hub_download", "from_pretrained"),
        *(
            "urlopen",
            "download_and_extract",
            "sleep",
            "fromfile",
            "memmap",
            "imread",
            "savetxt",
            "get_pretrained_resnet",
        ),
    )
)
_ONLY_WHERE_ASKED = {
    # reached only where weights from elsewhere are asked for, which is turned off or dropped
    *("monai.networks.nets.densenet", "monai.networks.nets.senet", "monai.networks.nets.efficientnet"),
    *("monai.networks.nets.hovernet", "monai.networks.nets.resnet"),
}
_REVIEWED = {
    "monai.inferers.inferer: locate",  # PatchInferer, which is refused
    "monai.networks.nets.flexible_unet: locate",  # a list of encoders, which is none that may be built
    *(f"monai.networks.nets.transchex: {call}" for call in ("cached_file", "from_pretrained", "load")),  # refused
    "monai.networks.nets.swin_unetr: download_url",  # a method that nothing calls
    "monai.networks.nets.swin_unetr: load",
    "monai.transforms.post.dictionary: save",  # SaveClassificationd, which is refused
    *("monai.transforms.utility.array: sleep", "monai.transforms.utility.dictionary: sleep"),  # SimulateDelay, too
    "torch.nn.modules.module: load",  # a function within load_state_dict
    "monai.networks.blocks.text_embedding: load_url",  # TextEncoder, too
}


def _offered() -> dict[str, Any]:
    """List everything that a bundle may build, by its name."""
    found: dict[str, Any] = {}
    for package in ("monai.networks", "monai.transforms", "monai.inferers", "torch.nn.modules"):
        modules = [package, *(one.name for one in walk_packages(import_module(package).__path__, package + "."))]
        for module in modules:
            try:
                names = dir(import_module(module))
            except Exception:  # for a package that is not here
                continue
            for name in names:
                target = allowed_target(f"{module}.{name}")
                if target is not None:
                    found[f"{target.__module__}.{target.__qualname__}"] = target
    return found


@pytest.mark.filterwarnings("ignore")
def test_nothing_that_may_be_built_reads_files_or_runs_code_but_what_was_looked_at() -> None:
    offered = _offered()
    assert len(offered) > 400
    suspect = {
        f"{module}: {call}"
        for module in {target.__module__ for target in offered.values()} - _ONLY_WHERE_ASKED
        for call in _calls(module) & _READS_OR_RUNS
    }
    assert suspect <= _REVIEWED


def _calls(module: str) -> set[str]:
    """List the last names of all that a module calls."""
    tree = ast.parse(inspect.getsource(import_module(module)))
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {node.attr for node in functions if isinstance(node, ast.Attribute)}
    return names | {node.id for node in functions if isinstance(node, ast.Name)}


@pytest.mark.parametrize(
    "statement",
    [
        *("import torch", "import glob", "import os", "from monai.utils import x, y", "import numpy as np"),
        *("from pathlib import Path", "import torch.nn as nn"),
    ],
)
def test_imports_of_what_bundles_use_are_harmless(statement: str) -> None:
    assert allowed_import(statement)


@pytest.mark.parametrize(
    "statement",
    [
        *("import scripts", "from scripts.net import Net", "import subprocess", "import os;x", "import os\nx"),
        *("import os, scripts", "from . import x", "import os as", "__import__('os')", "", "import", "import ósx"),
        *("from os import system as x; y", "import torchscripts", "import os.path, evil", "import\tos"),
    ],
)
def test_imports_of_anything_else_are_not(statement: str) -> None:
    assert not allowed_import(statement)


def _places(node: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List every place in a configuration, itself first."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [way, *(place for key, item in inner for place in _places(item, (*way, key)))]


def _with(node: Any, way: tuple[Any, ...], value: Any) -> Any:
    if not way:
        return value
    changed = copy.copy(node)
    changed[way[0]] = _with(node[way[0]], way[1:], value)
    return changed


@pytest.mark.parametrize("value", [None, "x", {"a": [1]}, "@size", 10**25, "$-1.5"], ids=repr)
def test_whatever_stands_anywhere_the_answer_is_a_classifier_or_a_sentence(tmp_path: Path, value: Any) -> None:
    windows = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16], "overlap": 0.5, "sigma_scale": 0.2, "cval": 0}
    inference = {**INFERENCE, "inferer": windows}
    block = {"target_layer": "features", "plane": "axial", "aggregation": "top-k", "positive_class": "storm", "top": 2}
    metadata = {**METADATA, "explanation": block, "license": "some", "intended_use": "none"}
    folder = write_bundle(tmp_path, inference, metadata)
    opened = 0
    for file, content in (("inference", inference), ("metadata", metadata)):
        for place in _places(content):
            (folder / f"configs/{file}.json").write_text(json.dumps(_with(content, place, value)))
            told = ""
            try:
                load_classifier(folder)
                opened += 1
            except GradCamError as error:
                told = str(error)
            assert told.isprintable()
            assert len(told) < 1000
        (folder / f"configs/{file}.json").write_text(json.dumps(content))
    assert opened > 20

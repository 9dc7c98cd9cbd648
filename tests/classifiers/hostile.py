"""Bundles that want to run code, to read or write files, or to fill the memory; each is written by a small function.

``python -m tests.classifiers.hostile`` opens all of them in a process that is watched, and prints a line
of JSON on each.
"""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import shutil
import stat
import struct
import sys
import sysconfig
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from monai.networks.nets import DenseNet

if TYPE_CHECKING:
    from collections.abc import Callable

Content = dict[str, Any]

NETWORK: Content = {
    "_target_": "DenseNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "init_features": 4,
    "growth_rate": 4, "block_config": [2], "bn_size": 1,
}  # fmt: skip
INFERENCE: Content = {
    "size": 32,
    "network_def": NETWORK,
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "Resized", "keys": "image", "spatial_size": ["@size", "@size"]},
        ],
    },
    "inferer": {"_target_": "SimpleInferer"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
    },
}
METADATA: Content = {
    "name": "Hostile",
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1, "spatial_shape": [32, 32]}},
        "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "calm", "1": "storm"}}},
    },
}


HANGS = 90
"""Seconds after which a bundle is taken to hang the process, which ends with where it was."""


@dataclass(frozen=True)
class Case:
    """A hostile bundle.

    Attributes
    ----------
    write
        Writes it into a folder, given the file that must never appear, and tells what to open.
    tells
        What the sentence must hold; empty where the bundle opens, because the hostile part is none that is run.
    used
        Whether it is used once it is open: its layers listed, and a scan of 20 × 24 pixels prepared.
    """

    write: Callable[[Path, str], Path]
    tells: str
    used: bool = False


def shell(canary: str) -> str:
    """Write an expression that makes the file."""
    return f"__import__('os').system('touch {canary}')"


def write_bundle(
    folder: Path, inference: Content, metadata: Content | None = None, weights: bytes | None = None
) -> Path:
    """Write a bundle with the weights of the small network, or others."""
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "configs/inference.json").write_text(json.dumps(inference))
    (folder / "configs/metadata.json").write_text(json.dumps(METADATA if metadata is None else metadata))
    (folder / "models/model.pt").write_bytes(small_weights() if weights is None else weights)
    return folder


def small_weights() -> bytes:
    """Give the state dict of the small network, as a file."""
    torch.manual_seed(0)
    content = io.BytesIO()
    torch.save(DenseNet(**{key: value for key, value in NETWORK.items() if key != "_target_"}).state_dict(), content)
    return content.getvalue()


# Ways to change the small bundle


def changed(change: Callable[[Content, str], Any], tells: str = "", **more: Any) -> Case:
    """Make a case of a change to the inference configuration."""

    def write(folder: Path, canary: str) -> Path:
        inference = copy.deepcopy(INFERENCE)
        change(inference, canary)
        return write_bundle(folder, inference)

    return Case(write, tells, **more)


def described(change: Callable[[Content], Any], tells: str, **more: Any) -> Case:
    """Make a case of a change to the metadata."""

    def write(folder: Path, _canary: str) -> Path:
        metadata = copy.deepcopy(METADATA)
        change(metadata)
        return write_bundle(folder, INFERENCE, metadata)

    return Case(write, tells, **more)


def put(place: str, value: Any | Callable[[str], Any], tells: str | None = None, **more: Any) -> Case:
    """Make a case of one value at ``a::b``; a function makes it of the canary."""

    def change(inference: Content, canary: str) -> None:
        node: Any = inference
        *way, last = place.split("::")
        for part in way:
            node = node[int(part)] if isinstance(node, list) else node[part]
        made = value(canary) if callable(value) else value
        if isinstance(node, list):
            node.append(made)
        else:
            node[last] = made

    return changed(change, f"“{place}" if tells is None else tells, **more)


def step(value: Any | Callable[[str], Any], tells: str = "“preprocessing::transforms::2", **more: Any) -> Case:
    """Make a case of one more step of the preprocessing."""
    return put("preprocessing::transforms::2", value, tells, **more)


def sized(place: str, **arguments: Any) -> Case:
    """Make a case of sizes that no memory holds, somewhere in the network."""

    def change(inference: Content, _canary: str) -> None:
        inference["network_def"] |= arguments

    return changed(change, place)


def written(name: str, content: bytes | Callable[[str], bytes], tells: str, also: str = "", **more: Any) -> Case:
    """Make a case of one file, beside or instead of those of the small bundle; `also` is taken away."""

    def write(folder: Path, canary: str) -> Path:
        write_bundle(folder, INFERENCE)
        if also:
            (folder / also).unlink()
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(canary) if callable(content) else content)
        return folder

    return Case(write, tells, **more)


def from_yaml(text: str | Callable[[str], str], tells: str) -> Case:
    """Make a case of a configuration in YAML."""
    return written(
        "configs/inference.yaml",
        lambda canary: (text(canary) if callable(text) else text).encode(),
        tells,
        also="configs/inference.json",
    )


class Runs:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        """Say what is called."""
        return self.call


def pickled(make: Callable[[str], Any], zipped: bool = True, tells: str = "“models/model.pt”") -> Case:
    """Make a case of a file of weights."""

    def content(canary: str) -> bytes:
        file = io.BytesIO()
        torch.save(make(canary), file, _use_new_zipfile_serialization=zipped)
        return file.getvalue()

    return written("models/model.pt", content, tells)


def archived(fill: Callable[[zipfile.ZipFile, str], Any], tells: str, whole: bool = True, **more: Any) -> Case:
    """Make a case of a zip of the small bundle and something more."""

    def write(folder: Path, canary: str) -> Path:
        inner = write_bundle(folder / "inner", INFERENCE)
        with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
            for file in sorted(inner.rglob("*.*")) if whole else []:
                archive.write(file, str(file.relative_to(inner)))
            fill(archive, canary)
        shutil.rmtree(inner)
        return folder / "bundle.zip"

    return Case(write, tells, **more)


def linked_entry(archive: zipfile.ZipFile, _canary: str) -> None:
    """Write an entry that unpackers of Unix make a link of."""
    entry = zipfile.ZipInfo("scripts/evil.py")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive.writestr(entry, "/etc/passwd")


def claimed(archive: zipfile.ZipFile, _canary: str) -> None:
    """Claim in the list of files that one of them has 100 GB."""
    archive.writestr("models/other.pt", b"small")
    info = archive.getinfo("models/other.pt")
    info.file_size = 100 << 30


def dense(archive: zipfile.ZipFile, _canary: str) -> None:
    """Write many zeros in little room."""
    info = zipfile.ZipInfo("models/model.safetensors")
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w") as file:
        for _ in range(256):
            file.write(bytes(1 << 20))


def many_dense(archive: zipfile.ZipFile, _canary: str) -> None:
    """Write many files of zeros, none of them large, and something that must be told with a digest."""
    for number in range(80):
        archive.writestr(f"docs/{number}.txt", bytes(15 << 20), zipfile.ZIP_DEFLATED)


def long_name(archive: zipfile.ZipFile, _canary: str) -> None:
    """Write a name with so many folders that listing them all fills the memory."""
    archive.writestr("a/" * 32_000 + "b", b"")


def forged_claim(folder: Path, _canary: str) -> Path:
    """Write weights of zip format whose pickle claims far more numbers than there are."""
    content = io.BytesIO()
    torch.save({"features.conv0.weight": torch.zeros(1).expand(1 << 35)}, content)
    return write_bundle(folder, INFERENCE, weights=content.getvalue())


def chain(inference: Content, _canary: str) -> None:
    """Write references of references, a thousand times a thousand."""
    inference |= {f"a{n}": f"@a{n + 1}" for n in range(20_000)}
    inference["network_def"] |= {"in_channels": "@a0"}


def widening(inference: Content, _canary: str) -> None:
    """Write references that double at each step."""
    inference |= {f"a{n}": [f"@a{n + 1}", f"@a{n + 1}"] for n in range(64)} | {"a64": 1}
    inference["network_def"] |= {"block_config": "@a0"}


def widening_list(inference: Content, _canary: str) -> None:
    """Write lists of transforms that multiply at each step."""
    inference |= {f"a{n}": [f"@a{n + 1}"] * 100 for n in range(7)} | {"a7": []}
    inference["preprocessing"] = "@a0"


def doubling(inference: Content, _canary: str) -> None:
    """Write references that are found by way of two others each, and build nothing."""
    inference |= {"v": {f"k{n}": f"@x{n}" for n in range(21)}, "x20": "@v"}
    inference |= {f"x{n}": f"@w{n}::k::k{n + 1}" for n in range(20)}
    inference |= {f"w{n}": {"k": f"@x{n + 1}"} for n in range(20)}
    inference["network_def"] = "@x0"


def large_keys(inference: Content, _canary: str) -> None:
    """Let keys refer to a layer of ten gigabytes, which must not be built to see that it is none."""
    inference["big"] = {"_target_": "torch.nn.Linear", "in_features": 50_000, "out_features": 50_000}
    inference["preprocessing"]["transforms"].append({"_target_": "Resized", "keys": ["@big"], "spatial_size": 8})


def large_activation(inference: Content, _canary: str) -> None:
    """Let an activation that is only read refer to a layer of ten gigabytes."""
    inference["big"] = {"_target_": "torch.nn.Linear", "in_features": 50_000, "out_features": 50_000}
    inference["postprocessing"]["transforms"].insert(0, {"_target_": "Activationsd", "keys": "pred", "sigmoid": "@big"})


def linked_file(folder: Path, _canary: str) -> Path:
    """Let the licence be a file of the person's."""
    write_bundle(folder, INFERENCE)
    (folder / "LICENSE").symlink_to("/etc/hostname")
    return folder


def many_files(folder: Path, _canary: str) -> Path:
    """Write macros that read long files of YAML one after the other."""
    names = [f"o{number}.yaml" for number in range(9)]
    write_bundle(folder, {**INFERENCE, "network_def": {**NETWORK, "x": [f"%{name}::a" for name in names]}})
    for name in names:
        (folder / "configs" / name).write_text("b: [" + "1," * 40_000 + "1]\na: 1\n")
    return folder


def many_entries(archive: zipfile.ZipFile, _canary: str) -> None:
    """Write more folders than can be listed in time."""
    for number in range(20_000):
        archive.writestr(f"a/b/c/{number}/x", b"")


def crossing(folder: Path, _canary: str) -> Path:
    """Write two files whose macros name one another."""
    inference = {**INFERENCE, "size": "%other.json::size"}
    write_bundle(folder, inference)
    (folder / "configs/other.json").write_text(json.dumps({"size": "%inference.json::size", "fill": "x" * 100_000}))
    return folder


def with_script(module: str) -> Case:
    """Make a case of a bundle with a module of its own, which nothing names."""
    return written(module, lambda canary: f"import os\nos.system('touch {canary}')\n".encode(), "")


def named_script(inference: Content, _canary: str) -> None:
    """Name a network of the bundle's own modules."""
    inference["network_def"] = {"_target_": "scripts.evil.Net"}


def own_weights(folder: Path, network: Content, state: Content, size: int = 32) -> Path:
    """Write a network of any class with weights that fit it."""
    content = io.BytesIO()
    torch.save(state, content)
    metadata = copy.deepcopy(METADATA)
    metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] = [size, size]
    return write_bundle(folder, {**INFERENCE, "network_def": network}, metadata, content.getvalue())


def wide(network: Content, state: Content, tells: str, size: int = 32) -> Case:
    """Make a case of a small network that makes much of its input."""
    return Case(lambda folder, _: own_weights(folder, network, state, size), tells)


def long_names(inference: Content, _canary: str) -> None:
    """Write parts in parts, each with a long name."""
    node = inference["network_def"]
    for number in range(250):
        name = f"{number}" + "x" * 10_000
        node[name] = {}
        node = node[name]


def own_network(folder: Path, canary: str) -> Path:
    """Write a network of the bundle's own, and modules that are called like those that are installed."""
    inference = copy.deepcopy(INFERENCE)
    named_script(inference, canary)
    write_bundle(folder, inference)
    for name in ("scripts/__init__.py", "scripts/evil.py", "monai/__init__.py", "torch.py", "sitecustomize.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"import os\nos.system('touch {canary}')\nclass Net: pass\n")
    return folder


def endless_link(folder: Path, _canary: str) -> Path:
    """Let the metadata be a device that never ends."""
    write_bundle(folder, INFERENCE)
    (folder / "configs/metadata.json").unlink()
    (folder / "configs/metadata.json").symlink_to("/dev/zero")
    return folder


def pipe(folder: Path, _canary: str) -> Path:
    """Let the licence be a pipe that nobody writes into."""
    write_bundle(folder, INFERENCE)
    os.mkfifo(folder / "LICENSE")
    return folder


def linked_folder(folder: Path, canary: str) -> Path:
    """Let the modules lie elsewhere, where no digest sees them change."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "evil.py").write_text(f"import os\nos.system('touch {canary}')\nclass Net: pass\n")
    inference = copy.deepcopy(INFERENCE)
    named_script(inference, canary)
    bundle = write_bundle(folder / "bundle", inference)
    (bundle / "scripts").symlink_to(elsewhere)
    return bundle


def damaged_zip(folder: Path, canary: str) -> Path:
    """Write a zip whose configuration was compressed and then overwritten."""
    path = archived(lambda archive, _: None, "").write(folder, canary)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("configs/inference.json", json.dumps(INFERENCE))
        start = archive.getinfo("configs/inference.json").header_offset + 30 + len("configs/inference.json")
    content = bytearray(path.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    return path


def overlapping(folder: Path, _canary: str) -> Path:
    """Write a zip whose list names the same zeros ten thousand times."""
    path = folder / "bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("configs/inference.json", json.dumps({**INFERENCE, "imports": ["$import scripts"]}))
        archive.writestr("models/model.pt", small_weights())
        archive.writestr("docs/0", bytes(12 << 20))
        for number in range(1, 10_000):
            twin = copy.copy(archive.getinfo("docs/0"))
            twin.filename = f"docs/{number}"
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    return path


def run(canary: str) -> str:
    """Write the expression that makes the file."""
    return "$" + shell(canary)


def laughs(levels: int, last: str) -> str:
    """Write YAML whose aliases multiply by nine at each level."""
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join([*lines, last.format(f"*a{levels - 1}"), ""])


def merges(levels: int) -> str:
    """Write YAML whose merges multiply by nine at each level."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], y{n}: 1}}" for n in range(1, levels)]
    return "\n".join([*lines, "network_def: {_target_: DenseNet}", ""])


NETWORK_YAML = "network_def: {{_target_: DenseNet}}\n"
NET_2D = "{_target_: DenseNet, spatial_dims: 2, in_channels: 1, out_channels: 2"

CASES: dict[str, Case] = {
    # what is built
    "target: os.system as the network": put(
        "network_def", lambda c: {"_target_": "os.system", "command": f"touch {c}"}
    ),
    "target: subprocess as a step": step(lambda c: {"_target_": "subprocess.run", "args": ["touch", c]}),
    "target: eval as the inferer": put("inferer", lambda c: {"_target_": "builtins.eval", "source": shell(c)}),
    "target: exec as a step": step(lambda c: {"_target_": "exec", "source": shell(c)}),
    "target: open as a step": step(lambda c: {"_target_": "io.open", "file": c, "mode": "w"}),
    "target: nested in an argument": put(
        "network_def::act", lambda c: {"_target_": "os.system", "command": f"touch {c}"}
    ),
    "target: nested in a list of an argument": put(
        "network_def::norm", lambda c: ["batch", {"x": [{"_target_": "os.popen", "cmd": f"touch {c}"}]}]
    ),
    "target: a block's class": put("network_def::block", lambda c: {"_target_": "os.system", "command": f"touch {c}"}),
    "target: in the keys of a step": step(
        lambda c: {"_target_": "Resized", "keys": {"_target_": "os.system", "command": f"touch {c}"}, "spatial_size": 8}
    ),
    "target: an expression": put("network_def::_target_", run),
    "target: a reference": put("network_def::_target_", "@size"),
    "target: a list": put("network_def::_target_", ["os.system"]),
    "target: dunder name": put("network_def::_target_", "monai.networks.nets.DenseNet.__init__.__globals__"),
    "target: a module within an allowed package": put("network_def::_target_", "torch.nn.modules.module.torch.load"),
    "target: torch.hub through MONAI": put(
        "network_def", {"_target_": "monai.networks.nets.torch.hub.load", "repo_or_dir": "a/b", "model": "c"}
    ),
    "target: numpy through MONAI": step({"_target_": "monai.transforms.io.array.np.load", "file": "/etc/hostname"}),
    "target: a package that is not here": put("network_def::_target_", "monai.networks.nets.torchvision_fc.models"),
    "target: what MONAI imports": put("network_def::_target_", "monai.networks.nets.senet.load_state_dict_from_url"),
    "target: what MONAI downloads": step(
        {"_target_": "monai.networks.nets.senet.download_url", "url": "http://127.0.0.1:9/x"}
    ),
    "target: monai.bundle.run": step({"_target_": "monai.bundle.run", "run_id": "x"}),
    "target: monai.bundle.download": step({"_target_": "monai.bundle.download", "name": "x"}),
    "target: torch.load": put("network_def", {"_target_": "torch.load", "f": "models/model.pt"}),
    "target: torch.jit.load": put("network_def", {"_target_": "torch.jit.load", "f": "models/model.ts"}),
    "target: a scripting of MONAI": step({"_target_": "monai.networks.utils.convert_to_trt", "model": "@network_def"}),
    "target: a script of the bundle": Case(own_network, "“network_def::_target_” for “scripts.evil.Net”"),
    "target: a linked folder of scripts": Case(linked_folder, "“scripts”"),
    # expressions
    "expression: the network": put("network_def", run),
    "expression: an argument": put("network_def::in_channels", run),
    "expression: nested in lists": put("network_def::block_config", lambda c: [[[run(c)]]]),
    "expression: a step": step(run),
    "expression: all of the preprocessing": put("preprocessing", run),
    "expression: the inferer": put("inferer", run),
    "expression: the inferer's argument": put(
        "inferer", lambda c: {"_target_": "SlidingWindowInferer", "roi_size": run(c)}, "“inferer::roi_size"
    ),
    "expression: what a reference names": put("size", run),
    "expression: what a reference of a reference names": changed(
        lambda inference, canary: inference.update({"size": "@a::0", "a": [run(canary)]}), "“size"
    ),
    "expression: _disabled_": put("network_def::_disabled_", run),
    "expression: _disabled_ of a step": step(
        lambda c: {"_target_": "Resized", "_disabled_": run(c), "keys": "image", "spatial_size": 8}
    ),
    "expression: _requires_": put("network_def::_requires_", run),
    "expression: _requires_ of a reference": changed(
        lambda inference, canary: (
            inference["network_def"].update({"_requires_": ["@setup"]}),
            inference.update({"setup": run(canary)}),
        ),
        "“setup",
    ),
    "expression: keys of a step": step(lambda c: {"_target_": "Resized", "keys": run(c), "spatial_size": 8}),
    "expression: concatenated": put("network_def::in_channels", lambda c: f"$'{shell(c)[:5]}' + str({shell(c)})"),
    "expression: beside a reference": put("network_def::in_channels", lambda c: f"$@size or {shell(c)}"),
    "expression: in an index": put("network_def::in_channels", lambda c: f"$[1][{shell(c)}]"),
    "expression: builtins": put("network_def::in_channels", lambda c: f"$open('{c}', 'w')"),
    "expression: eval": put("network_def::in_channels", lambda c: f"$eval({shell(c)!r})"),
    "expression: subclasses": put("network_def::in_channels", "$().__class__.__base__.__subclasses__()"),
    "expression: an object's class": put("inferer", "$@network_def.__class__"),
    "expression: an object's method": put("network_def::in_channels", "$@size.to_bytes(4, 'big')"),
    "expression: a network's method": put("inferer", "$@network_def.load_state_dict({})"),
    "expression: a text with fields": put("network_def::in_channels", lambda c: "$f'{" + shell(c) + "}'"),
    "expression: a text's format": put("network_def::in_channels", "$'{0.__class__}'.format(1)"),
    "expression: an assignment": put("network_def::in_channels", lambda c: f"$(x := {shell(c)})"),
    "expression: a function": put("network_def::in_channels", lambda c: f"$(lambda: {shell(c)})()"),
    "expression: a comprehension": put("network_def::in_channels", lambda c: f"$[{shell(c)} for _ in [1]]"),
    "expression: a star": put("network_def::in_channels", "$[*@size]"),
    "expression: two statements": put("network_def::in_channels", lambda c: f"$1; {shell(c)}"),
    "expression: two lines": put("network_def::in_channels", lambda c: f"$1\n{shell(c)}"),
    "expression: torch.load": put("network_def::in_channels", "$torch.load('models/model.pt')"),
    "expression: torch.hub.load": put("network_def::in_channels", "$torch.hub.load('a/b', 'c')"),
    "expression: np.load": put("network_def::in_channels", "$np.load('/etc/hostname', allow_pickle=True)"),
    "expression: monai.bundle.run": put("network_def::in_channels", "$monai.bundle.run(config_file='x')"),
    "expression: an allowed call with more in it": put(
        "network_def::in_channels", lambda c: f"$torch.device({shell(c)})"
    ),
    "expression: an allowed call with names": put("network_def::in_channels", "$torch.device(type='cpu')"),
    "expression: a great power": put("network_def::in_channels", "$9 ** 9 ** 9 ** 9"),
    "expression: a great shift": put("network_def::in_channels", "$1 << 99999999999"),
    "expression: a great list": put("network_def::in_channels", "$[0] * 10 ** 10"),
    "expression: a great list of few letters": put("network_def::in_channels", "$[0] * 9999999999"),
    "expression: a great text": put("network_def::in_channels", "$'x' * 9999999999"),
    "expression: a great width": put("network_def::in_channels", "$'%9999999999d' % 1"),
    "expression: deep": put("network_def::in_channels", "$" + "-" * 9_000 + "1"),
    "expression: deep brackets": put("network_def::in_channels", "$" + "(" * 4_000 + "1" + ")" * 4_000),
    "expression: deep sums": put("network_def::in_channels", "$" + "1+" * 4_900 + "1"),
    "expression: long": put("network_def::in_channels", "$" + " " * 20_000 + "1"),
    "expression: null": put("network_def::in_channels", "$1\x00"),
    # imports
    "imports: a call": put("imports", lambda c: ["$import torch", run(c)], "“imports::1"),
    "imports: a text": put("imports", run, "“imports::0"),
    "imports: import": put("import", lambda c: [run(c)], "“import::0"),
    "imports: the bundle's scripts": put("imports", ["$import glob", "$import scripts"], "“imports::1"),
    "imports: a name of os": put("imports", ["$from subprocess import run as x"], "“imports::0"),
    "imports: with a semicolon": put("imports", lambda c: [f"$import os; {shell(c)}"], "“imports::0"),
    "imports: with a line": put("imports", lambda c: [f"$import os\n{shell(c)}"], "“imports::0"),
    "imports: several": put("imports", ["$import os, antigravity"], "“imports::0"),
    "imports: a browser": put("imports", ["$import antigravity"], "“imports::0"),
    "imports: a reference": put("imports", "@size", "“imports::0"),
    "imports: a mapping": put("imports", lambda c: {"a": run(c)}, "“imports::0"),
    # marks
    "mark: _mode_ debug": put("network_def::_mode_", "debug"),
    "mark: _mode_ callable": put("network_def::_mode_", "callable"),
    "mark: _mode_ expression": put("network_def::_mode_", run),
    "mark: _args_": put("network_def::_args_", ["@size"]),
    "mark: _wrap_": put("network_def::_wrap_", "x"),
    "mark: _mode_ of a step": step({"_target_": "Resized", "_mode_": "debug", "keys": "image", "spatial_size": 8}),
    "mark: __class__": put("network_def::__class__", {"_target_": "os.system"}),
    # macros
    "macro: a file above": put("network_def::in_channels", "%../../../../etc/passwd"),
    "macro: an absolute file": put("network_def::in_channels", "%/etc/hostname"),
    "macro: a file above that is JSON": put("network_def::in_channels", "%../../secret.json::a", "configs/secret.json"),
    "macro: another file's expression": Case(
        lambda folder, canary: (
            written("configs/other.json", lambda c: json.dumps({"a": {"b": run(c)}}).encode(), "").write(folder, canary)
            and put("network_def::in_channels", "%other.json::a::b").write(folder, canary)
        ),
        "“network_def::in_channels",
    ),
    "macro: this file's expression": changed(
        lambda inference, canary: inference.update({"a": run(canary), "network_def": {**NETWORK, "x": "%a"}}),
        "“network_def::x|“a",
    ),
    "macro: two files in a circle": Case(crossing, "“%other.json::size” in a circle"),
    "macro: itself": put("size", "%size", "“%size” in a circle"),
    "reference: itself": put("size", "@size", "“size” in a circle"),
    "reference: a circle of objects": put("network_def::x", "@network_def", "“network_def” in a circle"),
    "reference: a circle of expressions": put("size", "$@size + 1", "“size” in a circle"),
    "reference: a long chain": changed(chain, r"nested too deeply at “a\d+”"),
    "reference: doubling": changed(widening, r"too many parts, last “a\d+"),
    "reference: lists that multiply": changed(widening_list, "too many parts at “preprocessing"),
    "reference: doubling on its way": changed(doubling, r"too many references, last “\w+"),
    "reference: nothing": put("network_def::x", "@network_def::__class__", "__class__"),
    # files of the configuration
    "yaml: os.system": from_yaml(
        lambda c: f"network_def: !!python/object/apply:os.system ['touch {c}']\n", "inference.yaml"
    ),
    "yaml: a new object": from_yaml(
        lambda c: f"network_def: !!python/object/new:os.system ['touch {c}']\n", "inference.yaml"
    ),
    "yaml: a name": from_yaml("network_def: !!python/name:os.system\n", "inference.yaml"),
    "yaml: a module": from_yaml("network_def: !!python/module:antigravity\n", "inference.yaml"),
    "yaml: a billion laughs in the network": from_yaml(
        laughs(12, "network_def: {{_target_: DenseNet, x: {}}}"), "too many parts, last “network_def::x"
    ),
    "yaml: a billion laughs as the imports": from_yaml(
        laughs(12, "network_def: " + NET_2D.replace("{", "{{") + "}}\nimports: [{}]"), "“imports::0"
    ),
    "yaml: a billion laughs as a mark": from_yaml(
        laughs(12, "network_def: {{_target_: DenseNet, _mode_: {}}}"), "“network_def::_mode_"
    ),
    "yaml: a billion laughs as a target": from_yaml(
        laughs(12, "network_def: {{_target_: {}}}"), "“network_def::_target_"
    ),
    "yaml: a billion laughs as a step": from_yaml(
        laughs(12, "network_def: {{_target_: DenseNet}}\npreprocessing: {}"), "“preprocessing"
    ),
    "yaml: a billion laughs as keys": from_yaml(
        laughs(
            12, "network_def: {{_target_: DenseNet}}\npreprocessing: [{{_target_: Resized, keys: {}, spatial_size: 8}}]"
        ),
        "too many parts, last “preprocessing::0::keys",
    ),
    "yaml: a billion laughs as a network's name": from_yaml(laughs(12, "network_def: {}"), "“network_def"),
    "yaml: a billion merges": from_yaml(merges(12), "inference.yaml"),
    "yaml: an anchor in itself": from_yaml(
        "network_def: &a\n  _target_: DenseNet\n  x: *a\n", "nested too deeply at “network_def::x"
    ),
    "yaml: deep": from_yaml("network_def: " + "[" * 260_000 + "\n", "inference.yaml"),
    "yaml: sixty times sixty": from_yaml("network_def: 1" + ":59" * 300_000 + "\n", "inference.yaml"),
    **{
        f"yaml: not what its tag says: {text}": from_yaml(f"network_def: {text}\n", "inference.yaml")
        for text in ("!!int ''", "!!int '-'", "!!float ''", "!!bool x", "!!timestamp x", "!!binary =x", "!!int 0x")
    },
    "yaml: nothing but itself": from_yaml("network_def: &a {b: *a}\n", "nested too deeply at “network_def::b"),
    "yaml: a billion laughs as an argument of a step": from_yaml(
        laughs(12, NETWORK_YAML + "preprocessing: [{{_target_: Resized, keys: image, spatial_size: {}}}]"),
        "too many parts, last “preprocessing::0::spatial_size",
    ),
    "yaml: keys that are merged over and over": from_yaml(
        "a: &a {" + ", ".join(f"x{n}: 1" for n in range(4_000)) + "}\nb:\n" + "- {<<: *a}\n" * 6_000, "inference.yaml"
    ),
    "yaml: many files": Case(many_files, "too many letters, last in configs/o"),
    "yaml: several documents": from_yaml("network_def: 1\n---\nnetwork_def: 2\n", "inference.yaml"),
    "json: deep": written("configs/inference.json", b'{"network_def": ' + b"[" * 100_000, "inference.json"),
    "json: deep and whole": written(
        "configs/inference.json",
        b'{"network_def": ' + b"[" * 900 + b"]" * 900 + b"}",
        "too many parts, last “network_def",
    ),
    "json: a great number": written(
        "configs/inference.json", b'{"network_def": ' + b"9" * 1_000_000 + b"}", "inference.json"
    ),
    "json: too long": written("configs/inference.json", b'{"a": "' + bytes(1 << 25) + b'"}', "inference.json"),
    "json: many expressions": changed(
        lambda inference, _: inference["network_def"].update({"x": ["$" + "1+" * 100 + "1"] * 18_000}),
        "too many expressions, last “network_def::x",
    ),
    "file: a device": Case(endless_link, "metadata.json"),
    "file: a pipe": Case(pipe, "LICENSE"),
    "file: a link to the person's own": Case(linked_file, "LICENSE .* is a link to a place outside"),
    # weights
    "pickle: os.system": pickled(lambda c: {"weight": Runs(os.system, f"touch {c}")}),
    "pickle: os.system, of old": pickled(lambda c: {"weight": Runs(os.system, f"touch {c}")}, zipped=False),
    "pickle: eval in a model": pickled(lambda c: {"model": {"weight": Runs(eval, shell(c))}}),
    "pickle: exec in a state dict": pickled(
        lambda c: {"state_dict": {"weight": torch.zeros(1), "x": Runs(exec, shell(c))}}
    ),
    "pickle: open as the whole": pickled(lambda c: Runs(open, c, "w"), zipped=False),
    "pickle: a bare one": written(
        "models/model.pt", lambda c: pickle.dumps(Runs(os.system, f"touch {c}")), "“models/model.pt”"
    ),
    "pickle: a module": pickled(lambda c: torch.nn.ModuleList([torch.nn.Linear(1, 1)])),
    "pickle: getattr": pickled(
        lambda c: {"w": Runs(getattr, os, "system")} if c == "" else {"w": Runs(getattr, 1, "real")}
    ),
    "pickle: a claim of 137 GB": Case(forged_claim, "models/model.pt"),
    "weights: a safetensors that lies": written(
        "models/model.safetensors", struct.pack("<Q", 1 << 40) + b"{}", "model.safetensors", also="models/model.pt"
    ),
    # archives
    "zip: a path above": archived(lambda z, c: z.writestr("../../evil.py", "x"), "evil.py”"),
    "zip: an absolute path": archived(lambda z, c: z.writestr(c, "x"), "a path that leads outside"),
    "zip: a path above within": archived(lambda z, c: z.writestr("configs/../../evil.py", "x"), "evil.py”"),
    "zip: a path of Windows": archived(lambda z, c: z.writestr("configs\\..\\..\\evil.py", "x"), "evil.py”"),
    "zip: a drive of Windows": archived(lambda z, c: z.writestr("C:evil.py", "x"), "evil.py”"),
    "zip: a link": archived(linked_entry, ""),
    "zip: a claim of 100 GB": archived(claimed, "models/other.pt"),
    "zip: 256 MB of zeros in few bytes": archived(dense, "model.safetensors"),
    "zip: a gigabyte of zeros in many files": archived(many_dense, "claims to unpack"),
    "zip: one file ten thousand times": Case(overlapping, "claims to unpack"),
    "zip: a name twice": archived(lambda z, c: z.writestr("Configs/inference.json", "{}"), "inference.json” twice"),
    "zip: a detour": archived(lambda z, c: z.writestr("scripts//tmp/evil.py", "x"), "evil.py”"),
    "zip: twenty thousand files": archived(many_entries, "holds 20,0"),
    "zip: a name of a thousand folders": archived(long_name, "a/a/a"),
    "zip: within a zip": archived(lambda z, c: z.writestr("bundle.zip", "PK"), "is not a MONAI bundle", whole=False),
    "zip: damaged": Case(damaged_zip, "inference.json"),
    # sizes
    "size: channels": sized("memory .*“network_def::init_features”", init_features=2_000_000, growth_rate=900_000),
    "size: channels of the input": sized(
        "memory .*“network_def::in_channels”", in_channels=1 << 30, init_features=1 << 10
    ),
    "size: beyond any number": sized("memory .*“network_def::in_channels”", in_channels=1 << 70),
    "size: many layers": sized("memory .*“network_def::block_config::0”", block_config=[1_000_000_000]),
    "size: many medium layers": sized("memory .*“network_def”", init_features=512, growth_rate=512, block_config=[400]),
    "size: many small layers": sized("memory .*“network_def”", block_config=[60_000], growth_rate=1),
    "size: axes": sized("memory .*“network_def::spatial_dims”", spatial_dims=1_000_000_000),
    "size: a layer of torch": put(
        "network_def",
        {"_target_": "torch.nn.Linear", "in_features": 200_000, "out_features": 200_000},
        "memory .*“network_def”",
    ),
    "size: a table of torch": put(
        "network_def",
        {"_target_": "torch.nn.Embedding", "num_embeddings": 1_000_000, "embedding_dim": 25_000},
        "memory .*“network_def”",
    ),
    "size: a transformer": put(
        "network_def",
        {
            "_target_": "ViT",
            "in_channels": 1,
            "img_size": [65_536, 65_536],
            "patch_size": [2, 2],
            "spatial_dims": 2,
            "classification": True,
        },
        "memory .*“network_def”",
    ),
    "size: a classifier's in_shape": put(
        "network_def",
        {
            "_target_": "monai.networks.nets.Classifier",
            "in_shape": [1, 60_000, 60_000],
            "classes": 2,
            "channels": [2],
            "strides": [1],
        },
        "memory .*“network_def”",
    ),
    "size: a filter within the inferer": put(
        "inferer",
        {"_target_": "SlidingWindowInferer", "roi_size": [65_535, 65_535], "cache_roi_weight_map": True},
        "“inferer”",
    ),
    "size: a network in the keys": step(
        {
            "_target_": "Resized",
            "keys": {"_target_": "torch.nn.Linear", "in_features": 200_000, "out_features": 200_000},
            "spatial_size": 8,
        },
        "memory .*“preprocessing::transforms::2::keys”",
    ),
    "size: a network that the keys refer to": changed(
        large_keys, "memory .*“big” .Linear.|memory .*“preprocessing::transforms::2::keys"
    ),
    "size: a network that the postprocessing refers to": changed(large_activation, ""),
    "size: a classifier's outputs": described(
        lambda m: m["network_data_format"]["outputs"]["pred"].update(num_channels=1 << 40, channel_def={}), ""
    ),
    "size: the input": described(
        lambda m: m["network_data_format"]["inputs"]["image"].update(spatial_shape=[1 << 20, 1 << 20]), "metadata.json"
    ),
    "size: the input's channels": described(
        lambda m: m["network_data_format"]["inputs"]["image"].update(num_channels=10**4000), "metadata.json"
    ),
    "size: the input's values": described(
        lambda m: m["network_data_format"]["inputs"]["image"].update(value_range=[0, 10**4000]), ""
    ),
    "size: an upsampling": wide(
        {
            "_target_": "UpSample",
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 1,
            "scale_factor": 20_000,
            "mode": "nontrainable",
        },
        {"x": torch.zeros(1)},
        "models/model.pt|memory|does not|fit",
    ),
    "size: a padded convolution": wide(
        {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 1, "padding": 60_000},
        {"weight": torch.zeros(2, 1, 1, 1), "bias": torch.zeros(2)},
        "memory|GiB",
    ),
    "size: a wide convolution": wide(
        {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 20_000, "kernel_size": 1},
        {"weight": torch.zeros(20_000, 1, 1, 1), "bias": torch.zeros(20_000)},
        "memory|GiB",
        2048,
    ),
    "size: a layer without a size": wide(
        {"_target_": "torch.nn.LazyConv2d", "out_channels": 2, "kernel_size": 1},
        {"weight": torch.zeros(2, 1, 1, 1)},
        "“network_def::_target_”",
    ),
    "size: long names": changed(long_names, "too many parts, last “network_def"),
    "size: a long reference": put("network_def::in_channels", "@a" + "::a" * 100_000, "too many parts, last “a::a"),
    "size: a long key": changed(
        lambda inference, canary: inference["network_def"].update({"x" * 100_000: run(canary)}),
        "too many parts, last “network_def",
    ),
    # what a scan would make large
    "scan: a resize": step(
        {"_target_": "Resized", "keys": "image", "spatial_size": [65_535, 65_535]}, "memory|does not fit", used=True
    ),
    "scan: a pad": step(
        {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [250_000, 250_000]},
        "memory|does not fit",
        used=True,
    ),
    "scan: a pad of numpy's": step(
        {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [250_000, 250_000], "mode": "linear_ramp"},
        "memory|does not fit",
        used=True,
    ),
    "scan: a border": step(
        {"_target_": "BorderPadd", "keys": "image", "spatial_border": 300_000}, "memory|does not fit", used=True
    ),
    "scan: a spacing": step(
        {"_target_": "Spacingd", "keys": "image", "pixdim": [1e-5, 1e-5]}, "memory|does not fit", used=True
    ),
    "scan: a zoom": step(
        {"_target_": "Zoomd", "keys": "image", "zoom": 30_000, "keep_size": False}, "memory|does not fit", used=True
    ),
    "scan: channels repeated": step(
        {"_target_": "RepeatChanneld", "keys": "image", "repeats": 500_000_000}, "repeats.* is larger than"
    ),
    "scan: bins of a histogram": step(
        {"_target_": "HistogramNormalized", "keys": "image", "num_bins": 20_000_000_000},
        "memory|does not fit",
        used=True,
    ),
    "scan: a wide median": step(
        {"_target_": "MedianSmoothd", "keys": "image", "radius": 60_000}, "memory|does not fit", used=True
    ),
    # transforms that read, write or call
    "transform: Lambda": step(lambda c: {"_target_": "Lambda", "func": run(c)}),
    "transform: Lambdad": step(lambda c: {"_target_": "monai.transforms.Lambdad", "keys": "image", "func": run(c)}),
    "transform: RandLambdad": step(lambda c: {"_target_": "RandLambdad", "keys": "image", "func": run(c)}),
    "transform: LambdaDict": step({"_target_": "LambdaDict", "keys": "image", "func": "os.system"}),
    "transform: LoadImage nested": step(
        {
            "_target_": "Invertd",
            "keys": "image",
            "orig_keys": "image",
            "transform": {"_target_": "LoadImaged", "keys": "image"},
        }
    ),
    "transform: SaveImage nested": step(
        lambda c: {
            "_target_": "Invertd",
            "keys": "image",
            "orig_keys": "image",
            "transform": {"_target_": "SaveImaged", "keys": "image", "output_dir": c},
        }
    ),
    "transform: SaveClassificationd": step(
        lambda c: {"_target_": "SaveClassificationd", "keys": "image", "filename": c}
    ),
    "transform: WriteFileMapping": step(lambda c: {"_target_": "WriteFileMapping", "mapping_file_path": c}),
    "transform: TorchVision": step({"_target_": "TorchVision", "name": "ColorJitter"}),
    "transform: TorchIOd": step({"_target_": "TorchIOd", "keys": "image", "name": "Lambda"}),
    "transform: a function for a mask": step(
        lambda c: {"_target_": "MaskIntensityd", "keys": "image", "select_fn": run(c)}
    ),
    "transform: a function by its name": step(
        {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "select_fn": "os.system"},
        "does not fit the scan",
        used=True,
    ),
    "transform: a filter": step(lambda c: {"_target_": "ImageFilterd", "keys": "image", "kernel": run(c)}),
    "transform: a long wait": step({"_target_": "SimulateDelayd", "keys": "image", "delay_time": 1e9}),
    # networks that load or download
    "network: a language model": put(
        "network_def",
        {
            "_target_": "Transchex",
            "in_channels": 1,
            "img_size": [32, 32],
            "patch_size": [8, 8],
            "num_classes": 2,
            "num_language_layers": 1,
            "num_vision_layers": 1,
            "num_mixed_layers": 1,
        },
    ),
    "network: a text's encoding": put(
        "network_def", {"_target_": "monai.networks.blocks.TextEncoder", "out_channels": 2}
    ),
    "network: a checkpoint": put("network_def", lambda c: {"_target_": "CellSamWrapper", "checkpoint": c}),
    "network: many processes": put(
        "network_def", {"_target_": "torch.nn.parallel.DistributedDataParallel", "module": {**NETWORK}}
    ),
    "network: a merger of any module": put(
        "network_def::x", {"_target_": "PatchInferer", "merger_cls": "antigravity.webbrowser"}
    ),
    "network: pretrained": put("network_def::pretrained", True, ""),
    "network: an address": put("network_def::pretrained_url", "http://127.0.0.1:9/weights.pth", ""),
    # what is never run
    "unused: run": put("run", lambda c: [run(c)], ""),
    "unused: initialize": put("initialize", lambda c: [run(c)], ""),
    "unused: evaluator": put("evaluator", lambda c: {"_target_": "os.system", "command": f"touch {c}"}, ""),
    "unused: dataset": put("dataset", lambda c: {"_target_": "Dataset", "data": run(c)}, ""),
    "unused: handlers": put("handlers", lambda c: [{"_target_": "os.system", "command": f"touch {c}"}], ""),
    "unused: datalist": put("datalist", lambda c: f"$list({shell(c)})", ""),
    "unused: postprocessing": put(
        "postprocessing::transforms::1", lambda c: {"_target_": "Lambdad", "func": run(c)}, ""
    ),
    "unused: all of the postprocessing": put("postprocessing", run, ""),
    "unused: a loader": step(lambda c: {"_target_": "scripts.LoadImageEvil", "reader": run(c)}, ""),
    "unused: a step of the label": step(lambda c: {"_target_": "Lambdad", "keys": "label", "func": run(c)}, ""),
    "unused: a description": put("network_def::_desc_", "what it is", ""),
    "unused: an import of torch": put("imports", ["$import torch", "$from os import system as x"], ""),
    "unused: a module called scripts": with_script("scripts/__init__.py"),
    "unused: a module called monai": with_script("monai/__init__.py"),
    "unused: a module called torch": with_script("configs/torch.py"),
    "unused: a module called sitecustomize": with_script("sitecustomize.py"),
    "unused: a train.json": written("configs/train.json", lambda c: json.dumps({"network_def": run(c)}).encode(), ""),
    "unused: a logging.conf": written(
        "configs/logging.conf", lambda c: f"[handlers]\nargs=({shell(c)},)\n".encode(), ""
    ),
    "unused: expressions in the metadata": described(
        lambda m: m.update(name=run("CANARY"), intended_use=run("CANARY"), explanation={"target_layer": run("CANARY")}),
        "",
    ),
}


# The process that opens them

_MAKERS = ("collections/__init__.py", "dataclasses.py")
"""Modules of Python's own that make classes of a text."""


@dataclass
class Watch:
    """Notes what a process does that opening a bundle never needs."""

    allowed: tuple[str, ...]
    on: bool = False

    def __post_init__(self) -> None:
        """Begin with nothing seen."""
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at one deed."""
        if not self.on:
            return
        bad = event.startswith(
            ("os.system", "subprocess", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.startfile")
        )
        bad |= event.startswith(
            ("socket.", "shutil.", "os.remove", "os.rename", "os.link", "os.symlink", "pickle.find")
        )
        bad |= event.startswith(("webbrowser", "urllib", "os.putenv", "os.mkdir", "os.chmod", "ctypes.dlopen"))
        if event == "open":
            path, mode, flags = (*arguments, None, None)[:3]
            writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
            bad |= writes or (isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)))
            bad |= str(path) in ("/etc/passwd", "/etc/hostname")
        if event == "import":
            bad |= str(arguments[0]).partition(".")[0] in ("scripts", "antigravity", "this", "evil", "sitecustomize")
        if event == "exec":
            bad |= not self._known(arguments[0].co_filename)
        if bad:
            self.seen.append(f"{event} {arguments!r}"[:300])
            self.on = False  # the traceback of what follows opens files of its own
            raise PermissionError(f"the watch saw {event}")

    def _known(self, file: str) -> bool:
        """Whether code is that of an installed module, or made of a text by one of those that do."""
        if file.startswith("<") and not file.startswith("<frozen"):
            return sys._getframe(2).f_code.co_filename.endswith(_MAKERS)
        return file.startswith(self.allowed)


def main() -> None:
    """Open every bundle, and print what came of each as JSON."""
    import faulthandler
    import resource

    import monai.bundle
    import numpy as np

    from napari_gradcam import GradCamError, Volume, explain, load_classifier
    from napari_gradcam.classifiers import trust
    from napari_gradcam.classifiers.bundle import inspect_bundle
    from napari_gradcam.classifiers.checking import check_bundle

    most = 10 << 30  # so that a bomb that goes off ends this process and not the machine
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    paths = {sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")}
    here = Path(__file__).resolve().parents[2]
    watch = Watch((*paths, str(here / "napari_gradcam"), "<frozen"))
    scan = Volume(np.random.default_rng(0).normal(size=(20, 24, 1)).astype(np.float32), np.eye(4), name="noise")
    with tempfile.TemporaryDirectory() as place:
        trust._store = lambda: Path(place) / "trusted.json"
        plain = write_bundle(Path(place) / "plain", INFERENCE)
        explain(scan, load_classifier(plain))  # loads every module there is to load
        sys.addaudithook(watch)
        wanted = sys.argv[1:] or CASES
        for number, name in enumerate(name for name in CASES if name in wanted):
            case = CASES[name]
            folder = Path(place) / f"bundle {number}"
            folder.mkdir()
            canary = str(Path(place) / f"canary{number}")
            path = case.write(folder, canary)
            result: dict[str, Any] = {"name": name, "said": "", "checked": "", "traceback": ""}
            faulthandler.dump_traceback_later(HANGS, exit=True)
            watch.seen, result["seconds"] = [], 0.0
            asks = (
                lambda path, result=result: result.update(checked=check_bundle(path).problem or ""),
                inspect_bundle,
                lambda path, used=case.used: _use(load_classifier(path), scan, explain, used),
            )
            for ask in asks:
                watch.on, start = True, time.process_time()  # other processes may keep this one waiting
                try:
                    ask(path)
                except GradCamError as error:
                    result["said"] = str(error)
                    result["kind"] = type(error).__name__
                except BaseException as error:
                    watch.on = False
                    result["traceback"] += f"{type(error).__name__}: {error}"[:300]
                watch.on = False
                result["seconds"] = max(result["seconds"], time.process_time() - start)
            result["seen"] = watch.seen
            result["canary"] = Path(canary).exists()
            result["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(json.dumps(result), flush=True)
            shutil.rmtree(folder)
        faulthandler.cancel_dump_traceback_later()
    assert monai.bundle  # loaded above: part of what the modules are that are there


def _use(classifier: Any, scan: Any, explain: Callable[..., Any], used: bool) -> None:
    if used:
        explain(scan, classifier)
    else:
        classifier.layers()


if __name__ == "__main__":
    main()

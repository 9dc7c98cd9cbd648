"""Weights open however they were saved, go into the network they belong to, and run nothing."""

from __future__ import annotations

import collections
import io
import json
import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import torch
from monai.networks.nets import Classifier, ViT
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_gradcam import GradCamError
from napari_gradcam.classifiers import pickles, weights
from napari_gradcam.classifiers.weights import UnsafeWeightsError, load_state, read_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LABEL = "models/model.pt of the bundle liver"


def network() -> nn.Module:
    """Give a small network with weights, buffers and a counter."""
    torch.manual_seed(0)
    return nn.Sequential(collections.OrderedDict(conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm2d(2), out=nn.Linear(2, 2)))


def own_names_begin_like_a_wrapper() -> nn.Module:
    """Give MONAI's Classifier, whose own names begin with ``net.`` and ``final.``."""
    torch.manual_seed(0)
    return Classifier((1, 8, 8), 2, channels=(2, 2), strides=(2, 2))


def saved(content: Any, tmp_path: Path, **how: Any) -> Path:
    path = tmp_path / "model.pt"
    torch.save(content, path, **how)
    return path


def read(path: Path, **how: Any) -> dict[str, Tensor]:
    return read_state(path, path.name, LABEL, **how)


def assert_loaded(target: nn.Module, state: dict[str, Tensor]) -> None:
    """Hold what a network has against what was saved."""
    for name, tensor in target.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def blank(like: nn.Module) -> nn.Module:
    """Empty a network, so that what it holds later was loaded."""
    for tensor in like.state_dict().values():
        tensor.zero_()
    return like


# Wrapped files


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        dict,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": []}},
        lambda state: {"model_state_dict": state, "loss": torch.ones(())},
        lambda state: {"network": state},
        lambda state: {"net": state},
        lambda state: {"weights": state},
        lambda state: {"model": {"state_dict": state, "epoch": 3}},
        lambda state: {"network_weights": state, "epoch": 3},
        lambda state: {"rng": torch.zeros(5, dtype=torch.uint8), "state_dict": state},
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_what_was_saved_around_the_weights_is_taken_off(
    tmp_path: Path, wrap: Callable[[Any], Any], legacy: bool
) -> None:
    state = network().state_dict()
    given = read(saved(wrap(state), tmp_path, _use_new_zipfile_serialization=not legacy))
    target = blank(network())
    assert load_state(target, given, LABEL) == ()
    assert_loaded(target, state)


def test_a_lightning_checkpoint_opens_and_what_is_no_part_of_the_network_is_said(tmp_path: Path) -> None:
    state = network().state_dict()
    lightning = {f"model.{name}": tensor for name, tensor in state.items()}
    lightning |= {"criterion.weight": torch.ones(2), "train_acc.tp": torch.zeros(1)}
    checkpoint = {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": lightning,
        "hyper_parameters": {"lr": 1e-3},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9), "dirpath": "runs"}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]}],
    }
    target = blank(network())
    notices = load_state(target, read(saved(checkpoint, tmp_path)), LABEL)
    assert notices == (f"2 entries of {LABEL} (first criterion.weight) are no part of the network and were left out.",)
    assert_loaded(target, state)


def test_safetensors_open_from_a_path_and_from_bytes(tmp_path: Path) -> None:
    state = network().state_dict()
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    for source in (path, io.BytesIO(path.read_bytes())):
        target = blank(network())
        load_state(target, read_state(source, path.name, LABEL), LABEL)
        assert_loaded(target, state)


def test_bytes_of_a_zipped_bundle_give_the_same_as_the_file(tmp_path: Path) -> None:
    path = saved(network().state_dict(), tmp_path)
    given = read_state(io.BytesIO(path.read_bytes()), path.name, LABEL)
    for name, tensor in read(path).items():
        torch.testing.assert_close(given[name], tensor, rtol=0, atol=0)


# Names


@pytest.mark.parametrize("make", [network, own_names_begin_like_a_wrapper])
@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "net.", "network.", "_orig_mod.", "model._orig_mod.net.", "module.model.", "net.net."],
)
def test_prefixes_of_wrappers_are_taken_off(make: Callable[[], nn.Module], prefix: str) -> None:
    state = make().state_dict()
    target = blank(make())
    assert load_state(target, {prefix + name: tensor for name, tensor in state.items()}, LABEL) == ()
    assert_loaded(target, state)


def test_a_module_compiled_inside_of_the_network_is_found() -> None:
    state = network().state_dict()
    target = blank(network())
    load_state(target, {name.replace("norm.", "norm._orig_mod."): value for name, value in state.items()}, LABEL)
    assert_loaded(target, state)


@pytest.mark.parametrize(
    "add",
    [
        lambda state: {
            **{f"model.{k}": v for k, v in state.items()},
            **{f"ema_model.{k}": v for k, v in state.items()},
        },
        lambda state: {"state_dict": state, "state_dict_ema": state},
        lambda state: {"model": state, "ema": {"module": state, "decay": 0.9}},
    ],
)
def test_an_averaged_copy_is_not_taken_in_silence(
    tmp_path: Path, add: Callable[[dict[str, Tensor]], dict[str, Any]]
) -> None:
    target = blank(network())
    state = network().state_dict()
    given = read(saved(add(state), tmp_path))
    notices = load_state(target, given, LABEL)
    assert_loaded(target, state)
    if len(given) > len(state):
        assert "ema" in notices[0]


@pytest.mark.parametrize("name", ["ema", "ema_state_dict"])
def test_weights_that_are_averaged_alone_are_refused_by_name(tmp_path: Path, name: str) -> None:
    given = read(saved({name: network().state_dict(), "epoch": 3}, tmp_path))
    with pytest.raises(GradCamError, match=rf"unknown \(first {name}\.conv\.weight\)"):
        load_state(network(), given, LABEL)


def test_two_sets_of_weights_that_both_fit_are_refused_unless_they_are_the_same() -> None:
    state = network().state_dict()
    twice = {f"{prefix}.{name}": tensor for prefix in ("model", "net") for name, tensor in state.items()}
    target = blank(network())
    load_state(target, twice, LABEL)
    assert_loaded(target, state)
    twice["net.out.bias"] = twice["net.out.bias"] + 1
    with pytest.raises(GradCamError, match=r"more than one way \(net\.conv\.weight and model\.conv\.weight\)"):
        load_state(target, twice, LABEL)
    both = {**state, "conv._orig_mod.bias": state["conv.bias"] + 1}
    with pytest.raises(GradCamError, match=r"more than one way \(conv\.bias and conv\._orig_mod\.bias\)"):
        load_state(target, both, LABEL)


def test_two_checkpoints_in_one_file_are_refused_unless_they_are_the_same(tmp_path: Path) -> None:
    one, other = network().state_dict(), blank(network()).state_dict()
    with pytest.raises(GradCamError, match="more than one way"):
        load_state(network(), read(saved({"model": one, "net": other}, tmp_path)), LABEL)
    with pytest.raises(GradCamError, match=r"unknown \(first student\.conv\.weight\)"):
        load_state(network(), read(saved({"student": one, "teacher": other}, tmp_path)), LABEL)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.pop("model.out.bias"), r"1 missing \(first out\.bias\)"),
        (
            lambda state: state.update({"model.extra.weight": torch.ones(1)}),
            r"1 unknown \(first model\.extra\.weight\)",
        ),
        (
            lambda state: state.update({"model.out.weight": torch.ones(3, 2)}),
            r"1 of another size \(first out\.weight: \[3, 2\], not \[2, 2\]\)",
        ),
        (
            lambda state: state.update({"model.out.weight": torch.ones(2, 2, dtype=torch.int8)}),
            r"1 of another kind \(first out\.weight: torch\.int8, not torch\.float32\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_first_that_does_not(
    change: Callable[[dict[str, Tensor]], Any], sentence: str
) -> None:
    state = {f"model.{name}": tensor for name, tensor in network().state_dict().items()}
    change(state)
    target = network()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(GradCamError, match=rf"^The weights in {LABEL} do not fit its network: {sentence}; give the"):
        load_state(target, state, LABEL)
    assert_loaded(target, before)


def test_half_precision_becomes_the_networks_own() -> None:
    state = {name: t.half() if t.is_floating_point() else t for name, t in network().state_dict().items()}
    target = blank(network())
    load_state(target, state, LABEL)
    for name, tensor in target.state_dict().items():
        assert tensor.dtype == network().state_dict()[name].dtype
        torch.testing.assert_close(tensor, state[name].to(tensor.dtype), rtol=0, atol=0)


def test_a_counter_that_files_of_old_do_not_have_is_not_asked_for() -> None:
    state = {name: t for name, t in network().state_dict().items() if "num_batches" not in name}
    target = blank(network())
    assert load_state(target, state, LABEL) == ()
    torch.testing.assert_close(target.state_dict()["out.weight"], state["out.weight"])


def test_layers_that_transformers_of_old_did_not_use_are_left_out_and_said() -> None:
    def transformer() -> nn.Module:
        torch.manual_seed(0)
        return ViT(1, (8, 8), 4, hidden_size=8, mlp_dim=8, num_layers=1, num_heads=2, spatial_dims=2)

    state = transformer().state_dict()
    target = blank(transformer())
    (notice,) = load_state(target, {**state, "blocks.0.cross_attn.to_q.weight": torch.ones(8, 8)}, LABEL)
    assert "1 entry" in notice
    assert "blocks.0.cross_attn.to_q.weight" in notice
    assert_loaded(target, state)


# What is refused


class Payload:
    """Runs `function` where a pickle is opened that trusts it."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:  # noqa: D105
        return self._call


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle", "bytes"])
def test_a_pickle_that_asks_for_code_is_refused_by_name_and_runs_nothing(tmp_path: Path, how: str) -> None:
    canary = tmp_path / "canary"
    content = {"state_dict": network().state_dict(), "payload": Payload(open, str(canary), "w")}
    path = tmp_path / "model.pt"
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(content["payload"], protocol=4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how != "legacy")
    source: Any = io.BytesIO(path.read_bytes()) if how == "bytes" else path
    with pytest.raises(UnsafeWeightsError, match=rf"{LABEL} hold more than weights \(they ask for io\.open\)") as told:
        read_state(source, "model.pt", LABEL)
    assert told.value.asks == "io.open"
    assert not canary.exists()


def test_a_network_that_was_pickled_whole_is_refused_unless_it_is_trusted(tmp_path: Path) -> None:
    whole = nn.Linear(2, 2)
    for content in (whole, {"model": whole}):
        path = saved(content, tmp_path)
        with pytest.raises(UnsafeWeightsError, match=r"torch\.nn\.modules\.linear\.Linear"):
            read(path)
        assert_loaded(whole, read(path, trusted=True))


def test_torchscript_is_refused(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)
    recwarn.clear()
    with pytest.raises(GradCamError, match="is TorchScript, a program that cannot be looked into"):
        read(path)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, part in files.items():
            archive.writestr(name, part)
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("model.pt", b"", "are empty"),
        ("model.pt", b"no weights", "is damaged or holds no weights"),
        ("model.pt", b"PK\x03\x04 no zip", "is damaged or holds no weights"),
        ("model.pt", zipped({"readme.txt": b"text"}), "is damaged or holds no weights"),
        ("model.pt", pickle.dumps({"weight": 1}, protocol=4), "is damaged or holds no weights"),
        ("model.safetensors", b"no weights", "is damaged or holds no weights"),
        ("model.safetensors", struct.pack("<Q", 1 << 62) + b"{}", "is damaged or holds no weights"),
        ("model.pt", zipped({"a/data.pkl": bytes(1 << 24)}, zipfile.ZIP_DEFLATED), "far larger than the file"),
    ],
)
def test_what_holds_no_weights_is_refused(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        with pytest.raises(GradCamError, match=sentence):
            read_state(source, name, LABEL)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {}}, {"model": {"epoch": 3}}, 5])
def test_files_without_tensors_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(GradCamError, match="holds no state dict"):
        read(saved(content, tmp_path))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.zeros(3, device="meta"),
        lambda: torch.zeros(3, dtype=torch.complex64),
        lambda: torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_that_are_no_plain_numbers_are_refused_by_name(tmp_path: Path, make: Callable[[], Tensor]) -> None:
    with pytest.raises(GradCamError, match=r"hold at odd\.weight a tensor that is sparse"):
        read(saved({"odd.weight": make()}, tmp_path))


def test_a_safetensors_header_of_absurd_shapes_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [10**6, 10**5], "data_offsets": [0, 4 * 10**11]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(GradCamError, match="is damaged or holds no weights"):
        read(path)


@pytest.mark.parametrize("stride", [0, 1])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("in_memory", [False, True])
def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(
    tmp_path: Path, stride: int, legacy: bool, in_memory: bool
) -> None:
    class Huge:
        def __reduce__(self) -> Any:
            storage = torch.zeros(4)._typed_storage()
            return (torch._utils._rebuild_tensor_v2, (storage, 0, (10**11,), (stride,), False, {}))

    path = saved({"weight": Huge()}, tmp_path, _use_new_zipfile_serialization=not legacy)
    source: Any = io.BytesIO(path.read_bytes()) if in_memory else path
    with pytest.raises(GradCamError, match=r"claims tensors far larger than the file|is damaged or holds no weights"):
        read_state(source, path.name, LABEL)


@pytest.mark.parametrize("call", [(torch.Tensor, 10**9), (torch.FloatStorage, 10**9)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_memory_that_a_pickle_asks_for_is_refused(tmp_path: Path, call: tuple[Any, ...]) -> None:
    held = Payload(*call)
    if call[0] is torch.FloatStorage:
        held = Payload(torch._utils._rebuild_tensor_v2, held, 0, (1,), (1,), False, {})
    with pytest.raises(GradCamError, match=r"claims tensors far larger than the file|is damaged or holds no weights"):
        read(saved({"weight": held}, tmp_path))


def test_what_a_pickle_hangs_on_a_mapping_is_not_called(tmp_path: Path) -> None:
    class Odd:
        def __reduce__(self) -> Any:
            hung = {"items": 1, "keys": 2, "get": 3}
            return (collections.OrderedDict, (), hung, None, iter({"weight": nn.Parameter(torch.ones(2))}.items()))

    given = read(saved({"state_dict": Odd()}, tmp_path))
    assert type(given["weight"]) is Tensor
    assert given.keys() == {"weight"}


# What would take all memory or time


def call(name: bytes, *arguments: bytes) -> bytes:
    return b"c" + name.replace(b".", b"\n", 1) + b"\n(" + b"".join(arguments) + b"tR"


def text(letters: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(letters)) + letters


DOUBLED = b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60))
"""A tuple of two of a tuple of two …: 2⁶⁰ in 240 bytes."""

LISTS = b"".join(b"]q%c" % n for n in range(60))
"""Sixty empty lists, which are remembered to be filled with each other."""

BOMBS = {
    "hashing takes years": (b"}" + DOUBLED + b"K\x01s", "multiplies what it holds"),
    "hashing takes years, in a set": (call(b"builtins.set", b"]" + DOUBLED + b"a"), "multiplies what it holds"),
    "deeper than Python": (b"}" + b")" + b"\x85" * 1000 + b"K\x01s", "nested too deeply"),
    "deeper than the stack": (b"}" + b")" + b"\x85" * 10**6 + b"K\x01s", "nested too deeply"),
    "8 GiB": (b"}K\x00" + call(b"builtins.bytearray", b"\x8a\x05\x00\x00\x00\x00\x02") + b"s", "for a bytearray"),
    "8 GiB, by Python 2's name": (call(b"__builtin__.bytearray", b"J\x00\x00\x00\x00"), "for a bytearray"),
    "bytes that double": (
        b"}K\x00" + call(b"_codecs.encode", text(b"a"), text(b"hex")) + b"s",
        "another codec",
    ),
    "latin1 of what is no text": (
        call(b"_codecs.encode", call(b"_codecs.encode", text(b"a"), text(b"latin1")), text(b"latin1")),
        "another codec",
    ),
    "lists filled after use": (LISTS + b"]q\x64(h\x00h\x00eh\x00(h\x01h\x01e", "fills what it has used"),
    "calls a value": (b")" + b")R", "calls what has no name"),
    "more instructions than any": (b"](" + b"N" * 20_000 + b"e", "too many instructions"),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_take_all_time_or_memory_is_refused_before_it_is_obeyed(
    tmp_path: Path, bomb: str, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickles, "MOST_INSTRUCTIONS", 10_000)
    instructions, sentence = BOMBS[bomb]
    content = b"\x80\x02" + instructions + b"."
    path = tmp_path / "model.pt"
    if legacy:
        torch.save({}, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes().replace(pickle.dumps({}, 2), content, 1))
    else:
        path.write_bytes(zipped({"archive/data.pkl": content, "archive/version": b"3\n"}))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was obeyed"))
    with pytest.raises(GradCamError, match=rf"^The weights in {LABEL} are no state dict .*({sentence})"):
        read(path)


def test_a_pickle_longer_than_any_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LONGEST", 100)
    with pytest.raises(GradCamError, match=r"no state dict as PyTorch writes it \(it is too long\)"):
        read(saved(network().state_dict(), tmp_path))


def test_what_a_checkpoint_of_lightning_holds_beside_tensors_is_none_of_that(tmp_path: Path) -> None:
    shared = (1, 2)
    checkpoint = {
        "state_dict": network().state_dict(),
        "lr_schedulers": [{"milestones": collections.Counter({30: 1, 60: 1}), "_last_lr": [0.1]}],
        "hyper_parameters": {
            "size": [shared] * 50,
            "tags": {"a", "b"},
            "hash": b"\xff\x00",
            (1, 2): torch.Size((1, 2)),
        },
        "optimizer_states": [{"state": {n: {"exp_avg": torch.zeros(2)} for n in range(300)}}],
        "hparams_name": "kwargs",
    }
    for legacy in (False, True):
        given = read(saved(checkpoint, tmp_path, _use_new_zipfile_serialization=not legacy))
        assert given.keys() == network().state_dict().keys()


def test_more_tensors_than_any_network_has_are_refused(tmp_path: Path) -> None:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"a{n}": empty for n in range(20_001)}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(GradCamError, match="holds more than 20,000 tensors"):
            read_state(source, path.name, LABEL)


def test_more_tensors_than_any_network_has_are_refused_in_a_pickle_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MOST_TENSORS", 5)
    with pytest.raises(GradCamError, match="holds more than 5 tensors"):
        read(saved(network().state_dict(), tmp_path))

"""A bundle runs its own code where a person says so, and only as long as not a byte of it changes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_gradcam import GradCamError, load_classifier
from napari_gradcam.classifiers import trust
from napari_gradcam.classifiers.bundle import inspect_bundle
from napari_gradcam.classifiers.checking import check_bundle
from napari_gradcam.classifiers.files import BundleFiles
from napari_gradcam.classifiers.trust import UntrustedError
from tests.classifiers.hostile import INFERENCE, Runs, small_weights, write_bundle

SCRIPT = """
from monai.networks.nets import DenseNet
from monai.transforms import MapTransform
from pathlib import Path

from scripts.late import amount

Path({canary!r}).touch()


class Net(DenseNet):
    said = {said!r}


class Brighter(MapTransform):
    def __call__(self, data):
        return {{**data, "image": data["image"] + amount}}
"""


def scripted(folder: Path, said: str = "first", canary: str = "/dev/null") -> Path:
    """Write a bundle whose network and one of its transforms are its own."""
    network = {**INFERENCE["network_def"], "_target_": "scripts.own.Net"}
    step = {"_target_": "scripts.own.Brighter", "keys": "image"}
    inference = {**INFERENCE, "imports": ["$import scripts"], "network_def": network, "preprocessing": [step]}
    write_bundle(folder, inference)
    (folder / "scripts").mkdir()
    (folder / "scripts/__init__.py").write_text("")
    (folder / "scripts/late.py").write_text("amount = 2\n")
    (folder / "scripts/own.py").write_text(SCRIPT.format(said=said, canary=canary))
    return folder


def test_what_it_asks_for_is_listed_and_nothing_runs(tmp_path: Path) -> None:
    folder = scripted(tmp_path / "own", canary=str(tmp_path / "canary"))
    with pytest.raises(UntrustedError, match=r"“imports::0” for “\$import scripts”.* and 2 more like it") as refused:
        load_classifier(folder)
    inspected = inspect_bundle(folder)
    assert inspected.findings == refused.value.findings
    assert [found.key for found in inspected.findings] == [
        "imports::0",
        "network_def::_target_",
        "preprocessing::0::_target_",
    ]
    assert inspected.digest == refused.value.digest
    assert not inspected.trusted
    assert not (tmp_path / "canary").exists()


def test_trust_runs_its_scripts_and_is_remembered(tmp_path: Path) -> None:
    folder = scripted(tmp_path / "own", canary=str(tmp_path / "canary"))
    before = inspect_bundle(folder).digest
    assert type(load_classifier(folder, trust=True).network).__name__ == "Net"
    assert (tmp_path / "canary").exists()
    # What Python keeps of modules it has read would be a file more.
    assert inspect_bundle(folder) == (before, inspect_bundle(folder).findings, True)
    assert type(load_classifier(folder).network).__name__ == "Net"


def test_a_transform_of_its_own_runs_when_a_scan_comes(tmp_path: Path) -> None:
    from monai.data import MetaTensor

    classifier = load_classifier(scripted(tmp_path / "own"), trust=True)
    image = MetaTensor(torch.zeros(1, 8, 8))
    assert float(classifier.preprocess(image).max()) == 2


def test_two_bundles_do_not_see_the_scripts_of_one_another(tmp_path: Path) -> None:
    sys.modules["scripts"] = kept = type(sys)("scripts")
    try:
        one = load_classifier(scripted(tmp_path / "one", "one"), trust=True)
        other = load_classifier(scripted(tmp_path / "other", "other"), trust=True)
        assert (one.network.said, other.network.said) == ("one", "other")
        assert sys.modules["scripts"] is kept
        assert not [name for name in sys.modules if name.startswith("scripts.")]
        assert not [path for path in sys.path if str(tmp_path) in path]
    finally:
        del sys.modules["scripts"]


@pytest.mark.parametrize("name", ["scripts/late.py", "models/model.pt", "configs/metadata.json", "LICENSE"])
def test_one_byte_more_in_any_file_asks_anew(tmp_path: Path, name: str) -> None:
    folder = scripted(tmp_path / "own")
    load_classifier(folder, trust=True)
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(UntrustedError):
        load_classifier(folder)


@pytest.mark.parametrize("change", ["added", "renamed", "removed", "compiled"])
def test_a_file_more_or_less_asks_anew(tmp_path: Path, change: str) -> None:
    folder = scripted(tmp_path / "own")
    load_classifier(folder, trust=True)
    if change == "added":
        (folder / "scripts/other.py").write_text("")
    elif change == "renamed":
        (folder / "scripts/late.py").rename(folder / "scripts/later.py")
    elif change == "removed":
        (folder / "scripts/late.py").unlink()
    else:
        (folder / "scripts/__pycache__").mkdir()
        (folder / "scripts/__pycache__/late.cpython-311.pyc").write_bytes(b"")
    with pytest.raises(UntrustedError):
        load_classifier(folder)


def test_only_the_contents_that_were_looked_at_run(tmp_path: Path) -> None:
    folder = scripted(tmp_path / "own")
    looked_at = inspect_bundle(folder).digest
    (folder / "scripts/late.py").write_text(f"amount = 3\nopen({str(tmp_path / 'canary')!r}, 'w').close()\n")
    with pytest.raises(UntrustedError) as refused:
        load_classifier(folder, trust=looked_at)
    assert refused.value.digest == inspect_bundle(folder).digest != looked_at
    assert not (tmp_path / "canary").exists()
    assert load_classifier(folder, trust=refused.value.digest.upper()).network.said == "first"
    # Others that were trusted before are still not those that were looked at now.
    with pytest.raises(UntrustedError):
        load_classifier(folder, trust=looked_at)
    assert load_classifier(folder, trust="").network.said == "first"


@pytest.mark.parametrize("hashed", [1, 2])
@pytest.mark.parametrize("how", ["remembered", "looked at", "whatever it is"])
def test_what_is_written_while_it_opens_does_not_run_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, hashed: int
) -> None:
    folder = scripted(tmp_path / "own")
    first = inspect_bundle(folder).digest
    if how == "remembered":
        load_classifier(folder, trust=True)
    trust_in: Any = {"remembered": False, "looked at": first, "whatever it is": True}[how]
    digest, calls = BundleFiles.digest, []

    def then_somebody_writes(files: BundleFiles) -> str:
        calls.append(files)
        found = digest(files)
        if len(calls) == hashed:
            (folder / "scripts/late.py").write_text(f"amount = 99\nopen({str(tmp_path / 'canary')!r}, 'w').close()\n")
        return found

    monkeypatch.setattr(BundleFiles, "digest", then_somebody_writes)
    if hashed == 1 and how != "whatever it is":
        with pytest.raises(UntrustedError):
            load_classifier(folder, trust=trust_in)
    else:
        load_classifier(folder, trust=trust_in)
    # Whoever says “whatever it is” runs it, and what is remembered is what ran.
    ran = (tmp_path / "canary").exists()
    assert ran == (hashed == 1 and how == "whatever it is")
    assert trust.is_trusted(digest(BundleFiles(folder))) == ran


def test_what_needs_no_trust_is_opened_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(*_: Any) -> None:
        raise AssertionError("it was copied")

    monkeypatch.setattr(BundleFiles, "copied", copied)
    folder = write_bundle(tmp_path / "plain", INFERENCE)
    assert load_classifier(folder, trust=True).name == load_classifier(folder).name == "Hostile"
    with pytest.raises(UntrustedError):
        load_classifier(scripted(tmp_path / "own"))


def test_a_folder_with_far_more_in_it_than_a_model_is_not_copied_and_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scripted(tmp_path / "own")
    with (folder / "large.bin").open("wb") as file:
        file.truncate(40 << 30)
    for ask in (inspect_bundle, load_classifier):
        with pytest.raises(GradCamError, match=r"more than 4 GiB, last large\.bin"):
            ask(folder)
    assert "large.bin" in (check_bundle(folder).problem or "")
    plain = write_bundle(tmp_path / "plain", INFERENCE)
    (folder / "large.bin").rename(plain / "large.bin")
    assert load_classifier(plain).name == "Hostile"


def test_compiled_code_is_told_where_code_would_run(tmp_path: Path) -> None:
    folder = scripted(tmp_path / "own")
    plain = write_bundle(tmp_path / "plain", INFERENCE)
    for bundle in (folder, plain):
        (bundle / "scripts/__pycache__").mkdir(parents=True)
        for name in ("late.cpython-311.pyc", "own.cpython-311.pyc"):
            (bundle / "scripts/__pycache__" / name).write_bytes(b"")
    [told] = [one for one in inspect_bundle(folder).findings if "compiled" in one.reason]
    assert told.key == "scripts/__pycache__/late.cpython-311.pyc"
    assert told.asks == "2 compiled"
    assert not inspect_bundle(plain).findings
    assert load_classifier(plain).name == "Hostile"


# Links


@pytest.mark.parametrize("name", ["LICENSE", "configs/inference.json", "configs/metadata.json", "models/model.pt"])
def test_a_link_out_of_the_bundle_is_not_followed(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "plain", INFERENCE)
    (folder / "LICENSE").write_text("free")
    (folder / name).rename(tmp_path / "kept")
    (folder / name).symlink_to(tmp_path / "kept")
    with pytest.raises(GradCamError, match=f"{name} of the bundle plain is a link to a place outside of it"):
        load_classifier(folder)
    (folder / name).unlink()
    (tmp_path / "kept").rename(folder / "docs")
    (folder / name).symlink_to(folder / "docs")
    assert load_classifier(folder).licence == "free"


@pytest.mark.parametrize("place", ["0a1b", "0a1b/inner"])
def test_the_links_of_a_hub_cache_are_its_contents(tmp_path: Path, place: str) -> None:
    folder = scripted(tmp_path / "models--lab--own/snapshots" / place)
    blobs = tmp_path / "models--lab--own/blobs"
    blobs.mkdir()
    for number, file in enumerate([one for one in sorted(folder.rglob("*")) if one.is_file()]):
        file.rename(blobs / f"blob{number}")
        up = len(file.relative_to(blobs.parent).parts) - 1
        file.symlink_to(Path("../" * up) / "blobs" / f"blob{number}")
    assert load_classifier(folder, trust=inspect_bundle(folder).digest).network.said == "first"
    assert inspect_bundle(folder).digest == inspect_bundle(scripted(tmp_path / "copy")).digest


# What is remembered


def test_trust_in_one_bundle_is_none_in_another(tmp_path: Path) -> None:
    load_classifier(scripted(tmp_path / "one", "one"), trust=True)
    with pytest.raises(UntrustedError):
        load_classifier(scripted(tmp_path / "other", "other"))


def test_a_copy_and_a_zip_of_it_are_trusted_like_the_folder(tmp_path: Path) -> None:
    folder = scripted(tmp_path / "own")
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "own")
    copied = shutil.copytree(folder, tmp_path / "copy")
    assert inspect_bundle(packed).digest == inspect_bundle(folder).digest == inspect_bundle(copied).digest
    load_classifier(folder, trust=True)
    for path in (packed, copied):
        assert load_classifier(path).network.said == "first"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff", b"null", b"[" * 100_000])
def test_a_damaged_list_trusts_nobody_and_is_written_anew(tmp_path: Path, content: bytes) -> None:
    folder = scripted(tmp_path / "own")
    trust._store().parent.mkdir(parents=True, exist_ok=True)
    trust._store().write_bytes(content)
    with pytest.raises(UntrustedError):
        load_classifier(folder)
    load_classifier(folder, trust=True)
    assert load_classifier(folder).network.said == "first"


def test_a_list_that_cannot_be_written_is_no_reason_to_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(trust, "_store", lambda: tmp_path / "file" / "trusted.json")
    folder = scripted(tmp_path / "own")
    load_classifier(folder, trust=True)
    with pytest.raises(UntrustedError):
        load_classifier(folder)


def test_a_bundle_that_asks_for_nothing_is_not_put_on_the_list(tmp_path: Path) -> None:
    load_classifier(write_bundle(tmp_path / "plain", INFERENCE), trust=True)
    assert not trust._store().exists()
    inspected = inspect_bundle(tmp_path / "plain")
    assert len(inspected.digest) == 64
    assert not inspected.findings
    assert not inspected.trusted


def test_a_bundle_that_fails_is_not_put_on_the_list(tmp_path: Path) -> None:
    folder = scripted(tmp_path / "own")
    (folder / "scripts/own.py").write_text("raise RuntimeError('no')\n")
    with pytest.raises(GradCamError):
        load_classifier(folder, trust=True)
    assert not trust._store().exists()


def test_a_pickle_that_holds_more_opens_with_trust(tmp_path: Path) -> None:
    weights = write_bundle(tmp_path / "pickled", INFERENCE) / "models/model.pt"
    state = torch.load(weights, weights_only=True)
    torch.save({"state_dict": state, "note": Runs(Path, "note")}, weights)
    with pytest.raises(UntrustedError, match=r"“models/model.pt” for “pathlib"):
        load_classifier(tmp_path / "pickled")
    network = load_classifier(tmp_path / "pickled", trust=True).network
    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)


def test_expressions_are_evaluated_with_trust_and_weights_from_elsewhere_are_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai.networks.nets import efficientnet

    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("it was fetched")

    monkeypatch.setattr(efficientnet, "_load_state_dict", fetch)
    network = {
        "_target_": "EfficientNetBN", "model_name": "efficientnet-b0", "pretrained": True, "spatial_dims": 2,
        "in_channels": 1, "num_classes": "$len('ab')",
    }  # fmt: skip
    built = efficientnet.EfficientNetBN("efficientnet-b0", False, spatial_dims=2, in_channels=1, num_classes=2)
    folder = write_bundle(tmp_path / "net", {**INFERENCE, "network_def": network})
    torch.save(built.state_dict(), folder / "models/model.pt")
    with pytest.raises(UntrustedError):
        load_classifier(folder)
    assert load_classifier(folder, trust=True).class_names == ("calm", "storm")
    # Some fetch them where nothing is said.
    del network["pretrained"]
    (folder / "configs/inference.json").write_text(json.dumps({**INFERENCE, "network_def": network}))
    assert load_classifier(folder, trust=True).class_names == ("calm", "storm")


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("raise RuntimeError('first\\nsecond')", "first"),
        ("import nowhere_at_all", "nowhere_at_all"),
        ("class Net:\n    pass", "cannot be built|no network"),
        ("def Net(**_):\n    return 3", "gives no network"),
        ("x = (", "never closed"),
        ("import sys\nsys.exit(3)", "cannot be built"),
        ("def Net(**_):\n    raise KeyboardInterrupt2", "KeyboardInterrupt2"),
    ],
)
def test_what_fails_in_its_own_code_is_told_in_one_sentence(tmp_path: Path, script: str, sentence: str) -> None:
    folder = scripted(tmp_path / "own")
    (folder / "scripts/own.py").write_text(script + "\n")
    with pytest.raises(GradCamError, match=sentence) as refused:
        load_classifier(folder, trust=True)
    assert not isinstance(refused.value, UntrustedError)
    assert str(refused.value).isprintable()


def test_the_weights_of_another_bundle_are_none_of_a_scripts(tmp_path: Path) -> None:
    folder = scripted(tmp_path / "own")
    (folder / "models/model.pt").write_bytes(small_weights()[:100])
    with pytest.raises(GradCamError, match="damaged"):
        load_classifier(folder, trust=True)

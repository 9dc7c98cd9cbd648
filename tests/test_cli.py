"""The command line does the whole job, stays plain, and tells mistakes in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_gradcam import __version__, cli, samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

ROOT = Path(cli.__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}

QUICK = ("--format", "nifti", "--format", "tables")
"""What is written in a moment."""

WRITTEN = {
    *("heatmap.nii.gz", "overlay.png", "montage.png", "report.html", "explanation.json"),
    *("scores.json", "scores.csv", "hotspots.csv", "profile.csv"),
}
"""What is written where nobody chooses."""

NETWORK: dict[str, Any] = {
    "_target_": "DenseNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "init_features": 4,
    "growth_rate": 4,
    "block_config": [1],
    "bn_size": 2,
}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny classifier; the name of a class would be markup to rich."""
    import torch
    from monai.networks.nets import DenseNet

    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    torch.manual_seed(0)
    torch.save(
        DenseNet(**{k: v for k, v in NETWORK.items() if k != "_target_"}).state_dict(), folder / "models/model.pt"
    )
    load = [{"_target_": "LoadImaged", "keys": "image"}, {"_target_": "EnsureChannelFirstd", "keys": "image"}]
    inference = {"network_def": NETWORK, "preprocessing": {"_target_": "Compose", "transforms": load}}
    image = {"num_channels": 1, "spatial_shape": [16, 16, 16]}
    classes = {"num_channels": 2, "channel_def": {"0": "no lesion", "1": "[red]lesion"}}
    metadata = {
        "name": "Tiny",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": classes}},
    }
    (folder / "configs/inference.json").write_text(json.dumps(inference), "utf-8")
    (folder / "configs/metadata.json").write_text(json.dumps(metadata), "utf-8")
    return folder


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    array = np.random.default_rng(0).random((16, 16, 16), dtype=np.float32)
    affine = np.diag([-2.0, -2, 2, 1])
    affine[:3, 3] = (14.0, 10, -20)
    path = tmp_path_factory.mktemp("scan") / "noise.nii.gz"
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def run() -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def in_a_process(*arguments: object, **given: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_gradcam.cli", *map(str, arguments)]
    given = {"env": ENVIRONMENT, "capture_output": True, "encoding": "utf-8", "timeout": 120, "check": False} | given
    return subprocess.run(command, **given)


def test_explain_prints_scores_and_place_and_leaves_files_that_agree(
    run: Callable[..., Result], scan: Path, bundle: Path, tmp_path: Path
) -> None:
    result = run("explain", scan, "--model", bundle, "--target", "[red]lesion", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out/scores.json").read_text("utf-8"))
    assert record["target"] == "[red]lesion"
    heatmap = nib.load(tmp_path / "out/heatmap.nii.gz")
    np.testing.assert_allclose(heatmap.affine, nib.load(scan).affine)
    assert heatmap.shape == (16, 16, 16)
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN
    for said in (
        "[red]lesion",
        f"{record['scores']['[red]lesion']:.3f}",
        "hottest point",
        "For research and review, not for diagnosis.",
        f"Wrote {tmp_path / 'out' / 'overlay.png'}",
    ):
        assert said in result.stdout
    x, y, z = record["peak"]["position_ras_mm"]
    place = f"{'RL'[x < 0]} {abs(x):.1f} {'AP'[y < 0]} {abs(y):.1f} {'SI'[z < 0]} {abs(z):.1f} mm"
    assert place in result.stdout


def test_without_out_nothing_is_written_and_it_says_so(
    run: Callable[..., Result], scan: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("explain", scan, "--model", bundle)
    assert result.exit_code == 0, result.output
    assert "Nothing was written; give --out DIR" in result.stdout
    assert not list(tmp_path.iterdir())


def test_layers_lists_every_layer_with_the_default_marked_and_problems_told(
    run: Callable[..., Result], bundle: Path
) -> None:
    result = run("layers", "--model", bundle)
    assert result.exit_code == 0, result.output
    lines = {line.lstrip("* ").split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert lines["class_layers.relu"].strip().startswith("*")
    assert "The deepest layer that still has a grid" in lines["class_layers.relu"]
    assert "4 × 4 × 4" in lines["class_layers.relu"]
    assert "It gives no feature maps." in lines["class_layers.out"]
    assert sum(line.strip().startswith("*") for line in lines.values()) == 1


def test_piped_output_is_plain_and_names_are_whole(scan: Path, bundle: Path) -> None:
    result = in_a_process("explain", scan, "--model", bundle)
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


def test_a_narrow_terminal_cuts_nothing_off(
    run: Callable[..., Result], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    result = run("layers", "--model", bundle)
    assert result.exit_code == 0
    assert "…" not in result.stdout
    assert max(len(line) for line in result.stdout.splitlines() if "Tiny" not in line) <= 40


def test_an_encoding_without_our_signs_is_no_reason_to_fail() -> None:
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = in_a_process("explain", "absent.nii", "--model", ".", env=environment)
    assert result.returncode == 2
    assert result.stderr.startswith("?absent.nii? does not exist")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scan": "absent.nii.gz"}, "absent.nii.gz” does not exist"),
        ({"scan": "text.nii"}, "text.nii"),
        ({"model": "absent"}, "There is no model “absent”; give the folder or zip of a MONAI bundle, or a sample"),
        ({"model": "empty"}, "empty"),
        ({"--target": "tumour"}, "has no class “tumour”"),
        ({"--layer": "layer99"}, "layer99"),
        ({"--method": "magic"}, "There is no method “magic”; choose “gradcam”, "),
        ({"--device": "nowhere"}, "There is no device “nowhere” here; choose cpu"),
        ({"--plane": "oblique"}, "There is no plane “oblique”; choose one of axial, coronal, sagittal"),
        ({"--out": "text.nii"}, "text.nii” is a file, not a folder"),
        ({"--out": "text.nii/out"}, "text.nii” is a file, not a folder"),
        ({"--out": "taken"}, "overlay.png” cannot be written: a folder of that name is in the way"),
    ],
    ids=lambda given: next(iter(given)) + " " + next(iter(given.values())) if isinstance(given, dict) else "",
)
def test_a_mistake_is_one_line_on_stderr_exit_code_2_and_nothing_written(
    change: dict[str, str],
    sentence: str,
    run: Callable[..., Result],
    scan: Path,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.nii").write_text("this is no scan")
    Path("empty").mkdir()
    Path("taken/overlay.png").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    given = {"scan": str(scan), "model": str(bundle), "--out": "out"} | change
    scan_given, model_given = given.pop("scan"), given.pop("model")
    result = run("explain", scan_given, "--model", model_given, *(part for option in given.items() for part in option))
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sentence_with_line_breaks_and_control_codes_stays_one_plain_line(run: Callable[..., Result]) -> None:
    result = run("explain", "evil\n\x1b[2Jname.nii", "--model", ROOT)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("arguments", [["explain"], ["layers"], ["explain", "a", "--model", "b", "--nope"], ["nope"]])
def test_a_usage_error_is_exit_code_2(arguments: list[str], run: Callable[..., Result]) -> None:
    assert run(*arguments).exit_code == 2


def test_the_version_is_told(run: Callable[..., Result]) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"napari-gradcam {__version__}\n")


@pytest.mark.parametrize(
    "arguments", ["", "['--help']", "['explain', '--help']", "['explain', 'no.nii', '--model', '.']"]
)
def test_neither_help_nor_a_mistyped_path_loads_torch_monai_or_napari(arguments: str) -> None:
    code = f"""
import sys
from napari_gradcam import cli
if {arguments or None!r}:
    try:
        cli.app({arguments or None})
    except SystemExit:
        pass
heavy = {{"torch", "monai", "napari", "qtpy", "matplotlib"}} & set(sys.modules)
sys.exit(", ".join(sorted(heavy)) or None)
"""
    tried = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr


HELD_UP = """
import pathlib, signal, sys, time
import numpy as np
from napari_gradcam import cli
from napari_gradcam.explanation import Explanation
from napari_gradcam.export import scores
from napari_gradcam.volumes import Volume

map, affine = np.ones((4, 4, 4), np.float32), np.eye(4)
volume = Volume(map, affine)
explanation = Explanation(
    map, affine, map, affine, {"lesion": 1.0}, {"lesion": 1.0}, "lesion", "layer4", "gradcam", volumes=(volume,)
)

def slow(explanation, path, manner):
    path.write_bytes(b"half")
    time.sleep(60)

scores.write_scores = slow
cli._explained = lambda *_, **__: (volume, explanation)
# A shell that starts the tests in the background has them ignore Ctrl-C, which a process started by them inherits.
signal.signal(signal.SIGINT, signal.default_int_handler)
cli.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_while_it_writes_leaves_nothing(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """A file is held up in the making, when another is complete in the folder that they lie in until then."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", HELD_UP, "explain", "scan.nii", "--model", "model", "--out", str(out), *QUICK]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True) as process:
        latest = time.monotonic() + 60
        while not (out.is_dir() and len(list(out.glob("*/*"))) == 2) and process.poll() is None:
            assert time.monotonic() < latest
            time.sleep(0.02)
        process.send_signal(number)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())


def test_the_demo_without_a_display_does_the_job_in_the_terminal(
    run: Callable[..., Result], scan: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(samples, "DEMO_SCAN", scan)
    monkeypatch.setattr(samples, "DEMO_CLASSIFIER", bundle)
    monkeypatch.chdir(tmp_path)
    result = run("demo")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "demo").iterdir()} == WRITTEN
    assert f"Wrote {Path('demo/overlay.png')}" in result.stdout


@pytest.mark.parametrize(
    "environment", [{"DISPLAY": "127.0.0.1:9999"}, {"DISPLAY": ":0", "QT_QPA_PLATFORM": "offscreen"}]
)
def test_a_display_that_is_not_there_is_none(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Qt would end the process; it is tried in another one."""
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not cli._can_open_a_window()


def rows(result: Result) -> dict[str, str]:
    """Give the lines of a table by the name of their layer."""
    assert result.exit_code == 0, result.output
    return {line.lstrip("* ").split()[0]: line for line in result.stdout.splitlines() if line.strip()}


def test_layers_on_a_scan_tells_cells_in_mm(run: Callable[..., Result], bundle: Path, scan: Path) -> None:
    in_voxels, in_mm = rows(run("layers", "--model", bundle)), rows(run("layers", "--model", bundle, scan))
    assert "cell (voxels)" in in_voxels["layer"]
    assert "cell (mm)" in in_mm["layer"]
    assert "4 × 4 × 4" in in_voxels["class_layers.relu"]
    assert "8 × 8 × 8" in in_mm["class_layers.relu"]  # 4 voxels of 2 mm
    assert [line.strip().startswith("*") for line in in_mm.values()].count(True) == 1


def test_layers_warns_of_coarse_grids_in_the_unit_of_its_table(
    run: Callable[..., Result], bundle: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small.nii.gz"
    array = np.random.default_rng(0).random((8, 8, 16), dtype=np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 3, 2, 1])), small)
    table = rows(run("layers", "--model", bundle, small))
    assert "2 × 2 × 4" in table["class_layers.relu"]
    assert "Its cells are 8.0 × 12.0 × 8.0 mm: too coarse to place a finding." in table["class_layers.relu"]


def test_layers_of_a_scan_that_is_none_is_a_mistake(run: Callable[..., Result], bundle: Path) -> None:
    result = run("layers", "--model", bundle, "absent.nii")
    assert result.exit_code == 2
    assert "absent.nii” does not exist" in result.stderr


def record_of(result: Result, folder: Path) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads((folder / "scores.json").read_text("utf-8"))


def test_several_layers_are_fused_and_each_is_reported(
    run: Callable[..., Result], scan: Path, bundle: Path, tmp_path: Path
) -> None:
    layers = ("--layer", "class_layers.relu", "--layer", "features.conv0")
    result = run("explain", scan, "--model", bundle, *layers, "--signed", *QUICK, "--out", tmp_path / "out")
    record = record_of(result, tmp_path / "out")
    assert record["layer"] == "class_layers.relu + features.conv0"
    assert "at class_layers.relu" in result.stdout
    assert "at features.conv0" in result.stdout


def test_a_signed_map_keeps_negative_values_and_says_so_in_its_record(
    run: Callable[..., Result], scan: Path, bundle: Path, tmp_path: Path
) -> None:
    given = ("explain", scan, "--model", bundle, "--layer", "features.conv0")  # whose values have either sign
    plain = record_of(run(*given, *QUICK, "--out", tmp_path / "plain"), tmp_path / "plain")
    signed = record_of(run(*given, *QUICK, "--signed", "--out", tmp_path / "signed"), tmp_path / "signed")
    assert (plain["signed"], signed["signed"]) == (False, True)
    values = nib.load(tmp_path / "signed/heatmap.nii.gz").get_fdata()
    assert values.min() < 0
    cut = nib.load(tmp_path / "plain/heatmap.nii.gz").get_fdata()
    assert cut.min() >= 0
    result = run("explain", scan, "--model", bundle, "--signed", "--method", "eigencam")
    assert result.exit_code == 2
    assert "cannot be signed" in result.stderr


def test_the_record_holds_the_method_its_unit_and_how_well_the_evidence_adds_up(
    run: Callable[..., Result], scan: Path, bundle: Path, tmp_path: Path
) -> None:
    result = run("explain", scan, "--model", bundle, *QUICK, "--out", tmp_path / "out")
    record = record_of(result, tmp_path / "out")
    assert (record["method"], record["unit"], record["signed"]) == ("gradcam", "logit units", False)
    assert 0 <= record["completeness_error"] < 1e-4
    assert "the evidence sums to logit − bias" in result.stdout
    given = ("--method", "eigencam", "--layer", "features.conv0", *QUICK, "--out", tmp_path / "eigen")
    result = run("explain", scan, "--model", bundle, *given)
    record = record_of(result, tmp_path / "eigen")
    assert (record["method"], record["unit"]) == ("eigencam", "units of the layer's activations")
    assert record["completeness_error"] is None
    assert "evidence over the layer" not in result.stdout
    assert any("Eigen-CAM" in notice and "no evidence for" in notice for notice in record["notices"])


@pytest.mark.parametrize("method", ["gradcam++", "scorecam", "ablationcam", "occlusion"])
def test_other_methods_are_a_name_away(
    method: str, run: Callable[..., Result], scan: Path, bundle: Path, tmp_path: Path
) -> None:
    result = run("explain", scan, "--model", bundle, "--method", method, *QUICK, "--out", tmp_path / "out")
    assert record_of(result, tmp_path / "out")["method"] == method


def test_smooth_is_told_and_a_negative_number_is_a_usage_error(
    run: Callable[..., Result], scan: Path, bundle: Path
) -> None:
    result = run("explain", scan, "--model", bundle, "--smooth", 2, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "Note: The map is the mean of 2 runs with a little noise" in result.stdout
    assert run("explain", scan, "--model", bundle, "--smooth", -1).exit_code == 2


def test_a_model_with_code_of_its_own_runs_it_with_trust_alone(
    run: Callable[..., Result], bundle: Path, scan: Path, tmp_path: Path
) -> None:
    canary, model = tmp_path / "canary", shutil.copytree(bundle, tmp_path / "own")
    inference = json.loads((model / "configs/inference.json").read_text("utf-8"))
    inference["network_def"]["_target_"] = "scripts.Net"
    (model / "configs/inference.json").write_text(json.dumps(inference), "utf-8")
    script = f"from monai.networks.nets import DenseNet as Net\nopen({str(canary)!r}, 'w').close()\n"
    (model / "scripts").mkdir()
    (model / "scripts/__init__.py").write_text(script)
    commands = [("layers", "--model", model), ("explain", scan, "--model", model)]
    for command in commands:
        refused = run(*command)
        assert refused.exit_code == cli.BAD_INPUT
        assert "“network_def::_target_” for “scripts.Net”" in refused.stderr
        assert "--trust" in refused.stderr
        assert not canary.exists()
    for command in commands:
        (model / "scripts/__init__.py").write_text(f"{script}# {command[0]}\n")  # one byte more asks anew
        assert run(*command).exit_code == cli.BAD_INPUT
        assert not canary.exists()
        assert run(*command, "--trust").exit_code == 0
        canary.unlink()
        assert run(*command).exit_code == 0  # it is remembered
        canary.unlink()


def test_a_saved_explanation_is_verified_and_what_was_changed_is_named(
    run: Callable[..., Result], scan: Path, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run("explain", scan, "--model", bundle, "--format", "record", "--out", out)
    assert result.exit_code == 0, result.output
    record = out / "explanation.json"
    for places in ((), ("--scan", scan, "--model", bundle)):
        result = run("verify", record, *places)
        assert result.exit_code == 0, result.output
        assert "Equal: every number and every voxel" in result.stdout
    image = nib.load(scan)
    values = image.get_fdata(dtype=np.float32)
    values[3, 4, 5] += 1
    nib.save(nib.Nifti1Image(values, image.affine), tmp_path / "changed.nii.gz")
    result = run("verify", record, "--scan", tmp_path / "changed.nii.gz")
    assert result.exit_code == 1
    assert "The scan “changed” has other voxels: SHA-256" in result.stdout


def test_results_that_are_there_are_replaced_by_force_alone(
    run: Callable[..., Result], scan: Path, bundle: Path, tmp_path: Path
) -> None:
    given = ("explain", scan, "--model", bundle, *QUICK, "--out", tmp_path)
    assert run(*given).exit_code == 0
    result = run(*given)
    assert result.exit_code == 2
    assert "holds heatmap.nii.gz and 4 more" in result.stderr
    assert run(*given, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--format", "jpeg"), "no format “jpeg”; choose nifti"),
        (("--format", "dicom", "--out", "out"), "DICOM"),
        (("--threshold", "2"), "The threshold 2.0 is no fraction"),
        (("--coordinates", "xyz"), "no coordinates “xyz”; choose “RAS”, “LPS”"),
    ],
)
def test_what_cannot_be_saved_is_told_in_one_line(
    given: tuple[str, ...],
    told: str,
    run: Callable[..., Result],
    scan: Path,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("explain", scan, "--model", bundle, *given)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_any_slice_is_painted_alone(run: Callable[..., Result], scan: Path, bundle: Path, tmp_path: Path) -> None:
    given = ("explain", scan, "--model", bundle, "--format", "nifti", "--out", tmp_path / "out")
    assert run(*given, "--slice", "coronal:3").exit_code == 0
    with Image.open(tmp_path / "out/slice.png") as picture:
        assert picture.format == "PNG"
    for text in ("coronal", "coronal:0", "round:3", "coronal:x"):
        result = run(*given, "--slice", text, "--force")
        assert result.exit_code == 2
        assert f"“{text}” is no slice" in result.stderr
    result = run(*given, "--slice", "axial:99", "--force")
    assert result.exit_code == 2
    assert "There is no axial slice 99: the scan has 16" in result.stderr

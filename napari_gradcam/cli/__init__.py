"""The command ``napari-gradcam``: the same job as in the viewer, in a terminal.

Results go to stdout, progress and errors to stderr. torch, MONAI and napari are imported by the commands that need
them, so that ``--help`` and a mistyped path answer at once.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Table
from typer.core import TyperGroup

from napari_gradcam import __version__
from napari_gradcam.cli import bundle, verify
from napari_gradcam.cli.console import console, listed, progress, row, shown, table, tell
from napari_gradcam.cli.models import place_of
from napari_gradcam.cli.saving import DEFAULT, FORMATS, USUAL, Saving, manner_of
from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import METHODS
from napari_gradcam.progress import finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

BAD_INPUT, INTERRUPTED = 2, 130
"""Exit codes: what a person gave cannot be used, as for a usage error; Ctrl-C."""


class _Commands(TyperGroup):
    """The commands; a mistake in what was given is told in one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command and turn the errors that a person can cause into exit codes."""
        try:
            return super().invoke(ctx)
        except GradCamError as error:
            tell(str(error), error=True)
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt:
            tell("Interrupted.", error=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    help="Where did the network look? Grad-CAM heat maps of MONAI classifiers over DICOM and NIfTI scans.",
    epilog="For research and review, not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)

app.add_typer(bundle.app, name="bundle")
app.command("verify")(verify.verify)

_USUAL = ", ".join(USUAL)

_Scan = Annotated[
    str, typer.Argument(metavar="SCAN", help="A NIfTI or DICOM file, a DICOMDIR, a zip archive, or a folder.")
]
_Series = Annotated[
    str | None,
    typer.Option(metavar="N|NAME", help="Which scan, where there are several: its number in “info”, or its name."),
]
_Frame = Annotated[
    int | None,
    typer.Option(metavar="N", help="Which frame of a file that holds several; the first by default."),
]
_Resample = Annotated[bool, typer.Option("--resample", help="Interpolate slices that are missing or unevenly spaced.")]
_Model = Annotated[
    str,
    typer.Option(help="A MONAI bundle, folder or zip, a recipe (.yaml), or the name of a sample classifier."),
]
_Channel = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]SCAN",
        help="A further scan, for the channel of that name or the model's next one; the map lies on SCAN. Repeat it.",
    ),
]
_Trust = Annotated[
    bool,
    typer.Option("--trust", help="Let the model run code of its own; remembered for exactly these contents."),
]


def main() -> None:
    """Run the command line."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what a library tells programmers; PYTHONWARNINGS brings it back
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without “×” shows a question mark, not a traceback
    # An orderly end at a kill too, so that files in the making are taken away.
    signal.signal(signal.SIGTERM, _terminated)
    app(prog_name="napari-gradcam")


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda value: _version(value), help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def explain(
    scan: _Scan,
    model: _Model,
    channel: _Channel = None,
    trust: _Trust = False,
    series: _Series = None,
    frame: _Frame = None,
    resample: _Resample = False,
    target: Annotated[
        str | None, typer.Option(metavar="CLASS", help="The class to explain; the most probable one by default.")
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="The target layer; “layers” lists them, and marks the default. Give several to fuse them.",
        ),
    ] = None,
    plane: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which slices a 2D model reads: axial, coronal or sagittal; those it was made for by default.",
        ),
    ] = None,
    method: Annotated[str, typer.Option(metavar="NAME", help=f"The method: {', '.join(METHODS)}.")] = "gradcam",
    signed: Annotated[
        bool, typer.Option("--signed", help="Keep evidence against the class, as negative values of the heat map.")
    ] = False,
    smooth: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Take the mean of N runs with a little noise; the same ones each time."),
    ] = 0,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where the network runs: cpu, cuda:0, or auto for the best there is."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Map what speaks for the class rather than for this one, with its sign."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to leave the results; nothing by default."),
    ] = None,
    format: Annotated[  # the word that every program has for it
        list[str] | None,
        typer.Option(
            metavar="NAME", help=f"What to leave there: {', '.join(FORMATS)}, all, or default ({_USUAL}); repeat it."
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(metavar="SHARE", help="Heat below this share of the scale's top is not painted.")
    ] = 0.4,
    top: Annotated[
        float | None,
        typer.Option(metavar="VALUE", help="The raw value at the top of the scale; the map's own maximum by default."),
    ] = None,
    coordinates: Annotated[str, typer.Option(metavar="RAS|LPS", help="The axes of positions in the results.")] = "RAS",
    one: Annotated[
        str | None,
        typer.Option("--slice", metavar="PLANE:N", help="Paint this slice too, such as axial:82, counted from 1."),
    ] = None,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="Leave out of the results what could lead to the patient.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace results that are there already.")] = False,
) -> None:
    """Explain a class score as a heat map over the scan."""
    how: dict[str, Any] = {
        "target": target,
        "method": method,
        "layer": layer or None,
        "plane": plane,
        "signed": signed,
        "smooth": smooth,
        "device": device,
        "against": against,
    }
    chosen: dict[str, Any] = {"series": series, "frame": frame, "resample": resample}
    formats = (*(format or DEFAULT), *(("slice",) if one else ()))
    saving = Saving(out, formats, manner_of(threshold, top, coordinates, deidentify, one), overwrite=force)
    volume, explanation = _explained(scan, model, saving, chosen, trust=trust, further=channel or (), **how)
    _report(volume, explanation)
    saving.save(explanation)


@app.command()
def info(
    scan: _Scan,
    series: _Series = None,
    personal: Annotated[
        bool, typer.Option("--personal", help="Show the patient's name, ID and birth date too.")
    ] = False,
) -> None:
    """List the scans of a file, folder or archive, and what a reader saw: grid, spacing, orientation, notices."""
    from napari_gradcam.cli.scans import print_scans

    print_scans(scan, series, personal=personal)


@app.command()
def layers(
    model: _Model,
    scan: Annotated[str | None, typer.Argument(metavar="SCAN", help="A scan: cells are then told in mm on it.")] = None,
    channel: _Channel = None,
    series: _Series = None,
    trust: _Trust = False,
) -> None:
    """List the layers of a model that a heat map can be taken at, and the one that is recommended."""
    place = place_of(model)
    from napari_gradcam import load_classifier, read_volume
    from napari_gradcam.cli.scans import read_further

    volume = read_volume(scan, series=series) if scan is not None else None
    further = finish(read_further(channel or ()))
    from napari_gradcam.classifiers.channels import assigned

    classifier = load_classifier(place, trust=trust)
    unit = "mm" if volume is not None and volume.unit == "mm" else "voxels"
    surveyed = table("", "layer", "kind", "channels", "grid", f"cell ({unit})", "calls", "remark")
    for layer in classifier.layers(volume and assigned(volume, further, classifier)):
        remark = " ".join(sentence for sentence in (layer.problem, layer.reason, layer.warning) if sentence)
        grid, cell = " × ".join(map(str, layer.grid)), " × ".join(f"{n:.3g}" for n in layer.cell_mm or layer.cell)
        mark = "*" if layer.reason else ""
        style = "bold" if mark else "dim" if layer.problem else ""
        row(surveyed, mark, layer.name, layer.kind, layer.channels or "", grid, cell, layer.calls, remark, style=style)
    console().print(surveyed)
    tell(f"{classifier.name}: {classifier.spatial_dims}D, classes {listed(classifier.class_names)}.")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to leave the files if there is no display.")] = Path(
        "demo"
    ),
) -> None:
    """Show the sample brain scan with the heat map of the demo classifier: in napari, or here without a display."""
    if _can_open_a_window():
        from napari_gradcam.viewer.demo import show

        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Qt's loop would not let Python's handler come to its turn
        show()
        return
    from napari_gradcam import samples

    tell("No window can be opened here: the demo runs in the terminal.")
    tell("The lesion in the sample scan is synthetic, and so were those that the demo classifier learned from.")
    saving = Saving(out, overwrite=True)
    volume, explanation = _explained(str(samples.DEMO_SCAN), str(samples.DEMO_CLASSIFIER), saving)
    _report(volume, explanation)
    saving.save(explanation)


def _explained(
    scan: str,
    model: str,
    saving: Saving,
    chosen: dict[str, Any] | None = None,
    method: str = "gradcam",
    *,
    trust: bool = False,
    further: Sequence[str] = (),
    **how: Any,
) -> tuple[Volume, Explanation]:
    """Read, load and explain under a progress bar; what can be refused early is refused before the network runs."""
    from napari_gradcam.cli.scans import read_further
    from napari_gradcam.volumes.reading import read_steps

    if method not in METHODS:
        raise GradCamError(f"There is no method “{method}”; choose {listed(METHODS)}.")
    place = place_of(model)
    with progress() as bar:
        task = bar.add_task("Reading the scan", total=None)
        volume = shown(bar, read_steps(scan, **(chosen or {})))
        others = shown(bar, read_further(further))
        saving.check((volume, *(one for _, one in others)))
        bar.update(task, description="Loading the model", total=None)
        from napari_gradcam import load_classifier  # torch: seconds, so not before the scan is known to be one
        from napari_gradcam.classifiers.channels import assigned
        from napari_gradcam.explainer import explain_steps

        classifier = load_classifier(place, trust=trust)
        given = assigned(volume, others, classifier)
        return volume, shown(bar, explain_steps(given, classifier, method=method, **how))


def _report(volume: Volume, explanation: Explanation) -> None:
    """Print the scores, and where the map is hottest."""
    from napari_gradcam import words

    out = console()
    scores = table("class", "probability", "logit", "explained")
    for name, score in explanation.scores.items():
        chosen = name == explanation.target
        logit = words.number(explanation.logits[name])
        row(scores, name, words.probability(score), logit, "*" if chosen else "", style="bold" if chosen else "")
    for column in scores.columns[1:3]:
        column.justify = "right"
    out.print(scores)

    peak = explanation.peak
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    row(facts, "scan", f"{explanation.volume_name}, {words.extent(volume)}")
    row(facts, "model", explanation.classifier_name)
    row(facts, "layer", explanation.layer)
    row(facts, "method", words.method(explanation))
    if explanation.is_empty:
        row(facts, "hottest point", "none: there is no positive evidence for this class")
    else:
        voxel = f", voxel {peak.index}" if volume.in_patient_space else ""
        row(facts, "hottest point", words.hottest_point(explanation, volume) + voxel)
        row(facts, "raw maximum", f"{words.number(peak.value)} {words.unit(explanation)}")
        if explanation.peak.value < explanation.strongest:
            row(facts, "strongest against", f"{words.number(-explanation.strongest)} {words.unit(explanation)}")
    for layer, part in explanation.parts.items():
        row(facts, f"at {layer}", f"{words.hottest_point(part, volume)}, {words.number(part.peak.value)}")
    if explanation.completeness is not None:
        row(facts, "adds up", f"the evidence sums to logit − bias, off by {explanation.completeness:.0e} of it")
    row(facts, "cell size", f"{words.cell(explanation)}: the map places nothing finer")
    out.print(facts)
    for notice in explanation.notices:
        tell(f"Note: {notice}")
    tell(words.PURPOSE)


def _can_open_a_window() -> bool:
    """Try whether Qt finds a display: in a process of its own, because Qt ends the process where it finds none."""
    if sys.platform not in {"win32", "darwin"} and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    if os.environ.get("QT_QPA_PLATFORM", "") in {"offscreen", "minimal"}:
        return False  # they have no OpenGL, which napari needs
    code = "from qtpy.QtWidgets import QApplication; QApplication([])"
    tried = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return tried.returncode == 0


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-gradcam {__version__}")
        raise typer.Exit


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)

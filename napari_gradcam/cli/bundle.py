"""The commands ``bundle new``, ``bundle check`` and ``bundle networks``: from a checkpoint to a bundle."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it when it runs
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from napari_gradcam.cli.console import console, listed, row, table, tell
from napari_gradcam.cli.models import place_of
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.checking import Check

DOES_NOT_OPEN = 2

app = typer.Typer(
    help="Make a MONAI bundle from a network's name and a file of weights, or see what a bundle would run.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.command()
def new(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE", help="A YAML file that names the network, the weights and the preprocessing."),
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; it must not exist, or be empty.")],
) -> None:
    """Write the MONAI bundle that a recipe describes; it is opened once before it is written."""
    from napari_gradcam.export.bundle import write_bundle

    written = write_bundle(recipe, folder)
    for path in written.files:
        tell(f"Wrote {path}")
    for notice in written.classifier.notices:
        tell(f"Note: {notice}")
    tell(f"See what it runs: napari-gradcam bundle check {folder}")
    tell(f"See where it looks: napari-gradcam explain SCAN --model {folder}")


@app.command()
def check(
    model: Annotated[
        str, typer.Argument(metavar="PATH", help="A bundle, folder or zip, a recipe (.yaml), or a sample's name.")
    ],
) -> None:
    """Show what a bundle or recipe would run, and everything of it that is refused."""
    place = place_of(model)
    from napari_gradcam.classifiers.checking import check_bundle

    found = check_bundle(place)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    _tell_model(facts, found)
    if found.classifier is not None:
        _tell_classifier(facts, found.classifier, found)
    if found.digest:
        _fact(facts, "SHA-256", found.digest + (" (trusted)" if found.trusted else ""))
    console().print(facts)
    if found.findings:
        refused = table("refused at", "asks for", "because it is")
        for one in found.findings:
            row(refused, *map(printable, one))
        console().print(refused)
    if found.classifier is not None:
        for notice in found.classifier.notices:
            if not found.classifier.intended_use or found.classifier.intended_use not in notice:
                tell(f"Note: {notice}")
    if found.problem is not None:
        tell(f"It does not open: {found.problem}", error=True)
        raise typer.Exit(DOES_NOT_OPEN)
    tell("It opens.")


@app.command()
def networks() -> None:
    """List the networks that a recipe may name."""
    from napari_gradcam.classifiers.architectures import ARCHITECTURES

    known = table("network", "what it is")
    for name, told in ARCHITECTURES.items():
        row(known, name, told)
    console().print(known)


def _fact(facts: Table, name: str, told: str) -> None:
    """Add a line; a terminal would obey what is no letter in the names of a stranger's bundle."""
    row(facts, name, printable(told))


def _tell_model(facts: Table, found: Check) -> None:
    """Say what is known before anything is opened."""
    parameters = f", {found.parameters:,} parameters" if found.parameters else ""
    if found.network:
        _fact(facts, "network", found.network + parameters)
    if found.weights:
        _fact(facts, "weights", found.weights)
    for number, step in enumerate(found.steps):
        _fact(facts, "" if number else "runs", step)
    for number, (name, reason) in enumerate(found.left_out):
        _fact(facts, "" if number else "left out", f"{name}: {reason}")
    if found.inferer:
        _fact(facts, "inferer", found.inferer)


def _tell_classifier(facts: Table, classifier: Classifier, found: Check) -> None:
    """Say what a person works with."""
    head, rule, wants = classifier.head, classifier.slice_rule, classifier.wants
    _fact(facts, "name", " ".join(filter(None, (classifier.name, classifier.version))))
    _fact(facts, "classes", listed(classifier.class_names))
    how = "they exclude one another" if head.exclusive else "each is present or not, whatever the others are"
    _fact(facts, "activation", f"{head.activation} ({'read' if found.activation_read else 'assumed'}); {how}")
    shape = " × ".join(map(str, classifier.input_shape))
    _fact(facts, "input", f"{shape} (channels first), {classifier.spatial_dims}D")
    if wants.channels:
        _fact(facts, "channels", listed(wants.channels))
    if wants.modality:
        _fact(facts, "modality", wants.modality)
    if wants.value_range:
        _fact(facts, "values", "{:g} to {:g}".format(*wants.value_range))
    if classifier.spatial_dims == 2:
        positive = f", by “{classifier.class_names[rule.positive]}”" if rule.aggregation != "mean" else ""
        top = f" of {rule.top} slices" if rule.aggregation == "top-k" else ""
        _fact(facts, "volumes", f"{rule.plane} slices, {rule.aggregation}{top}{positive}")
    _fact(facts, "layer", found.layer)
    if classifier.intended_use:
        _fact(facts, "intended use", classifier.intended_use)
    if classifier.licence:
        lines = classifier.licence.splitlines()
        _fact(facts, "licence", lines[0] + (f" ({len(lines)} lines)" if len(lines) > 1 else ""))

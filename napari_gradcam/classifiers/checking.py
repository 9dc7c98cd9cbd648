"""What would run of a bundle or recipe, and all that is refused of it: for a person who decides whether to open it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gradcam.classifiers.bundle import (
    _safe_config,
    _weights,
    bounds_told,
    inspect_files,
    is_recipe,
    load_classifier,
    open_bundle,
)
from napari_gradcam.classifiers.config import Config
from napari_gradcam.classifiers.files import BundleFiles
from napari_gradcam.classifiers.plan import findings, plan
from napari_gradcam.classifiers.recipe import read_recipe
from napari_gradcam.classifiers.refusing import said, shortened
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from napari_gradcam.classifiers.classifier import Classifier
    from napari_gradcam.classifiers.plan import Plan, Step
    from napari_gradcam.classifiers.trust import Finding


@dataclass(frozen=True)
class Check:
    """What is known of a bundle or recipe; empty where it did not come so far.

    Attributes
    ----------
    problem
        The sentence that it is refused with, or None where it opens.
    network, parameters
        The network's name, and how many numbers it learned.
    weights
        The file of weights.
    steps
        The steps of the preprocessing that run, with their arguments.
    left_out
        ``(name, reason)`` of those that do not run.
    inferer
        How the network is run over its input.
    activation_read
        Whether the activation stands in the bundle; else it was assumed.
    classifier
        What it gives, where it opens.
    layer
        The default target layer, or why there is none.
    findings
        All that it asks for that would run code.
    digest, trusted
        SHA-256 of its contents, and whether a person trusts them.
    """

    problem: str | None = None
    network: str = ""
    parameters: int = 0
    weights: str = ""
    steps: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    inferer: str = ""
    activation_read: bool = False
    classifier: Classifier | None = None
    layer: str = ""
    findings: tuple[Finding, ...] = ()
    digest: str = ""
    trusted: bool = False


def check_bundle(path: str | PathLike[str]) -> Check:
    """Find out what would run of a bundle or recipe, and open it as far as it is safe.

    Parameters
    ----------
    path
        As for :func:`napari_gradcam.load_classifier`.

    Returns
    -------
    Check
        With the sentence that says why it does not open, where it does not: nothing is raised for that.
    """
    path, found = Path(path), Check()
    try:
        # As far as it comes, step by step: each says more, and each may fail.
        for step in _from_recipe(path) if is_recipe(path) else _from_bundle(path):
            found = step
    except GradCamError as error:
        return replace(found, problem=str(error))
    return found


def _from_recipe(path: Path) -> Iterator[Check]:
    with bounds_told(path):
        recipe = read_recipe(path)
        found = _told(Config(recipe.inference), path.name, recipe.weights.name)
        yield found
        yield _opened(found, load_classifier(path))


def _from_bundle(path: Path) -> Iterator[Check]:
    with bounds_told(path):
        files = BundleFiles(path)
        found = _told(_safe_config(files), files.label, "")
        yield found
        found = replace(found, weights=_weights(files))
        inspected = inspect_files(files)
        found = replace(
            found,
            findings=(*found.findings, *(one for one in inspected.findings if one not in found.findings)),
            digest=inspected.digest,
            trusted=inspected.trusted,
        )
        yield found
        yield _opened(found, open_bundle(files))


def _opened(found: Check, classifier: Classifier) -> Check:
    return replace(
        found,
        classifier=classifier,
        parameters=sum(parameter.numel() for parameter in classifier.network.parameters()),
        layer=_default_layer(classifier),
    )


def _told(config: Config, label: str, weights: str) -> Check:
    """Read the plan, which nothing is built for."""
    what = plan(config, label)
    asked = tuple(dict.fromkeys(findings(config, what)))  # first, as this refuses what has no end
    return Check(
        network=what.network.name,
        weights=weights,
        steps=tuple(map(_written, what.steps)),
        left_out=what.left_out,
        inferer=_inferer(what),
        activation_read=what.activation is not None,
        findings=asked,
    )


def _inferer(what: Plan) -> str:
    return "the whole input at once, as none is named" if what.inferer is None else _written(what.inferer)


def _written(step: Step) -> str:
    """Write a step with its arguments, on one line."""
    if not isinstance(step.node, dict):
        return said(step.node)
    told = {name: value for name, value in step.node.items() if name not in ("_target_", "_desc_", "keys")}
    arguments = ", ".join(f"{said(name)}={_value(value)}" for name, value in told.items())
    return f"{step.name}({shortened(arguments)})" if arguments else step.name


def _value(value: Any) -> str:
    return shortened(said(value), 60)


def _default_layer(classifier: Classifier) -> str:
    try:
        return classifier.default_layer
    except GradCamError as error:
        return f"none: {error}"

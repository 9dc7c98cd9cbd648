"""A recipe as a proper MONAI bundle, so that the next person has one: written whole or not at all.

The bundle is made aside first and opened there by the loader that will open it later: what does not give the very
network of the recipe is never written.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_gradcam.classifiers import load_classifier
from napari_gradcam.classifiers.recipe import Recipe, read_recipe
from napari_gradcam.errors import GradCamError
from napari_gradcam.export.files import folder_for, refuse_unwritable, written_together

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from napari_gradcam.classifiers import Classifier

METADATA, INFERENCE, WEIGHTS = "configs/metadata.json", "configs/inference.json", "models/model.pt"
README, LICENCE = "docs/README.md", "LICENSE"


class Written(NamedTuple):
    """A bundle that was written."""

    files: tuple[Path, ...]
    classifier: Classifier


def write_bundle(recipe: str | PathLike[str], folder: str | PathLike[str]) -> Written:
    """Write the bundle that a recipe describes.

    Parameters
    ----------
    recipe
        The recipe's file (:mod:`napari_gradcam.classifiers.recipe`).
    folder
        Where to; made if it does not exist.

    Returns
    -------
    Written
        Its files, and the classifier that it gives.

    Raises
    ------
    GradCamError
        If the recipe does not give a classifier, or the folder has something in it or cannot be written; nothing is
        written then.
    """
    recipe, folder = Path(recipe), Path(folder)
    refuse_unwritable(folder / METADATA)
    if folder.is_dir() and any(folder.iterdir()):
        raise GradCamError(f"“{folder}” has files in it, which a bundle would mix with: choose a new or empty folder.")
    read, classifier = read_recipe(recipe), load_classifier(recipe)
    with tempfile.TemporaryDirectory(prefix="napari-gradcam-") as aside:
        draft = Path(aside) / (folder.name or "bundle")
        names = _write(read, classifier, draft)
        _prove(draft, classifier)
        _copy(draft, folder, names)
    return Written(tuple(folder / name for name in names), classifier)


def _write(recipe: Recipe, classifier: Classifier, draft: Path) -> list[str]:
    """Write all files into a folder of their own, and list them."""
    texts = {
        METADATA: json.dumps(recipe.metadata, indent=4, ensure_ascii=False) + "\n",
        INFERENCE: json.dumps(recipe.inference, indent=4, ensure_ascii=False) + "\n",
        README: _readme(recipe, classifier),
    }
    if "license" in recipe.metadata:
        texts[LICENCE] = recipe.metadata["license"] + "\n"
    try:
        for name, text in texts.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_text(text, encoding="utf-8")
        (draft / WEIGHTS).parent.mkdir()
        torch.save(classifier.network.state_dict(), draft / WEIGHTS)
    except (OSError, RuntimeError) as error:  # PyTorch's writer has an error of its own
        raise GradCamError(
            f"The bundle cannot be made in {draft.parent}: {error}; set TMPDIR to a folder with more room."
        ) from error
    return [METADATA, INFERENCE, WEIGHTS, *(name for name in texts if name not in (METADATA, INFERENCE))]


def _prove(draft: Path, wanted: Classifier) -> None:
    """Open the bundle as the next person will, and hold its network against the one that was written."""
    given = load_classifier(draft)
    mine, theirs = given.network.state_dict(), wanted.network.state_dict()
    same = mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    if not same or given.class_names != wanted.class_names or given.head != wanted.head:
        raise GradCamError(
            f"The bundle {draft.name} would not open as its recipe does, and was not written; open the recipe itself."
        )


def _copy(draft: Path, folder: Path, names: Sequence[str]) -> None:
    targets = [folder / name for name in names]
    with ExitStack() as stack:
        for place in dict.fromkeys(target.parent for target in targets):
            stack.enter_context(folder_for(place))
        temporaries = stack.enter_context(written_together(targets))
        for name, temporary in zip(names, temporaries, strict=True):
            shutil.copyfile(draft / name, temporary)


def _readme(recipe: Recipe, classifier: Classifier) -> str:
    known = recipe.metadata
    network = str(recipe.inference["network_def"]["_target_"]).rpartition(".")[2]
    size = " × ".join(map(str, classifier.input_shape))
    use = known.get("intended_use", "not stated")
    return f"""# {known["name"]}

{known["description"]}

- Network: {network} of MONAI
- Input: {size} (channels first)
- Classes: {", ".join(classifier.class_names)}
- Intended use: {use}

Made from a recipe by napari-gradcam. See where it looks in a scan:

    napari-gradcam explain SCAN --model FOLDER

Or read it in Python, by `napari_gradcam.load_classifier(folder)` or MONAI's `ConfigParser`.
"""

"""What a bundle asks for that would run code from it, and which bundles a person trusts to.

A person trusts contents, not a place: the SHA-256 of all files is remembered, and any change of any of them asks anew.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from platformdirs import user_config_path

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Finding(NamedTuple):
    """One thing that a bundle asks for and that is not done unless the bundle is trusted."""

    key: str
    """Where in the bundle it stands: a place in its configuration, or a file."""
    asks: str
    """What stands there, shortened."""
    reason: str
    """Why it is refused, as the end of a sentence."""


class UntrustedError(GradCamError):
    """A bundle would run code, and nobody has said that it may.

    Attributes
    ----------
    findings
        All that it asks for.
    digest
        What a person would trust: the SHA-256 of its contents.
    """

    def __init__(self, label: str, findings: Sequence[Finding], digest: str) -> None:
        self.findings, self.digest = tuple(findings), digest
        first, more = findings[0], len(findings) - 1
        also = f" and {more} more like it (napari-gradcam bundle check lists all)" if more else ""
        super().__init__(
            f"The bundle {label} asks at “{first.key}” for “{first.asks}”, {first.reason}{also}: nothing of it was "
            "run; open it only where you trust its makers (trust=True, --trust), or have it changed."
        )


class Inspection(NamedTuple):
    """What a bundle asks for, found without running anything of it."""

    digest: str
    findings: tuple[Finding, ...]
    trusted: bool


def is_trusted(digest: str) -> bool:
    """Tell whether a person has said that these contents may run code."""
    return digest in _remembered()


def remember(digest: str, label: str) -> None:
    """Keep that a person trusts these contents.

    Parameters
    ----------
    digest
        SHA-256 of the bundle.
    label
        What the bundle is called, for whoever looks into the list.
    """
    path = _store()
    known = _remembered() | {digest: {"name": label, "since": f"{datetime.now(UTC):%Y-%m-%d}"}}
    # A list that cannot be kept is no reason to refuse: the person is asked again.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(known, indent=1), encoding="utf-8")
        draft.replace(path)


def _remembered() -> dict[str, Any]:
    try:
        known = json.loads(_store().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _store() -> Path:
    return user_config_path("napari-gradcam", appauthor=False) / "trusted.json"

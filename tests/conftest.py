"""What every test shares."""

from __future__ import annotations

import os
import sys
from uuid import uuid4

import pytest

# Small networks: a second thread costs more than it gives, and several times more on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# The width of a terminal that some runners of tests hand on; commands are tested as they print into a pipe.
os.environ.pop("COLUMNS", None)


@pytest.fixture(autouse=True)
def trusts_nobody(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the person's own list of trusted bundles out of it."""
    trust = sys.modules.get("napari_gradcam.classifiers.trust")
    if trust is not None:
        store = tmp_path_factory.getbasetemp() / f"config-{uuid4().hex}" / "trusted.json"
        monkeypatch.setattr(trust, "_store", lambda: store)

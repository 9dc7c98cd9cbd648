"""What every test shares."""

from __future__ import annotations

import os

# Small networks: a second thread costs more than it gives, and several times more on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

"""What every test relies on: one thread, no network, and where the example data are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before torch and numpy
os.environ.update(HF_HUB_OFFLINE="1", MPLBACKEND="agg")
for colour in ("NO_COLOR", "FORCE_COLOR"):
    os.environ.pop(colour, None)

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of example data sets beside the repository, or skip the test."""
    if not SHARED.is_dir():
        pytest.skip(f"the example data sets are not here: {SHARED}")
    return SHARED

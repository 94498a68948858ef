"""Fixtures for every room's tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of measured scans: ``NAPARI_UNROLL_DATA``, or ``shared/data`` beside the repository."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("NAPARI_UNROLL_DATA") or beside)
    if not folder.is_dir():
        pytest.skip("no measured scans here; set NAPARI_UNROLL_DATA to their folder")
    return folder

"""Memory grows with a few volumes, whatever the form: what makes 512³ fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from /proc")
@pytest.mark.parametrize(("form", "support"), [("dcd", 36), ("sum", 24)])
def test_peaks_stay_within_eight_volumes(form, support):
    """Lags as many for the edge as 96 and 64 are for 512 voxels."""
    command = [sys.executable, "-m", "tests.normal.memory_probe", "192", form, str(support)]
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # freed arrays go back at once
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert max(peaks.values()) < 8, peaks

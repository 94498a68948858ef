"""The benchmark of sizes at its smallest: what a run holds is what its plan says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "scale.py"


@pytest.mark.skipif(sys.platform != "linux", reason="limits and what is freed are handled otherwise")
@pytest.mark.parametrize(("gigabytes", "on_disk"), [("0.095", False), ("0.04", True)])
def test_the_peak_of_a_limited_run_is_the_plans_estimate(gigabytes, on_disk):
    """In memory, and with some whole volumes on disk, which the limit that the system keeps would not hold.

    At 96³, where some stray megabytes of the process, which it takes in its first run of a size, no longer decide.
    """
    words = [sys.executable, str(BENCHMARK), "--one", "--methods", "tv-fista", "--sizes", "96", "--gb", gigabytes]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout.splitlines()[-1])
    assert not row["outcome"], row
    assert bool(row["disk"]) is on_disk
    assert 0.7 < row["estimate"] / row["bytes"] < 1.5, row

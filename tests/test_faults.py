"""The benchmark of faults at its smallest: every kind once, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_faults_end_with_the_volume_or_one_sentence(tmp_path):
    out = tmp_path / "faults.md"
    words = [sys.executable, str(BENCHMARK), "--n", "1", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    for row in out.read_text(encoding="utf-8").splitlines()[2:]:
        _, title, cases, sound, difference, _ = (cell.strip() for cell in row.split("|"))
        assert cases == sound, title
        assert not difference or float(difference) < 1e-5, title

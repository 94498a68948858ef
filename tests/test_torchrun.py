"""A run of two processes, which share views and patches, gives the values of one."""

import os
import subprocess
import sys

import numpy as np
import pytest

RECONSTRUCT = """
-m napari_unroll.cli reconstruct sample:cone-beam -o n=24 -o n_views=12 -o oversample=1 --method unrolled-pgd --device cpu
--patch-size 16 --overlap 4 --set self_ensemble=false --set n_iterations=2 --set refine=true --precision float32 --out
"""
TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node 2"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gloo is tried on Linux")
def test_two_processes_give_the_values_of_one(tmp_path):
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "NAPARI_UNROLL_CACHE": str(tmp_path / "cache")}
    volumes = []
    for name, launcher in (("two", TORCHRUN), ("one", "")):
        out = tmp_path / f"{name}.npy"
        words = [sys.executable, *launcher.split(), *RECONSTRUCT.split(), str(out)]
        done = subprocess.run(words, env=surroundings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert [done.stdout.count(said) for said in ("Wrote", "memory  ")] == [1, 1]  # the first one speaks
        volumes.append(np.load(out))
    two, one = volumes
    assert np.abs(two - one).max() < 1e-5 * np.abs(one).max()  # sums over views are made in another order

"""Two processes, which share views and patches, give the values of one."""

import os
import subprocess
import sys

import numpy as np
import pytest

from napari_unroll.normal.storage import load

SAMPLE = "sample:cone-beam -o n=24 -o n_views=12 -o oversample=1 --device cpu"
RECONSTRUCT = f"""
-m napari_unroll.cli reconstruct {SAMPLE} --method unrolled-pgd --patch-size 16 --overlap 4
--set self_ensemble=false --set n_iterations=2 --set refine=true --precision float32 --out
"""
FIT = f"-m napari_unroll.cli fit {SAMPLE} --set n_probes=4 --out"
TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node 2"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="gloo is tried on Linux"),
]


def made_by(launcher, words, out, said):
    """What the command writes; the first process speaks for all."""
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "NAPARI_UNROLL_CACHE": f"{out}-cache"}
    whole = [sys.executable, *launcher.split(), *words.split(), str(out)]
    done = subprocess.run(whole, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [done.stdout.count(text) for text in ("Wrote", said)] == [1, 1]
    return out


def test_a_reconstruction(tmp_path):
    two = np.load(made_by(TORCHRUN, RECONSTRUCT, tmp_path / "two.npy", "memory  "))
    one = np.load(made_by("", RECONSTRUCT, tmp_path / "one.npy", "memory  "))
    assert np.abs(two - one).max() < 1e-5 * np.abs(one).max()  # sums over views are made in another order


def test_a_fit(tmp_path):
    two = load(made_by(TORCHRUN, FIT, tmp_path / "two.safetensors", "operator"))
    one = load(made_by("", FIT, tmp_path / "one.safetensors", "operator"))
    assert (two.kernel - one.kernel).abs().max() < 1e-5 * one.kernel.abs().max()

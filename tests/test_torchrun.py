"""Two processes, which share views and patches, give the values of one."""

import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from napari_unroll.io.writers import read_volume
from napari_unroll.normal.storage import load
from napari_unroll.pipeline.unfinished import is_unfinished

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


def started(launcher, words, out):
    """How a command is started."""
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "NAPARI_UNROLL_CACHE": f"{out}-cache"}
    whole = [sys.executable, *launcher.split(), *words.split(), str(out)]
    return {"args": whole, "env": surroundings, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def made_by(launcher, words, out, said):
    """What the command writes; the first process speaks for all."""
    done = subprocess.run(**started(launcher, words, out))
    assert done.returncode == 0, done.stderr
    assert [done.stdout.count(text) for text in ("Wrote", said)] == [1, 1]
    return out


def test_a_reconstruction(tmp_path):
    two = np.load(made_by(TORCHRUN, RECONSTRUCT, tmp_path / "two.npy", "memory  "))
    one = np.load(made_by("", RECONSTRUCT, tmp_path / "one.npy", "memory  "))
    assert np.abs(two - one).max() < 1e-5 * np.abs(one).max()  # sums over views are made in another order


MRI = """
-m napari_unroll.cli reconstruct sample:multi-coil --device cpu --method cg-sense --set n_iterations=5 --out
"""


def test_a_reconstruction_of_coils(tmp_path):
    two = np.load(made_by(TORCHRUN, MRI, tmp_path / "two.npy", "memory  "))
    one = np.load(made_by("", MRI, tmp_path / "one.npy", "memory  "))
    assert np.abs(two - one).max() < 1e-5 * np.abs(one).max()


def test_a_kept_run_that_goes_on(tmp_path):
    """The first process keeps it and writes; what an earlier process has kept is where both go on."""
    one = read_volume(made_by("", RECONSTRUCT, tmp_path / "one.ome.zarr", "memory  ")).values
    two = read_volume(made_by(TORCHRUN, RECONSTRUCT, tmp_path / "two.ome.zarr", "memory  ")).values
    assert np.abs(two - one).max() < 1e-5 * np.abs(one).max()
    killed = tmp_path / "killed.ome.zarr"
    process = subprocess.Popen(**started(TORCHRUN, RECONSTRUCT, killed))
    while process.poll() is None and len(list(killed.glob("unfinished/patches-*/*.pt"))) < 3:
        time.sleep(0.01)
    for each in (*psutil.Process(process.pid).children(recursive=True), process):
        each.kill()
    process.communicate()
    assert is_unfinished(killed)
    resume = "-m napari_unroll.cli reconstruct --resume"
    again = read_volume(made_by(TORCHRUN, resume, killed, "memory  ")).values
    assert np.abs(again - one).max() < 1e-5 * np.abs(one).max()


def test_a_fit(tmp_path):
    two = load(made_by(TORCHRUN, FIT, tmp_path / "two.safetensors", "operator"))
    one = load(made_by("", FIT, tmp_path / "one.safetensors", "operator"))
    assert (two.kernel - one.kernel).abs().max() < 1e-5 * one.kernel.abs().max()

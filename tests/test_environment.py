import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from napari_unroll.environment import PeakMemory, machine, software

MIB = 2**20
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import napari_unroll, resource, torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
held = torch.ones(64, 2**20, dtype=torch.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def resident():
    return psutil.Process().memory_info().rss


def test_peak_memory_counts_what_the_work_takes_and_nothing_before_it():
    before = np.ones(40 * MIB, np.uint8)
    with PeakMemory() as peak:
        assert peak.n_bytes < 20 * MIB
        start = resident()
        held = np.ones(60 * MIB, np.uint8)
        grown = resident() - start
        seen = peak.n_bytes
        del held
    assert seen >= 0.9 * grown
    assert peak.n_bytes >= seen
    assert before.all()


def test_peak_memory_stays_as_it_was_when_the_work_ended():
    with PeakMemory() as peak:
        pass
    ended = peak.n_bytes
    after = np.ones(60 * MIB, np.uint8)
    assert peak.n_bytes == ended
    assert after.all()


@pytest.mark.cuda
def test_peak_memory_of_a_cuda_device_is_what_torch_allocated():
    with PeakMemory("cuda") as peak:
        torch.ones(60 * MIB, dtype=torch.uint8, device="cuda")
    assert peak.n_bytes >= 60 * MIB


def test_machine_and_software_are_named():
    assert "threads" in machine()
    assert {"napari-unroll", "python", "torch", "deepinv"} <= set(software())


@pytest.mark.skipif(
    not LARGE_PAGES.exists() or "[never]" in LARGE_PAGES.read_text(), reason="this system has no large pages to ask for"
)
def test_large_tensors_lie_on_large_pages():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64 * MIB / 4096 / 4


def spins(**given):
    """How often a thread of torch's OpenMP looks before it sleeps, as that library itself says in a fresh process."""
    told = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    words = [sys.executable, "-c", "import napari_unroll, torch"]
    env = {**told, **given, "OMP_DISPLAY_ENV": "VERBOSE"}
    said = subprocess.run(words, capture_output=True, text=True, check=True, env=env).stderr
    found = [line.split("'")[1] for line in said.splitlines() if "GOMP_SPINCOUNT" in line]
    return found[0] if found else pytest.skip("torch is not built with GNU OpenMP here")


def test_threads_that_wait_for_each_other_leave_the_processor_to_others():
    assert int(spins()) <= 1000


def test_who_has_chosen_how_threads_wait_is_left_alone():
    assert spins(GOMP_SPINCOUNT="7") == "7"
    assert int(spins(OMP_WAIT_POLICY="active")) > 1000

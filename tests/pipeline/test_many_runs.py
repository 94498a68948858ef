"""Many runs in one process leave no threads, no files and no memory behind."""

import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from napari_unroll.events import IterationDone, Outcome, Stop
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from tests.methods import tiny

OPEN_FILES = Path("/proc/self/fd")
MOST_GROWTH = 8 * 2**20
"""Bytes; one volume kept of every run would be more."""
N = 32
"""Edge of a volume of 0.13 MB."""


@pytest.fixture
def planned():
    scan = tiny.cone(N, 4)
    wishes = {"n_iterations": 1, "show_every": 1}
    return scan, resolve(Choices(method="sirt", params=wishes, device="cpu"), scan)


def held():
    """Threads, open files and bytes of this process."""
    n_files = len(list(OPEN_FILES.iterdir())) if OPEN_FILES.is_dir() else 0
    return np.array([threading.active_count(), n_files, psutil.Process().memory_info().rss])


def grown(work, n, n_first=5):
    """What ``n`` times ``work`` add to what is held after the first times."""
    for _ in range(n_first):
        work()
    before = held()
    for _ in range(n):
        work()
    return held() - before


def test_a_hundred_runs_leave_nothing(planned):
    scan, plan = planned
    results = set()

    def once():
        *_, finished = run(plan, scan)
        results.add(finished.result.tobytes()[:4096])

    threads, files, n_bytes = grown(once, 100)
    assert threads <= 0
    assert files <= 0
    assert n_bytes < MOST_GROWTH
    assert len(results) == 1


def test_two_hundred_starts_and_cancels_leave_nothing(planned):
    scan, plan = planned
    moments = iter(range(1000))

    def once():
        """Cancelled at another event every time."""
        stop, last = Stop(), next(moments) % 5
        for n, event in enumerate(run(plan, scan, stop)):
            if n == last or isinstance(event, IterationDone):
                stop.cancel()
        assert event.outcome is Outcome.CANCELLED

    threads, files, n_bytes = grown(once, 200)
    assert threads <= 0
    assert files <= 0
    assert n_bytes < MOST_GROWTH

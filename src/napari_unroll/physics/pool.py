"""Kernels that hold no lock on a pool of threads, in parts so short that the work can be stopped between them.

Knows threads and ranges; nothing of what is computed.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Event

import numpy as np

from napari_unroll import team
from napari_unroll.interrupt import stage

PART = 10_000_000
"""Innermost steps of one part of a task: about a tenth of a second on one processor."""
LOOK_S = 0.05
"""Seconds between two looks of the calling thread while others compute."""
CHUNK_BYTES, LEAST_VIEWS = 2**24, 16
"""Of a chunk of views: fewer would not pay for going through the volume once more."""
PASSES = 16
"""A chunk of views may take this part of a volume, so that not many of them are needed; and so may a slab."""


def default_threads() -> int:
    """As many workers as the variable NAPARI_UNROLL_THREADS says, else as this process may use processors.

    Processes of one run share those of a machine.
    """
    asked = os.environ.get("NAPARI_UNROLL_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, n // team.n_here())


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="unroll")


def parts(first: int, end: int, cost: int) -> Iterator[tuple[int, int]]:
    """Contiguous parts of ``range(first, end)`` of up to PART steps, where each number takes ``cost`` of them."""
    length = max(1, PART // max(1, cost))
    return ((start, min(start + length, end)) for start in range(first, end, length))


def views_at_once(n_views: int, view_bytes: int, volume_bytes: int) -> int:
    """Most views of a chunk: those of CHUNK_BYTES, or of a part of a volume, or LEAST_VIEWS, whichever are more."""
    return min(n_views, max(LEAST_VIEWS, max(CHUNK_BYTES, volume_bytes // PASSES) // view_bytes))


def in_chunks(work: Callable[[slice], None], views: slice, view_bytes: int, volume_bytes: int) -> None:
    """``work`` on one chunk of views after the other, of nearly one size, with a volume; several tell how far they are."""
    n_views = views.stop - views.start
    n_chunks = -(-n_views // max(1, views_at_once(n_views, view_bytes, volume_bytes)))
    edges = np.linspace(views.start, views.stop, n_chunks + 1).astype(int)
    one_by_one([slice(int(a), int(b)) for a, b in itertools.pairwise(edges)], work)


def one_by_one(some: Sequence[slice], work: Callable[[slice], None]) -> None:
    """``work`` on each; several tell how far they are."""
    if len(some) == 1:
        work(some[0])
        return
    with stage(len(some)) as done:
        for k, each in enumerate(some):
            done(k)
            work(each)


def run_tasks(task: Callable[[int, int], Iterator[None]], n: int, n_threads: int, per_thread: int = 4) -> None:
    """Run ``task(start, stop)`` over contiguous ranges of ``range(n)`` on the pool; re-raises the first error.

    A task is a generator that yields between its parts. The calling thread looks for a wish to stop meanwhile; then,
    and after an error, tasks are left at their next yield, and nothing computes any more when this raises.
    """
    edges = np.linspace(0, n, min(n, per_thread * n_threads) + 1).astype(int)
    left, n_tasks = Event(), len(edges) - 1
    with stage(n_tasks) as done:
        done(0)
        futures = [_pool(n_threads).submit(_run, task(int(a), int(b)), left) for a, b in itertools.pairwise(edges)]
        try:
            while running := wait(futures, LOOK_S).not_done:
                done(n_tasks - len(running))
            for future in futures:
                future.result()
        finally:
            left.set()
            for future in futures:
                future.cancel()
            wait(futures)


def _run(task: Iterator[None], left: Event) -> None:
    for _ in task:
        if left.is_set():
            return

"""Tasks on threads: every number once, errors, and nothing that computes on after a wish to stop."""

import threading

import numpy as np
import pytest

from napari_unroll.errors import Cancelled
from napari_unroll.events import Stop
from napari_unroll.interrupt import listening
from napari_unroll.physics import joseph, pool
from napari_unroll.physics.pool import parts, run_tasks
from napari_unroll.physics.samples import cone_beam_setup


def test_parts_cover_the_range_and_are_short(monkeypatch):
    monkeypatch.setattr(pool, "PART", 10)
    assert list(parts(3, 12, 4)) == [(3, 5), (5, 7), (7, 9), (9, 11), (11, 12)]
    assert list(parts(0, 3, 10**9)) == [(0, 1), (1, 2), (2, 3)]
    assert list(parts(0, 3, 0)) == [(0, 3)]


@pytest.mark.parametrize("n", [0, 1, 7, 100])
def test_every_number_is_done_once(n):
    done = np.zeros(n, int)

    def task(first, end):
        for k in range(first, end):
            done[k] += 1
            yield

    run_tasks(task, n, 3)
    assert (done == 1).all()


def test_the_first_error_is_raised_and_the_others_are_left():
    def task(first, end):
        if first == 0:
            raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        run_tasks(task, 8, 2)


def test_nothing_computes_on_after_a_wish_to_stop():
    """Tasks without end, two running and six waiting: all are gone when the caller hears of it."""
    stop, steps, begun = Stop(), [], threading.Barrier(3)

    def task(first, end):
        begun.wait(30)
        while True:
            steps.append(first)
            yield

    def wish():
        begun.wait(30)
        stop.cancel()

    thread = threading.Thread(target=wish)
    thread.start()
    with pytest.raises(Cancelled), listening(stop):
        run_tasks(task, 8, 2)
    thread.join()
    made = len(steps)
    assert set(steps) == {0, 1}
    run_tasks(lambda first, end: iter(()), 2, 2)  # both threads are free again
    assert len(steps) == made


@pytest.mark.parametrize("kernel", ["_forward", "_adjoint"])
def test_a_projection_in_progress_is_left(kernel, monkeypatch):
    """Asked to stop by its own third part, it makes none after those that run already."""
    geometry, grid = cone_beam_setup(8, 6)
    arguments = (True, np.array(grid.origin_mm), np.array(grid.spacing_mm))
    stop, calls = Stop(), []
    monkeypatch.setattr(pool, "PART", 1)
    monkeypatch.setattr(pool, "LOOK_S", 0.0)
    asked = threading.Event()

    def part(*_):
        calls.append(1)
        if len(calls) == 3:
            stop.cancel()
            asked.set()
        if asked.is_set():
            threading.Event().wait(0.01)

    monkeypatch.setattr(joseph, kernel, part)
    views = np.zeros(geometry.measurement_shape, np.float32)
    projection = {
        "_forward": lambda: joseph.forward(
            np.zeros(grid.shape, np.float32), geometry.vectors, *arguments, geometry.detector_shape, 2
        ),
        "_adjoint": lambda: joseph.adjoint(views, geometry.vectors, *arguments, grid.shape, 2),
    }
    with pytest.raises(Cancelled), listening(stop):
        projection[kernel]()
    made = len(calls)
    assert made < geometry.vectors.shape[0] * geometry.detector_shape[0]
    run_tasks(lambda first, end: iter(()), 2, 2)
    assert len(calls) == made

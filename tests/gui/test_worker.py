"""The worker thread: order, cancel, late events, swallowed errors."""

import threading
import time
from collections.abc import Iterator

import torch

from napari_unroll.errors import Cancelled, ScanError
from napari_unroll.events import Event, Finished, Outcome, Progress, Started, Stop
from napari_unroll.gui import jobs
from napari_unroll.gui.worker import WAITING, Clock, Runner, duration
from napari_unroll.interrupt import check
from tests.gui.conftest import TIMEOUT_MS


def three(stop: Stop) -> Iterator[Event]:
    yield Started("three", 3)
    for i in range(3):
        yield Progress(i + 1, 3)
    yield Finished(Outcome.COMPLETED, result=42)


def run_with_progress(qtbot, runner: Runner, make, **kwargs):
    """Start a run, wait for its end; returns (events, finished)."""
    run = runner.start(make, **kwargs)
    events: list[Event] = []
    run.event.connect(events.append)
    with qtbot.waitSignal(run.finished, timeout=TIMEOUT_MS) as blocker:
        pass
    return events, blocker.args[0]


def test_events_arrive_in_order_in_the_window_thread(qtbot):
    runner = Runner()
    threads = set()
    runner_thread = threading.get_ident()
    sunk: list[Event] = []

    def sink(event: Event) -> None:
        threads.add(threading.get_ident())
        sunk.append(event)

    events, finished = run_with_progress(qtbot, runner, three, sink=sink)
    assert [e.step for e in events if isinstance(e, Progress)] == [1, 2, 3]
    assert finished.result == 42
    assert sunk[:-1] == events
    assert threads
    assert runner_thread not in threads
    assert not runner.busy


def test_runtime_errors_become_failures(qtbot):
    def broken(stop: Stop) -> Iterator[Event]:
        yield Started("broken")
        raise RuntimeError("CUDA out of memory")

    _, finished = run_with_progress(qtbot, Runner(), broken)
    assert finished.outcome is Outcome.FAILED
    assert "out of memory" in finished.advice


def test_our_errors_keep_their_sentence(qtbot):
    def broken(stop: Stop) -> Iterator[Event]:
        raise ScanError("The detector has no pixels.")
        yield

    _, finished = run_with_progress(qtbot, Runner(), broken)
    assert finished.advice == "The detector has no pixels."


def test_a_run_without_end_is_completed(qtbot):
    _, finished = run_with_progress(qtbot, Runner(), lambda stop: iter([Started("short")]))
    assert finished.outcome is Outcome.COMPLETED


def test_cancel_is_heard_at_once_and_late_events_are_dropped(qtbot):
    release, entered = threading.Event(), threading.Event()

    def stuck(stop: Stop) -> Iterator[Event]:
        yield Started("stuck")
        entered.set()
        release.wait(30)
        yield Progress(1, 1)
        raise Cancelled("late")

    runner = Runner()
    run = runner.start(stuck, what="stuck work")
    ends: list[Finished] = []
    events: list[Event] = []
    run.finished.connect(ends.append)
    run.event.connect(events.append)
    qtbot.waitUntil(entered.is_set, timeout=TIMEOUT_MS)
    qtbot.waitUntil(lambda: len(events) == 1, timeout=TIMEOUT_MS)
    runner.cancel()
    assert [e.outcome for e in ends] == [Outcome.CANCELLED]
    assert run.stop.cancelled
    assert not runner.busy
    release.set()
    _, finished = run_with_progress(qtbot, runner, three)
    assert finished.result == 42
    assert len(ends) == 1
    assert len(events) == 1


def test_a_new_run_waits_until_the_old_one_has_left(qtbot):
    inside = threading.Semaphore(0)
    overlaps: list[bool] = []
    active = threading.Event()

    def slow(stop: Stop) -> Iterator[Event]:
        overlaps.append(active.is_set())
        active.set()
        inside.release()
        yield Started("slow")
        time.sleep(0.05)
        active.clear()
        yield Finished(Outcome.COMPLETED)

    runner = Runner()
    runner.start(slow)
    qtbot.waitUntil(lambda: inside.acquire(blocking=False), timeout=TIMEOUT_MS)
    active.clear()
    run_with_progress(qtbot, runner, slow)
    assert overlaps == [False, False]


def test_a_run_that_waits_for_a_cancelled_one_says_so(qtbot):
    release, entered = threading.Event(), threading.Event()

    def deaf(stop: Stop) -> Iterator[Event]:
        entered.set()
        release.wait(30)
        yield Started("deaf")

    runner = Runner()
    runner.start(deaf)
    qtbot.waitUntil(entered.is_set, timeout=TIMEOUT_MS)
    run = runner.start(three)
    with qtbot.waitSignal(run.event, timeout=TIMEOUT_MS) as blocker:
        pass
    assert blocker.args == [Progress(0, 0, WAITING)]
    assert run.clock.text == WAITING
    with qtbot.waitSignal(run.finished, timeout=TIMEOUT_MS) as blocker:
        release.set()
    assert blocker.args[0].result == 42


def endless() -> None:
    """A step without end, in a plain function."""
    while True:
        check()


def test_a_run_leaves_inside_a_step(qtbot):
    """The next run can only come to an end when the endless one has left the lane."""
    runner = Runner()
    run = runner.start(jobs.single("endless", endless))
    with qtbot.waitSignal(run.event, timeout=TIMEOUT_MS):
        pass
    runner.cancel()
    _, finished = run_with_progress(qtbot, runner, three)
    assert finished.result == 42


def test_finish_now_inside_a_step_without_a_result_says_so(qtbot):
    runner = Runner()
    run = runner.start(jobs.single("endless", endless))
    with qtbot.waitSignal(run.event, timeout=TIMEOUT_MS):
        pass
    with qtbot.waitSignal(run.finished, timeout=TIMEOUT_MS) as blocker:
        runner.finish_now()
    (finished,) = blocker.args
    assert (finished.outcome, finished.result) == (Outcome.FINISHED_EARLY, None)
    assert "nothing yet" in finished.advice


def test_finish_now_reaches_the_run(qtbot):
    def until_told(stop: Stop) -> Iterator[Event]:
        yield Started("until told")
        while not stop.finish_now:
            yield Progress(0, 0)
            time.sleep(0.005)
        yield Finished(Outcome.FINISHED_EARLY, result="partial")

    runner = Runner()
    run = runner.start(until_told)
    with qtbot.waitSignal(run.event, timeout=TIMEOUT_MS):
        pass
    with qtbot.waitSignal(run.finished, timeout=TIMEOUT_MS) as blocker:
        runner.finish_now()
    assert blocker.args[0].result == "partial"


def test_torch_threads_are_set_in_the_worker(qtbot):
    seen: list[int] = []

    def look(stop: Stop) -> Iterator[Event]:
        seen.append(torch.get_num_threads())
        yield Finished(Outcome.COMPLETED)

    run_with_progress(qtbot, Runner(), look)
    import os

    assert seen == [max(1, (os.cpu_count() or 2) - 1)]


def test_clock_tells_the_time_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock()
    assert clock.left_s is None
    for step in range(1, 4):
        now[0] += 2.0
        clock.see(Progress(step, 10, "stage"))
    assert clock.left_s == 14.0
    assert clock.left_text == "14 s left"
    assert clock.elapsed_s == 6.0


def test_durations_in_words():
    assert duration(0.2) == "1 s"
    assert duration(75) == "1 min 15 s"
    assert duration(3700) == "1 h 01 min"

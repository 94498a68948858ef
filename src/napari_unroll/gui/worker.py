"""The one worker thread: it runs a generator of events and hands them to the window.

Every run is an object of its own; what arrives after its end is dropped, even events that were queued before it was
cancelled. Runs are serial: a new one waits until the cancelled one has left, which takes the rest of its part of a step
(see ``interrupt``), and says so. Nothing raised in the thread is lost: every failure
becomes ``Finished(FAILED, advice)``, because generator workers swallow errors derived from RuntimeError.

Knows events and threads; nothing of layers, docks or what the run computes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from napari.qt.threading import GeneratorWorker, create_worker
from qtpy.QtCore import QObject, Signal

from napari_unroll.errors import Cancelled, FinishNow, UnrollError
from napari_unroll.events import Event, Finished, Forecast, IterationDone, Outcome, Progress, Started, Stop, duration
from napari_unroll.gui.preferences import preferences
from napari_unroll.interrupt import interruptible

log = logging.getLogger(__name__)

Make = Callable[[Stop], Iterator[Event]]
Sink = Callable[[Event], None]
WAITING = "waiting for the cancelled run to end"


def _n_threads() -> int:
    """Threads for torch: as many as the preferences say, else all processors but one, which keeps the window alive."""
    return preferences().threads or max(1, (os.cpu_count() or 2) - 1)


def _failure(error: Exception) -> Finished:
    if isinstance(error, Cancelled):
        return Finished(Outcome.CANCELLED, advice=str(error) or "Cancelled.")
    if isinstance(error, FinishNow):
        return Finished(Outcome.FINISHED_EARLY, advice="There was nothing yet to finish with.")
    if isinstance(error, UnrollError):
        return Finished(Outcome.FAILED, advice=str(error))
    log.error("The run failed.", exc_info=error)
    text = str(error).strip().splitlines()
    return Finished(Outcome.FAILED, advice=f"The run failed: {text[0] if text else type(error).__name__}")


def guarded(make: Make, stop: Stop, sink: Sink | None = None) -> Iterator[Event]:
    """The generator that really runs in the thread, ended by Finished, never raising.

    Torch's threads are set, and every step listens to ``stop``.
    """
    import torch  # here, for docks are on screen before it is loaded

    torch.set_num_threads(_n_threads())
    ended = False
    try:
        for event in interruptible(make(stop), stop):
            if sink is not None and not stop.cancelled:
                sink(event)
            ended = isinstance(event, Finished)
            yield event
    except Exception as error:
        yield _failure(error)
        return
    if not ended:
        yield Finished(Outcome.CANCELLED if stop.cancelled else Outcome.COMPLETED)


class _RunWorker(GeneratorWorker):
    """A napari worker that waits for its predecessor; ``quit`` (window closed, activity bar) asks the run to stop."""

    stop: Stop
    lane: threading.Lock

    def quit(self) -> None:
        self.stop.cancel()
        super().quit()

    def work(self) -> Any:
        if not self.lane.acquire(blocking=False):
            self.yielded.emit(Progress(0, 0, WAITING))
            self.lane.acquire()
        try:
            return super().work()
        finally:
            self._gen.close()
            self.lane.release()


class Run(QObject):
    """One run as its listener sees it: connect to ``event`` and ``finished``. Emits nothing after ``finished``."""

    event = Signal(object)
    finished = Signal(object)

    def __init__(self, what: str, stop: Stop, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.what, self.stop, self.clock = what, stop, Clock()
        self.over = False

    def see(self, event: Event) -> None:
        """Pass an event on; anything that comes after the end is dropped."""
        if self.over:
            return
        self.clock.see(event)
        if isinstance(event, Finished):
            self.over = True
            self.finished.emit(event)
        else:
            self.event.emit(event)


class Runner(QObject):
    """Starts runs, one at a time; each re-emits its events in the window's thread."""

    busy_changed = Signal(bool)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lane = threading.Lock()
        self._worker: _RunWorker | None = None
        self.run: Run | None = None

    @property
    def busy(self) -> bool:
        """Whether a run is going on that has not been cancelled."""
        return self.run is not None and not self.run.over

    def start(self, make: Make, what: str = "run", sink: Sink | None = None) -> Run:
        """Run ``make(stop)`` in the thread; a run that is still going on is cancelled first.

        ``sink`` sees every event in the worker's thread, before the window does.
        """
        self.cancel()
        run = Run(what, Stop(), self)
        worker = create_worker(
            guarded, make, run.stop, sink, _worker_class=_RunWorker, _ignore_errors=True, _start_thread=False
        )
        worker.stop, worker.lane = run.stop, self._lane
        worker.yielded.connect(run.see)
        run.finished.connect(self._on_finished)
        self.run, self._worker = run, worker
        self.busy_changed.emit(True)
        worker.start()
        return run

    def cancel(self) -> None:
        """Give the present run up at once; its listener hears ``Finished(CANCELLED)`` now, late events are dropped."""
        if self.busy and self.run is not None and self._worker is not None:
            self._worker.quit()
            self.run.see(
                Finished(Outcome.CANCELLED, advice=f"{self.run.what[:1].upper()}{self.run.what[1:]} cancelled.")
            )

    def finish_now(self) -> None:
        """Ask the present run for what it has."""
        if self.busy and self.run is not None:
            self.run.stop.finish()

    def _on_finished(self, finished: Finished) -> None:
        self._worker = None
        self.busy_changed.emit(False)

    @staticmethod
    def wait(msecs: int = 10_000) -> None:
        """Ask every worker to stop and wait for their threads; for tests and for closing windows."""
        GeneratorWorker.await_workers(msecs)


class Clock:
    """How far a run is and how long it will still take, from its own events; forecasts of a whole run count before all."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._forecast: tuple[float, Forecast] | None = None
        self.step = 0
        self.n_steps = 0
        self.text = ""

    def see(self, event: Event) -> None:
        """Note an event."""
        if isinstance(event, Forecast):
            self._forecast = (time.monotonic(), event)
        elif isinstance(event, Started):
            self.step, self.n_steps, self.text = 0, event.n_steps, event.what
        elif isinstance(event, Progress):
            self._restart_if(event.n_steps != self.n_steps or event.step < self.step)
            self.step, self.n_steps, self.text = event.step, event.n_steps, event.text or self.text
        elif isinstance(event, IterationDone) and self.n_steps in (0, event.n_iterations):
            self.step, self.n_steps = event.iteration, event.n_iterations
            self.text = f"iteration {event.iteration} of {event.n_iterations}"
        if self._first is None and self.step > 0:
            self._first = (time.monotonic(), self.step)

    def _restart_if(self, restarted: bool) -> None:
        if restarted:
            self._first = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def share(self) -> float | None:
        """What is done of the run, or of its stage where nobody foretells the whole; None while that is unknown."""
        if self._forecast is not None:
            return self._forecast[1].share
        return min(1.0, self.step / self.n_steps) if self.n_steps else None

    @property
    def stage(self) -> str:
        """The present stage in words."""
        return self.text if self._forecast is None else self._forecast[1].text

    @property
    def left_s(self) -> float | None:
        """Seconds still to go, None while unknown; the first step (compilation, loading) does not count."""
        if self._forecast is not None:
            then, told = self._forecast
            return None if told.left_s is None else max(0.0, told.left_s - (time.monotonic() - then))
        if self._first is None or self.n_steps <= self.step or self.step <= self._first[1]:
            return None
        then, step = self._first
        return (time.monotonic() - then) / (self.step - step) * (self.n_steps - self.step)

    @property
    def left_text(self) -> str:
        """The time left in words."""
        left = self.left_s
        return "" if left is None else f"{duration(left)} left"

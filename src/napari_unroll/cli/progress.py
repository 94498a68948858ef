"""Consume a run in a terminal: a progress bar with the time left, and Ctrl-C that finishes first and cancels second."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from tqdm import tqdm

from napari_unroll.events import Event, Finished, IterationDone, Measured, Outcome, Progress, Stop, Warned

EXIT_CODES = {Outcome.FAILED: 1, Outcome.CANCELLED: 130}


def run_with_progress(make: Callable[[Stop], Iterator[Event]], what: str) -> Finished:
    """Run ``make(stop)`` to its end under a progress bar; leaves the program where there is no result."""
    stop = Stop()
    finished = Finished(Outcome.FAILED, advice=f"{what} ended without saying how.")
    with handle_interrupts(stop), ProgressBar(what) as bar:
        for event in make(stop):
            bar.update(event)
            if isinstance(event, Finished):
                finished = event
    typer.echo(finished.advice if finished.result is not None else f"napari-unroll: {finished.advice}", err=True)
    if finished.result is None:
        raise typer.Exit(EXIT_CODES.get(finished.outcome, 1))
    return finished


class ProgressBar:
    """A tqdm bar on stderr that follows the stage which the events tell of."""

    def __init__(self, what: str) -> None:
        min_interval = 0.1 if sys.stderr.isatty() else 10.0
        self._bar: Any = tqdm(
            total=0, desc=what, file=sys.stderr, unit="step", leave=False, dynamic_ncols=True, mininterval=min_interval
        )
        self._what = what

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Progress) and event.n_steps == 0:
            self._bar.write(event.text, file=sys.stderr)
        elif isinstance(event, Progress):
            self._move(event.step, event.n_steps, event.text or self._what)
        elif isinstance(event, IterationDone):
            self._iteration(event)
        elif isinstance(event, Measured):
            self._bar.write(event.text, file=sys.stderr)
        elif isinstance(event, Warned):
            self._bar.write(f"warning: {event.text}", file=sys.stderr)

    def _iteration(self, event: IterationDone) -> None:
        if event.residual is not None:
            self._bar.set_postfix_str(f"residual {event.residual:.2%}", refresh=False)
        if "loss" in event.metrics:
            self._bar.set_postfix_str(f"loss {event.metrics['loss']:.3g}", refresh=False)
        if "psnr_start" in event.metrics:
            network, start = event.metrics["psnr"], event.metrics["psnr_start"]
            self._bar.write(f"step {event.iteration}: {network:.2f} dB, start {start:.2f} dB", file=sys.stderr)
        if self._bar.total in (0, event.n_iterations):
            self._move(event.iteration, event.n_iterations, self._what)

    def _move(self, step: int, n_steps: int, text: str) -> None:
        bar = self._bar
        if n_steps != bar.total or step < bar.n or bar.desc.removesuffix(": ") != text:
            bar.set_postfix_str("", refresh=False)
            bar.set_description(text, refresh=False)
            bar.reset(total=n_steps)
        bar.update(step - bar.n)


@contextmanager
def handle_interrupts(stop: Stop) -> Iterator[None]:
    """First Ctrl-C: finish now; second: cancel; third: as usual. Only the main thread may take signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.getsignal(signal.SIGINT)

    def interrupted(*_: object) -> None:
        if not stop.finish_now:
            stop.finish()
            print("\nFinishing with what there is; press Ctrl-C again to cancel.", file=sys.stderr)
        else:
            stop.cancel()
            signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)

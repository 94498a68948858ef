"""A run elsewhere as a window holds it: started or found, watched, given up; for the worker thread. Knows no Qt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_unroll.errors import ParameterError
from napari_unroll.events import Event, Finished, Outcome, Progress, Started, Stop
from napari_unroll.gui.jobs import judged, unfinished_run_at
from napari_unroll.interrupt import shielded
from napari_unroll.io.ome_zarr import holds_volume
from napari_unroll.pipeline import away
from napari_unroll.pipeline.away import Away, Queue
from napari_unroll.pipeline.plan import Plan
from napari_unroll.pipeline.telling import LOOK_S
from napari_unroll.pipeline.unfinished import check_free
from napari_unroll.pipeline.watching import Kept, is_going, is_kept, kept_at, watch
from napari_unroll.scan.scan import Scan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A run that is kept in a store, its scan, and whether a process is at it."""

    plan: Plan | Kept
    scan: Scan
    is_going: bool


class AwayRun:
    """A run in ``store``. Whoever stops watching lets it go on, unless ``gives_up`` was set."""

    def __init__(self, store: Path, begin: Callable[[], Away] | None = None) -> None:
        self.store, self.gives_up = store, False
        self._begin, self._away = begin, None if begin is not None else away.at(store)

    def found(self, is_here: bool) -> Callable[[Stop], Iterator[Event]]:
        """Wait for the run to begin; the result is what is Found, or the path of a store that is finished.

        A run that nobody is at is resolved where it shall go on in this process (``is_here``).
        """
        return lambda stop: self._held(self._find(stop, is_here))

    def watched(self, plan: Plan | Kept, scan: Scan) -> Callable[[Stop], Iterator[Event]]:
        """Start it, where it is to be started, and watch it; where the truth is known, the end says how close it is."""
        return lambda stop: self._held(self._watch(stop, plan, scan))

    def _held(self, events: Iterator[Event]) -> Iterator[Event]:
        """The same events; whatever ends them, a run that is given up is cancelled."""
        try:
            yield from events
        finally:
            if self.gives_up:
                with shielded():
                    try:
                        away.give_up(self.store, self._away)
                    except OSError as error:
                        log.warning("The run in %s could not be cancelled: %s", self.store, error)

    def _find(self, stop: Stop, is_here: bool) -> Iterator[Event]:
        yield Started(f"reading {self.store.name}")
        said = ""
        while not is_kept(self.store) and self._away is not None and (state := self._away.state()):
            if state != said:
                yield Progress(0, 0, state)
                said = state
            time.sleep(LOOK_S)
            if stop.cancelled:
                return
        with shielded():
            if is_kept(self.store):
                found = self._kept(is_here)
                yield Finished(Outcome.COMPLETED, found)
            elif holds_volume(self.store):
                away.forget(self.store)
                yield Finished(Outcome.COMPLETED, self.store)
            else:
                words = "" if self._away is None else self._away.last_words()
                away.forget(self.store)
                raise ParameterError(words or f"{self.store} holds no run that could go on.")

    def _kept(self, is_here: bool) -> Found:
        plan: Plan | Kept
        going = is_going(self.store)
        plan, scan = unfinished_run_at(self.store) if is_here and not going else kept_at(self.store)
        return Found(plan, scan, going)

    def _watch(self, stop: Stop, plan: Plan | Kept, scan: Scan) -> Iterator[Event]:
        if self._begin is not None:
            with shielded():
                self._away = self._begin()
        for event in watch(self.store, stop, self._away):
            if isinstance(event, Finished):
                if not is_kept(self.store):
                    away.forget(self.store)
                yield judged(event, scan, plan)
            else:
                yield event


def begun(plan: Plan, store: Path, queue: Queue | None, overwrite: bool = False) -> AwayRun:
    """A run that is started elsewhere: the command that *Copy as command* gives, in a process or a queue.

    What ``store`` holds is refused, unless ``overwrite``; it then stays until the new volume is complete.
    """

    def begin() -> Away:
        check_free(store, overwrite)
        return away.start(away.words_of(plan.command, store, overwrite), store, queue)

    return AwayRun(store, begin)


def gone_on(store: Path, queue: Queue | None) -> AwayRun:
    """The run in ``store`` goes on elsewhere."""
    return AwayRun(store, lambda: away.start(away.resume_words(store), store, queue))

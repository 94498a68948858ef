"""A token that trips itself in the middle of a step, and the loop that says how a generator took it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from napari_unroll.errors import Cancelled, FinishNow
from napari_unroll.events import Event, Finished, Forecast, Outcome, Stop
from napari_unroll.interrupt import interruptible


class Tripping(Stop):
    """Counts how often it is looked at; at look ``at`` it is asked to ``how`` ("cancel" or "finish")."""

    def __init__(self, at: int | None = None, how: str = "cancel") -> None:
        self.looks, self.at, self.how = 0, at, how
        self._cancelled = False
        super().__init__()

    @property
    def cancelled(self) -> bool:
        self.looks += 1
        if self.looks == self.at:
            getattr(self, self.how)()
        return self._cancelled

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        self._cancelled = value


@dataclass
class End:
    """All events, how it ended, with what, and how many looks and events came after the token had tripped."""

    events: list[Event]
    outcome: Outcome
    result: Any
    looks_after: int
    events_after: int


def drive(make: Callable[[Stop], Iterator[Event]], stop: Tripping, at_event: int | None = None) -> End:
    """Drain ``make(stop)`` as a window does; ``at_event``: the listener asks when it has heard so many events."""
    events: list[Event] = []
    asked_at = None
    outcome, result = None, None
    try:
        for event in interruptible(make(stop), stop):
            events.append(event)
            if isinstance(event, Finished):
                outcome, result = event.outcome, event.result
            if len(events) == at_event:
                getattr(stop, stop.how)()
                asked_at, stop.at = len(events), stop.looks
            elif asked_at is None and stop.at is not None and stop.looks >= stop.at:
                asked_at = len(events) - 1
    except Cancelled:
        outcome = Outcome.CANCELLED
    except FinishNow:
        outcome = Outcome.FINISHED_EARLY
    assert outcome is not None, f"it ended without saying how, after {events[-3:]}"
    later = [] if asked_at is None else events[asked_at:]
    after = sum(not isinstance(event, Forecast) for event in later)  # one goes with every step
    return End(events, outcome, result, 0 if stop.at is None else stop.looks - stop.at, after)

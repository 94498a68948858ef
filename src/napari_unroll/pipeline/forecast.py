"""How far a whole run is and how long it will still take, over all its stages, from the events that it tells.

Every method tells stages by the text of its Progress events and steps within them; iterations without such a stage are one
themselves. What earlier runs took says how long the stages to come are, and the pace of this run by how much that is wrong.
Iterations that end once the volume hardly changes are as far as the change is that an earlier run had there.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from napari_unroll.events import Event, Forecast, IterationDone, Progress
from napari_unroll.pipeline.times import ITERATIONS, MANY, N_PARTS, Expected, StageTime

START = "start"
TRUST = 0.05
"""Part of the expected time after which a run's own pace counts as much as what was expected."""
CONVINCED = 0.4
"""Part of a stage after which its own pace alone counts."""


@dataclass
class _Stage:
    """A stage that has begun: how many of how many steps are done since when."""

    name: str
    begun: float
    ended: float | None = None
    step: int = 0
    n_steps: int = 0
    is_progress: bool = True
    marks: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])
    """Shares of the steps, and the seconds after which they were taken."""
    changes: list[float] = field(default_factory=list)
    """The smallest relative change of the volume so far, after every step that told one."""

    @property
    def share(self) -> float:
        """Of the announced steps."""
        return self.step / self.n_steps if self.n_steps else 0.0

    def seconds(self, now: float) -> float:
        """So far."""
        return (now if self.ended is None else self.ended) - self.begun

    def reach(self, step: int, n_steps: int, now: float, change: float | None = None) -> None:
        """So many steps are done, the last one with this change."""
        self.step, self.n_steps = step, n_steps
        if change is not None and 0 < change < math.inf:
            self.changes.append(min([change, *self.changes[-1:]]))
        if self.share > self.marks[-1][0]:
            self.marks.append((self.share, self.seconds(now)))

    def time(self, now: float) -> StageTime:
        """What is remembered of it."""
        seconds, last = self.seconds(now), self.marks[-1][0]
        shares, times = zip(*self.marks, strict=True)
        wanted = np.linspace(0, last, N_PARTS + 1)[1:]
        passed = tuple(np.clip(np.interp(wanted, shares, times) / max(seconds, 1e-9), 0, 1).tolist()) if last else ()
        share = min(1.0, self.share) or 1.0
        return StageTime(
            name=self.name, seconds=seconds, share=share, passed=passed, changes=self._ending() if share < 1 else ()
        )

    def _ending(self) -> tuple[float, ...]:
        """The changes after equal parts of the steps, where there are enough steps to tell."""
        n = len(self.changes)
        if n < MANY:
            return ()
        return tuple(np.interp(np.linspace(0, n - 1, N_PARTS + 1), np.arange(n), self.changes).tolist())


@dataclass
class Forecaster:
    """Sees a run's events; says after each what is known. ``expected`` is what the plan said."""

    expected: Expected
    clock: Callable[[], float] = time.perf_counter
    stages: list[_Stage] = field(default_factory=list, init=False)
    text: str = field(default="", init=False)
    share: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.stages.append(_Stage(START, self.clock()))

    def see(self, event: Event) -> Forecast | None:
        """Note an event; the new forecast where it tells how far the run is."""
        if isinstance(event, Progress) and event.n_steps > 0:
            self._progress(event)
        elif isinstance(event, IterationDone) and event.n_iterations > 0:
            self._iteration(event)
        else:
            return None
        left = self.left_s()
        if not self.expected.stages:
            return Forecast(self.text, self.stages[-1].share, left)
        elapsed = self.clock() - self.stages[0].begun
        self.share = max(self.share, elapsed / max(elapsed + (left or 0.0), 1e-9))
        return Forecast(self.text, self.share, left)

    def took(self) -> tuple[StageTime, ...]:
        """Every stage of the run that is over."""
        now = self.clock()
        return tuple(stage.time(now) for stage in self.stages)

    def _progress(self, event: Progress) -> None:
        name, now = re.sub(r"\d+", "#", event.text), self.stages[-1]
        share = event.step / event.n_steps
        if not now.is_progress or _base(now.name) != name or share < now.share:
            now = self._begin(name, is_progress=True)
        now.reach(event.step, event.n_steps, self.clock())
        self.text = event.text

    def _iteration(self, event: IterationDone) -> None:
        """Iterations within a stage that tells its own steps are no stage; a complete one gives way to them."""
        now = self.stages[-1]
        if now.is_progress and now.name != START and now.share < 1:
            return
        if now.is_progress or event.iteration < now.step:
            if event.iteration >= event.n_iterations:
                return
            now = self._begin(ITERATIONS, is_progress=False)
        now.reach(event.iteration, event.n_iterations, self.clock(), event.metrics.get("change"))
        self.text = f"iteration {event.iteration} of {event.n_iterations}"

    def _begin(self, name: str, is_progress: bool) -> _Stage:
        """A new stage; of a name that was there already it is the second."""
        before = sum(_base(stage.name) == name for stage in self.stages)
        now = self.clock()
        self.stages[-1].ended = now
        self.stages.append(_Stage(f"{name} ({before + 1})" if before else name, now, is_progress=is_progress))
        return self.stages[-1]

    def left_s(self) -> float | None:
        """Seconds still to go, None while nothing is known."""
        now, stage = self.clock(), self.stages[-1]
        known = {s.name: s for s in self.expected.stages}
        if not known:
            return self._left_of_guess(now, stage)
        here = known.get(stage.name)
        order = list(known)
        last = max((order.index(s.name) for s in self.stages if s.name in known), default=-1)
        later = sum(known[name].seconds for name in order[last + 1 :])
        if here is None:
            return self._pace(known) * later
        done, reached = _done(stage, here), stage.marks[-1][1]
        own = self._pace(known) * here.seconds * (1 - done)
        by_steps = reached * (1 - done) / done if done > 0 else own
        trust = min(1.0, done / CONVINCED)
        left = (1 - trust) * own + trust * by_steps - (stage.seconds(now) - reached)
        return max(0.0, left) + self._pace(known) * later

    def _left_of_guess(self, now: float, stage: _Stage) -> float | None:
        """Where the method never ran here: by the steps of its iterations, which are most of a run; before, nothing is known."""
        if stage.name.startswith("iteration") and stage.step > 1:
            return stage.seconds(now) * (1 - stage.share) / stage.share
        return None

    def _pace(self, known: dict[str, StageTime]) -> float:
        """How many times longer than expected the known stages took so far, drawn towards 1 while that is little."""
        took = wanted = TRUST * self.expected.seconds
        for stage in self.stages:
            if stage.name in known:
                part = 1.0 if stage.ended is not None else _done(stage, known[stage.name])
                took += stage.marks[-1][1] if stage.ended is None else stage.ended - stage.begun
                wanted += part * known[stage.name].seconds
        return took / max(wanted, 1e-9)


def _base(name: str) -> str:
    """A stage's name without its number."""
    return re.sub(r" \(\d+\)$", "", name)


def _done(stage: _Stage, expected: StageTime) -> float:
    """Part of a stage's time that has passed, by its steps; never quite all of it while there are more."""
    steps = expected.steps_after(stage.share, stage.changes[-1] if stage.changes else None)
    return expected.time_after(min(steps, 0.95) if stage.share < 1 else 1.0)

"""Watch a run that another process keeps in its store: its events as they come, and how it ended, whatever ended it.

The store is only read, except for a wish. Nothing here waits for the other process, and nothing of it is needed but its files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from napari_unroll.errors import UnrollError
from napari_unroll.events import (
    Box,
    Event,
    Finished,
    FixedPoint,
    IterationDone,
    Outcome,
    PatchDone,
    Progress,
    Stop,
    whole,
)
from napari_unroll.interrupt import shielded
from napari_unroll.io.atomic import is_locked
from napari_unroll.io.guards import check_folder
from napari_unroll.io.ome_zarr import GrownVolume, holds_volume
from napari_unroll.io.writers import read_volume
from napari_unroll.methods.registry import get
from napari_unroll.pipeline.plan import roi_box
from napari_unroll.pipeline.repeat import scan_of
from napari_unroll.pipeline.telling import (
    CANCEL,
    FINISH,
    LOOK_S,
    Begun,
    End,
    Iteration,
    Lines,
    Patch,
    Point,
    Told,
    begun_at,
    read,
    wish,
)
from napari_unroll.pipeline.unfinished import INSIDE, LOCK, RECORD, grid_of, record_of
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.scan import Scan

SETTLE_S = 0.5
"""A finished volume takes the place of the store in two steps; after so long both are made."""
KILLED = (
    "The process that made {name} ended without a word, as when it is killed, runs out of memory or its machine goes "
    "down. What was done is kept: go on with it."
)


class Job(Protocol):
    """The other process before it tells in the store: ``before`` is the token of who told there earlier, or "" ."""

    @property
    def before(self) -> str:
        """The token."""

    @property
    def started(self) -> str:
        """When it was started: time in UTC, ISO 8601."""

    def state(self) -> str:
        """How it is, in words, or "" when it has ended."""

    def last_words(self) -> str:
        """What it said last, "" where that is not known."""


@dataclass(frozen=True)
class FinishedElsewhere(Finished):
    """The end of a run whose volume another process has written, with the record that it wrote."""

    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """A kept run as its record has it: what is shown of one that another machine may have planned."""

    method: str
    title: str
    grid: VolumeGrid
    roi: Box | None = None


def is_going(store: Path) -> bool:
    """Whether a process keeps its run in ``store`` right now."""
    return is_locked(store / INSIDE / LOCK)


def is_kept(store: Path) -> bool:
    """Whether ``store`` holds a run that did not end."""
    return (store / INSIDE / RECORD).is_file()


def kept_at(store: Path) -> tuple[Kept, Scan]:
    """The run that is kept in ``store``, and its scan; whether a process is at it does not matter.

    Raises FileFormatError or ParameterError where either cannot be read.
    """
    check_folder(store)
    record = record_of(store)
    scan = scan_of(record, store.name)
    name, roi = record["method"]["name"], record["plan"]["roi"]
    box = None if roi is None else roi_box(roi, scan.grid.shape)
    return Kept(name, get(name).title, grid_of(record), box), scan


def watch(store: Path, stop: Stop, job: Job | None = None) -> Iterator[Event]:
    """The events of the run in ``store``, those of before first; the last one is Finished, with the volume where there is one.

    ``job`` is the process where it was started from here. ``stop`` asked to finish asks the run to; cancelled, it only ends
    the watching: the run goes on.
    """
    watcher = Watcher(store, job)
    with closing(watcher):
        while not stop.cancelled and not watcher.over:
            for event in watcher.look():
                yield event
                if stop.cancelled:
                    return
            if stop.finish_now:
                watcher.wish(FINISH)
            if not watcher.over:
                time.sleep(LOOK_S)


class Watcher:
    """How far one has read what is told in a store."""

    def __init__(self, store: Path, job: Job | None = None) -> None:
        self.over = False
        self._store, self._job = store, job
        self._begun: Begun | None = None
        self._lines = Lines(store)
        self._said = self._wished = ""
        self._end: End | None = None
        self._point: FixedPoint | None = None
        self._volume: GrownVolume | None = None
        self._shape: tuple[int, int, int] | None = None

    def look(self) -> Iterator[Event]:
        """What is new since the last look."""
        self._find()
        if self._begun is None:
            yield from self._waiting()
            return
        n_read = 0
        for is_last in (False, True):
            lines = self._lines.new()
            n_read += len(lines)
            yield from self._retold([told for told in map(read, lines) if told is not None])
            if not is_last and (n_read or is_going(self._store)):
                return
        yield self._finished()

    def wish(self, what: Literal["finish", "cancel"]) -> bool:
        """Ask the run for something, once; False where it has not begun and so cannot hear."""
        self._find()
        if self._begun is None:
            return False
        if self._wished != what:
            wish(self._store, self._begun.token, what)
            self._wished = what
        return True

    def close(self) -> None:
        """Nothing more is read."""
        self._lines.close()

    def _find(self) -> None:
        """Who tells now: at first, and where another process has taken the run up."""
        found = begun_at(self._store)
        is_old = found is not None and self._job is not None and found.token == self._job.before
        if found is not None and not is_old and (self._begun is None or found.token != self._begun.token):
            self.close()
            self._begun, self._lines = found, Lines(self._store)
            self._end, self._volume, self._wished = None, None, ""

    def _waiting(self) -> Iterator[Event]:
        """The process has told nothing yet, or is past telling."""
        said = self._job.state() if self._job is not None else "waiting" if is_going(self._store) else ""
        if not said:
            self._find()
            if self._begun is None:
                yield self._finished()
        elif said != self._said:
            self._said = said
            yield Progress(0, 0, said)

    def _retold(self, told: list[Told]) -> Iterator[Event]:
        """Events again, the newest values of each box with them."""
        newest = {
            one.box if isinstance(one, Patch) else "": i for i, one in enumerate(told) if getattr(one, "shown", False)
        }
        for i, one in enumerate(told):
            if isinstance(one, Patch):
                if one.shown and newest[one.box] == i:
                    yield from self._patch(one)
            elif isinstance(one, Iteration):
                values = self._values(None) if one.shown and newest[""] == i else None
                metrics = {k: v for k, v in one.metrics.items() if v is not None}
                yield IterationDone(one.iteration, one.n_iterations, one.residual, values, metrics)
            elif isinstance(one, Point):
                maps = {name: np.array(values, float) for name, values in one.maps.items()}
                self._point = FixedPoint(one.text, one.converged, one.figures, maps, one.edges)
                yield self._point
            elif isinstance(one, End):
                self._end = one
            else:
                yield one

    def _patch(self, one: Patch) -> Iterator[Event]:
        shape = self._shape_of_volume()
        box = None if shape is None else one.inside(shape)
        values = None if box is None else self._values(box)
        if box is not None and values is not None:
            yield PatchDone(box, values, one.consistency)

    def _shape_of_volume(self) -> tuple[int, int, int] | None:
        """None while the record cannot be read."""
        if self._shape is None:
            try:
                self._shape = grid_of(record_of(self._store)).shape
            except (UnrollError, KeyError, TypeError, ValueError):
                return None
        return self._shape

    def _values(self, box: Box | None) -> np.ndarray | None:
        """What is visible in a box, or everywhere; None where the store is gone meanwhile."""
        shape = self._shape_of_volume()
        if shape is None:
            return None
        with shielded():
            try:
                if self._volume is None:
                    self._volume = GrownVolume(self._store, INSIDE, shape)
                return self._volume[box or whole(shape)]
            except (UnrollError, OSError, ValueError, KeyError, RuntimeError):
                self._volume = None
                return None

    def _finished(self) -> Finished:
        """How the run ended, told from what it left."""
        self.over = True
        with shielded():
            if not is_kept(self._store):
                time.sleep(SETTLE_S)
            try:
                return self._made() or self._lost()
            except UnrollError as error:
                return Finished(Outcome.FAILED, advice=str(error))

    def _made(self) -> Finished | None:
        """The volume, where this run has written one."""
        if (self._store / INSIDE).exists() or not holds_volume(self._store):
            return None
        volume = read_volume(self._store)
        record = volume.record
        try:
            if record["created"] < self._since():
                return None
            return FinishedElsewhere(
                Outcome(record["outcome"]), volume.values, f"{record['advice']} Saved {self._store.name}.",
                record["seconds"], tuple(record["residuals"]), self._last_point(record), record["found"], record,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            return None

    def _since(self) -> str:
        """A volume that was made earlier is that of another run."""
        if self._begun is not None:
            return self._begun.begun
        return "" if self._job is None else self._job.started

    def _last_point(self, record: Mapping[str, Any]) -> FixedPoint | None:
        """How the search for a fixed point ended: what was told of it last, else what the record has of it."""
        found = record["fixed_point"]
        if not found or (self._point is not None and self._point.text == found["text"]):
            return self._point
        figures = {k: v for k, v in found.items() if k not in ("text", "converged")}
        return FixedPoint(found["text"], found["converged"], figures)

    def _lost(self) -> Finished:
        """Why there is no volume."""
        words = self._job.last_words() if self._job is not None else ""
        name = self._store.name
        if self._end is not None:
            outcome = Outcome(self._end.outcome)
            if outcome in (Outcome.COMPLETED, Outcome.FINISHED_EARLY):
                return Finished(Outcome.FAILED, advice=f"{self._end.advice} {words or f'{name} could not be written.'}")
            return Finished(outcome, advice=self._end.advice, seconds=self._end.seconds)
        if self._wished == CANCEL:
            return Finished(Outcome.CANCELLED, advice=f"The run in {name} was cancelled.")
        if is_kept(self._store):
            return Finished(Outcome.FAILED, advice=words or KILLED.format(name=name))
        return Finished(
            Outcome.FAILED, advice=words or f"The run in {name} came to no volume, and nothing of it is kept."
        )

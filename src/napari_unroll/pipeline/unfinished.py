"""A run that is kept while it goes, inside its OME-Zarr store, so that a killed one goes on to the same values.

``result.ome.zarr/unfinished/`` holds the record (``run.json``), the method's state at the start of every pass over the patches
(``state-000003.pt``, the last two), and beside it the batches of patches that were finished in that pass. All of it carries
checksums and is written whole or not at all. The volume as it is then is an image that viewers may open at any moment.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.events import Box, Event, Finished, IterationDone, Outcome, PatchDone, Warned, whole
from napari_unroll.io.atomic import check_target, locked, remove, write_text
from napari_unroll.io.guards import check_folder
from napari_unroll.io.ome_zarr import GrowingVolume, holds_volume
from napari_unroll.io.sealed import read_sealed, write_sealed
from napari_unroll.io.volume import plain_record
from napari_unroll.methods.journal import Journal, Patch
from napari_unroll.pipeline.plain_state import from_plain, to_plain
from napari_unroll.pipeline.plan import Plan
from napari_unroll.pipeline.provenance import description
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.scan import Scan

log = logging.getLogger(__name__)
T = TypeVar("T")
INSIDE, RECORD, LOCK = "unfinished", "run.json", "lock"
MARK = b"napari-unroll run\n"
VERSION = 1
EVERY_S = 10.0
"""Seconds between two states of a method without patches; what it computes in them may be lost."""
STATES_AND_VOLUMES = 6
"""Of how many volumes a kept run and its result take the room: states and patches of two passes beside both volumes."""
SHOWN_SHARE = 0.1
"""Part of the time that writing the visible volume may take; what is not shown of a pass is shown at its end."""


class UnfinishedRun(Journal):
    """Keeps a run in the folder ``unfinished`` of its store; made by :func:`kept` and :func:`resumed`."""

    def __init__(self, path: Path, record: Mapping[str, Any], is_alone: bool) -> None:
        self.path, self.record = path, dict(record)
        self.trouble = ""
        self.has_state = self.is_shown = False
        self._is_alone = is_alone
        self._folder = path / INSIDE
        self._state: dict[str, Any] = {}
        self._n_states = 0
        self._pass: str | None = None
        self._earlier: list[list[Patch]] = []
        self._n_batches = 0
        self._saved_at = time.perf_counter()
        self._volume: GrowingVolume | None = None
        self._begun, self._shown_s = time.perf_counter(), 0.0

    def begin(self, name: str) -> list[list[Patch]]:
        """A pass begins: the state is written, and patches of an earlier process are handed out."""
        if name == self._pass:
            earlier, self._earlier = self._earlier, []
            return earlier
        self._earlier = []
        self._save(name)
        return []

    def add(self, patches: Sequence[Patch]) -> None:
        """Write a batch of this pass."""
        place = self._batches(self._n_states) / f"{self._n_batches:06d}.pt"
        if self._write(place, [to_plain(p) for p in patches]):
            self._n_batches += 1

    def open(self, state: dict[str, Any], device: torch.device | str) -> None:
        """From here on ``state`` is what is kept; the newest one that was kept is put into it."""
        self._state = state
        numbers = sorted((int(p.stem[-6:]) for p in self._folder.glob("state-*.pt")), reverse=True)
        for n in numbers:
            try:
                content = read_sealed(self._place(n), MARK, device)
                found = None if content is None else from_plain(content["state"])
            except (KeyError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError):
                found = None
            if isinstance(found, dict):
                state.update(found)
                self._n_states, self._pass, self.has_state = n, content["pass"], True
                self._earlier = self._read_batches(n, device)
                return
            self.trouble = (
                f"What was kept last in {self.path.name} is damaged; the run goes on from what was kept before."
            )
        self._n_states = max(numbers, default=0)

    def _read_batches(self, n: int, device: torch.device | str) -> list[list[Patch]]:
        """Those that are whole, as far as none is missing: the others are made again."""
        found: list[list[Patch]] = []
        while True:
            plain = read_sealed(self._batches(n) / f"{len(found):06d}.pt", MARK, device)
            if plain is None:
                self._n_batches = len(found)
                return found
            found.append([from_plain(p) for p in plain])

    def _save(self, name: str | None) -> None:
        """Write the state, at the start of the pass ``name``, and forget the one before the last."""
        self._saved_at = time.perf_counter()
        try:
            content = {"pass": name, "state": to_plain(self._state)}
        except TypeError as error:
            log.info("the state of this method is not kept: %s", error)
            return
        if self._write(self._place(self._n_states + 1), content):
            self._n_states, self._n_batches, self._pass, self.has_state = self._n_states + 1, 0, name, True
            remove(self._place(self._n_states - 2))
            remove(self._batches(self._n_states - 2))

    def _write(self, path: Path, content: Any) -> bool:
        """Whether it could be written; what cannot be kept does not end the run."""
        try:
            path.parent.mkdir(exist_ok=True)
            write_sealed(path, MARK, content)
        except (OSError, ParameterError, RuntimeError) as error:
            self.trouble = self.trouble or f"The run goes on, but cannot be kept in {self.path.name} ({error})."
            return False
        return True

    def _place(self, n: int) -> Path:
        return self._folder / f"state-{n:06d}.pt"

    def _batches(self, n: int) -> Path:
        return self._folder / f"patches-{n:06d}"

    def keeping(self, work: Generator[Event, None, T]) -> Generator[Event, None, T]:
        """The same work; what its events show is written, and what cannot be kept is told once."""
        told = ""
        while True:
            try:
                event = next(work)
            except StopIteration as end:
                return end.value
            self._see(event)
            yield event
            if self.trouble != told:
                told = self.trouble
                yield Warned(told)

    def _see(self, event: Event) -> None:
        self.is_shown = False
        if isinstance(event, IterationDone):
            is_due = time.perf_counter() - self._saved_at > EVERY_S
            if is_due and not self._earlier:
                self._save(None)
            if event.values is not None:
                self._show(None, event.values)
        elif isinstance(event, PatchDone) and self._shown_s < SHOWN_SHARE * (time.perf_counter() - self._begun):
            self._show(event.box, event.values)

    def _show(self, box: Box | None, values: np.ndarray) -> None:
        """Write what is visible now in a box, or everywhere."""
        begun = time.perf_counter()
        try:
            if self._volume is None:
                plan, grid = self.record["plan"], grid_of(self.record)
                for place in (self.path, self._folder) if self._is_alone else (self._folder,):
                    remove(place / "zarr.json")
                chunk = tuple(plan["patch_size"])
                self._volume = GrowingVolume(self.path, INSIDE, grid, np.iscomplexobj(values), chunk)
            self._volume.put(box or whole(grid_of(self.record).shape), values)
            self.is_shown = True
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.trouble = self.trouble or f"The run goes on, but cannot be shown in {self.path.name} ({error})."
        self._shown_s += time.perf_counter() - begun

    def shrink(self, plan: Plan) -> None:
        """From here on patches are those of ``plan``."""
        kept = {**self.record["plan"], "patch_size": list(plan.patch_size), "overlap": plan.overlap}
        self.record = {**self.record, "plan": kept}
        self.note()

    def note(self) -> None:
        """Write the record."""
        text = json.dumps(self.record)
        write_text(self._folder / RECORD, json.dumps({"version": VERSION, "sha256": _hash(text), "record": text}))

    def ended(self, finished: Finished) -> Finished:
        """What may be gone on with stays; of a run that was cancelled or came to no volume nothing does."""
        if finished.outcome is Outcome.FAILED and self.has_state:
            return replace(finished, advice=f"{finished.advice} What was done is kept: --resume {self.path}.")
        if finished.result is None:
            self.discard()
        return finished

    def discard(self) -> None:
        """Remove what was kept; what was at the same place before stays."""
        remove(self.path if self._is_alone else self._folder)


class FollowedRun(UnfinishedRun):
    """The same in a process whose group has another one that writes: it goes on from what was kept, and writes nothing."""

    def add(self, patches: Sequence[Patch]) -> None:
        """Nothing; the other process has them too."""

    def shrink(self, plan: Plan) -> None:
        """Nothing."""

    def ended(self, finished: Finished) -> Finished:
        """As it is."""
        return finished

    def _save(self, name: str | None) -> None:
        self._pass = name

    def _show(self, box: Box | None, values: np.ndarray) -> None:
        pass


def grid_of(record: Mapping[str, Any]) -> VolumeGrid:
    """The grid of the volume in a record."""
    return VolumeGrid(**{name: tuple(value) for name, value in record["grid"].items()})


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def kept(path: Path, plan: Plan, scan: Scan, overwrite: bool = False) -> Iterator[UnfinishedRun]:
    """Keep a new run at ``path``.

    Raises ParameterError where something is there already, another process writes it, or there is no room for it.
    """
    check_free(path, overwrite)
    check_target(path, True, STATES_AND_VOLUMES * plan.result_bytes)
    is_alone = not path.exists() or is_unfinished(path)
    with locked(path / INSIDE / LOCK, path.name):
        for old in (path / INSIDE).iterdir():
            if old.name != LOCK:
                remove(old)
        run = UnfinishedRun(path, plain_record(description(plan, scan)), is_alone)
        try:
            run.note()
            yield run
        except BaseException:
            if not run.has_state:
                run.discard()
            raise


@contextmanager
def resumed(path: Path, writes: bool = True) -> Iterator[UnfinishedRun]:
    """Go on with the run that is kept at ``path``; without ``writes`` beside the process of one's group that writes it.

    Raises FileFormatError where there is none or it is damaged, ParameterError where another process writes it.
    """
    record, is_alone = record_of(path), is_unfinished(path)
    check_folder(path)
    if not writes:
        yield FollowedRun(path, record, is_alone)
        return
    with locked(path / INSIDE / LOCK, path.name):
        yield UnfinishedRun(path, record, is_alone)


def record_of(path: Path) -> dict[str, Any]:
    """The record of the run that is kept at ``path``; raises FileFormatError where there is none or it is damaged."""
    if not is_unfinished(path) and not (path / INSIDE / RECORD).is_file():
        raise FileFormatError(
            f"{path} holds no unfinished run; --resume takes the .ome.zarr of a run that was interrupted."
        )
    try:
        found = json.loads((path / INSIDE / RECORD).read_text(encoding="utf-8"))
        record = json.loads(found["record"])
        is_whole = found["version"] == VERSION and found["sha256"] == _hash(found["record"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise FileFormatError(f"The record of the run in {path} is damaged or of another version; begin it anew.")
    return dict(record)


def is_unfinished(path: Path) -> bool:
    """Whether a store holds nothing but a run that did not end."""
    return (path / INSIDE).is_dir() and not holds_volume(path)


def check_free(path: Path, overwrite: bool) -> None:
    """Raise ParameterError where a run cannot be kept at ``path``."""
    if is_unfinished(path) and not overwrite:
        with locked(path / INSIDE / LOCK, path.name):
            pass
        raise ParameterError(
            f"{path} holds an unfinished run; go on with --resume {path}, or replace it (--overwrite)."
        )
    check_target(path, overwrite)

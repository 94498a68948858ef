"""Fitted factors and interrupted fits on disk, keyed by everything that N depends on and by how it was fitted."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

import platformdirs

from napari_unroll import __version__
from napari_unroll.errors import Cancelled, FileFormatError, FinishNow, ParameterError
from napari_unroll.events import Event, Finished, IterationDone, Outcome, Progress, Started, Stop, Warned
from napari_unroll.interrupt import shielded
from napari_unroll.normal.choice import CLOSED_FORMS, choose_form
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, FitState, fit
from napari_unroll.normal.report import advise
from napari_unroll.normal.storage import load, load_state, save, save_state
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.geometry import fingerprint
from napari_unroll.scan.scan import Scan
from napari_unroll.team import exchanged

REVISION = 3
"""Of what fits do and keep; factors of another revision are fitted again."""
SAVE_EVERY_S = 20.0
"""Seconds between writings of a running fit's state."""


def cache_folder() -> Path:
    """Where factors are kept: the variable NAPARI_UNROLL_CACHE, else the user's cache folder of this system."""
    asked = os.environ.get("NAPARI_UNROLL_CACHE")
    return Path(asked) if asked else Path(platformdirs.user_cache_dir("napari-unroll"))


def cache_path(scan: Scan, physics: VolumePhysics, options: FitOptions) -> Path:
    """The file for this scan's geometry, mask and coil maps, this back end and these options."""
    parts = [__version__, REVISION, type(physics).__name__, scan.fingerprint(), options.model_dump_json()]
    if physics.csm is not None:
        parts.append(fingerprint(physics.csm.cpu().numpy()))
    return cache_folder() / "normal" / f"{fingerprint(*parts)}.safetensors"


def cached_fit(
    scan: Scan, physics: VolumePhysics, options: FitOptions | None = None, stop: Stop | None = None
) -> Iterator[Event]:
    """The events of ``fit``; at once, its history included, where these factors are on disk.

    A fit that was cancelled, finished early or killed goes on from what it last wrote. Closed forms are never stored.
    """
    options = options or FitOptions()
    path = cache_path(scan, physics, options)
    factors = yield from _found(path, physics)
    if factors is not None:
        yield from _replay(factors)
    elif _worth_keeping(physics, options):
        yield from _kept(physics, options, stop, path)
    else:
        yield from fit(physics, options, stop)


def _replay(factors: NormalFactors) -> Iterator[Event]:
    """The events of the fit that made these factors, as far as they were kept."""
    history = factors.info.get("history", [])
    yield Started(f"Normal operator: {factors.form}, from the cache", 0, factors.shape)
    yield from _replayed(history)
    errors = tuple(row["error_image"] for row in history)
    yield Finished(Outcome.COMPLETED, factors, advise(factors.info), 0.0, errors)


def _replayed(history: Sequence[Mapping[str, float]]) -> Iterator[Event]:
    """The reports of an earlier fit, for whoever draws its curve."""
    for step, metrics in enumerate(history, 1):
        yield IterationDone(step, len(history), metrics=metrics)


def _kept(physics: VolumePhysics, options: FitOptions, stop: Stop | None, path: Path) -> Iterator[Event]:
    """The events of a fit that writes its state now and then, and its factors at the end."""
    unfinished = path.with_suffix(".unfinished")
    state = yield from _interrupted(unfinished, physics)
    if state.stored is not None:
        done = int(state.stored["progress"][0])
        yield Progress(0, 0, f"Going on with an interrupted fit after {done} steps.")
        yield from _replayed(state.history)
    written = time.monotonic()
    try:
        for event in fit(physics, options, stop, state):
            if isinstance(event, Finished):
                yield from _settle(event, state, path, unfinished)
            elif time.monotonic() - written > SAVE_EVERY_S:
                written = time.monotonic()
                _leave(state, unfinished)
            yield event
    except (Cancelled, FinishNow):  # of whoever drives this: the next fit goes on from here
        _leave(state, unfinished)
        raise


def _leave(state: FitState, unfinished: Path) -> None:
    """Write what a next fit can go on from, where that is possible."""
    if state.sampler is not None:
        with contextlib.suppress(OSError), shielded():
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            save_state(state, unfinished)


def _settle(finished: Finished, state: FitState, path: Path, unfinished: Path) -> Iterator[Event]:
    """Keep the factors of a completed fit, else what a next fit can go on from."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with shielded():
            if finished.outcome is Outcome.COMPLETED:
                save(finished.result, path)
                unfinished.unlink(missing_ok=True)
            elif state.sampler is not None:
                save_state(state, unfinished)
    except OSError as error:
        yield Warned(f"The fitted operator was not kept in {path.parent} ({error}); the next run fits it again.")


def _worth_keeping(physics: VolumePhysics, options: FitOptions) -> bool:
    try:
        return options.recipe == "paper" or choose_form(physics, options.form) not in CLOSED_FORMS
    except ParameterError:
        return False  # the fit itself says why


def _found(path: Path, physics: VolumePhysics) -> Generator[Event, None, NormalFactors | None]:
    """What is kept, where all processes of this run have it."""
    factors = None
    try:
        factors = load(path, physics.device) if path.is_file() else None
    except FileFormatError:
        yield Warned(f"The kept operator {path.name} is damaged; it is fitted again.")
    return factors if all(exchanged(lambda: factors is not None, "fit")) else None


def _interrupted(path: Path, physics: VolumePhysics) -> Generator[Event, None, FitState]:
    """What an interrupted fit left, where it is the same for all processes of this run."""
    state = FitState()
    try:
        state = load_state(path, physics.device) if path.is_file() else state
    except FileFormatError:
        yield Warned(f"What an interrupted fit left in {path.name} is damaged; the fit begins anew.")
    done = exchanged(lambda: None if state.stored is None else state.stored["progress"].tolist(), "fit so far")
    return state if all(d == done[0] for d in done) else FitState()

"""Fitted factors on disk, keyed by everything that N depends on and by how it was fitted."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs

from napari_unroll import __version__
from napari_unroll.errors import FileFormatError
from napari_unroll.events import Event, Finished, Outcome, Started, Stop, Warned
from napari_unroll.normal.choice import COIL_FORMS, choose_form
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, FitState, advise, fit
from napari_unroll.scan.geometry import fingerprint
from napari_unroll.scan.scan import Scan


def cache_folder() -> Path:
    """Where factors are kept: the variable NAPARI_UNROLL_CACHE, else the user's cache folder of this system."""
    asked = os.environ.get("NAPARI_UNROLL_CACHE")
    return Path(asked) if asked else Path(platformdirs.user_cache_dir("napari-unroll"))


def cache_path(scan: Scan, physics: Any, options: FitOptions) -> Path:
    """The file for this scan's geometry, mask and coil maps, this back end and these options."""
    parts = [__version__, type(physics).__name__, scan.fingerprint(), options.model_dump_json()]
    if hasattr(physics, "csm"):
        parts.append(fingerprint(physics.csm.cpu().numpy()))
    return cache_folder() / "normal" / f"{fingerprint(*parts)}.safetensors"


def cached_fit(
    scan: Scan,
    physics: Any,
    options: FitOptions | None = None,
    stop: Stop | None = None,
    state: FitState | None = None,
) -> Iterator[Event]:
    """The events of ``fit``; at once where these factors are on disk. Closed forms for coils are never stored."""
    options = options or FitOptions()
    path = cache_path(scan, physics, options)
    factors = _found(path, physics)
    if factors is not None:
        yield Started(f"Normal operator: {factors.form}, from the cache", 0, factors.shape)
        history = (factors.info["error_image"],) if "error_image" in factors.info else ()
        yield Finished(Outcome.COMPLETED, factors, advise(factors.info), 0.0, history)
        return
    for event in fit(physics, options, stop, state):
        if isinstance(event, Finished) and event.outcome == Outcome.COMPLETED and _worth_keeping(physics, options):
            yield from _store(event.result, path)
        yield event


def _worth_keeping(physics: Any, options: FitOptions) -> bool:
    return options.recipe == "paper" or choose_form(physics, options.form) not in COIL_FORMS


def _found(path: Path, physics: Any) -> NormalFactors | None:
    if not path.is_file():
        return None
    try:
        return NormalFactors.load(path, str(getattr(physics, "device", "cpu")))
    except FileFormatError:
        return None


def _store(factors: NormalFactors, path: Path) -> Iterator[Event]:
    """Write beside and rename, so that a killed run leaves no half file."""
    partial = path.with_name(f"{path.name}.{os.getpid()}-{time.monotonic_ns()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        factors.save(partial)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        yield Warned(f"The fitted operator was not kept in {path.parent} ({error}); the next run fits it again.")

"""run(plan, scan): the plain generator that docks, the command line and scripts all consume.

The first event is Started, the last Finished; nothing that goes wrong in between is raised, it is an outcome with advice.
Errors derived from RuntimeError are translated here, because generator workers of superqt swallow them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from napari_unroll.environment import give_back_freed
from napari_unroll.errors import Cancelled, FinishNow, MemoryExceeded, UnrollError, is_out_of_memory
from napari_unroll.events import (
    Box,
    Event,
    Finished,
    FixedPoint,
    IterationDone,
    Measured,
    Outcome,
    Progress,
    QuickLook,
    Started,
    Stop,
    Warned,
    map_events,
    whole,
)
from napari_unroll.interrupt import interruptible, shielded, stepwise, within
from napari_unroll.methods.journal import Journal
from napari_unroll.methods.problem import Problem, as_values, measured
from napari_unroll.methods.registry import get
from napari_unroll.normal.cache import cached_fit
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.pipeline.failures import memory_advice, translate
from napari_unroll.pipeline.first_look import first_look
from napari_unroll.pipeline.fit_verdict import verdict
from napari_unroll.pipeline.forecast import Forecaster
from napari_unroll.pipeline.memory import fewest_voxels
from napari_unroll.pipeline.plan import Plan
from napari_unroll.pipeline.roi import cropped, is_undersampled, restrict_ct, restrict_mri
from napari_unroll.pipeline.times import FIT
from napari_unroll.pipeline.unfinished import UnfinishedRun
from napari_unroll.scan.scan import Scan
from napari_unroll.scratch import InScratch, Scratch

log = logging.getLogger(__name__)
_around: WeakKeyDictionary[Scan, torch.Tensor] = WeakKeyDictionary()
"""What surrounds regions, by scan: the next region need not estimate it again."""


def run(
    plan: Plan,
    scan: Scan,
    stop: Stop | None = None,
    factors: NormalFactors | None = None,
    look: bool = False,
    kept: UnfinishedRun | None = None,
) -> Iterator[Event]:
    """Reconstruct; the last event is Finished with the volume (z, y, x), float32 for CT and complex64 for MRI.

    ``factors`` are a fitted normal operator for this scan; without them it is fitted (or taken from the cache) where
    the method needs it. For a region of an X-ray scan they are cut to it; other regions have operators of their own.
    With ``look`` a rough picture comes first, for whoever shows what comes. ``kept`` keeps the run while it goes, and goes on
    with what it has kept (see ``pipeline.unfinished``).

    Asked to stop, it ends within the step. Asked to finish, it returns the best estimate so far, whatever the method
    was doing; before there is any, Finished says so and has no volume.
    """
    stop = stop or Stop()
    begun, seen = time.perf_counter(), _Seen()
    if plan.max_memory_gb != "auto":
        give_back_freed()
    yield Started(plan.title, 0, plan.grid.shape)
    forecaster = Forecaster(plan.expected_with(factors))
    try:
        work = map_events(_work(plan, scan, stop, factors, look, kept), seen.note)
        if plan.volume_bytes is not None:
            scratch = Scratch(plan.scratch, fewest_voxels(plan.grid.shape), plan.volume_bytes)
            work = within(work, partial(InScratch, scratch))
        work = interruptible(work if kept is None else kept.keeping(work), stop)
        volume = yield from _with_forecasts(work, forecaster)
        said = yield from _judged(plan, scan, volume, stop, seen)
        finished = _completed(plan, scan, volume, stop, seen, said)
        if finished.outcome is Outcome.COMPLETED:
            plan.remember(scan, forecaster.took())
    except (Cancelled, FinishNow) as wish:
        if not stop.asked:
            raise
        finished = _ended(plan, wish)
    except Exception as error:
        if not isinstance(error, UnrollError):
            log.exception("%s failed", plan.title)
        finished = Finished(Outcome.FAILED, advice=translate(error, plan))
    if kept is not None:
        finished = kept.ended(finished)
    yield replace(finished, seconds=time.perf_counter() - begun, history=tuple(seen.residuals), found=seen.found)


def _with_forecasts(
    work: Generator[Event, None, np.ndarray], forecaster: Forecaster
) -> Generator[Event, None, np.ndarray]:
    """The events of ``work``, and after those that tell how far it is a Forecast; returns what it returns."""
    try:
        while True:
            event = next(work)
            yield event
            told = forecaster.see(event)
            if told is not None:
                yield told
    except StopIteration as end:
        volume: np.ndarray = end.value
        return volume
    finally:
        work.close()


@dataclass(frozen=True)
class OutOfRoom(Warned):
    """The method ended before its time for want of memory; what it had is the result."""


@dataclass
class _Seen:
    """What passed by: residuals, how far the search for a fixed point has come, what the method measured of itself."""

    residuals: list[float] = field(default_factory=list)
    fixed_point: FixedPoint | None = None
    found: dict[str, Any] = field(default_factory=dict)
    cut: str = ""

    def note(self, event: Event) -> Event:
        """Note it; the event goes on as it is."""
        if isinstance(event, FixedPoint):
            self.fixed_point = event
        if isinstance(event, OutOfRoom):
            self.cut = f" {event.text}"
        if isinstance(event, Measured):
            self.found.update(event.row)
        if isinstance(event, IterationDone) and event.residual is not None:
            self.residuals.append(event.residual)
        return event


def _work(
    plan: Plan, scan: Scan, stop: Stop, factors: NormalFactors | None, look: bool, kept: UnfinishedRun | None
) -> Generator[Event, None, np.ndarray]:
    if look:
        yield from first_look(scan, plan.roi or whole(scan.grid.shape))
    physics = yield from _physics(plan, scan)
    crop = None
    if plan.roi is not None:
        factors = (yield from _restricted(plan, scan, physics, factors)) if _keeps_operator(plan, scan) else None
        scan, crop = yield from _region(plan, scan, physics)
        physics = yield from _physics(plan, scan)
    yield Progress(0, 0, str(physics.reason))
    if plan.needs_normal and factors is None:
        factors = yield from _fit(plan, scan, physics)
    problem = Problem(
        scan=scan,
        physics=physics,
        y=measured(scan, plan.device),
        normal=None if factors is None else factors.to(plan.device),
        patch_size=plan.patch_size,
        overlap=plan.overlap,
        precision=plan.precision,
        card=torch.device(plan.card) if plan.card else None,
        journal=kept or Journal(),
    )
    if kept is not None:
        kept.open(problem.state, plan.device)
    volume = yield from _solve(plan, problem, crop, stop)
    return volume if crop is None else np.ascontiguousarray(volume[crop])


def _keeps_operator(plan: Plan, scan: Scan) -> bool:
    """Whether the region's normal operator is a part of the whole one's, which is fitted once for all regions."""
    return plan.needs_normal and scan.modality == "ct"


def _restricted(
    plan: Plan, scan: Scan, physics: VolumePhysics, factors: NormalFactors | None
) -> Generator[Event, None, NormalFactors]:
    """The fitted operator of the whole volume, cut to the region."""
    assert plan.roi is not None
    if factors is None:
        factors = yield from _fit(plan, scan, physics)
    return factors.restricted(plan.roi)


def _physics(plan: Plan, scan: Scan) -> Generator[Event, None, VolumePhysics]:
    return (yield from stepwise(lambda: build_physics(scan, plan.device, cards=plan.rays), "building the operator"))


def _region(plan: Plan, scan: Scan, physics: VolumePhysics) -> Generator[Event, None, tuple[Scan, Box | None]]:
    """The region's own scan, and the box to cut out of its reconstruction where that is larger."""
    assert plan.roi is not None
    if scan.modality == "image":
        return scan, plan.roi
    if scan.modality == "mri":
        return restrict_mri(scan, physics, plan.roi)
    around = (yield from _surroundings(plan, scan, physics)) if get(plan.method).iterative else None
    return restrict_ct(scan, physics, plan.roi, around), None


def _surroundings(plan: Plan, scan: Scan, physics: VolumePhysics) -> Generator[Event, None, torch.Tensor]:
    """A quick estimate of the whole volume, made once for every scan."""
    if scan not in _around:
        _around[scan] = (yield from _estimated_surroundings(plan, scan, physics)).cpu()
    return _around[scan].to(plan.device)


def _estimated_surroundings(plan: Plan, scan: Scan, physics: VolumePhysics) -> Generator[Event, None, torch.Tensor]:
    """Filtered back-projection, and a little total variation for few views."""
    problem = Problem(scan=scan, physics=physics, y=measured(scan, plan.device))
    if not is_undersampled(scan):
        return (yield from map_events(problem.find_quick(), _as_surroundings))[0, 0].clamp(min=0)
    rough = get("tv-fista")
    params = rough.params(n_iterations=25, show_every=1000)  # type: ignore[call-arg]
    return (yield from map_events(rough.solve(problem, params), _as_surroundings))


def _as_surroundings(event: Event) -> Event | None:
    """What is outside the region is not shown."""
    if isinstance(event, IterationDone):
        return Progress(event.iteration, event.n_iterations, "estimating what surrounds the region")
    return None if isinstance(event, QuickLook) else event


def _fit(plan: Plan, scan: Scan, physics: VolumePhysics) -> Generator[Event, None, NormalFactors]:
    """The fitted normal operator; the fit's steps are reported as progress."""
    for event in cached_fit(scan, physics, plan.fit):
        if isinstance(event, IterationDone):
            yield Progress(event.iteration, event.n_iterations, FIT)
        elif isinstance(event, Progress) and event.n_steps:
            yield replace(event, text=FIT)
        elif isinstance(event, Warned):
            yield event
        elif isinstance(event, Finished):
            if event.result is None:
                raise UnrollError(event.advice)
            return event.result
    raise UnrollError("The fit of the normal operator ended without a result; run it from its own dock to see why.")


def _solve(plan: Plan, problem: Problem, crop: Box | None, stop: Stop) -> Generator[Event, None, np.ndarray]:
    """The volume (z, y, x) of the method, or its best estimate where it is asked to finish.

    After out-of-memory again with half the patch, going on from the state it left.
    """
    method = get(plan.method)
    while True:
        try:
            work = map_events(method.solve(problem, plan.params), problem.estimate.see)
            x = yield from (work if crop is None else cropped(work, crop))
            with shielded():
                return as_values(x)
        except FinishNow:
            if not stop.asked:
                raise
            with shielded():
                return problem.estimate.values()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            smaller = plan.smaller()
            if smaller is None:
                if not problem.estimate.exists:
                    raise MemoryExceeded(memory_advice(plan)) from None
                yield OutOfRoom(f"{memory_advice(plan)} The volume is the best estimate until then.")
                with shielded():
                    return problem.estimate.values()
        plan, problem = smaller, _shrunk(problem, smaller)
        if isinstance(problem.journal, UnfinishedRun):
            problem.journal.shrink(smaller)
        yield Warned(f"{plan.card or plan.device} ran out of memory; going on with patches of {plan.patch_size}.")


def _shrunk(problem: Problem, plan: Plan) -> Problem:
    """The same problem, its state kept, with the plan's smaller patches."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return replace(problem, patch_size=plan.patch_size, overlap=plan.overlap)


def _ended(plan: Plan, wish: Cancelled | FinishNow) -> Finished:
    if isinstance(wish, Cancelled):
        return Finished(Outcome.CANCELLED, advice="The reconstruction was cancelled; nothing was kept.")
    return Finished(Outcome.FINISHED_EARLY, advice=f"{plan.title} had no estimate yet to finish with.")


def _judged(plan: Plan, scan: Scan, volume: np.ndarray, stop: Stop, seen: _Seen) -> Generator[Event, None, str]:
    """What the residual says of the volume, a sentence that ends nothing: who is in a hurry goes without.

    Of a region's own scan it is not known; where not all volumes fit the memory there is no room to find out.
    """
    if not seen.residuals:
        return ""
    residual, said = seen.residuals[-1], ""
    if not (stop.asked or plan.roi is not None or plan.volume_bytes is not None):
        judging = stepwise(partial(verdict, scan, volume, residual), "comparing the residual with the noise")
        try:
            said = yield from interruptible(judging, stop)
        except FinishNow:
            said = ""
    return f" The residual is {residual:.2%} of the data{said and ', '}{said}."


def _completed(plan: Plan, scan: Scan, volume: np.ndarray, stop: Stop, seen: _Seen, said: str) -> Finished:
    if not all(np.isfinite(plane).all() for plane in volume):
        return Finished(
            Outcome.FAILED,
            advice=f"{plan.title} diverged: the volume holds NaN or infinity. Check the measurements and the geometry.",
        )
    outcome = Outcome.FINISHED_EARLY if stop.finish_now or seen.cut else Outcome.COMPLETED
    if outcome is Outcome.COMPLETED and not volume.any() and np.any(scan.measurements):
        return Finished(
            Outcome.FAILED,
            advice=f"{plan.title} gave a volume of zeros only, but the measurements are not zero. Check the geometry, the region "
            "and the weights.",
        )
    found = f" {seen.fixed_point.text}" if seen.fixed_point else ""
    return Finished(outcome, volume, f"{plan.title} {outcome}.{said}{found}{seen.cut}", fixed_point=seen.fixed_point)

"""Fitting Ñ: one generator of events for every physics, form and recipe.

Chooses the form for a physics, runs its fit, and reports errors on vectors that no fit uses. Must not know viewers,
methods or scans; sees a physics and options.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol

import numpy as np
import torch
from pydantic import Field

from napari_unroll.errors import Cancelled, FinishNow, UnrollError
from napari_unroll.events import Event, Finished, IterationDone, Outcome, Progress, Started, Stop, Warned
from napari_unroll.interrupt import interruptible, shielded, stepwise
from napari_unroll.normal import coils
from napari_unroll.normal.choice import CLOSED_FORMS, choose_form, choose_kernel
from napari_unroll.normal.effect import held_out_trial
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.paper import PaperFit
from napari_unroll.normal.phases import phase_factors
from napari_unroll.normal.probes import CountedNormal, HeldOut, summarise
from napari_unroll.normal.report import advise
from napari_unroll.normal.sampling import ImpulseFit, default_support
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.record import LARGEST_SEED, Record

Form = Literal["auto", "dcd", "dc", "cd", "sum", "coils", "virtual-coils", "single-coil", "phases"]
PATCH_TEST = 48
"""Edge of the patches on which errors of large volumes are measured."""
COARSE_EDGE = {"sum": 96, "other": 128}
"""Edge up to which the fit on larger voxels is made; ten kernels of all lags take their memory."""
FIRST_REPORT = 4
"""Probes of a large volume before the first report, whose kernel takes as long as some probes do."""
TEST_SEED = 10_000
"""First seed of the held-out vectors and images, far from those of probes."""


class FitOptions(Record):
    """How to fit Ñ."""

    form: Form = Field(default="auto", description="Shape of the approximation; auto chooses what suits the scan.")
    recipe: Literal["impulse", "paper"] = Field(
        default="impulse", description="Closed forms from impulse responses, or the paper's Adam on Gaussian vectors."
    )
    kernel: Literal["auto", "linear", "circular"] = Field(
        default="auto", description="Zero-padded kernels, or kernels of the volume's size."
    )
    n_probes: int = Field(default=32, ge=1, le=4096, description="Impulse responses (exact operator applications).")
    n_coloured: int | None = Field(
        default=None, ge=0, le=64, description="Image-like noise probes that correct the weight; empty: if truncated."
    )
    n_terms: int = Field(default=4, ge=1, le=64, description="Number of virtual coils.")
    n_test: int = Field(default=3, ge=0, le=64, description="Held-out vectors of each kind for the errors; 0: none.")
    early_stop: bool = Field(default=True, description="Stop when more probes gain less than the error's noise.")
    support: int | None = Field(
        default=None, ge=2, le=4096, description="Lags kept per axis; empty: all of a small volume."
    )
    coarse: int | None = Field(default=None, ge=1, le=16, description="Fit the weight on voxels this much larger.")
    n_steps: int = Field(default=2048, ge=1, le=1_000_000, description="Steps of the paper's recipe.")
    learning_rate: float = Field(default=0.02, gt=0, le=1, description="Learning rate of the paper's recipe.")
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED, description="Seed of probe positions and vectors.")


class Sampler(Protocol):
    """A fit that goes on by single exact operator applications."""

    normal: CountedNormal
    done: int

    def step(self) -> None:
        """Apply the exact operator once and take in the result."""

    def solve(self) -> NormalFactors:
        """The factors fitted to what was taken in so far."""

    def latest(self) -> tuple[NormalFactors, int]:
        """The factors that were solved for last, or now where none were, and how many probes they are from."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that :meth:`restore` needs to go on in another process."""

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from what :meth:`tensors` gave."""


@dataclass
class FitState:
    """What a cancelled fit leaves behind; hand it to the next ``fit`` of the same physics to go on from there.

    ``history`` has a row of numbers per report, of which the last one says whether more probes gain little (``is_settled``);
    ``stored`` is what another process left (see ``normal.cache``).
    """

    sampler: Sampler | None = None
    held_out: HeldOut | None = None
    patch: int | None = None
    test_calls: int = 0
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    is_settled: bool = False
    stored: dict[str, torch.Tensor] | None = None

    @property
    def image_errors(self) -> tuple[float, ...]:
        """The image-like error at every report."""
        return tuple(row["error_image"] for row in self.history)

    def take_stored(self, sampler: Sampler) -> bool:
        """Put what another process left into a fresh sampler; whether there was any."""
        found, self.stored = self.stored, None
        if found is not None:
            sampler.restore(found)
        return found is not None


def fit(
    physics: VolumePhysics, options: FitOptions | None = None, stop: Stop | None = None, state: FitState | None = None
) -> Iterator[Event]:
    """Fit Ñ ≈ AᴴA; the last event is Finished(result=NormalFactors, history of the image-like error).

    Asked to finish, the factors are those of the last report, or of the probes so far where there was none.
    """
    options, stop, state = options or FitOptions(), stop or Stop(), state or FitState()
    begun = time.perf_counter()
    try:
        factors, outcome = yield from interruptible(_whole_fit(physics, options, state, stop), stop)
    except (UnrollError, RuntimeError, MemoryError) as error:
        if isinstance(error, Cancelled | FinishNow) and not stop.asked:
            raise
        yield Finished(*_how_it_failed(error, state), time.perf_counter() - begun, state.image_errors)
        return
    seconds = time.perf_counter() - begun
    facts = {"seconds": seconds, "recipe": options.recipe, "history": state.history}
    info = {**factors.info, **facts, "test_calls": float(state.test_calls)}
    with shielded():
        factors = replace(factors, info=info)
    yield Finished(outcome, factors, advise(info), seconds, state.image_errors)


def _whole_fit(
    physics: VolumePhysics, options: FitOptions, state: FitState, stop: Stop
) -> Generator[Event, None, tuple[NormalFactors, Outcome]]:
    """The factors with their errors; where the user asks to finish, what is known by then."""
    factors = None
    try:
        factors = yield from _fit(physics, options, state)
        effect = yield from _effect(physics, factors, options, state)
        return replace(factors, info={**factors.info, **effect}), Outcome.COMPLETED
    except FinishNow:
        if not stop.asked:
            raise
        with shielded():
            return factors or _so_far(state), Outcome.FINISHED_EARLY


def _so_far(state: FitState) -> NormalFactors:
    """The factors of an interrupted fit; raises FinishNow before the first probe or, where there are any, report."""
    has_reports = state.held_out is not None and any(state.held_out.held.values())
    if state.sampler is None or state.sampler.done == 0 or (has_reports and not state.history):
        raise FinishNow("There were no factors yet to finish with.")
    factors, n_probes = state.sampler.latest()
    return _with_info(state.sampler, factors, n_probes, summarise(state.samples))


def _how_it_failed(error: Exception, state: FitState) -> tuple[Outcome, None, str]:
    if isinstance(error, Cancelled):
        done = state.sampler.done if state.sampler is not None else 0
        return Outcome.CANCELLED, None, f"Cancelled after {done} exact operator applications; it can be resumed."
    outcome = Outcome.FINISHED_EARLY if isinstance(error, FinishNow) else Outcome.FAILED
    return outcome, None, str(error) if isinstance(error, UnrollError) else f"The fit failed: {error}"


def fit_now(physics: VolumePhysics, options: FitOptions | None = None) -> NormalFactors:
    """The factors at once, without listening; ``n_test=0`` skips the error's exact operator applications.

    Raises UnrollError where the fit fails.
    """
    *_, last = fit(physics, options or FitOptions(n_test=0))
    if not isinstance(last, Finished) or last.result is None:
        raise UnrollError(getattr(last, "advice", "The fit ended without a result."))
    found: NormalFactors = last.result
    return found


def _fit(physics: VolumePhysics, options: FitOptions, state: FitState) -> Generator[Event, None, NormalFactors]:
    form = choose_form(physics, options.form)
    normal = CountedNormal(physics)
    if options.recipe == "paper":
        return (yield from _fit_paper(normal, form, options, state))
    if form in CLOSED_FORMS:
        return (yield from _closed_form(normal, form, options, state))
    return (yield from _fit_impulses(normal, form, options, state))


def _closed_form(
    normal: CountedNormal, form: str, options: FitOptions, state: FitState
) -> Generator[Event, None, NormalFactors]:
    yield Started(f"Normal operator: {form}", 1, normal.shape)
    factors = yield from stepwise(lambda: _made(normal, form, options.n_terms), "closed form")
    yield from _hold(normal, options, state, whole=True)
    metrics = {**_errors(state, factors), "operator_calls": float(normal.calls)}
    if "error_image" in metrics:
        state.history.append(metrics)
    yield IterationDone(1, 1, metrics=metrics)
    return replace(factors, info=metrics)


def _made(normal: CountedNormal, form: str, n_terms: int) -> NormalFactors:
    if form == "phases":
        return phase_factors(normal)
    if form == "single-coil":
        return coils.single_coil(normal.physics)
    return coils.coil_factors(normal.physics, n_terms if form == "virtual-coils" else None)


def _fit_paper(
    normal: CountedNormal, form: str, options: FitOptions, state: FitState
) -> Generator[Event, None, NormalFactors]:
    if state.sampler is None:
        shape = "dcd" if normal.dtype.is_complex or options.form == "dcd" else "dc"
        state.sampler = PaperFit(normal, shape, options.n_steps, options.learning_rate, options.seed)
        state.take_stored(state.sampler)
    yield Started("Normal operator: Adam on Gaussian vectors", options.n_steps, normal.shape)
    yield from _hold(normal, options, state, whole=True)
    return (yield from _iterate(state.sampler, options.n_steps, options, state))


def _fit_impulses(
    normal: CountedNormal, form: str, options: FitOptions, state: FitState
) -> Generator[Event, None, NormalFactors]:
    yield Started(f"Normal operator: {form}", options.n_probes, normal.shape)
    if state.sampler is None:
        circular = yield from stepwise(lambda: choose_kernel(normal, options.kernel), "looking at the operator")
        support = default_support(normal.shape, form, options.support)
        sampler = ImpulseFit(normal, form, circular, support, options.seed)
        if not state.take_stored(sampler):
            yield from stepwise(sampler.prepare, "response to a constant")
            yield from _coarse_weight(sampler, options)
        yield from _hold(normal, options, state, sampler.whole)
        state.sampler = sampler
    found: ImpulseFit = state.sampler  # type: ignore[assignment]
    factors = yield from _iterate(found, options.n_probes, options, state)
    if found.coarse_weight is not None:
        return factors
    wanted = found.wants_coloured(options.n_coloured)
    if wanted > len(found.coloured_pairs):
        yield from stepwise(lambda: found.add_coloured(wanted), "image-like probes")
        yield _report(found, options.n_probes, state)
        factors = _solved(found, state)
    return factors


def _coarse_weight(sampler: ImpulseFit, options: FitOptions) -> Generator[Event, None, None]:
    """Take C 1 from a fit on larger voxels where the volume is large or the user asks for it."""
    physics = sampler.normal.physics
    limit = COARSE_EDGE["sum" if sampler.form == "sum" else "other"]
    factor = options.coarse or (1 if sampler.whole else max(2, -(-max(sampler.normal.shape) // limit)))
    coarser = physics.coarsen(factor) if factor > 1 else None
    if coarser is None:
        return
    normal = CountedNormal(coarser.thin(factor))
    coarse = ImpulseFit(normal, sampler.form, sampler.circular, normal.shape, options.seed)
    coarse.prepare()
    while coarse.done < options.n_probes:
        coarse.step()
        yield Progress(coarse.done, 2 * options.n_probes, f"Weight from voxels {factor} times larger")
    coarse.add_coloured(coarse.wants_coloured(options.n_coloured))
    sampler.take_weight(coarse.convolved_constant())
    sampler.normal.calls += normal.calls
    yield Warned(
        f"The weight comes from voxels {factor} times larger, kernels hold lags below {max(sampler.support)} voxels: "
        "use patches up to that size. The reported errors are those on patches."
    )


def _iterate(sampler: Sampler, n: int, options: FitOptions, state: FitState) -> Generator[Event, None, NormalFactors]:
    first = 1 if state.patch is None else FIRST_REPORT
    may_settle = options.early_stop and options.recipe == "impulse"
    while sampler.done < n and not (may_settle and state.is_settled):
        sampler.step()
        if sampler.done == n or (sampler.done & (sampler.done - 1) == 0 and sampler.done >= first):
            before = state.samples
            report = _report(sampler, n, state)
            state.is_settled = sampler.done >= 8 and settled(before, state.samples)
            yield report
        else:
            yield IterationDone(sampler.done, n, metrics={"operator_calls": float(sampler.normal.calls)})
    return _solved(sampler, state)


def settled(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> bool:
    """Whether the image-like error fell by less than its noise: the standard error of the paired differences."""
    if "image" not in before or before["image"].size < 2:
        return False
    gain = before["image"] - after["image"]
    noise = gain.std(ddof=1) / np.sqrt(gain.size)
    return bool(gain.mean() < max(noise, 0.01 * after["image"].mean()))


def _hold(normal: CountedNormal, options: FitOptions, state: FitState, whole: bool) -> Generator[Event, None, None]:
    if state.held_out is None:
        tests = CountedNormal(normal.physics)
        state.patch = None if whole else PATCH_TEST
        make = partial(HeldOut.make, tests, options.n_test, TEST_SEED + options.seed, state.patch)
        state.held_out = yield from stepwise(make, "exact images to measure errors on")
        state.test_calls += tests.calls


def _effect(
    physics: VolumePhysics, factors: NormalFactors, options: FitOptions, state: FitState
) -> Generator[Event, None, dict[str, float]]:
    """The error that Ñ causes in generated images, ``error_final``."""
    caused = []
    for i in range(options.n_test):
        make = partial(held_out_trial, physics, TEST_SEED + options.seed + i, state.patch)
        trial, calls = yield from stepwise(make, f"error in the final image, {i + 1} of {options.n_test}")
        caused.append(trial.error(factors).caused)
        state.test_calls += calls
    return summarise({"final": np.array(caused)})


def _report(sampler: Sampler, n: int, state: FitState) -> IterationDone:
    if not state.held_out or not any(state.held_out.held.values()):
        return IterationDone(sampler.done, n, metrics={"operator_calls": float(sampler.normal.calls)})
    metrics = {**_errors(state, sampler.solve()), "operator_calls": float(sampler.normal.calls)}
    state.history.append(metrics)
    return IterationDone(sampler.done, n, metrics=metrics)


def _errors(state: FitState, factors: NormalFactors) -> dict[str, float]:
    assert state.held_out is not None
    state.samples = state.held_out.samples(factors)
    return summarise(state.samples)


def _solved(sampler: Sampler, state: FitState) -> NormalFactors:
    """The factors of all probes, with their errors."""
    factors = sampler.solve()
    return _with_info(sampler, factors, sampler.done, _errors(state, factors))


def _with_info(sampler: Sampler, factors: NormalFactors, n_probes: int, errors: Mapping[str, float]) -> NormalFactors:
    facts = {"operator_calls": float(sampler.normal.calls), "n_probes": float(n_probes)}
    return replace(factors, info={**factors.info, **errors, **facts})

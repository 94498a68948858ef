"""Fitting Ñ: one generator of events for every physics and form.

Chooses the form for a physics, runs its fit, and reports errors on vectors that no fit uses. Must not know viewers,
methods or scans; sees a physics (A, A_adjoint, x_shape, dtype) and options.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from napari_unroll.errors import Cancelled, ParameterError, UnrollError
from napari_unroll.events import Event, Finished, IterationDone, Outcome, Started, Stop
from napari_unroll.normal import coils, impulse
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.probes import CountedNormal, HeldOut, spread_positions

Form = Literal["auto", "dcd", "dc", "cd", "coils", "virtual-coils", "single-coil"]


class FitOptions(BaseModel):
    """How to fit Ñ. Field descriptions become tooltips and help."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Form = Field(
        default="auto", description="Shape of the approximation; auto chooses what is best for the scan."
    )
    kernel: Literal["linear", "circular"] = Field(
        default="linear", description="Zero-padded kernels, or of the volume's size."
    )
    n_probes: int = Field(default=32, ge=1, le=4096, description="Impulse responses (exact operator applications).")
    n_terms: int = Field(default=4, ge=1, le=64, description="Number of virtual coils or kernels.")
    n_test: int = Field(
        default=3, ge=0, le=64, description="Held-out vectors of each kind for the error; 0 reports none."
    )
    seed: int = Field(default=0, ge=0, description="Seed of probe positions and test vectors.")


@dataclass
class FitState:
    """What a cancelled fit leaves behind; hand it to the next ``fit`` of the same physics to go on from there."""

    average: impulse.LagAverage | None = None
    constant: torch.Tensor | None = None
    held_out: HeldOut | None = None
    done: int = 0
    calls: int = 0
    history: list[float] = field(default_factory=list)


def fit(
    physics: Any, options: FitOptions | None = None, stop: Stop | None = None, state: FitState | None = None
) -> Iterator[Event]:
    """Fit Ñ ≈ AᴴA; the last event is Finished(result=NormalFactors, history of the image-like error)."""
    options, stop, state = options or FitOptions(), stop or Stop(), state or FitState()
    begun = time.perf_counter()
    try:
        factors = yield from _fit(physics, options, stop, state)
    except Cancelled as cancelled:
        yield Finished(Outcome.CANCELLED, None, str(cancelled), time.perf_counter() - begun, tuple(state.history))
        return
    except (UnrollError, RuntimeError, MemoryError) as error:
        advice = f"The fit failed: {error}"
        yield Finished(Outcome.FAILED, None, advice, time.perf_counter() - begun, tuple(state.history))
        return
    seconds = time.perf_counter() - begun
    early = Outcome.FINISHED_EARLY if stop.finish_now else Outcome.COMPLETED
    info = {**factors.info, "seconds": seconds}
    yield Finished(early, replace(factors, info=info), _advice(info), seconds, tuple(state.history))


def fit_now(physics: Any, options: FitOptions | None = None) -> NormalFactors:
    """The factors at once, without listening; ``n_test=0`` skips the error's exact operator applications.

    Raises UnrollError where the fit fails.
    """
    *_, last = fit(physics, options or FitOptions(n_test=0))
    if not isinstance(last, Finished) or last.result is None:
        raise UnrollError(getattr(last, "advice", "The fit ended without a result."))
    found: NormalFactors = last.result
    return found


def choose_form(physics: Any, form: str) -> str:
    """The form that ``auto`` means for this physics.

    Raises ParameterError where ``form`` needs coil maps and the physics has none.
    """
    has_coils = hasattr(physics, "csm") and hasattr(physics, "mask")
    if form == "auto":
        return "coils" if has_coils else "dcd"
    if form in ("coils", "virtual-coils", "single-coil") and not has_coils:
        raise ParameterError(f"The form {form} is for Cartesian MRI with coil maps; choose auto or dcd for this scan.")
    return form


def _fit(physics: Any, options: FitOptions, stop: Stop, state: FitState) -> Generator[Event, None, NormalFactors]:
    form = choose_form(physics, options.form)
    normal = CountedNormal(physics)
    if form in ("coils", "virtual-coils", "single-coil"):
        return (yield from _fit_coils(normal, form, options, state))
    return (yield from _fit_impulses(normal, form, options, stop, state))


def _fit_coils(
    normal: CountedNormal, form: str, options: FitOptions, state: FitState
) -> Generator[Event, None, NormalFactors]:
    yield Started(f"Normal operator: {form}", 1, normal.shape)
    physics = normal.physics
    if form == "single-coil":
        factors = coils.single_coil(physics.csm, physics.mask)
    else:
        factors = coils.coil_factors(physics.csm, physics.mask, options.n_terms if form == "virtual-coils" else None)
    held_out = HeldOut.make(normal, options.n_test, 10_000 + options.seed)
    metrics = {**held_out.errors(factors), "operator_calls": 0.0}
    state.history.append(metrics.get("error_image", float("nan")))
    yield IterationDone(1, 1, metrics=metrics)
    return replace(factors, info={**factors.info, **metrics, "form": form})


def _fit_impulses(
    normal: CountedNormal, form: str, options: FitOptions, stop: Stop, state: FitState
) -> Generator[Event, None, NormalFactors]:
    n, shape = options.n_probes, normal.shape
    circular = (options.kernel == "circular",) * 3
    yield Started(f"Normal operator: {form}, {options.kernel} kernel", n, shape)
    if state.average is None:
        state.average = impulse.LagAverage(shape, shape, circular, normal.dtype, normal.device)
        state.constant = normal(torch.ones_like(normal.zeros()))
        state.held_out = HeldOut.make(_uncounted(normal), options.n_test, 10_000 + options.seed)
    positions = spread_positions(shape, n, options.seed)
    while state.done < n and not stop.finish_now:
        if stop.cancelled:
            raise Cancelled(f"Cancelled after {state.done} of {n} probes; the fit can be resumed.")
        state.average.add(normal.impulse_response(positions[state.done]), positions[state.done])
        state.done += 1
        if state.done == n or state.done & (state.done - 1) == 0:
            yield _report(_solve(state, form), state, normal, n)
        else:
            yield IterationDone(state.done, n, metrics={"operator_calls": float(normal.calls)})
    factors = _solve(state, form)
    metrics = {**_errors(state, factors), "operator_calls": float(normal.calls), "n_probes": float(state.done)}
    return replace(factors, info={**metrics, "form": form, "kernel": options.kernel})


def _solve(state: FitState, form: str) -> NormalFactors:
    average, constant = state.average, state.constant
    assert average is not None
    assert constant is not None
    kernel = impulse.nonnegative(average.kernel())
    d = impulse.weight_from_constant(kernel, constant, average.circular)
    return impulse.assemble(kernel, d, average.shape, average.circular, form)


def _report(factors: NormalFactors, state: FitState, normal: CountedNormal, n: int) -> IterationDone:
    metrics = {**_errors(state, factors), "operator_calls": float(normal.calls)}
    state.history.append(metrics.get("error_image", float("nan")))
    return IterationDone(state.done, n, metrics=metrics)


def _errors(state: FitState, factors: NormalFactors) -> dict[str, float]:
    return {} if state.held_out is None else state.held_out.errors(factors)


def _uncounted(normal: CountedNormal) -> CountedNormal:
    return CountedNormal(normal.physics)


def _advice(info: dict[str, Any]) -> str:
    if "error_image" not in info:
        return "The normal operator is fitted; its error was not measured."
    return (
        f"The normal operator is fitted: relative error {info['error_image']:.2%} on image-like volumes, "
        f"{info['error_gaussian']:.2%} on white noise."
    )

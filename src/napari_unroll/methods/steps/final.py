"""A last proximal data step after a learned method: x = argmin ‖A x − y‖² + m μ ‖x − z‖², z what the method made.

A network knows the noise of its training data; what it smooths away of cleaner data comes back here, and its bias
goes. μ is the mean eigenvalue of AᴴA, so that m has no unit. ``auto`` takes the m that best foretells measurements
which the method, run once more, did not see, or a larger one that is hardly worse. Conjugate gradients serve all m at
once (see ``lanczos``). Before that z goes back towards total variation as far as those measurements want it: networks
add detail of their training's objects to others. Wraps a method's ``solve``; knows no network.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from napari_unroll.errors import ScanError
from napari_unroll.events import Event, IterationDone, Measured, Progress, Warned, map_events
from napari_unroll.interrupt import stepwise
from napari_unroll.methods.classical.strength import mean_eigenvalue
from napari_unroll.methods.left_out import LeftOut, energies, split
from napari_unroll.methods.memory import Memory, Sizes, held_bytes, holding
from napari_unroll.methods.problem import Problem, Solve, as_values
from napari_unroll.methods.steps.prox import proximal_steps
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.physics.laws import inner
from napari_unroll.physics.solvers import lanczos

FinalStep = Annotated[float, Field(ge=1e-4, le=1e6)] | Literal["auto", "none"]
"""m, or how it is found."""
DESCRIPTION = (
    "Weight of the network's result against the measurements in a last data step; less trusts the measurements more. auto: "
    "for MRI the weight, after as much of total variation, that best foretells 5 % of the measurements, left out of a quick run "
    "before; for others none."
)
WEIGHTS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Values of m among which ``auto`` chooses, beside no step at all."""
FORETOLD = ("mri",)
"""Modalities where ``auto`` looks. Of X-rays the left-out error praises steps that cost 3 dB: what the voxels cannot show of the
object is alike in neighbouring views, so that fitting it foretells them."""
MARGIN = 0.005
"""Part of the left-out error that chance makes of it: of weights within it, the one that changes least is taken."""
MAX_STEPS, TOLERANCE = 12, 1e-4
"""Of conjugate gradients."""
N_CLASSICAL = 60
"""FISTA steps of total variation, as many as networks begin with."""
NAME, FOUND = "final_data_step", "share and weight"
QUICK = {NAME: "none", "self_ensemble": False, "refine": False, "adaptation_steps": 0}
"""Choices of the run without the left-out measurements; it only has to tell what the network does to the data."""


def with_final_step(solve: Solve) -> Solve:
    """The same method, with the step that its params ask for after it."""

    def stepped(problem: Problem, params: Any) -> Generator[Event, None, torch.Tensor]:
        share, weight = 1.0, getattr(params, NAME)
        if weight == "auto":
            share, weight = yield from _remembered(problem, params, solve)
        z = yield from solve(problem, params)
        if share < 1:
            z = yield from _towards_classical(problem, z, share)
        return z if weight == "none" else (yield from data_step(problem, z, weight))

    return stepped


def with_memory_of_step(memory: Memory, is_foretold: Callable[[Any], bool] = lambda params: True) -> Memory:
    """What a method with such a step holds: that of the method, beside what the run before it leaves, or the step alone.

    ``is_foretold`` says of the params whether ``auto`` may make one.
    """
    alone = holding(volumes=MAX_STEPS + 13, measurements=4)

    def stepped(sizes: Sizes, params: Any) -> int:
        own, weight = memory(sizes, params), getattr(params, NAME)
        if weight == "none" or (weight == "auto" and not is_foretold(params)):
            return own
        return max(own + held_bytes(sizes, 5, 3), alone(sizes, params))

    return stepped


def data_step(problem: Problem, z: torch.Tensor, weight: float) -> Generator[Event, None, torch.Tensor]:
    """The step from z (z, y, x) with m = ``weight``; every conjugate gradient step is an event."""
    absolute = weight * mean_eigenvalue(problem.physics)
    x = z[None, None]
    steps = proximal_steps(problem.physics.normal, problem.adjoint, x, absolute, TOLERANCE, MAX_STEPS)
    for k, x in enumerate(steps):  # noqa: B007
        yield Progress(k, MAX_STEPS, "last data step")
    yield IterationDone(1, 1, problem.residual(x), as_values(x))
    return x[0, 0]


def _classical(problem: Problem) -> Generator[Event, None, torch.Tensor]:
    """Total variation (z, y, x) whose strength follows the noise; its iterates are not shown."""
    own = replace(problem, state=problem.state.setdefault("classical", {}))
    x = yield from map_events(first_estimate(own, N_CLASSICAL, follows_noise=True), _as_progress)
    problem.state.pop("classical")
    return x[0, 0]


def _as_progress(event: Event) -> Event | None:
    return replace(event, text="total variation beside the network") if isinstance(event, Progress) else None


def _towards_classical(problem: Problem, z: torch.Tensor, share: float) -> Generator[Event, None, torch.Tensor]:
    """``share`` of z (z, y, x), and total variation for the rest."""
    x = torch.lerp((yield from _classical(problem)), z, share)
    yield IterationDone(1, 1, problem.residual(x[None, None]), as_values(x))
    return x


def _remembered(problem: Problem, params: Any, solve: Solve) -> Generator[Event, None, Any]:
    """The share of the network and the weight for ``auto``, kept in the problem's state."""
    if FOUND not in problem.state:
        problem.state[FOUND] = yield from _found(problem, params, solve)
        problem.state.pop("kept", None)
    return problem.state[FOUND]


def _found(problem: Problem, params: Any, solve: Solve) -> Generator[Event, None, Any]:
    if problem.scan.modality not in FORETOLD:
        return 1.0, "none"
    try:
        kept, left = yield from stepwise(lambda: split(problem), "leaving out some measurements")
    except ScanError as error:
        yield Warned(f"{error} So there is no last data step.")
        return 1.0, "none"
    kept = replace(kept, state=problem.state.setdefault("kept", {}))
    known = {name: value for name, value in QUICK.items() if name in type(params).model_fields}
    z = yield from map_events(solve(kept, params.model_copy(update=known)), _as_quick_run)
    classical = yield from map_events(_classical(kept), _as_quick_run)
    share = yield from stepwise(lambda: best_share(left, z, classical), "weighing total variation")
    z = torch.lerp(classical, z, share)
    errors = yield from stepwise(lambda: left_out_errors(kept, left, z), "weighing the last data step")
    best = gentlest(errors)
    found = {
        NAME: best,
        "share_of_network": share,
        "left_out_error": errors[best],
        "left_out_error_without": errors["none"],
    }
    step = "no last data step" if best == "none" else f"a last data step with weight {best:g}"
    mixed = "" if share == 1 else f"{share:.0%} of the network, for the rest total variation; "
    text = f"{mixed}{step}: error of left-out measurements {errors[best]:.3%}, without {errors['none']:.3%}"
    yield Measured(found, text)
    return share, best


@torch.no_grad()
def best_share(left: LeftOut, z: torch.Tensor, classical: torch.Tensor) -> float:
    """The share α of z (z, y, x) beside ``classical`` whose mixture foretells the left-out measurements best, 0 … 1.

    The error is a parabola in α. z stays alone where that is within MARGIN of the least error; else of the shares that are,
    the least is taken.
    """
    wrong = left.samples(left.physics.A(z[None, None]) - left.y)
    back = left.samples(left.physics.A((classical - z)[None, None]))
    a, b, c = (inner(p, q).real for p, q in ((back, back), (back, wrong), (wrong, wrong)))
    if a == 0:
        return 1.0
    least = min(max(-b / a, 0.0), 1.0)  # share of the classical one
    enough = (1 + MARGIN) * (c + 2 * b * least + a * least**2)
    if c <= enough:
        return 1.0
    most = (-b + max(b * b - a * (c - enough), 0.0) ** 0.5) / a
    return 1.0 - min(most, 1.0)


def gentlest(errors: Mapping[float | str, float]) -> float | str:
    """No step, or else the largest weight, of which the error is within MARGIN of the least."""
    enough = (1 + MARGIN) * min(errors.values())
    good = [weight for weight, error in errors.items() if error <= enough]
    return good[0] if good[0] == "none" else good[-1]


def _as_quick_run(event: Event) -> Event:
    """The run without the left-out measurements is shown, but its residuals are not those of the result."""
    if isinstance(event, Progress):
        return replace(event, text=f"leaving out measurements: {event.text}")
    return replace(event, residual=None) if isinstance(event, IterationDone) else event


@torch.no_grad()
def left_out_errors(kept: Problem, left: LeftOut, z: torch.Tensor) -> dict[float | str, float]:
    """‖A x − y‖² / ‖y‖² over what was left out, of z (z, y, x) itself ("none") and after a step from it with every weight.

    With V, T of the Krylov space of N and b = −∇f(z) the step is V (T + m μ)⁻¹ Vᴴ b, so that V is projected only once.
    """
    x = z[None, None]
    descent = kept.adjoint - kept.physics.normal(x)
    vectors, T = lanczos(kept.physics.normal, descent, MAX_STEPS)
    wrong, size = left.samples(left.physics.A(x) - left.y), float(energies(left.y).sum())
    images = [left.samples(left.physics.A(v)) for v in vectors]
    mean, first = mean_eigenvalue(kept.physics), float(torch.linalg.vector_norm(descent))
    errors: dict[float | str, float] = {"none": float(energies(wrong).sum()) / size}
    for weight in WEIGHTS if vectors else ():
        start = torch.zeros(len(T), dtype=torch.float64)
        start[0] = first
        parts = torch.linalg.solve(T + weight * mean * torch.eye(len(T), dtype=torch.float64), start)
        change = sum((float(c) * image for c, image in zip(parts, images, strict=True)), torch.zeros_like(wrong))
        errors[weight] = float(energies(wrong + change).sum()) / size
    return errors

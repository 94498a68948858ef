"""Conjugate gradients on the least-squares problem min ‖A x − y‖², stopped early.

The recursion keeps the measurement residual, never the normal equations' one, which keeps float32 stable
(Björck, "Numerical Methods for Least Squares Problems" 1996, algorithm 7.4.1; preconditioned: 7.4.3 with M ≈ (AᴴA)⁻¹).
For multi-coil MRI it is CG-SENSE (Pruessmann et al. 2001, doi:10.1002/mrm.1241).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from pydantic import Field

from napari_unroll.errors import ParameterError
from napari_unroll.events import Event, IterationDone
from napari_unroll.methods.problem import Method, MethodParams, Problem, as_values
from napari_unroll.normal.precondition import regularised_preconditioner
from napari_unroll.physics.laws import inner, norm


class CGLSParams(MethodParams):
    """Choices of conjugate-gradient least squares."""

    n_iterations: int = Field(
        default=12, ge=1, le=10_000, description="Steps; few steps regularise, many fit the noise."
    )
    tolerance: float = Field(
        default=1e-4, ge=0, le=1, description="Stop when ‖Aᴴ(y − A x)‖ has fallen to this part of its start."
    )
    precondition: bool = Field(
        default=False,
        description="Precondition by the inverse of the fitted normal operator: fewer steps, more noise early.",
    )
    damping: float = Field(
        default=0.03, gt=0, le=10, description="Regularisation of that inverse, relative to the operator's norm."
    )
    show_every: int = Field(
        default=5,
        ge=1,
        le=10_000,
        description="Show the volume every so many steps.",
        json_schema_extra={"unit": "steps"},
    )


@dataclass
class _Iterate:
    """x, residual r = y − A x, gradient's preconditioned direction p, and γ = ⟨Aᴴr, M Aᴴr⟩."""

    x: torch.Tensor
    r: torch.Tensor
    p: torch.Tensor
    gamma: float
    gamma_start: float


def solve(problem: Problem, params: CGLSParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x); the residual is ‖A x − y‖ / ‖y‖ after every step. Starts from zero or ``state["x"]``."""
    apply_m = _preconditioner(problem, params)
    state, size = problem.state, norm(problem.y)
    it = _start(problem, apply_m)
    for k in range(state.get("iteration", 0), params.n_iterations):
        if it.gamma <= params.tolerance**2 * it.gamma_start or size == 0:
            break
        _step(problem, it, apply_m)
        problem.estimate.keep(it.x)
        state.update(x=it.x, iteration=k + 1)
        shown = (k + 1) % params.show_every == 0 or k + 1 == params.n_iterations
        yield IterationDone(k + 1, params.n_iterations, norm(it.r) / size, as_values(it.x) if shown else None)
    return it.x[0, 0]


def _preconditioner(problem: Problem, params: CGLSParams) -> Callable[[torch.Tensor], torch.Tensor]:
    if not params.precondition:
        return lambda g: g
    if problem.normal is None:
        raise ParameterError(
            "Preconditioned CGLS needs a fitted normal operator; fit it first or set precondition=false."
        )
    return regularised_preconditioner(problem.normal, params.damping)


def _start(problem: Problem, apply_m: Callable[[torch.Tensor], torch.Tensor]) -> _Iterate:
    """From the state's volume with its true residual, or from zero."""
    x = problem.state.get("x")
    r = problem.y.clone() if x is None else problem.y - problem.physics.A(x)
    g = problem.physics.A_adjoint(r)
    p = apply_m(g)
    gamma = inner(g, p).real
    x = torch.zeros_like(g) if x is None else x
    return _Iterate(x=x, r=r, p=p, gamma=gamma, gamma_start=problem.state.setdefault("gamma_start", gamma))


def _step(problem: Problem, it: _Iterate, apply_m: Callable[[torch.Tensor], torch.Tensor]) -> None:
    q = problem.physics.A(it.p)
    alpha = it.gamma / max(norm(q) ** 2, 1e-300)
    it.x = it.x + alpha * it.p
    it.r -= alpha * q
    g = problem.physics.A_adjoint(it.r)
    z = apply_m(g)
    gamma = inner(g, z).real
    it.p = z + (gamma / it.gamma) * it.p
    it.gamma = gamma


def _memory(shape: tuple[int, int, int], patch: tuple[int, int, int], params: CGLSParams) -> int:
    """x, p, gradient, preconditioned gradient and their double-precision products, as float32 volumes."""
    return 8 * 4 * shape[0] * shape[1] * shape[2]


CGLS = Method(
    name="cgls",
    title="CGLS",
    summary="Least squares by conjugate gradients, stopped early; CG-SENSE for MRI.",
    source="Björck 1996, algorithm 7.4.1; Pruessmann et al. 2001, doi:10.1002/mrm.1241",
    params=CGLSParams,
    solve=solve,
    memory=_memory,
    needs_normal=lambda params: params.precondition,
)

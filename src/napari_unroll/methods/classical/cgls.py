"""Conjugate gradients on the least-squares problem min ‖A x − y‖², stopped early; see ``conjugate_gradients``."""

from __future__ import annotations

from collections.abc import Generator

import torch
from pydantic import Field

from napari_unroll.errors import ParameterError
from napari_unroll.events import Event
from napari_unroll.methods.classical.conjugate_gradients import CGParams, LeastSquares, Linear
from napari_unroll.methods.memory import holding
from napari_unroll.methods.problem import Method, Problem
from napari_unroll.normal.precondition import regularised_preconditioner


class CGLSParams(CGParams):
    """Choices of conjugate-gradient least squares."""

    n_iterations: int = Field(
        default=12, ge=1, le=10_000, description="Steps; few steps regularise, many fit the noise."
    )
    precondition: bool = Field(
        default=False,
        description="Precondition by the inverse of the fitted normal operator: fewer steps, more noise early.",
    )
    damping: float = Field(
        default=0.03, gt=0, le=10, description="Regularisation of that inverse, relative to the operator's norm."
    )


def solve(problem: Problem, params: CGLSParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x); the residual is ‖A x − y‖ / ‖y‖ after every step. Starts from zero or ``state["x"]``."""
    return (yield from LeastSquares(problem, precondition=_preconditioner(problem, params)).minimise(params))


def _preconditioner(problem: Problem, params: CGLSParams) -> Linear | None:
    if not params.precondition:
        return None
    if problem.normal is None:
        raise ParameterError(
            "Preconditioned CGLS needs a fitted normal operator; fit it first or set precondition=false."
        )
    return regularised_preconditioner(problem.normal, params.damping)


CGLS = Method(
    name="cgls",
    title="CGLS",
    summary="Least squares by conjugate gradients, stopped early.",
    source="Björck 1996, algorithm 7.4.1",
    params=CGLSParams,
    solve=solve,
    memory=holding(volumes=5.5, residuals=1.9),
    needs_normal=lambda params: params.precondition,
)

"""What the iterative classical methods share: their parameters, and what they tell and keep after every step."""

from __future__ import annotations

import torch
from pydantic import Field

from napari_unroll.events import IterationDone
from napari_unroll.methods.problem import MethodParams, Problem, as_values


class IterativeParams(MethodParams):
    """Choices of every iterative method."""

    n_iterations: int = Field(default=100, ge=1, le=10_000, description="Largest number of steps.")
    show_every: int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="Show the volume every so many steps.",
        json_schema_extra={"unit": "steps"},
    )


def first_step(problem: Problem) -> int:
    """How many steps an earlier attempt has finished."""
    return int(problem.state.get("iteration", 0))


def step_done(
    problem: Problem,
    params: IterativeParams,
    k: int,
    x: torch.Tensor,
    residual: float,
    change: float | None = None,
    last: bool = False,
) -> IterationDone:
    """Step ``k`` (from 0) ended at x (1, 1, z, y, x): kept in the state, shown every so many steps and at the last."""
    problem.estimate.keep(x)
    problem.state.update(x=x, iteration=k + 1)
    shown = last or k + 1 == params.n_iterations or (k + 1) % params.show_every == 0
    metrics = {} if change is None else {"change": change}
    return IterationDone(k + 1, params.n_iterations, residual, as_values(x) if shown else None, metrics)

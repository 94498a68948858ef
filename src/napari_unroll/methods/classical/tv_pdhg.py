"""Total variation by the primal-dual hybrid gradient method with K = [A; ∇]: no inner problem.

Chambolle and Pock, "A first-order primal-dual algorithm for convex problems with applications to imaging" (2011),
doi:10.1007/s10851-010-0251-1, algorithm 1 with θ = 1, with a step for each block of K as in Pock and Chambolle,
"Diagonal preconditioning" (2011), doi:10.1109/ICCV.2011.6126441. The objective is that of ``tv_objective``.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field

from napari_unroll.events import Event
from napari_unroll.methods.classical.fista import MARGIN
from napari_unroll.methods.classical.iterations import first_step, step_done
from napari_unroll.methods.classical.total_variation import into_balls
from napari_unroll.methods.classical.tv_objective import TVObjective, TVObjectiveParams, objective
from napari_unroll.methods.memory import holding
from napari_unroll.methods.problem import Method, Problem
from napari_unroll.physics.laws import norm

SIGMA_DATA, SIGMA_TV = 0.3, 0.2
"""Dual steps for A x / √μ and ∇ x, which have no unit. Of a grid they came closest to the minimum in 100 steps: to
1·10⁻³ of the objective for CT (walnut, 40³, 30 views) and to 1·10⁻⁵ for MRI (brain, R = 5), where FISTA has 3·10⁻⁵ and
1·10⁻⁶."""


class PDHGParams(TVObjectiveParams):
    """Choices of total variation by PDHG."""

    n_iterations: int = Field(default=200, ge=1, le=10_000, description="Largest number of primal-dual steps.")
    tolerance: float = Field(
        default=1e-3, ge=0, le=1, description="Stop when a step changes volume and dual field by less than this part."
    )


@dataclass
class _Iterate:
    """Volume x, its projections A x, and the dual variables p of A x and q of ∇ x."""

    x: torch.Tensor
    projected: torch.Tensor
    p: torch.Tensor
    q: torch.Tensor


def _start(problem: Problem, goal: TVObjective) -> _Iterate:
    """From the state, or from the quick reconstruction with the p that belongs to it and a q of zero."""
    state: dict[str, Any] = problem.state
    x = state.get("x", goal.start)
    projected = problem.physics.A(x)
    p = state["p"] if "p" in state else (projected - problem.y) / goal.mean
    q = state["q"] if "q" in state else torch.zeros((3, *problem.shape), dtype=x.dtype, device=x.device)
    return _Iterate(x, projected, p, q)


def solve(problem: Problem, params: PDHGParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x); ``residual`` is ‖A x − y‖ / ‖y‖ after every step."""
    goal = yield from objective(problem, params)
    norm_data = MARGIN * (yield from problem.find_norm()) / goal.mean
    tau = 1 / (SIGMA_DATA * norm_data + SIGMA_TV * goal.tv.norm_squared(problem.shape))
    it = _start(problem, goal)
    size = max(norm(problem.y), 1e-300)
    for k in range(first_step(problem), params.n_iterations):
        change = _step(problem, goal, it, tau)
        problem.state.update(p=it.p, q=it.q)
        done = change < params.tolerance
        yield step_done(problem, params, k, it.x, norm(it.projected - problem.y) / size, change, done)
        if done:
            break
    return it.x[0, 0]


def _step(problem: Problem, goal: TVObjective, it: _Iterate, tau: float) -> float:
    """One step of x, then of both duals at x̄ = 2 x⁺ − x; returns the larger relative change of x and q.

    p is kept divided by √μ, so that only A and Aᴴ act: p/√μ ← (p/√μ + σ (A x̄ − y) / μ) / (1 + σ).
    """
    physics = problem.physics
    x = it.x - tau * (physics.A_adjoint(it.p) + goal.tv.divergence(it.q)[None, None])
    x = goal.tv.project(x)
    projected = physics.A(x)
    it.p = (it.p + (SIGMA_DATA / goal.mean) * (2 * projected - it.projected - problem.y)) / (1 + SIGMA_DATA)
    ahead = (2 * x - it.x)[0, 0]
    q = into_balls(it.q + SIGMA_TV * goal.tv.gradient(ahead), goal.weight)
    change = max(_change(it.x, x), _change(it.q, q))
    it.x, it.q, it.projected = x, q, projected
    return change


def _change(old: torch.Tensor, new: torch.Tensor) -> float:
    """‖new − old‖ / ‖new‖."""
    return norm(new - old) / max(norm(new), 1e-300)


TV_PDHG = Method(
    name="tv-pdhg",
    title="Total variation (PDHG)",
    summary="The minimum of tv-fista by primal-dual steps without an inner problem.",
    source="Chambolle and Pock 2011, doi:10.1007/s10851-010-0251-1, algorithm 1",
    params=PDHGParams,
    solve=solve,
    memory=holding(volumes=14, measurements=3),
)

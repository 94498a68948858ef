"""Total variation by FISTA: the objective of ``tv_objective``, its proximal map by a few warm-started dual steps.

Beck and Teboulle 2009; see ``fista`` and ``total_variation``.
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from pydantic import Field

from napari_unroll.events import Event
from napari_unroll.methods.classical import fista
from napari_unroll.methods.classical.tv_objective import TVObjectiveParams, objective
from napari_unroll.methods.memory import holding
from napari_unroll.methods.problem import Method, Problem


class TVParams(TVObjectiveParams):
    """Choices of total variation by FISTA."""

    n_inner: int = Field(
        default=8, ge=1, le=500, description="Dual steps of the proximal map per FISTA step, warm-started."
    )


def solve(problem: Problem, params: TVParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x); ``residual`` is ‖A z − y‖ / ‖y‖ at FISTA's extrapolated point, which costs nothing extra."""
    goal = yield from objective(problem, params)

    def prox(b: torch.Tensor, step: float, k: int) -> torch.Tensor:
        return goal.tv.prox(b, goal.mean * goal.weight * step, params.n_inner)

    return (yield from fista.minimise(problem, params, goal.start, prox))


TV_FISTA = Method(
    name="tv-fista",
    title="Total variation",
    summary="Least squares with isotropic 3-D total variation: the strongest classical choice for few views.",
    source="Beck and Teboulle 2009, doi:10.1137/080716542 and doi:10.1109/TIP.2009.2028250",
    params=TVParams,
    solve=solve,
    memory=holding(volumes=19.5, measurements=2),
)

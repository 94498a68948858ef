"""Total variation by FISTA: the objective of ``tv_objective``, its proximal map by a few warm-started dual steps.

Beck and Teboulle 2009; see ``fista`` and ``total_variation``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Literal

import torch
from pydantic import Field

from napari_unroll.events import Event
from napari_unroll.methods.classical import fista
from napari_unroll.methods.classical.tv_objective import TVObjectiveParams, objective
from napari_unroll.methods.memory import holding
from napari_unroll.methods.problem import Method, Problem
from napari_unroll.methods.subsets import Subsets, n_subsets

STOP = {"ct": 4e-3, "mri": 1e-3, "image": 5e-4}
"""Relative change of a step at which ``auto`` stops. X-ray projections do not quite fit any volume of voxels, and the longer FISTA
goes on, the more of that misfit it takes up, at every strength (docs/decisions/fista_restart.md)."""


class TVParams(TVObjectiveParams):
    """Choices of total variation by FISTA."""

    tolerance: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        default="auto",
        description="Stop when a step changes the volume by less than this part; auto: 0.004 for CT, where more steps fit what "
        "no voxels can, 0.001 for MRI.",
    )

    n_inner: int = Field(
        default=8, ge=1, le=500, description="Dual steps of the proximal map per FISTA step, warm-started."
    )
    subsets: Subsets = Field(
        default="auto",
        description="Groups of views, of which every step looks at one (ordered subsets): as many times fewer projections. auto: "
        "groups of 10 views or more, at most 10; 1 converges to the very minimum.",
    )


def solve(problem: Problem, params: TVParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x); ``residual`` is ‖A z − y‖ / ‖y‖ at FISTA's extrapolated point, which costs nothing extra."""
    goal = yield from objective(problem, params)

    goal.tv.dual = problem.state.get("dual")

    def prox(b: torch.Tensor, step: float, k: int) -> torch.Tensor:
        x = goal.tv.prox(b, goal.mean * goal.weight * step, params.n_inner)
        problem.state["dual"] = goal.tv.dual
        return x

    n_groups = n_subsets(problem.scan, params.subsets)
    tolerance = STOP[problem.scan.modality] if params.tolerance == "auto" else params.tolerance
    return (yield from fista.minimise(problem, params, tolerance, goal.start, prox, n_groups))


TV_FISTA = Method(
    name="tv-fista",
    title="Total variation",
    summary="Least squares with isotropic 3-D total variation: the strongest classical choice for few views.",
    source="Beck and Teboulle 2009, doi:10.1137/080716542 and doi:10.1109/TIP.2009.2028250",
    params=TVParams,
    solve=solve,
    memory=holding(volumes=10, residuals=2),
)

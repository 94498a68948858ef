"""CG-SENSE: min_x ‖A x − y‖² + λ μ ‖x‖² for multi-coil MRI along any trajectory, by conjugate gradients.

Pruessmann, Weiger, Börnert, Boesiger, "Advances in sensitivity encoding with arbitrary k-space trajectories" (2001),
doi:10.1002/mrm.1241. Its intensity correction I = (Σ_c |S_c|²)^(−½) of the unknowns is conjugate gradients
preconditioned by I²; its density compensation is the weights of the scan's trajectory. On a generated brain of a
training seed 12 steps with λ = 0.05 reach 30.0 and 25.1 dB at R = 5 and 10, without λ 29.2 and 25.2 dB (best step: 30.0
and 25.2).
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from pydantic import Field

from napari_unroll.events import Event
from napari_unroll.methods.classical.conjugate_gradients import CGParams, LeastSquares, Linear
from napari_unroll.methods.classical.strength import mean_eigenvalue
from napari_unroll.methods.memory import holding
from napari_unroll.methods.problem import Method, Problem
from napari_unroll.physics.coil_physics import csm_of


class CGSenseParams(CGParams):
    """Choices of CG-SENSE."""

    strength: float = Field(
        default=0.05,
        ge=0,
        le=100,
        description="λ, a weight that keeps noise small where coils tell little; no unit; 0 is none.",
    )
    n_iterations: int = Field(
        default=12,
        ge=1,
        le=10_000,
        description="Steps; few regularise, many fit the noise where λ is small.",
    )
    intensity_correction: bool = Field(
        default=True,
        description="Even steps where coils are weak; matters for maps that are not normalised.",
    )


def solve(problem: Problem, params: CGSenseParams) -> Generator[Event, None, torch.Tensor]:
    """Image (z, y, x), complex; the residual is ‖A x − y‖ / ‖y‖ after every step."""
    weight = params.strength * mean_eigenvalue(problem.physics) if params.strength else 0.0
    penalty = (lambda x: weight * x) if weight else None
    intensity = intensity_of(csm_of(problem.physics)) if params.intensity_correction else None
    return (yield from LeastSquares(problem, penalty, intensity).minimise(params))


def intensity_of(csm: torch.Tensor) -> Linear:
    """x → I² x with I² = 1 / Σ_c |S_c|², and 0 where no coil sees anything; ``csm`` (coil, z, y, x)."""
    seen = csm.abs().square().sum(0)
    inverse = torch.where(seen > 1e-6 * seen.max(), 1 / seen.clamp(min=1e-30), 0)
    return lambda x: inverse * x


CG_SENSE = Method(
    name="cg-sense",
    title="CG-SENSE",
    summary="Sensitivity encoding by conjugate gradients, Cartesian or along any trajectory, with an optional weight.",
    source="Pruessmann, Weiger, Börnert, Boesiger 2001, doi:10.1002/mrm.1241",
    params=CGSenseParams,
    solve=solve,
    memory=holding(volumes=6.5, residuals=1.9),
    modalities=frozenset({"mri"}),
)

"""Tikhonov regularisation: min_x ‖A x − y‖² + λ μ ‖L x‖² with L the identity or the gradient, by conjugate gradients.

μ is the mean eigenvalue of AᴴA (see ``strength``), so λ has no unit. Tikhonov and Arsenin, "Solutions of Ill-Posed
Problems" (1977); the gradient is that of ``differences``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

import torch
from pydantic import Field

from napari_unroll.events import Event
from napari_unroll.methods.classical.conjugate_gradients import CGParams, LeastSquares, Linear
from napari_unroll.methods.classical.differences import Differences
from napari_unroll.methods.classical.strength import Strength, mean_eigenvalue, resolve_strength
from napari_unroll.methods.memory import holding
from napari_unroll.methods.problem import Method, Problem

DEFAULT_STRENGTH = {
    "gradient": {"ct": 0.15, "mri": 0.03, "image": 0.5},
    "identity": {"ct": 0.5, "mri": 0.05, "image": 0.1},
}
"""λ for ``auto``: between the best of a grid in steps of three on generated scans of the training seeds (CT: walnut
and foam, 48³, 30 and 100 views, data simulated on a grid twice as fine; MRI: brain, R = 5 and 10; images: 96², 9 × 9
blur and 3-fold super-resolution). Three times or a third of it costs 0.3 to 2 dB, images less than 1 dB."""


class TikhonovParams(CGParams):
    """Choices of Tikhonov regularisation."""

    strength: Strength = Field(
        default="auto", description="λ, the weight of the penalty against the data; no unit. More is smoother."
    )
    penalty: Literal["gradient", "identity"] = Field(
        default="gradient", description="What is kept small: the slopes of the volume, or its values."
    )
    n_iterations: int = Field(default=50, ge=1, le=10_000, description="Largest number of conjugate-gradient steps.")
    tolerance: float = Field(
        default=1e-3, ge=0, le=1, description="Stop when the gradient's norm has fallen to this part of its start."
    )


def solve(problem: Problem, params: TikhonovParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x); the residual is ‖A x − y‖ / ‖y‖ after every step."""
    strength = resolve_strength(params.strength, DEFAULT_STRENGTH[params.penalty], problem.scan)
    weight = strength * mean_eigenvalue(problem.physics)
    penalty = smoothness(problem, weight) if params.penalty == "gradient" else (lambda x: weight * x)
    return (yield from LeastSquares(problem, penalty).minimise(params))


def smoothness(problem: Problem, weight: float) -> Linear:
    """x → weight · ∇ᵀ∇ x."""
    d = Differences(problem.scan.grid.spacing_mm)
    return lambda x: weight * d.divergence(d.gradient(x[0, 0]))[None, None]


TIKHONOV = Method(
    name="tikhonov",
    title="Tikhonov",
    summary="Least squares with a quadratic penalty on slopes or values: linear and fast; edges are blurred.",
    source="Tikhonov and Arsenin 1977, Solutions of Ill-Posed Problems; Hansen 2010, doi:10.1137/1.9780898718836",
    params=TikhonovParams,
    solve=solve,
    memory=holding(volumes=8.5, residuals=1.6),
)

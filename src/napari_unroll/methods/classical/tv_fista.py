"""Total variation by FISTA: min_x ‖A x − y‖² / (2 μ) + λ s TV(x), x ≥ 0 for CT on request.

μ = E‖A w‖² / ‖w‖² over white w is the mean eigenvalue of AᴴA and s the scale of the quick reconstruction, so λ has no
unit and does not depend on the units of data, volume or detector. Beck and Teboulle, "A fast iterative
shrinkage-thresholding algorithm" (2009), doi:10.1137/080716542, with restarts, see ``momentum``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Literal

import torch
from pydantic import Field

from napari_unroll.events import Event, IterationDone
from napari_unroll.methods.classical.momentum import Momentum
from napari_unroll.methods.classical.total_variation import TotalVariation
from napari_unroll.methods.problem import Method, MethodParams, Problem, as_values
from napari_unroll.physics.laws import norm, random_like

DEFAULT_STRENGTH = {"ct": 0.1, "mri": 0.013}
"""λ for ``auto``: the best of a grid in steps of about two on generated scans of the training seeds (CT: walnut and foam, 64³,
30, 50 and 100 views, data simulated on a grid twice as fine; MRI: brain, R = 5 and 10). The CT optimum was 0.06 to 0.12
at every number of views, because λ is measured against the mean eigenvalue of AᴴA; twice or half of it costs 0.3 to 1 dB."""


class TVParams(MethodParams):
    """Choices of total variation."""

    strength: Annotated[float, Field(gt=0, le=100)] | Literal["auto"] = Field(
        default="auto",
        description="λ, the weight of total variation against the data; no unit. More is smoother.",
    )
    n_iterations: int = Field(default=100, ge=1, le=10_000, description="Largest number of FISTA steps.")
    tolerance: float = Field(
        default=5e-4, ge=0, le=1, description="Stop when a step changes the volume by less than this part."
    )
    n_inner: int = Field(
        default=8, ge=1, le=500, description="Dual steps of the proximal map per FISTA step, warm-started."
    )
    positivity: bool = Field(
        default=True, description="Keep CT attenuation at or above zero; has no effect on complex images."
    )
    show_every: int = Field(
        default=10, ge=1, description="Show the volume every so many steps.", json_schema_extra={"unit": "steps"}
    )


def solve(problem: Problem, params: TVParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x); ``residual`` is ‖A z − y‖ / ‖y‖ at FISTA's extrapolated point, which costs nothing extra."""
    quick = _quick(problem)
    positive = params.positivity and not quick.is_complex()
    tv = TotalVariation(problem.scan.grid.spacing_mm, positive)
    # 1.05: power iteration approaches the largest eigenvalue from below
    step = 1.0 / (1.05 * (yield from problem.find_norm()))
    strength = DEFAULT_STRENGTH[problem.scan.modality] if params.strength == "auto" else params.strength
    weight = strength * mean_eigenvalue(problem.physics) * volume_scale(quick) * step
    start = problem.state.get("x", quick.clamp(min=0) if positive else quick)
    it = Momentum(start, start)
    size = max(norm(problem.y), 1e-300)
    for k in range(problem.state.get("iteration", 0), params.n_iterations):
        if problem.asked_to_finish():
            break
        r = problem.physics.A(it.z) - problem.y
        b = it.z - step * problem.physics.A_adjoint(r)
        change = it.move(tv.prox(b[0, 0], weight, params.n_inner)[None, None])
        problem.state.update(x=it.x, iteration=k + 1)
        done = change < params.tolerance or k + 1 == params.n_iterations
        shown = as_values(it.x) if done or (k + 1) % params.show_every == 0 else None
        yield IterationDone(k + 1, params.n_iterations, norm(r) / size, shown, {"change": change})
        if done:
            break
    return it.x[0, 0]


def _quick(problem: Problem) -> torch.Tensor:
    """FDK, FBP, the zero-filled or the gridded image, (1, 1, z, y, x)."""
    return problem.physics.A_dagger(problem.y)


def mean_eigenvalue(physics: object, seed: int = 0) -> float:
    """μ = ‖A w‖² / ‖w‖² for one white Gaussian w; within a percent of trace(AᴴA) / n already for small volumes."""
    w = random_like(physics.x_shape, physics.dtype, physics.device, seed)  # type: ignore[attr-defined]
    return norm(physics.A(w)) ** 2 / norm(w) ** 2  # type: ignore[attr-defined]


def volume_scale(x: torch.Tensor) -> float:
    """s = ‖x‖₄² / ‖x‖₂: the typical magnitude inside the object, however much empty space surrounds it."""
    squared = x.abs().double().square()
    return float((squared.square().sum() / squared.sum().clamp(min=1e-300)).sqrt())


def _memory(shape: tuple[int, int, int], patch: tuple[int, int, int], params: TVParams) -> int:
    """Two iterates, gradient step, three dual fields and their temporaries, as float32 volumes."""
    return 22 * 4 * shape[0] * shape[1] * shape[2]


TV_FISTA = Method(
    name="tv-fista",
    title="Total variation",
    summary="Least squares with isotropic 3-D total variation: the strongest classical choice for few views.",
    source="Beck and Teboulle 2009, doi:10.1137/080716542 and doi:10.1109/TIP.2009.2028250",
    params=TVParams,
    solve=solve,
    memory=_memory,
)

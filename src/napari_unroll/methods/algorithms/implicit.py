"""Implicit neural representation: a function of position is fitted to the measurements of one scan; nothing is trained before.

    θ* = argmin_θ ‖A x_θ − y‖² / (2 μ) + λ s TV(x_θ),    x_θ the grids of features and the network of ``networks.feature_grid``

by Adam, from coarse to fine voxels, for CT with some of the views per step. Efficient Unrolled Networks, arXiv 2601.02141,
appendix A.1 (INR), which takes hash grids (Müller et al. 2022, doi:10.1145/3528223.3530127) for CT and dense grids for MRI; here
both are dense. The paper has no λ: there only the network and an early end keep noise away.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from napari_unroll.events import Event
from napari_unroll.methods.algorithms.descent import cosine
from napari_unroll.methods.algorithms.implicit_objective import ROUNDED, Objective, Penalty, data_parts, resampled
from napari_unroll.methods.classical.differences import Differences
from napari_unroll.methods.classical.iterations import IterativeParams, first_step, step_done
from napari_unroll.methods.classical.strength import mean_eigenvalue, resolve_strength, volume_scale
from napari_unroll.methods.memory import Sizes, holding
from napari_unroll.methods.networks.feature_grid import SLAB_VOXELS, FeatureGrid, FeatureGridConfig, level_shapes
from napari_unroll.methods.problem import Method, Problem
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.physics.laws import norm
from napari_unroll.record import LARGEST_SEED

DEFAULT_STRENGTH = {"ct": 0.1, "mri": 0.013, "image": 0.1}
"""λ for ``auto``: that of total variation; for images the best of 0.02, 0.05 and 0.1 (96², one seed)."""
STAGES = ((0.1, 4), (0.3, 2), (1.0, 1))
"""Until which part of the steps voxels are how many times larger."""
LEAK = 0.1
"""Where attenuation would be negative, the fit sees this part of it, and so a gradient; shown is zero."""
BETAS = (0.9, 0.99)
"""Adam's decays of its two moments."""
LAST_STEP = 0.05
"""The step size falls to this part of its start, along a cosine."""


class ImplicitParams(IterativeParams):
    """Choices of an implicit neural representation."""

    n_iterations: int = Field(default=120, ge=1, le=1_000_000, description="Steps of Adam.")
    tolerance: float = Field(
        default=0.0, ge=0, le=1, description="Stop when a step changes the volume by less than this part."
    )
    strength: Annotated[float, Field(ge=0, le=100)] | Literal["auto"] = Field(
        default="auto",
        description="λ, the weight of total variation against the data; no unit. 0: none, end early then.",
    )
    step_size: float = Field(
        default=0.1, gt=0, le=1, description="Adam's step size at the start; it falls along a cosine."
    )
    n_batches: int = Field(
        default=5, ge=1, le=10_000, description="CT: the views are dealt into so many batches, one per step."
    )
    coarse_to_fine: bool = Field(default=True, description="The first steps see voxels four and two times larger.")
    positivity: bool = Field(
        default=True, description="Keep real values at or above zero; has no effect on complex images."
    )
    n_levels: int = Field(default=5, ge=1, le=16, description="Grids of features, from coarse to fine.")
    finest: float = Field(
        default=1.0, ge=1, le=1000, description="Pitch of the finest grid; more is smoother.",
        json_schema_extra={"unit": "voxels"},
    )  # fmt: skip
    growth: float = Field(default=2.0, gt=1, le=16, description="How many times coarser the next grid is.")
    n_features: int = Field(default=2, ge=1, le=64, description="Numbers per vertex of a grid.")
    n_hidden: int = Field(default=16, ge=1, le=1024, description="Units per hidden layer of the network.")
    n_layers: int = Field(default=1, ge=1, le=8, description="Hidden layers of the network.")
    seed: int = Field(
        default=0, ge=0, le=LARGEST_SEED, description="Of the first weights and the order of the batches."
    )


def step_size(params: ImplicitParams, k: int) -> float:
    """Of step ``k`` (from 0)."""
    return params.step_size * cosine(k / params.n_iterations, LAST_STEP)


def coarsening(params: ImplicitParams, k: int) -> int:
    """How many times larger the voxels of step ``k`` (from 0) are."""
    if not params.coarse_to_fine:
        return 1
    return next(factor for until, factor in STAGES if k < until * params.n_iterations)


def batch_of(seed: int, k: int, n: int) -> int:
    """The batch of step ``k``: every ``n`` steps each batch once, in a random order."""
    generator = torch.Generator().manual_seed(seed + k // n)
    return int(torch.randperm(n, generator=generator)[k % n])


@dataclass
class _Fit:
    """A network being fitted. ``scale`` turns its values into the scan's units, ``mean`` is μ, ``size`` is s / scale."""

    problem: Problem
    params: ImplicitParams
    network: FeatureGrid
    optimiser: torch.optim.Optimizer
    scale: float
    mean: float
    size: float
    objective: Objective | None = None

    def step(self, k: int) -> tuple[torch.Tensor, float]:
        """The volume before step ``k``, in the scan's units, and ‖A_b x − y_b‖ / ‖y_b‖ of the batch's measurements."""
        goal = self._objective_of(k)
        part = goal.parts[batch_of(self.params.seed, k, len(goal.parts))]
        x = self._volume(goal.shape)
        misfit = part.misfit(x)
        self.optimiser.zero_grad()
        goal.value(x, misfit).backward()
        for group in self.optimiser.param_groups:
            group["lr"] = step_size(self.params, k)
        self.optimiser.step()
        x = self.scale * resampled(self._shown(x.detach()), self.problem.shape)
        return x, norm(misfit.detach()) / max(norm(part.y), 1e-300)

    def volume(self) -> torch.Tensor:
        """The present volume (1, 1, z, y, x) in the scan's units."""
        with torch.no_grad():
            return self.scale * self._shown(self._volume(self.problem.shape))

    def _volume(self, shape: tuple[int, int, int]) -> torch.Tensor:
        x: torch.Tensor = self.network(shape)
        return torch.nn.functional.leaky_relu(x, LEAK) if self._is_positive else x

    def _shown(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(min=0) if self._is_positive else x

    @property
    def _is_positive(self) -> bool:
        return self.params.positivity and not self.problem.y.is_complex()

    def _objective_of(self, k: int) -> Objective:
        """That of step ``k``; the last one is kept while voxels stay as large."""
        factor = coarsening(self.params, k)
        shape: tuple[int, int, int] = tuple(-(-n // factor) for n in self.problem.shape)  # type: ignore[assignment]
        if self.objective is None or self.objective.shape != shape:
            parts = data_parts(self.problem.physics, self.problem.y / self.scale, self.params.n_batches, factor)
            self.objective = Objective(shape, parts, self.mean, self._penalty(factor))
        return self.objective

    def _penalty(self, factor: int) -> Penalty | None:
        """TV on voxels ``factor`` times as large: fewer by factor³, slopes over factor times the way."""
        weight = factor**2 * self.size * resolve_strength(self.params.strength, DEFAULT_STRENGTH, self.problem.scan)
        if not weight:
            return None
        differences = Differences(self.problem.scan.grid.spacing_mm)
        return Penalty(differences, weight, ROUNDED * self.size)


def solve(problem: Problem, params: ImplicitParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x); ``residual`` is that of the measurements of the step's batch, before the step."""
    fit = _fit_of(problem, params, (yield from problem.find_quick()))
    x: torch.Tensor = problem.state.get("x", problem.zeros())
    for k in range(first_step(problem), params.n_iterations):
        new, residual = fit.step(k)
        problem.state.update(network=fit.network.state_dict(), optimiser=fit.optimiser.state_dict())
        change = norm(new - x) / max(norm(new), 1e-300)
        done = k > 0 and change < params.tolerance
        x = fit.volume() if done or k + 1 == params.n_iterations else new
        yield step_done(problem, params, k, x, residual, change, done)
        if done:
            break
    return x[0, 0]


def _fit_of(problem: Problem, params: ImplicitParams, quick: torch.Tensor) -> _Fit:
    """The fit with the network and the moments of an earlier attempt, or with new ones."""
    network = FeatureGrid(_architecture(problem, params), params.seed).to(problem.device)
    optimiser = torch.optim.Adam(network.parameters(), betas=BETAS)
    if "network" in problem.state:
        network.load_state_dict(problem.state["network"])
        optimiser.load_state_dict(problem.state["optimiser"])
    scale = intensity_scale(quick)
    return _Fit(
        problem=problem,
        params=params,
        network=network,
        optimiser=optimiser,
        scale=scale,
        mean=mean_eigenvalue(problem.physics),
        size=volume_scale(quick) / scale,
    )


def _architecture(problem: Problem, params: ImplicitParams) -> FeatureGridConfig:
    return FeatureGridConfig(
        shapes=level_shapes(problem.shape, params.n_levels, params.finest, params.growth),
        n_features=params.n_features,
        n_hidden=params.n_hidden,
        n_layers=params.n_layers,
        is_complex=problem.y.is_complex(),
    )


def _memory(sizes: Sizes, params: ImplicitParams) -> int:
    """Features and hidden layers of one slab with their gradients, grids with Adam's moments, a handful of volumes."""
    per_voxel = 2 * params.n_levels * params.n_features + (params.n_layers + 1) * params.n_hidden
    shapes = level_shapes(sizes.shape, params.n_levels, params.finest, params.growth)
    vertices = sum(math.prod(s) for s in shapes) * params.n_features
    own = 4 * (min(math.prod(sizes.shape), SLAB_VOXELS) * per_voxel + 5 * vertices)
    return own + holding(volumes=7, measurements=1)(sizes, params)


INR = Method(
    name="inr",
    title="Implicit neural representation",
    summary="Grids of features and a small network, fitted to this scan alone; no training.",
    source="Efficient Unrolled Networks, arXiv 2601.02141, appendix A.1 (INR); Müller et al. 2022, doi:10.1145/3528223.3530127",
    params=ImplicitParams,
    solve=solve,
    memory=_memory,
)

"""Reconstruction with an unrolled network: stage 1 on the whole volume, stage 2 patch by patch with context.

Efficient Unrolled Networks, sec. 4.1 and algorithm 1. Stage 1: the data step is global, D_θ is applied patch by patch with
overlap and blending. Stage 2: with the estimate as context every patch is an independent local problem for the same network; the
exact operator is applied once, for the residual image r = Aᴴ(y − A x̂).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from napari_unroll.errors import ParameterError
from napari_unroll.events import Box, Event, IterationDone, PatchDone, Progress
from napari_unroll.methods.problem import Method, Problem, as_values
from napari_unroll.methods.unrolled.inference import NetworkParams, batch_size, chosen, denoise, load, memory, over
from napari_unroll.methods.unrolled.network import UnrolledPGD
from napari_unroll.methods.unrolled.precondition import preconditioner
from napari_unroll.methods.unrolled.scale import intensity_scale
from napari_unroll.methods.unrolled.start import first_estimate
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.precondition import Apply
from napari_unroll.patches.blend import Blender
from napari_unroll.patches.context import LocalProblem, cut, exact_local_problem, local_problem, residual_image
from napari_unroll.patches.grid import PatchGrid


class UnrolledParams(NetworkParams):
    """Choices of a reconstruction with an unrolled network."""

    n_iterations: Annotated[int, Field(ge=1, le=50)] | Literal["auto"] = Field(
        "auto",
        description="Unrolled iterations; auto: as many as trained. More repeat the last one, which helps where few data are.",
    )
    data_step: Literal["exact", "approximated", "mixed"] = Field(
        "exact",
        description="Operator of the whole-volume data step: AᴴA, its approximation, or AᴴA every few iterations.",
    )
    exact_every: int = Field(2, ge=1, le=50, description="With mixed: iterations between exact steps.")
    refine: bool = Field(
        False,
        description="Second stage: solve every patch again, with the first result as its context (paper, algorithm 1).",
    )
    refine_operator: Literal["approximated", "exact"] = Field(
        "approximated",
        description="Operator inside a patch: the approximation, or the projector restricted to the patch.",
    )


class _Run:
    """The tensors of one reconstruction, divided by the intensity scale that the network was trained with."""

    def __init__(self, problem: Problem, params: UnrolledParams, network: UnrolledPGD, start: torch.Tensor) -> None:
        self.problem, self.params, self.network = problem, params, network
        self.scale = intensity_scale(start)
        self.start = start / self.scale
        self.adjoint = problem.adjoint / self.scale
        self.grid = PatchGrid(problem.shape, problem.patch_size, problem.overlap)

    @property
    def n_iterations(self) -> int:
        """K, or as many as were asked for."""
        asked = self.params.n_iterations
        return self.network.n_iterations if asked == "auto" else asked

    def blender(self) -> Blender:
        """An empty volume for patches."""
        return Blender(self.problem.shape, self.start.dtype, self.problem.overlap, self.start.device)

    def shown(self, values: torch.Tensor) -> np.ndarray:
        """Values in the scan's units, for events."""
        return as_values(values * self.scale)

    def near(self, x: torch.Tensor, k: int) -> LocalProblem:
        """The whole volume around x: the gradient there by the operator that was chosen for iteration k, its change by Ñ."""
        return LocalProblem(_normal_of(self.problem), x, self.adjoint - self._normal(x, k))

    def _normal(self, x: torch.Tensor, k: int) -> torch.Tensor:
        mode = self.params.data_step
        if mode == "exact" or (mode == "mixed" and k % self.params.exact_every == 0):
            return self.problem.physics.A_adjoint(self.problem.physics.A(x))
        return _normal_of(self.problem).apply(x)

    def precondition(self, boxes: list[Box] | None = None) -> Apply:
        """M on the whole volume, or P M Pᵀ on ``boxes``."""
        return preconditioner(self.network.config, _normal_of(self.problem), boxes)

    def local(self, boxes: list[Box], context: torch.Tensor, residual: torch.Tensor) -> LocalProblem:
        """The local problems of ``boxes`` with the operator that was chosen for refinement (exact: one box)."""
        if self.params.refine_operator == "exact":
            return exact_local_problem(self.problem.physics, context, residual, boxes[0])
        return local_problem(_normal_of(self.problem), context, residual, boxes)

    def denoise(self, patch: torch.Tensor, k: int) -> torch.Tensor:
        """D_θ on a batch of patches in the plan's precision."""
        return denoise(self.problem, self.network, patch, k, self.params.self_ensemble)


def solve(problem: Problem, params: UnrolledParams) -> Generator[Event, None, torch.Tensor]:
    """Stage 1, then stage 2 where asked."""
    network = load(problem, params.weights, "unrolled")
    start = yield from first_estimate(problem, network.config)
    return (yield from unroll(problem, params, network, start))


def unroll(
    problem: Problem, params: UnrolledParams, network: UnrolledPGD, start: torch.Tensor
) -> Generator[Event, None, torch.Tensor]:
    """Both stages with a given network from the start x_0 (1, 1, z, y, x); returns the volume (z, y, x)."""
    run = _Run(problem, params, network, start)
    x = yield from _whole_volume(run)
    if params.refine:
        x = yield from _refine(run, x)
    return x[0, 0] * run.scale


@torch.no_grad()
def _data_step(run: _Run, x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x − η_k M ∇f(x) and ∇f(x), which is computed once."""
    near = run.near(x, k)
    return run.network.step(x, k, lambda u, _: near.gradient(u), run.precondition()), -near.residual


@torch.no_grad()
def _final_step(run: _Run, x: torch.Tensor) -> torch.Tensor:
    """The data step that some networks end with."""
    if not run.network.config.final_step:
        return x
    return run.network.final_step(x, run.near(x, run.n_iterations - 1).gradient, run.precondition())


def _whole_volume(run: _Run) -> Generator[Event, None, torch.Tensor]:
    """Stage 1; the estimate of every finished iteration is kept in the problem's state."""
    state, n = run.problem.state, run.n_iterations
    x: torch.Tensor = state.get("x", run.start)
    for k in range(state.get("iteration", 0), n):
        stepped, gradient = _data_step(run, x, k)
        blender = run.blender()
        done = 0
        for boxes in run.grid.batches(batch_size(run.problem)):
            for box, values in zip(boxes, run.denoise(cut(stepped, boxes), k), strict=True):
                blender.add(box, values)
                yield PatchDone(box, run.shown(blender.values(box)), _ratio(gradient, run.adjoint, box))
            done += len(boxes)
            yield Progress(k * len(run.grid) + done, n * len(run.grid), f"iteration {k + 1} of {n}")
        x = over(blender, x)
        if k + 1 == n:
            x = _final_step(run, x)
        state["x"], state["iteration"] = x, k + 1
        yield IterationDone(k + 1, n, residual=_misfit(run, x), values=run.shown(x))
    return x


def _refine(run: _Run, context: torch.Tensor) -> Generator[Event, None, torch.Tensor]:
    """Stage 2; finished patches are kept in the problem's state as (box, values)."""
    with torch.no_grad():
        residual = residual_image(run.problem.physics, run.problem.y / run.scale, context)
    finished: list[tuple[Box, torch.Tensor]] = run.problem.state.setdefault("refined", [])
    blender = run.blender()
    for box, values in finished:
        blender.add(box, values)
    known = [box for box, _ in finished]
    size = 1 if run.params.refine_operator == "exact" else batch_size(run.problem)
    for boxes in run.grid.batches(size):
        if all(box in known for box in boxes):
            continue
        for box, u, share in zip(boxes, *_solve_patches(run, boxes, context, residual), strict=True):
            finished.append((box, u))
            blender.add(box, u)
            yield PatchDone(box, run.shown(blender.values(box)), share)
        yield Progress(len(finished), len(run.grid), "refining patches")
    return over(blender, context)


@torch.no_grad()
def _solve_patches(
    run: _Run, boxes: list[Box], context: torch.Tensor, residual: torch.Tensor
) -> tuple[torch.Tensor, list[float]]:
    """K iterations on the local problems of ``boxes``; also ‖∇‖ / ‖P Aᴴy‖ of each at the result."""
    local, precondition = run.local(boxes, context, residual), run.precondition(boxes)
    u = cut(run.start, boxes)
    for k in range(run.n_iterations):
        u = run.denoise(run.network.step(u, k, lambda v, _: local.gradient(v), precondition), k)
    u = run.network.final_step(u, local.gradient, precondition)
    gradient = local.gradient(u)
    return u, [_norm(g) / max(_norm(b), 1e-30) for g, b in zip(gradient, cut(run.adjoint, boxes), strict=True)]


@torch.no_grad()
def _misfit(run: _Run, x: torch.Tensor) -> float:
    return run.problem.residual(x * run.scale)


def _ratio(part: torch.Tensor, whole: torch.Tensor, box: Box) -> float:
    return _norm(part[(..., *box)]) / max(_norm(whole[(..., *box)]), 1e-30)


def _norm(x: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(x))


def _normal_of(problem: Problem) -> NormalFactors:
    if problem.normal is None:
        raise ParameterError("These weights work with the approximated normal operator; fit it first.")
    return problem.normal


UNROLLED_PGD = Method(
    name="unrolled-pgd",
    title="Unrolled proximal gradient",
    summary="A learned 3-D prior between data steps; streams patch by patch; may refine every patch in its context.",
    source="Efficient Unrolled Networks for Large-Scale 3D Inverse Problems, arXiv 2601.02141, eq. 4 and algorithm 1",
    params=UnrolledParams,
    solve=solve,
    needs_weights=True,
    patchwise=True,
    memory=memory,
    needs_normal=lambda params: True,
    find_weights=lambda modality, params: chosen(modality, params.weights, "unrolled"),
)

"""FISTA: min_x ‖A x − y‖² / 2 + g(x) for a g whose proximal map is known.

Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm" (2009), doi:10.1137/080716542, eq. 4.1–4.3, with
the restart of O'Donoghue and Candès (2015), doi:10.1007/s10208-013-9150-3, eq. 12 (gradient scheme). Gradients may be those of
ordered subsets (see ``methods.subsets``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import torch

from napari_unroll.events import Event
from napari_unroll.methods.classical.iterations import IterativeParams, first_step, step_done
from napari_unroll.methods.classical.momentum import Momentum
from napari_unroll.methods.problem import Problem
from napari_unroll.methods.subsets import subsets

Prox = Callable[[torch.Tensor, float, int], torch.Tensor]
"""(b (z, y, x), step, iteration) → argmin_x ½‖x − b‖² + step · g(x)."""

MARGIN = 1.05
"""The power iteration approaches the largest eigenvalue of AᴴA from below."""


def minimise(
    problem: Problem, params: IterativeParams, tolerance: float, start: torch.Tensor, prox: Prox, n_groups: int = 1
) -> Generator[Event, None, torch.Tensor]:
    """The minimiser (z, y, x), from where the state is or ``start`` (1, 1, z, y, x); ends where a step changes it by less.

    ``tolerance`` is that part of the volume. What ``prox`` starts from it may keep in the state as "dual".
    ``residual`` is ‖A z − y‖ / ‖y‖ at FISTA's extrapolated point, which costs nothing extra; with ``n_groups`` of views it is that
    of the step's group.
    """
    step = 1.0 / (MARGIN * (yield from problem.find_norm()))
    start = problem.state.get("x", start)
    it: Momentum = problem.state.setdefault("momentum", Momentum(start, start))
    parts = subsets(problem, n_groups)
    for k in range(first_step(problem), params.n_iterations):
        part = parts[k % len(parts)]
        r = part.residual_at(it.z)
        b = it.z + (len(parts) * step) * r.image()
        change = it.move(prox(b[0, 0], step, k)[None, None], is_jerky=len(parts) > 1)
        done = change < tolerance
        yield step_done(problem, params, k, it.x, r.norm() / max(part.size, 1e-300), change, done)
        if done:
            break
    problem.state.pop("momentum")
    problem.state.pop("dual", None)
    return it.x[0, 0]

"""Conjugate gradients on the normal equations of min_x ‖A x − y‖² + ⟨x, B x⟩ for a positive semi-definite B, or none.

Björck, "Numerical Methods for Least Squares Problems" 1996, algorithm 7.4.1; preconditioned: 7.4.3 with M ≈ (AᴴA + B)⁻¹.
The recursion keeps the measurement residual, which keeps float32 stable, except where AᴴA is known in closed form: there it
keeps the normal equations' residual (see ``methods.residual``), the same iterates in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from pydantic import Field

from napari_unroll.events import Event
from napari_unroll.methods.classical.iterations import IterativeParams, first_step, step_done
from napari_unroll.methods.problem import Problem
from napari_unroll.methods.residual import Residual
from napari_unroll.physics.laws import inner

Linear = Callable[[torch.Tensor], torch.Tensor]
"""A linear map of volumes (1, 1, z, y, x)."""


class CGParams(IterativeParams):
    """Choices of every method by conjugate gradients."""

    tolerance: float = Field(
        default=1e-4, ge=0, le=1, description="Stop when the gradient's norm has fallen to this part of its start."
    )
    show_every: int = Field(
        default=5,
        ge=1,
        le=10_000,
        description="Show the volume every so many steps.",
        json_schema_extra={"unit": "steps"},
    )


@dataclass
class _Iterate:
    """x with its residual r = y − A x, pull = B x, the direction p, and γ = ⟨g, M g⟩ of the gradient g = Aᴴr − B x."""

    residual: Residual
    pull: torch.Tensor | None
    p: torch.Tensor
    gamma: float
    gamma_start: float


@dataclass(frozen=True)
class LeastSquares:
    """The quadratic problem: ``penalty`` is B, ``precondition`` M; both may be left out."""

    problem: Problem
    penalty: Linear | None = None
    precondition: Linear | None = None

    def minimise(self, params: CGParams) -> Generator[Event, None, torch.Tensor]:
        """The minimiser (z, y, x), from zero or ``state["x"]``; the residual is ‖A x − y‖ / ‖y‖ after every step."""
        problem, size = self.problem, self.problem.size
        it = self._start()
        for k in range(first_step(problem), params.n_iterations):
            if it.gamma <= params.tolerance**2 * it.gamma_start or size == 0:
                break
            self._step(it)
            done = it.gamma <= params.tolerance**2 * it.gamma_start
            self._keep(it)
            yield step_done(problem, params, k, it.residual.x, it.residual.norm() / size, last=done)
        return it.residual.x[0, 0]

    def _start(self) -> _Iterate:
        """From where the state is, or from zero."""
        problem = self.problem
        if "conjugate" in problem.state:
            kept = problem.state["conjugate"]
            return _Iterate(problem.residual_again(problem.state["x"], kept["left"]), **kept["rest"])
        residual = problem.residual_at()
        pull = None if self.penalty is None else self.penalty(residual.x)
        p, gamma = self._descent(residual, pull)
        return _Iterate(residual, pull, p, gamma, gamma)

    def _keep(self, it: _Iterate) -> None:
        rest = {"pull": it.pull, "p": it.p, "gamma": it.gamma, "gamma_start": it.gamma_start}
        self.problem.state["conjugate"] = {"left": it.residual.left, "rest": rest}

    def _descent(self, residual: Residual, pull: torch.Tensor | None) -> tuple[torch.Tensor, float]:
        """M g and ⟨g, M g⟩ of the gradient g = Aᴴr − B x."""
        g = residual.image()
        if pull is not None:
            g = g - pull
        z = g if self.precondition is None else self.precondition(g)
        return z, inner(g, z).real

    def _step(self, it: _Iterate) -> None:
        seen, square = it.residual.along(it.p)
        bent = None if self.penalty is None else self.penalty(it.p)
        curvature = square + (0.0 if bent is None else inner(it.p, bent).real)
        alpha = it.gamma / max(curvature, 1e-300)
        it.residual.move(it.p, seen, alpha)
        if it.pull is not None and bent is not None:
            it.pull = it.pull + alpha * bent
        z, gamma = self._descent(it.residual, it.pull)
        it.p = z + (gamma / it.gamma) * it.p
        it.gamma = gamma

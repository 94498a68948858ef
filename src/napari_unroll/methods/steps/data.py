"""The data term as the steps of a network see it, on a whole volume or on a batch of patches.

f(u) = ½‖A x(u) − y‖², where x(u) is u itself or the patches u in their context. With an estimate x̂ and its residual image
r = Aᴴ(y − A x̂) the gradient is ∇f(u) = N_p (u − P x̂) − P r (Efficient Unrolled Networks, arXiv 2601.02141, sec. 4.1); P is the
identity on a whole volume. Knows operators and tensors only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

from napari_unroll.events import Box
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.far import whole_normal
from napari_unroll.normal.positivity import refuse_unless_positive
from napari_unroll.normal.precondition import (
    Apply,
    polynomial_inverse,
    regularised_preconditioner,
    resolvent_preconditioner,
)
from napari_unroll.patches.context import LocalProblem
from napari_unroll.physics.resolvent import Resolvent


@dataclass(frozen=True)
class Data:
    """The data term around an estimate.

    ``local`` holds the estimate, its residual image and the operator that carries the gradient on from there;
    ``approximation`` is Ñ of the whole volume, ``boxes`` where the patches lie, None for the whole volume. ``operator`` is
    the N_p of exact steps, where it is another one than that of ``local``.
    """

    local: LocalProblem
    approximation: NormalFactors
    boxes: Sequence[Box] | None = None
    operator: Apply | None = None

    @classmethod
    def whole(cls, factors: NormalFactors, x: torch.Tensor, residual: torch.Tensor, operator: Apply) -> Data:
        """That of a whole volume around x, whose ``residual`` image is known; exact steps with N = ``operator``."""
        return cls(LocalProblem(whole_normal(factors), x, residual), factors, operator=operator)

    def gradient(self, u: torch.Tensor) -> torch.Tensor:
        """∇f(u) (batch, 1, z, y, x); at the estimate itself, the very tensor, it costs nothing."""
        with torch.autocast(u.device.type, enabled=False):
            return self.local.gradient(u)

    def normal(self, u: torch.Tensor) -> torch.Tensor:
        """N_p u."""
        with torch.autocast(u.device.type, enabled=False):
            return (self.operator or self.local.normal.apply)(u)

    def preconditioner(self, alpha: float | None, degree: int = 0) -> Apply:
        """M = (Ñ + α‖Ñ‖)⁻¹ on the whole volume, or P M Pᵀ; 1/‖Ñ‖ for the plain gradient step (α None).

        With a degree M is a polynomial in Ñ, and on patches in P Ñ Pᵀ.
        """
        norm = self.approximation.norm_squared
        if alpha is None:
            return lambda g: g / norm
        if degree:
            return polynomial_inverse(self._restricted, norm, alpha, degree)
        return regularised_preconditioner(self.approximation, alpha, self.boxes)

    def resolve(self, v: torch.Tensor, strength: torch.Tensor, tolerance: float, max_steps: int) -> torch.Tensor:
        """(I + τN)⁻¹(v + τAᴴy) in context: P x̂ + (I + τN_p)⁻¹[(v − P x̂) + τ P r], with τ = ``strength`` / ‖Ñ‖.

        Raises ParameterError where N_p is an approximation that is not sure to be positive.
        """
        if self.operator is None:
            refuse_unless_positive(self.approximation, self.boxes, "A resolvent step")
        tau = strength / self.approximation.norm_squared
        with torch.autocast(v.device.type, enabled=False):
            precondition = resolvent_preconditioner(self.approximation, float(tau.detach()), self.boxes)
            solve = Resolvent(self.normal, precondition, tolerance, max_steps)
            shifted = solve((v - self.local.context) + tau * self.local.residual, tau)
        return self.local.context + shifted

    @cached_property
    def _restricted(self) -> Apply:
        """P Ñ Pᵀ."""
        return self.approximation.apply if self.boxes is None else self.approximation.restrict(self.boxes).apply


class DataSource(Protocol):
    """Where iterations find their data term: around iterate x in iteration k."""

    def at(self, x: torch.Tensor, k: int) -> Data:
        """The data term around x (batch, 1, z, y, x) for iteration k."""

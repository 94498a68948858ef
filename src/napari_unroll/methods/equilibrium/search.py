"""The search for a fixed point z = f(z), one evaluation at a time: say where, be told the value.

Anderson mixing (Walker and Ni, "Anderson Acceleration for Fixed-Point Iterations" (2011), doi:10.1137/10078356X, eq. 2.1 as
differences), damped and plain iteration. Complex z count as pairs of real numbers, so mixing coefficients are real and f need
not be holomorphic. Every item of a batch is mixed by itself. Knows tensors only.
"""

from __future__ import annotations

import math

import torch

from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.equilibrium.report import SolveReport


class Search:
    """Looks for z = f(z) from ``start`` (batch, …).

    Evaluate f at ``point`` and ``add`` the value, until ``is_over``; ``best`` is the value that changed its point least.

    ``rate`` is how f contracts as measured on the way: the largest ‖f(z) − f(z')‖ / ‖z − z'‖ of successive points, which costs
    no evaluation, holds for every solver (of plain steps it is the ratio of successive residuals) and is never more than
    a Lipschitz constant of f. Points within the tolerance of each other are left out: there rounding is measured.
    """

    def __init__(self, config: EquilibriumConfig, start: torch.Tensor) -> None:
        self.config, self.point, self.best = config, start, start
        self.residuals: list[float] = []
        self.residual = math.inf
        self.rate: float | None = None
        self._mixing = Anderson(config.memory) if config.solver == "anderson" else None
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(self, value: torch.Tensor, is_exact: bool = True) -> None:
        """Take f(point). A value that is not exact is mixed in, but is neither the best, nor measured, nor ends the search."""
        residual = float(relative_change(self.point, value).max())
        self.residuals.append(residual)
        if is_exact:
            self._measure_rate(value)
            if math.isfinite(residual) and residual <= self.residual:
                self.best, self.residual = value, residual
        self._last = (self.point, value) if is_exact else None
        self.point = self._next(value)

    def _measure_rate(self, value: torch.Tensor) -> None:
        if self._last is None:
            return
        size = _inner(value, value).sqrt()
        before, after = (_inner(d, d).sqrt() for d in (self.point - self._last[0], value - self._last[1]))
        ratios = (after / before)[before > self.config.tolerance * size]
        if len(ratios):
            self.rate = max(float(ratios.max()), self.rate or 0.0)

    @property
    def n_evaluations(self) -> int:
        """So far."""
        return len(self.residuals)

    @property
    def is_near(self) -> bool:
        """Whether the last value, exact or not, is a fixed point to the tolerance."""
        return bool(self.residuals) and self.residuals[-1] < self.config.tolerance

    @property
    def converged(self) -> bool:
        """Whether the last value is exact, and a fixed point to the tolerance."""
        return self.is_near and self._last is not None

    @property
    def is_over(self) -> bool:
        """Whether it converged, left the numbers, or spent its evaluations."""
        is_lost = bool(self.residuals) and not math.isfinite(self.residuals[-1])
        return self.converged or is_lost or self.n_evaluations >= self.config.max_evaluations

    def report(self, is_backward: bool = False) -> SolveReport:
        """How it went so far."""
        return SolveReport(tuple(self.residuals), self.converged, is_backward, self.residual, self.rate)

    def _next(self, value: torch.Tensor) -> torch.Tensor:
        if self._mixing is not None:
            return self._mixing(self.point, value)
        if self.config.solver == "damped":
            return self.point + self.config.damping * (value - self.point)
        return value


class Anderson:
    """z_{k+1} = f_k − Σ_i γ_i Δf_i with γ = argmin ‖g_k − Σ_i γ_i Δg_i‖, g = f(z) − z."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None
        self._changes: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, point: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Where to evaluate next."""
        step = value - point
        if self._last is not None:
            self._changes = [*self._changes, (value - self._last[0], step - self._last[1])][-self._memory :]
        self._last = value, step
        if not self._changes:
            return value
        for share, (change, _) in zip(self._shares(step), self._changes, strict=True):
            value = value - share.to(value.real.dtype).reshape(-1, *[1] * (value.ndim - 1)) * change
        return value

    def _shares(self, step: torch.Tensor) -> torch.Tensor:
        """γ (change, batch), by the normal equations in double precision."""
        changes = [g for _, g in self._changes]
        gram = torch.stack([torch.stack([_inner(a, b) for b in changes], -1) for a in changes], -1)
        slack = (
            torch.finfo(step.real.dtype).eps * gram.diagonal(dim1=-2, dim2=-1).sum(-1) + torch.finfo(gram.dtype).tiny
        )
        system = gram + slack[:, None, None] * torch.eye(len(changes), dtype=gram.dtype, device=gram.device)
        wanted = torch.stack([_inner(a, step) for a in changes], -1)
        return torch.linalg.solve(system, wanted).T


def relative_change(point: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """‖value − point‖ / ‖value‖ of every item (batch,)."""
    change, size = (_inner(v, v).sqrt() for v in (value - point, value))
    return change / size.clamp_min(torch.finfo(torch.float64).tiny)


def _inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Re⟨a, b⟩ of every item (batch,) in double precision."""
    products = (a.conj() * b).real if a.is_complex() else a * b
    return products.flatten(1).sum(1, dtype=torch.float64)

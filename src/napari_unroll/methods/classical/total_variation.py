"""Isotropic 3-D total variation and its proximal map, real or complex.

TV(x) = Σ_voxels (Σ_axes w_a² |x[i + e_a] − x[i]|²)^½ with w_a = smallest spacing / spacing of axis a, so that
anisotropic voxels are judged by physical slopes. The proximal map is the dual fast gradient projection of Beck and
Teboulle, "Fast gradient-based algorithms for constrained total variation image denoising and deblurring problems"
(2009), doi:10.1109/TIP.2009.2028250, eq. 4.9, with a positivity constraint and a warm start. deepinv's ``TVDenoiser``
solves the same problem without the constraint; at 64³ it took ten times as long to the same objective.
"""

from __future__ import annotations

import torch


class TotalVariation:
    """TV on volumes (z, y, x) of one shape, device and dtype; keeps the dual field between calls (warm start)."""

    def __init__(self, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), positivity: bool = False) -> None:
        self.weights = tuple(min(spacing) / s for s in spacing)
        self.positivity = positivity
        self._dual: torch.Tensor | None = None

    def value(self, x: torch.Tensor) -> float:
        """TV(x)."""
        return float(_squared_length(self.gradient(x)).sqrt_().sum(dtype=torch.float64))

    def prox(self, b: torch.Tensor, weight: float, n_inner: int) -> torch.Tensor:
        """argmin_x ½‖x − b‖² + weight · TV(x), over x ≥ 0 with positivity; ``n_inner`` dual steps from the last field."""
        if weight <= 0:
            return self._project(b.clone())
        p = self._warm_start(b)
        q, t = p, 1.0
        step = 1.0 / (self._norm_squared(b.shape) * weight)
        for _ in range(n_inner):
            x = self._project(b - weight * self.divergence(q))
            new = _into_unit_balls(self.gradient(x).mul_(step).add_(q))
            t_new = 0.5 * (1 + (1 + 4 * t * t) ** 0.5)
            q = torch.lerp(p, new, 1 + (t - 1) / t_new)
            p, t = new, t_new
        self._dual = p
        return self._project(b - weight * self.divergence(p))

    def gradient(self, x: torch.Tensor) -> torch.Tensor:
        """Weighted forward differences (3, z, y, x); zero at the far borders."""
        g = torch.zeros((3, *x.shape), dtype=x.dtype, device=x.device)
        for axis, w in enumerate(self.weights):
            n = x.shape[axis] - 1
            if n > 0:
                inside = g[axis].narrow(axis, 0, n)
                torch.sub(x.narrow(axis, 1, n), x.narrow(axis, 0, n), out=inside)
                inside.mul_(w)
        return g

    def divergence(self, p: torch.Tensor) -> torch.Tensor:
        """Adjoint of :meth:`gradient` (the negative divergence), (z, y, x)."""
        x = torch.zeros(p.shape[1:], dtype=p.dtype, device=p.device)
        for axis, w in enumerate(self.weights):
            n = x.shape[axis] - 1
            if n > 0:
                inside = p[axis].narrow(axis, 0, n)
                x.narrow(axis, 1, n).add_(inside, alpha=w)
                x.narrow(axis, 0, n).sub_(inside, alpha=w)
        return x

    def _norm_squared(self, shape: torch.Size) -> float:
        """Bound on ‖gradient‖²: 4 Σ w_a² over the axes that have differences."""
        return 4.0 * sum(w * w for w, n in zip(self.weights, shape, strict=True) if n > 1) or 1.0

    def _warm_start(self, b: torch.Tensor) -> torch.Tensor:
        if self._dual is None or self._dual.shape[1:] != b.shape or self._dual.dtype != b.dtype:
            return torch.zeros((3, *b.shape), dtype=b.dtype, device=b.device)
        return self._dual

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp_(min=0) if self.positivity else x


def _squared_length(p: torch.Tensor) -> torch.Tensor:
    """Σ_axes |p_a|² per voxel; twenty times faster on CPUs than ``vector_norm`` over the first axis."""
    parts = [part for a in p for part in ((a.real, a.imag) if p.is_complex() else (a,))]
    total = parts[0] * parts[0]
    for part in parts[1:]:
        total.addcmul_(part, part)
    return total


def _into_unit_balls(p: torch.Tensor) -> torch.Tensor:
    return p.mul_(_squared_length(p).clamp_(min=1.0).rsqrt_())

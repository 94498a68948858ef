"""Isotropic 3-D total variation and its proximal map, real or complex.

TV(x) = Σ_voxels (Σ_axes |(∇x)_a|²)^½ with ∇ of ``differences``. The proximal map is the dual fast gradient projection
of Beck and Teboulle, "Fast gradient-based algorithms for constrained total variation image denoising and deblurring
problems" (2009), doi:10.1109/TIP.2009.2028250, eq. 4.9, with a positivity constraint and a warm start. deepinv's
``TVDenoiser`` solves the same problem without the constraint.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from napari_unroll.methods.classical.differences import Differences
from napari_unroll.methods.classical.dual_steps import dual_steps


class TotalVariation(Differences):
    """TV on volumes (z, y, x) of one shape, device and dtype; keeps the dual field between calls (warm start)."""

    def __init__(self, spacing: Sequence[float] = (1.0, 1.0, 1.0), positivity: bool = False) -> None:
        super().__init__(spacing)
        self.positivity = positivity
        self.dual: torch.Tensor | None = None

    def value(self, x: torch.Tensor) -> float:
        """TV(x)."""
        return float(_squared_length(self.gradient(x)).sqrt_().sum(dtype=torch.float64))

    def prox(self, b: torch.Tensor, weight: float, n_inner: int) -> torch.Tensor:
        """argmin_x ½‖x − b‖² + weight · TV(x), over x ≥ 0 with positivity.

        ``n_inner`` dual steps from the last field: by ``dual_steps`` on the CPU, by torch on other devices.
        """
        if weight <= 0:
            return self.project(b.clone())
        p = self.dual = self._warm_start(b)
        if b.device.type != "cpu":
            return self._prox_by_torch(b, p, weight, n_inner)
        given, momenta = b.detach().contiguous().numpy(), momenta_of(n_inner)
        return torch.from_numpy(dual_steps(given, p.numpy(), weight, self.weights, self.positivity, momenta))

    def _prox_by_torch(self, b: torch.Tensor, p: torch.Tensor, weight: float, n_inner: int) -> torch.Tensor:
        """The same steps; the field p is changed in place."""
        step = 1.0 / (self.norm_squared(b.shape) * weight)
        q = p.clone()
        for momentum in momenta_of(n_inner):
            x = self.project(b - weight * self.divergence(q))
            new = into_balls(self.gradient(x).mul_(step).add_(q))
            q = torch.lerp(p, new, 1 + momentum)
            p.copy_(new)
        return self.project(b - weight * self.divergence(p))

    def _warm_start(self, b: torch.Tensor) -> torch.Tensor:
        if self.dual is None or self.dual.shape[1:] != b.shape or self.dual.dtype != b.dtype:
            return torch.zeros((3, *b.shape), dtype=b.dtype, device=b.device)
        return self.dual

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """x, changed in place to be ≥ 0 with positivity."""
        return x.clamp_(min=0) if self.positivity else x


def momenta_of(n_steps: int) -> list[float]:
    """(t_k − 1) / t_{k+1} of Nesterov's sequence from t = 1."""
    t, momenta = 1.0, []
    for _ in range(n_steps):
        t_new = 0.5 * (1 + (1 + 4 * t * t) ** 0.5)
        momenta.append((t - 1) / t_new)
        t = t_new
    return momenta


def _squared_length(p: torch.Tensor) -> torch.Tensor:
    """Σ_axes |p_a|² per voxel; twenty times faster on CPUs than ``vector_norm`` over the first axis."""
    parts = [part for a in p for part in ((a.real, a.imag) if p.is_complex() else (a,))]
    total = parts[0] * parts[0]
    for part in parts[1:]:
        total.addcmul_(part, part)
    return total


def into_balls(p: torch.Tensor, radius: float = 1.0) -> torch.Tensor:
    """The field p (axis, z, y, x), changed in place so that no vector is longer than ``radius``."""
    return p.mul_(_squared_length(p).clamp_(min=max(radius**2, 1e-36)).rsqrt_().mul_(radius))

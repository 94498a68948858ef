"""Forward differences of volumes and their adjoint: the gradient of total variation and of Tikhonov's smoothness.

(∇x)_a = w_a (x[i + e_a] − x[i]) with w_a = smallest spacing / spacing of axis a, so that anisotropic voxels are judged
by physical slopes. Real or complex volumes (z, y, x).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Differences:
    """∇ on volumes (z, y, x) with voxels of ``spacing`` (z, y, x)."""

    def __init__(self, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        self.weights = tuple(min(spacing) / s for s in spacing)

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

    def norm_squared(self, shape: Sequence[int]) -> float:
        """Bound on ‖∇‖²: 4 Σ w_a² over the axes that have differences; 1 where none has."""
        return 4.0 * sum(w * w for w, n in zip(self.weights, shape, strict=True) if n > 1) or 1.0

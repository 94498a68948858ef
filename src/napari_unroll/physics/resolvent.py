"""The resolvent u = (I + τN)⁻¹ g of a normal operator N = AᴴA, the proximal map of the data term, and its gradients.

Forward and backward each solve one linear system by conjugate gradients; nothing of the iterations is kept. With v the
gradient of u: that of g is (I + τN)⁻¹ v, and that of τ is −Re⟨(I + τN)⁻¹ v, N u⟩ (implicit differentiation; Aggarwal,
Mani, Jacob, "MoDL" (2019), doi:10.1109/TMI.2018.2865356, sec. III-C). Sees callables only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from napari_unroll.physics.autograd import Apply
from napari_unroll.physics.solvers import Solution, conjugate_gradients


@dataclass(frozen=True)
class Resolvent:
    """How (I + τN) u = g is solved, for N = ``normal`` self-adjoint and positive on (batch, 1, z, y, x).

    ``precondition`` is M ≈ (I + τN)⁻¹, self-adjoint and positive, and needs no gradient. ``told`` hears how every solve
    went, those of the backward pass included.
    """

    normal: Apply
    precondition: Apply | None = None
    tolerance: float = 1e-4
    max_steps: int = 100
    told: Callable[[Solution], None] | None = None

    def __call__(self, g: torch.Tensor, tau: torch.Tensor | float, start: torch.Tensor | None = None) -> torch.Tensor:
        """u for g (batch, 1, z, y, x), real or complex, and τ ≥ 0, one for all or one per item; differentiable in both.

        ``start`` is where the iteration begins; without it at zero.
        """
        length = torch.as_tensor(tau, dtype=g.real.dtype, device=g.device)
        return _Resolvent.apply(g, length, self, start)

    def solve(self, g: torch.Tensor, tau: torch.Tensor, start: torch.Tensor | None = None) -> torch.Tensor:
        """The same without gradients; ``tau`` broadcasts over the batch."""
        found = conjugate_gradients(
            lambda u: u + tau * self.normal(u), g, start, self.precondition, self.tolerance, self.max_steps
        )
        if self.told is not None:
            self.told(found)
        return found.x


class _Resolvent(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, g: torch.Tensor, tau: torch.Tensor, resolvent: Resolvent, start: torch.Tensor | None
    ) -> torch.Tensor:
        u = resolvent.solve(g, _per_item(tau, g), start)
        ctx.resolvent = resolvent
        ctx.save_for_backward(u, tau)
        return u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
        u, tau = ctx.saved_tensors
        dg = ctx.resolvent.solve(gradients[0], _per_item(tau, u))
        if not ctx.needs_input_grad[1]:
            return dg, None, None, None
        slope = -(dg.conj() * ctx.resolvent.normal(u)).real.flatten(1).sum(1)
        return dg, slope.sum().reshape(tau.shape) if tau.numel() == 1 else slope.reshape(tau.shape), None, None


def _per_item(tau: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """τ with axes of one behind that of the batch."""
    return tau.reshape(-1, *[1] * (g.ndim - 1))

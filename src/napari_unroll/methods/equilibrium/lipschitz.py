"""How far apart a network takes two inputs: an estimate of its Lipschitz constant, and a penalty that keeps it small.

Pramanik, Zimmerman, Jacob, "Memory-efficient model-based deep learning with convergence and robustness guarantees" (MOL, 2023),
doi:10.1109/TCI.2023.3252268: the network H of x ↦ (I + αλN)⁻¹((1 − α)x + αH(x) + αλAᴴy) needs Lip(H) < 1. Sees callables only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field

from napari_unroll.methods.problem import MethodParams

Map = Callable[[torch.Tensor], torch.Tensor]
MARGIN = 1e-3
"""So far below the bound the barrier's logarithm goes on as its tangent, as in the authors' code."""


class LipschitzConfig(MethodParams):
    """Whether and how the Lipschitz constant of a prior is kept below a bound."""

    kind: Literal["free", "layers", "penalty"] = Field(
        "free",
        description="free: not at all. layers: convolutions of norm 1 (MOL-SN), a guarantee. penalty: an estimate in the loss "
        "(MOL-LR), no guarantee.",
    )
    bound: float = Field(0.98, gt=0, le=1, description="L; below 1 the iteration has one fixed point and finds it.")
    weight: float = Field(1e-2, ge=0, le=1e6, description="Of the penalty in the loss.")
    ascent_steps: int = Field(5, ge=1, le=1000, description="Steps of the penalty's search for the worst perturbation.")

    @property
    def title(self) -> str:
        """In words; empty where there is no bound."""
        how = {"free": "", "layers": "by normalised layers", "penalty": "by a penalty"}
        return f"Lipschitz constant below {self.bound:g} {how[self.kind]}" if self.kind != "free" else ""


def lipschitz_at(
    f: Map, x: torch.Tensor, n_steps: int = 20, radius: float = 0.01, generator: torch.Generator | None = None
) -> torch.Tensor:
    """max_δ ‖f(x + δ) − f(x)‖ / ‖δ‖ with ‖δ‖ = ``radius`` ‖x‖, of every item of x (batch, …), as (batch,); differentiable in f.

    Ascent along the normalised gradient of ‖f(x + δ) − f(x)‖²: for small radii the power iteration on JᴴJ. An estimate from
    below, near x only.
    """
    x = x.detach()
    delta = _scaled(_noise_like(x, generator), x, radius)
    with torch.no_grad():
        here = f(x)
    for _ in range(n_steps):
        with torch.enable_grad():
            probe = delta.detach().requires_grad_()
            apart = (f(x + probe) - here).abs().square().sum()
            (slope,) = torch.autograd.grad(apart, probe)
        delta = _scaled(slope, x, radius)
    return _norms(f(x + delta) - f(x)) / _norms(delta).clamp_min(1e-30)


def barrier(constant: torch.Tensor, bound: float) -> torch.Tensor:
    """−log(bound − L), and its tangent from ``bound`` − MARGIN on (the authors' code, ``contdifflog``)."""
    edge = bound - MARGIN
    inside = -torch.log(bound - constant.clamp_max(edge))
    return inside + (constant - edge).clamp_min(0) / MARGIN


def _scaled(delta: torch.Tensor, x: torch.Tensor, radius: float) -> torch.Tensor:
    """``delta`` of length ``radius`` ‖x‖, item by item; where that is zero of length ``radius``."""
    wanted = radius * torch.where(_norms(x) > 0, _norms(x), 1.0)
    factor = wanted / _norms(delta).clamp_min(1e-30)
    return delta * factor.reshape(-1, *[1] * (x.ndim - 1))


def _norms(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def _noise_like(x: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    return torch.randn(x.shape, dtype=x.dtype, generator=generator).to(x.device)

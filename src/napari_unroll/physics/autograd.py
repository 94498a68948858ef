"""The bridge from a linear operator and its adjoint to torch's autograd: backward = adjoint. Knows no physics."""

from __future__ import annotations

from typing import Any

import torch


class Linear(torch.autograd.Function):
    """y = L x with backward Lᴴ: ``Linear.apply(x, L, L_adjoint)``; the callables get and give plain tensors."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, apply: Any, adjoint: Any) -> torch.Tensor:
        ctx.adjoint = adjoint
        return apply(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.adjoint(grad), None, None

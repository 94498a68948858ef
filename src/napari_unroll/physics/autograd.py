"""The bridge from a linear operator and its adjoint to torch's autograd: backward = adjoint. Knows no physics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Apply = Callable[[torch.Tensor], torch.Tensor]


class Linear(torch.autograd.Function):
    """y = L x with backward Lᴴ: ``Linear.apply(x, L, L_adjoint)``; the callables get and give plain tensors.

    No tensor is kept for the backward pass, and gradients of gradients are right too.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, apply: Apply, adjoint: Apply) -> torch.Tensor:
        ctx.pair = apply, adjoint
        return apply(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        apply, adjoint = ctx.pair
        return Linear.apply(gradients[0], adjoint, apply), None, None

"""The fixed point of a map as a differentiable layer: a search without a graph, then one graph at its end.

Bai, Kolter, Koltun, "Deep Equilibrium Models" (2019), arXiv 1909.01377: of L(z*) with z* = f(z*, θ) the gradient is
(∂f/∂θ)ᵀ q with q = Jᵀ q + ∂L/∂z*, J = ∂f/∂z at z*. Jacobian-free: Fung et al., "JFB" (2022), arXiv 2103.12803, q = ∂L/∂z*.
Phantom: Geng et al., "On Training Implicit Models" (2021), arXiv 2111.05177. Sees callables and tensors only.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from napari_unroll.interrupt import check
from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.equilibrium.report import tell
from napari_unroll.methods.equilibrium.search import Search

Map = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def solve(f: Map, start: torch.Tensor, config: EquilibriumConfig, is_backward: bool = False) -> torch.Tensor:
    """z ≈ f(z) from ``start`` (batch, …), without a graph; its report is told (see ``report.hearing``)."""
    search = Search(config, start)
    while not search.is_over:
        check()
        search.add(f(search.point))
    tell(search.report(is_backward))
    return search.best


def fixed_point(f: Map, start: torch.Tensor, config: EquilibriumConfig, recompute: bool = False) -> torch.Tensor:
    """z* = f(z*) (batch, …), differentiable in all that f depends on; ``start`` itself has no gradient.

    What is saved is that of one evaluation however many there were; with ``recompute`` that of none.
    """
    found = solve(f, start.detach(), config)
    if not torch.is_grad_enabled():
        return found
    step = partial(checkpoint, f, use_reentrant=False) if recompute else f
    if config.gradient == "phantom":
        for _ in range(config.phantom_steps):
            found = found + config.damping * (step(found) - found)
        return found
    if config.gradient == "jacobian-free":
        return step(found)
    point = found.detach().requires_grad_()
    return _Implicit.apply(step(point), point, config)


class _Implicit(torch.autograd.Function):
    """The value of f at its fixed point, whose backward pass solves q = Jᵀq + g."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, point: torch.Tensor, config: EquilibriumConfig) -> torch.Tensor:
        ctx.value, ctx.point, ctx.config = value, point, config
        ctx.context = copy_context()  # backward passes on other devices run in threads of their own
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = gradients

        def transposed(q: torch.Tensor) -> torch.Tensor:
            (pulled,) = torch.autograd.grad(
                ctx.value, ctx.point, q, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            return gradient + pulled

        return ctx.context.run(solve, transposed, gradient, ctx.config, True), None, None

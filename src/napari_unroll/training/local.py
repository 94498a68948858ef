"""The local problem of a training batch: its data gradient in its context, and the loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from napari_unroll.methods.unrolled.network import Gradient
from napari_unroll.patches.context import LocalProblem, Restrictable
from napari_unroll.training.samples import Batch


def context_gradient(batch: Batch, operator: Restrictable) -> Gradient:
    """∇(u) = (P Ñ Pᵀ)(u − P x̂_k) − P r̂_k in iteration k (METHOD: Efficient Unrolled Networks, sec. 4.1)."""
    patch = operator.restrict(batch.boxes)

    def gradient(u: torch.Tensor, k: int) -> torch.Tensor:
        k = min(k, len(batch.contexts) - 1)
        with torch.autocast(u.device.type, enabled=False):
            return LocalProblem(patch, batch.contexts[k], batch.residuals[k]).gradient(u)

    return gradient


def loss(iterates: Sequence[torch.Tensor], batch: Batch, auxiliary: float) -> torch.Tensor:
    """Mean squared error of the last iterate plus ``auxiliary`` times that of the others.

    Per patch divided by the start's error, so that easy and hard protocols weigh the same.
    """
    start = _errors(batch.start, batch) + 1e-4
    losses = [(_errors(x, batch) / start).mean() for x in iterates]
    return losses[-1] + auxiliary * sum(losses[:-1], torch.zeros((), device=start.device))


def _errors(x: torch.Tensor, batch: Batch) -> torch.Tensor:
    return (x - batch.truth).abs().square().mean((1, 2, 3, 4))

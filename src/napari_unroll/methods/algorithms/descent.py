"""What every training of a network shares, be it long before a reconstruction or a part of it."""

from __future__ import annotations

import math
from typing import Any

import torch

from napari_unroll.interrupt import check

AVERAGED = ("running_mean", "running_var")
"""Buffers that are averaged as weights are, by the end of their names: those of batch normalisation."""


def cosine(progress: float, last: float) -> float:
    """Factor of a step size that falls from 1 to ``last`` along half a cosine while ``progress`` goes from 0 to 1."""
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def follow(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move the averaged weights to (1 - decay) towards those of the network, of the same architecture."""
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for (name, kept), now in zip(average.named_buffers(), network.buffers(), strict=True):
        kept.lerp_(now, 1 - decay) if name.endswith(AVERAGED) else kept.copy_(now)


def look_in_every_layer(network: torch.nn.Module) -> None:
    """Look for a wish to stop in every layer of both passes: the backward one makes no calls of torch that do."""

    def passed(layer: torch.nn.Module, given: Any, made: torch.Tensor) -> None:
        check()
        if made.requires_grad:
            made.register_hook(lambda gradient: check())

    for layer in network.modules():
        if not any(layer.children()):
            layer.register_forward_hook(passed)

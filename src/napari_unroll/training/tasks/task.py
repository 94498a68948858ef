"""What a training loop knows of a task. Must not know plans, files or scans."""

from __future__ import annotations

from typing import Protocol

import torch

from napari_unroll.methods.algorithms.network import Network
from napari_unroll.training.sampler import PatchSampler


class Task(Protocol):
    """Draws batches and judges a network by them. What ``sampler`` is at, a resumed training goes on from."""

    sampler: PatchSampler

    def begin(self, average: Network) -> None:
        """The averaged network, which lags behind the trained one, for tasks that show it what it makes itself."""

    def loss(self, network: Network, is_early: bool) -> torch.Tensor:
        """The loss of the next batch; ``is_early`` while the network is still of little use."""

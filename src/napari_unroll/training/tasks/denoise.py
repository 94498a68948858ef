"""Removing white Gaussian noise of any level: the task of denoisers, which plug-and-play methods use as priors.

Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior" (2021), doi:10.1109/TPAMI.2021.3088914, sec. 3.1: mean
absolute error, one network for a range of levels that it is told.
"""

from __future__ import annotations

import math

import torch

from napari_unroll.methods.algorithms.network import Network
from napari_unroll.training.options import TrainOptions
from napari_unroll.training.precision import low_precision
from napari_unroll.training.sampler import PatchSampler


class DenoiseTask:
    """Patches of true volumes with noise of a level σ drawn log-uniformly per patch."""

    def __init__(self, sampler: PatchSampler, options: TrainOptions, device: str = "cpu") -> None:
        self.sampler, self.options, self.device = sampler, options, device
        self.low_precision = low_precision(options.precision, device)

    def begin(self, average: Network) -> None:
        """It needs nothing of the averaged network."""

    def loss(self, network: Network, is_early: bool) -> torch.Tensor:
        """Mean absolute error of the cleaned patches, each divided by its σ so that all levels weigh alike."""
        truth = self.sampler.draw_clean(self.options.batch_size, self.device)
        sigma = self._levels(len(truth)).to(truth.device)
        noisy = truth + sigma * noise_like(truth, int(self.sampler.rng.integers(2**63)))
        low = self.low_precision
        with torch.autocast(torch.device(self.device).type, low, enabled=low is not None):
            cleaned = network.prior(0)(noisy, sigma)
        return ((cleaned - truth).abs() / sigma).mean()

    def _levels(self, n: int) -> torch.Tensor:
        """σ (batch, 1, 1, 1, 1)."""
        low, high = (math.log(level) for level in self.options.noise_levels)
        drawn = torch.from_numpy(self.sampler.rng.uniform(low, high, n)).float().exp()
        return drawn[:, None, None, None, None]


def noise_like(x: torch.Tensor, seed: int) -> torch.Tensor:
    """White Gaussian noise like x; real and imaginary part have unit variance each, as for a denoiser of two channels."""
    generator = torch.Generator().manual_seed(seed)
    if not x.is_complex():
        return torch.randn(x.shape, generator=generator).to(x)
    return torch.view_as_complex(torch.randn((*x.shape, 2), generator=generator)).to(x)

"""How good a network is: whole held-out scans through the very code that reconstructs, or held-out volumes with noise.

Refinement is left out, which doubles the time and hardly moves the figures. Knows no training loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from napari_unroll.events import Box, Progress, result_of
from napari_unroll.interrupt import stage
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.algorithms.reconstruct import NetworkParams, reconstruct
from napari_unroll.methods.journal import Patch
from napari_unroll.methods.patchwise import Stage, sliding_window
from napari_unroll.methods.problem import Problem, as_values, measured
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.patches.context import cut
from napari_unroll.patches.grid import PatchGrid
from napari_unroll.scan.quality import psnr
from napari_unroll.team import in_turn
from napari_unroll.training.building import Operators
from napari_unroll.training.dataset import SampleSpec
from napari_unroll.training.tasks.denoise import noise_like


@dataclass(frozen=True)
class Validation:
    """Mean figures over the held-out scans, and slices (y, x) of the first of them."""

    metrics: dict[str, float]
    images: dict[str, np.ndarray]


@dataclass(frozen=True)
class HeldOutScan:
    """A scan with its truth (z, y, x), its problem and its start x_0 (1, 1, z, y, x)."""

    problem: Problem
    truth: np.ndarray
    start: torch.Tensor


class HeldOut:
    """The held-out scans; call it with a network."""

    def __init__(self, scans: Sequence[HeldOutScan]) -> None:
        self.scans = scans

    def __call__(self, network: Network) -> Validation:
        """PSNR (dB) of the network's volumes and of their starts, means over the scans."""
        volumes = []
        with stage(len(self.scans)) as done:
            for k, scan in enumerate(self.scans):
                done(k)
                volumes.append(self._volume(scan, network))
        after = [psnr(v, scan.truth) for v, scan in zip(volumes, self.scans, strict=True)]
        starts = [as_values(scan.start) for scan in self.scans]
        before = [psnr(v, scan.truth) for v, scan in zip(starts, self.scans, strict=True)]
        metrics = {"psnr": float(np.mean(after)), "psnr_start": float(np.mean(before))}
        shown = {"truth": self.scans[0].truth, "before": starts[0], "after": volumes[0]}
        return Validation(metrics, {name: middle_slice(v) for name, v in shown.items()})

    def _volume(self, scan: HeldOutScan, network: Network) -> np.ndarray:
        scan.problem.state.clear()
        work = reconstruct(scan.problem, NetworkParams(self_ensemble=False), network, scan.start)
        return as_values(result_of(work))


VALIDATION_SIGMA = 0.05
"""Noise of the volumes that denoisers are judged by, relative to the volume's scale."""
VALIDATION_PATCH, VALIDATION_OVERLAP = 64, 8
"""The sliding window in which they are cleaned, voxels."""


class NoisyVolumes:
    """Held-out volumes (z, y, x) with noise; call it with a denoiser."""

    def __init__(self, volumes: Sequence[np.ndarray], device: str = "cpu") -> None:
        self.truths = volumes
        clean = [torch.from_numpy(v)[None, None].to(device) for v in volumes]
        self.noisy = [x + VALIDATION_SIGMA * noise_like(x, i) for i, x in enumerate(clean)]

    def __call__(self, network: Network) -> Validation:
        """PSNR (dB) of the cleaned and of the noisy volumes, means over the volumes."""
        cleaned = [as_values(self._cleaned(x, network)) for x in self.noisy]
        noisy = [as_values(x) for x in self.noisy]
        after, before = ([psnr(v, t) for v, t in zip(vs, self.truths, strict=True)] for vs in (cleaned, noisy))
        shown = {"truth": self.truths[0], "before": noisy[0], "after": cleaned[0]}
        metrics = {"psnr": float(np.mean(after)), "psnr_start": float(np.mean(before))}
        return Validation(metrics, {name: middle_slice(v) for name, v in shown.items()})

    def _cleaned(self, noisy: torch.Tensor, network: Network) -> torch.Tensor:
        """The denoiser in a sliding window, whatever the volume's size."""

        @torch.no_grad()
        def apply(boxes: list[Box]) -> list[Patch]:
            cleaned = network.prior(0)(cut(noisy, boxes), VALIDATION_SIGMA)
            return [Patch(box, values) for box, values in zip(boxes, cleaned, strict=True)]

        z, y, x = noisy.shape[-3:]
        grid = PatchGrid((z, y, x), VALIDATION_PATCH, VALIDATION_OVERLAP)
        return result_of(sliding_window(grid, noisy, partial(in_turn, apply=apply), Stage("validation")))


def middle_slice(volume: np.ndarray) -> np.ndarray:
    """The central slice (y, x), magnitudes of complex volumes, float32."""
    values = volume[volume.shape[0] // 2]
    return np.asarray(np.abs(values) if values.dtype.kind == "c" else values, np.float32)


def prepare(
    specs: Sequence[SampleSpec], network: NetworkConfig, operators: Operators, found: list[HeldOutScan]
) -> Iterator[Progress]:
    """Simulate the held-out scans and make their starts, into ``found``."""
    for i, spec in enumerate(specs):
        yield Progress(i, len(specs), "preparing held-out scans")
        scan = spec.make()
        physics = operators.physics(spec.scanner, scan)
        factors = operators.factors(spec.scanner)
        problem = Problem(scan=scan, physics=physics, y=measured(scan, physics.device), normal=factors)
        start = result_of(first_estimate(problem, network.start_iterations, network.follows_noise))
        found.append(HeldOutScan(problem, np.asarray(scan.truth), start))

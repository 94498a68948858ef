"""How much PSNR a network loses when its measurements are perturbed: by noise, and by the worst that gradients find.

Perturbations have a given share of the norm of the measurements and lie where something was measured. The network is
differentiated with the exact operator, an equilibrium implicitly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch

from napari_unroll.methods.algorithms.network import Network
from napari_unroll.methods.problem import as_values, measured
from napari_unroll.methods.steps.data import Data
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.methods.weights import load_network
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.patches.context import LocalProblem
from napari_unroll.physics.build import build_physics
from napari_unroll.pipeline.metrics import psnr
from napari_unroll.scan.scan import Scan

SHARE = 0.05
"""Norm of a perturbation over that of the measurements."""
ASCENTS = 5
"""Steps of gradient ascent."""


class Reconstruction:
    """A network on one scan as a function of the measurements, differentiable in them."""

    def __init__(self, network: Network, scan: Scan) -> None:
        self.network, self.scan = network, scan
        self.physics = build_physics(scan, "cpu")
        self.factors = fit_now(self.physics, FitOptions(n_test=0))
        self.y = measured(scan, "cpu")
        self.scale = intensity_scale(self.physics.A_dagger(self.y))
        self.truth = torch.from_numpy(scan.truth)[None, None] / self.scale

    def __call__(self, y: torch.Tensor) -> torch.Tensor:
        """x (1, 1, z, y, x), over the intensity scale."""
        self.adjoint = self.physics.A_adjoint(y) / self.scale
        return self.network(self.physics.A_dagger(y) / self.scale, self).iterates[-1]

    def at(self, x: torch.Tensor, k: int) -> Data:
        """The exact data term around x."""
        normal = self.physics.normal
        return Data(LocalProblem(self.factors, x, self.adjoint - normal(x)), self.factors, operator=normal)

    def psnr(self, perturbation: torch.Tensor) -> float:
        """In dB, of the reconstruction from perturbed measurements."""
        with torch.no_grad():
            return psnr(as_values(self(self.y + perturbation) * self.scale), self.scan.truth)

    def gradient(self, perturbation: torch.Tensor) -> torch.Tensor:
        """Of the squared error in the perturbation."""
        perturbation = perturbation.detach().requires_grad_()
        error = (self(self.y + perturbation) - self.truth).abs().square().sum()
        return torch.autograd.grad(error, perturbation)[0]

    def noise(self) -> torch.Tensor:
        """A Gaussian perturbation of norm one, where something was measured."""
        torch.manual_seed(0)
        return unit(torch.randn_like(self.y) * (self.y != 0))

    def worst(self, norm: float) -> torch.Tensor:
        """The perturbation of that norm to which projected gradient ascent comes, from none."""
        found = torch.zeros_like(self.y)
        for _ in range(ASCENTS):
            found = norm * unit(found + norm * unit(self.gradient(found)))
        return found


def unit(x: torch.Tensor) -> torch.Tensor:
    """x / ‖x‖."""
    return x / torch.linalg.vector_norm(x)


def lost_psnr(weights: Path, scans: Sequence[Scan]) -> dict[str, float]:
    """Mean PSNR (dB) lost to noise, ``lost_noise``, and to the worst perturbation of the same norm, ``lost``."""
    network = load_network(weights).eval().requires_grad_(False)
    rows = []
    for scan in scans:
        of = Reconstruction(network, scan)
        norm = SHARE * float(torch.linalg.vector_norm(of.y))
        clean = of.psnr(torch.zeros_like(of.y))
        rows.append((clean - of.psnr(norm * of.noise()), clean - of.psnr(of.worst(norm))))
    return {"lost_noise": fmean(a for a, _ in rows), "lost": fmean(b for _, b in rows)}

"""Half-quadratic splitting with a denoiser: data step and denoiser in turn while the noise level falls (DPIR).

    x_k = argmin_x ½‖A x − y‖² + (w_k/2) ‖x − z_k‖²,    z_{k+1} = D(x_k, σ_k),    w_k = λ μ (σ_n / σ_k)²

Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior" (2021), doi:10.1109/TPAMI.2021.3088914, eq. 6 and
sec. 4.2. σ_k falls geometrically to the data's noise σ_n; μ is the mean eigenvalue of AᴴA, so that neither σ_n nor λ depends on
units, views or detector. Where μ = 1, σ_k and 1/w_k are those of deepinv's ``get_DPIR_params``. One loop for every denoiser.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, Protocol

import numpy as np
import torch
from pydantic import Field

from napari_unroll.events import Box, Event, IterationDone, Progress
from napari_unroll.methods.algorithms.passes import clean, prior_pass, relative_size
from napari_unroll.methods.algorithms.reconstruct import NetworkParams
from napari_unroll.methods.classical.strength import mean_eigenvalue
from napari_unroll.methods.patchwise import Stage, grid_of
from napari_unroll.methods.problem import Problem, as_values
from napari_unroll.methods.steps.final import DESCRIPTION, FinalStep
from napari_unroll.methods.steps.prox import proximal_steps
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.scan.kspace_noise import blurred_deviation, noise_of_images
from napari_unroll.scan.scan import Scan

FIRST_NOISE = 49 / 255
"""σ_0 of the paper, for images between 0 and 1."""
DEFAULT_NOISE = {"ct": 0.02, "mri": 0.02, "image": 0.01}
"""σ_n for ``auto`` where the noise is not measured."""
SHARE_OF_NOISE, NOISE_LEVELS = 0.8, (0.003, 0.1)
"""σ_n for ``auto`` over the measured noise of k-space, relative to the brightest voxel of a blurred image, and its limits
(docs/decisions/denoiser_noise.md)."""
DEFAULT_STRENGTH = {"ct": 100.0, "mri": 0.23, "image": 2.0}
"""λ for ``auto``. For MRI that of the paper, times R, for σ_n is the noise of the samples and that of Aᴴy / μ is √R of it. A cone
beam's AᴴA has many small eigenvalues, along which a data step of little weight is noise; of 0.23, 2, 10, 30, 100 and 500, with σ_n
of 0.01 to 0.03, the fifth was best (one walnut, 48³, 50 views). Images (96², one seed): of 0.23, 2, 10 and 30 with σ_n of 0.01 to
0.04 the second with 0.01."""


class Denoiser(Protocol):
    """D(patches (batch, 1, z, y, x), σ), both in units of the volume's intensity scale."""

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """The cleaned patches."""


class HalfQuadraticParams(NetworkParams):
    """Choices of half-quadratic splitting with a denoiser."""

    final_data_step: FinalStep = Field("auto", description=DESCRIPTION)

    self_ensemble: bool = Field(
        False,
        description="Every pass of the denoiser is the mean over the patch and its three mirror images, in four times its time.",
    )
    n_iterations: int = Field(8, ge=1, le=1000, description="Data steps, each followed by the denoiser.")
    noise: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = Field(
        "auto",
        description="σ of the noise that the data leave in the volume, relative to the volume's scale: the denoiser's last "
        "level. More is smoother; auto: by modality, for MRI by the noise of its samples.",
    )
    first_noise: float = Field(
        round(FIRST_NOISE, 4), gt=0, le=1, description="The denoiser's first level, relative to the volume's scale."
    )
    strength: Annotated[float, Field(gt=0, le=1e6)] | Literal["auto"] = Field(
        "auto", description="λ, the weight of the denoiser's result in the data steps; no unit."
    )
    n_inner: int = Field(30, ge=1, le=10_000, description="Largest number of conjugate gradient steps per data step.")
    tolerance: float = Field(
        0.03, gt=0, lt=1, description="A data step ends where its residual has fallen to this part of its start."
    )


def noise_levels(n: int, first: float, last: float) -> list[float]:
    """σ_0 … σ_{n−1}, falling geometrically; one iteration has the last level."""
    return [float(s) for s in np.geomspace(max(first, last), last, n)] if n > 1 else [last]


def noise_of(scan: Scan) -> float:
    """σ_n for ``auto``: what suits the scan's noise where k-space tells it, else what suits the modality."""
    noise, (least, most) = blurred_deviation(scan), NOISE_LEVELS
    return DEFAULT_NOISE[scan.modality] if noise is None else min(max(SHARE_OF_NOISE * noise, least), most)


def strength_of(scan: Scan) -> float:
    """λ for ``auto``."""
    strength = DEFAULT_STRENGTH[scan.modality]
    return strength * noise_of_images(scan) ** 2 if scan.modality == "mri" else strength


def data_weight(strength: float, mean: float, noise: float, level: float) -> float:
    """w_k = λ μ (σ_n / σ_k)²."""
    return strength * mean * (noise / level) ** 2


@dataclass(frozen=True)
class _Splitting:
    """One run: volumes and ``adjoint`` Aᴴy are divided by ``scale``, ``mean`` is μ."""

    problem: Problem
    params: HalfQuadraticParams
    denoiser: Denoiser
    scale: float
    adjoint: torch.Tensor
    mean: float

    @property
    def noise(self) -> float:
        """σ_n."""
        asked = self.params.noise
        return noise_of(self.problem.scan) if asked == "auto" else asked

    @property
    def levels(self) -> list[float]:
        """σ_k."""
        return noise_levels(self.params.n_iterations, self.params.first_noise, self.noise)

    def weight(self, k: int) -> float:
        """w_k."""
        asked = self.params.strength
        strength = strength_of(self.problem.scan) if asked == "auto" else asked
        return data_weight(strength, self.mean, self.noise, self.levels[k])

    def data_step(self, z: torch.Tensor, k: int) -> Generator[Event, None, torch.Tensor]:
        """x_k."""
        p, found = self.params, z
        steps = proximal_steps(self.problem.physics.normal, self.adjoint, z, self.weight(k), p.tolerance, p.n_inner)
        for found in steps:  # noqa: B007
            yield Progress(k * self._n_patches, self._n_steps, self._text(k))
        return found

    def prior_step(self, x: torch.Tensor, z: torch.Tensor, k: int) -> Generator[Event, None, torch.Tensor]:
        """z_{k+1}; ∇f(x_k) = w_k (z_k − x_k) where the data step converged."""
        stage = Stage(self._text(k), k * self._n_patches, self._n_steps)
        gradient, level = self.weight(k) * (z - x), self.levels[k]

        def denoise(patch: torch.Tensor) -> torch.Tensor:
            prior = partial(self.denoiser, sigma=level)
            return clean(prior, patch, self.problem.precision, self.params.self_ensemble)

        def distance(box: Box) -> float:
            return relative_size(gradient, self.adjoint, box)

        return (yield from prior_pass(self.problem, x, denoise, stage, self.scale, distance))

    def _text(self, k: int) -> str:
        return f"iteration {k + 1} of {self.params.n_iterations}"

    @property
    def _n_patches(self) -> int:
        return len(grid_of(self.problem))

    @property
    def _n_steps(self) -> int:
        return self._n_patches * self.params.n_iterations


def half_quadratic(
    problem: Problem, params: HalfQuadraticParams, denoiser: Denoiser, start: torch.Tensor
) -> Generator[Event, None, torch.Tensor]:
    """The iterations with a given ``denoiser`` from ``start`` (1, 1, z, y, x); returns the volume (z, y, x)."""
    scale, mean = intensity_scale(start), mean_eigenvalue(problem.physics)
    run = _Splitting(problem, params, denoiser, scale, problem.adjoint / scale, mean)
    kept = problem.state
    z: torch.Tensor = kept.setdefault("x", start / scale)
    for k in range(kept.get("iteration", 0), params.n_iterations):
        if "data_step" not in kept:
            x = yield from run.data_step(z, k)
            kept["data_step"] = x
        z = yield from run.prior_step(kept["data_step"], z, k)
        kept.update(x=z, iteration=k + 1)
        del kept["data_step"]
        yield IterationDone(k + 1, params.n_iterations, problem.residual(z * scale), as_values(z * scale))
    return z[0, 0] * scale

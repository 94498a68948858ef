"""Sparsity in wavelets by FISTA: min_x ‖A x − y‖² / (2 μ) + λ s ‖W x‖₁, x ≥ 0 for real x on request.

W is the orthonormal transform of ``wavelets``, its approximation left free; μ and s are those of ``strength``, so λ has
no unit. Daubechies, Defrise, De Mol, "An iterative thresholding algorithm for linear inverse problems with a sparsity
constraint" (2004), doi:10.1002/cpa.20042; Lustig, Donoho, Pauly, "Sparse MRI" (2007), doi:10.1002/mrm.21391. Random
shifts of the dyadic grid, one per step, take the block artefacts away (cycle spinning; Figueiredo and Nowak 2003,
doi:10.1109/TIP.2003.814255).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from napari_unroll.events import Event
from napari_unroll.methods.classical import fista
from napari_unroll.methods.classical.iterations import IterativeParams
from napari_unroll.methods.classical.strength import Strength, mean_eigenvalue, resolve_strength, volume_scale
from napari_unroll.methods.classical.wavelets import Shift, Wavelets, WaveletSparsity
from napari_unroll.methods.memory import holding
from napari_unroll.methods.problem import Method, Problem

DEFAULT_STRENGTH = {"ct": 0.2, "mri": 0.025, "image": 0.05}
"""λ for ``auto``: the best of a grid in steps of two on generated scans of the training seeds (CT: walnut with 30 and
foam with 80 views, 40³, data simulated on a grid twice as fine; MRI: brain, R = 5 and 10). haar, db2 and db4 share
it. Images (96²): the best of 0.01, 0.05 and 0.1 for a 9 × 9 blur; super-resolution loses 0.1 to 0.3 dB to 0.01."""


class WaveletParams(IterativeParams):
    """Choices of sparsity in wavelets."""

    strength: Strength = Field(
        default="auto", description="λ, the weight of the coefficients against the data; no unit. More is smoother."
    )
    n_iterations: int = Field(default=60, ge=1, le=10_000, description="Largest number of FISTA steps.")
    tolerance: float = Field(
        default=5e-4, ge=0, le=1, description="Stop when a step changes the volume by less than this part."
    )
    wavelet: Literal["haar", "db2", "db3", "db4", "sym4", "coif1"] = Field(
        default="db2", description="haar suits edges and is fastest; longer ones suit smooth volumes."
    )
    level: int = Field(default=3, ge=1, le=8, description="Scales, as far as the volume has room for them.")
    random_shifts: bool = Field(
        default=True, description="Move the wavelets' grid at random in every step: better, but no fixed minimum."
    )
    n_inner: int = Field(default=1, ge=1, le=100, description="Thresholdings per step; more matter with positivity.")
    positivity: bool = Field(
        default=True, description="Keep real values at or above zero; has no effect on complex images."
    )


def solve(problem: Problem, params: WaveletParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x); ``residual`` is ‖A z − y‖ / ‖y‖ at FISTA's extrapolated point, which costs nothing extra."""
    quick = yield from problem.find_quick()
    positive = params.positivity and not quick.is_complex()
    transform = Wavelets(problem.shape, params.wavelet, params.level)
    sparsity = WaveletSparsity(transform, positive)
    strength = resolve_strength(params.strength, DEFAULT_STRENGTH, problem.scan)
    weight = strength * mean_eigenvalue(problem.physics) * volume_scale(quick)

    sparsity.dual = problem.state.get("dual")

    def prox(b: torch.Tensor, step: float, k: int) -> torch.Tensor:
        shift = shift_of(k, transform.level) if params.random_shifts else None
        x = sparsity.prox(b, weight * step, params.n_inner, shift)
        problem.state["dual"] = sparsity.dual
        return x

    return (
        yield from fista.minimise(problem, params, params.tolerance, quick.clamp(min=0) if positive else quick, prox)
    )


def shift_of(k: int, level: int) -> Shift:
    """The shift (z, y, x) of step ``k``, within one cell of the coarsest scale; the same in every run."""
    z, y, x = np.random.default_rng([k, 0]).integers(0, 2**level, 3)
    return int(z), int(y), int(x)


WAVELET_L1 = Method(
    name="wavelet-l1",
    title="Wavelet sparsity",
    summary="Least squares with few 3-D wavelet coefficients: the usual prior of compressed sensing in MRI.",
    source="Daubechies, Defrise, De Mol 2004, doi:10.1002/cpa.20042; Lustig, Donoho, Pauly 2007, doi:10.1002/mrm.21391",
    params=WaveletParams,
    solve=solve,
    memory=holding(volumes=11.5, residuals=2),
)

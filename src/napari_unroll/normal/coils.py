"""Closed forms for multi-coil MRI: the exact coil sum, virtual coils, one coil.

N = Σ_c S_cᴴ Fᴴ M F S_c is a sum of weighted convolutions, circular ones with a Cartesian mask's kernel and linear ones
with a trajectory's, so on patches it needs no approximation at all; fewer virtual coils trade accuracy for transforms.
Sees coil maps and kernels only.
"""

from __future__ import annotations

import torch

from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.one_convolution import mean_convolution
from napari_unroll.physics.coil_physics import csm_of
from napari_unroll.physics.convolution import Circular
from napari_unroll.physics.volume_physics import VolumePhysics


def fourier_kernel(physics: VolumePhysics) -> tuple[torch.Tensor, Circular]:
    """The kernel (1, z, y, x) of C, real where it may be, and which of its axes are circular."""
    kernel, circular = physics.normal_kernel()
    is_real = kernel.imag.abs().max() <= 1e-6 * kernel.real.abs().max()
    return kernel.real.contiguous() if bool(is_real) else kernel, circular


def virtual_coils(csm: torch.Tensor, k: int) -> torch.Tensor:
    """``k`` virtual coil maps (k, z, y, x): truncated SVD of the maps, renormalised to the same Σ|S|²."""
    coils = csm.shape[0]
    if k >= coils:
        return csm
    flat = csm.reshape(coils, -1)
    _, vectors = torch.linalg.eigh(flat @ flat.conj().T)
    virtual = (vectors[:, -k:].flip(1).conj().T @ flat).reshape(k, *csm.shape[1:])
    wanted, kept = csm.abs().square().sum(0), virtual.abs().square().sum(0)
    scale = (wanted / kept.clamp_min(1e-6 * wanted.max())).sqrt()
    return virtual * scale


def coil_factors(physics: VolumePhysics, k: int | None = None) -> NormalFactors:
    """Σ_c S_cᴴ C S_c with all coils (exact) or ``k`` virtual ones; axes that are fully sampled need no FFT.

    Raises ParameterError for a physics without coil maps.
    """
    csm = csm_of(physics)
    maps = csm if k is None else virtual_coils(csm, k)
    kernel, circular = fourier_kernel(physics)
    form = "coils" if maps.shape[0] == csm.shape[0] else "virtual-coils"
    return NormalFactors(
        kernel=kernel,
        left=maps,
        right=maps,
        shape=physics.grid.shape,
        circular=circular,
        form=form,
        positive_kernel=True,
    )


def single_coil(physics: VolumePhysics) -> NormalFactors:
    """C alone with λ = M ⊛ Σ_c |F S_c|² / n: the best single convolution, in closed form (for comparison)."""
    return mean_convolution(coil_factors(physics))

"""Closed forms for multi-coil MRI: the exact coil sum, virtual coils, one coil.

N = Σ_c S_cᴴ Fᴴ M F S_c is a sum of weighted convolutions, circular ones with a Cartesian mask's kernel and linear ones
with a trajectory's, so on patches it needs no approximation at all; fewer virtual coils trade accuracy for transforms.
Sees coil maps and kernels only.
"""

from __future__ import annotations

from typing import Any

import torch

from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.patch import AXES, Circular, Shape
from napari_unroll.normal.precondition import mean_convolution


def fourier_kernel(physics: Any) -> tuple[torch.Tensor, Circular]:
    """The kernel (1, z, y, x) of Fᴴ M F and which of its axes are circular.

    A centred ``mask`` (z, y, x) makes a circular kernel; a trajectory gives a linear (Toeplitz) one by ``kernel()``.
    """
    if hasattr(physics, "mask"):
        return mask_kernel(physics.mask), (True, True, True)
    return _real_if_possible(physics.kernel()), (False, False, False)


def mask_kernel(mask: torch.Tensor) -> torch.Tensor:
    """The circular kernel of Fᴴ M F for a centred mask (z, y, x), of length 1 along axes where M is constant."""
    spectrum = torch.fft.ifftshift(mask.to(torch.float32), dim=AXES)
    for axis in AXES:
        first = spectrum.narrow(axis, 0, 1)
        spectrum = first if bool((spectrum == first).all()) else spectrum
    return _real_if_possible(torch.fft.ifftn(spectrum, dim=AXES)[None])


def _real_if_possible(kernel: torch.Tensor) -> torch.Tensor:
    real = kernel.imag.abs().max() <= 1e-6 * kernel.real.abs().max()
    return kernel.real.contiguous() if bool(real) else kernel


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


def coil_factors(physics: Any, k: int | None = None) -> NormalFactors:
    """Σ_c S_cᴴ C S_c with all coils (exact) or ``k`` virtual ones; axes that are fully sampled need no FFT."""
    csm = physics.csm
    maps = csm if k is None else virtual_coils(csm, k)
    kernel, circular = fourier_kernel(physics)
    form = "coils" if maps.shape[0] == csm.shape[0] else "virtual-coils"
    shape: Shape = tuple(csm.shape[1:])
    return NormalFactors(kernel=kernel, left=maps, right=maps, shape=shape, circular=circular, form=form)


def single_coil(physics: Any) -> NormalFactors:
    """C alone with λ = M ⊛ Σ_c |F S_c|² / n: the best single convolution, in closed form (for comparison)."""
    return mean_convolution(coil_factors(physics))

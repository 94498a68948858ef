"""Closed forms for Cartesian multi-coil MRI: the exact coil sum, virtual coils, one coil.

N = Σ_c S_cᴴ Fᴴ M F S_c is a sum of weighted circular convolutions with the mask's kernel, so on patches it needs no
approximation at all; fewer virtual coils trade accuracy for transforms. Sees maps and masks only.
"""

from __future__ import annotations

import torch

from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.patch import AXES, Shape
from napari_unroll.normal.precondition import mean_convolution

CIRCULAR = (True, True, True)


def mask_kernel(mask: torch.Tensor) -> torch.Tensor:
    """The convolution kernel (1, z, y, x) of Fᴴ M F for a centred mask (z, y, x); length 1 where M is constant."""
    spectrum = torch.fft.ifftshift(mask.to(torch.float32), dim=AXES)
    for axis in AXES:
        first = spectrum.narrow(axis, 0, 1)
        spectrum = first if bool((spectrum == first).all()) else spectrum
    kernel = torch.fft.ifftn(spectrum, dim=AXES)[None]
    symmetric = kernel.imag.abs().max() <= 1e-6 * kernel.real.abs().max()
    return kernel.real.contiguous() if bool(symmetric) else kernel


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


def coil_factors(csm: torch.Tensor, mask: torch.Tensor, k: int | None = None) -> NormalFactors:
    """Σ_c S_cᴴ C S_c with all coils (exact) or ``k`` virtual ones; axes that the mask fully samples need no FFT."""
    maps = csm if k is None else virtual_coils(csm, k)
    exact = maps.shape[0] == csm.shape[0]
    shape: Shape = tuple(csm.shape[1:])  # type: ignore[assignment]
    form = "coils" if exact else "virtual-coils"
    return NormalFactors(kernel=mask_kernel(mask), left=maps, right=maps, shape=shape, circular=CIRCULAR, form=form)


def single_coil(csm: torch.Tensor, mask: torch.Tensor) -> NormalFactors:
    """C alone with λ = M ⊛ Σ_c |F S_c|² / n: the best single convolution, in closed form (for comparison)."""
    return mean_convolution(coil_factors(csm, mask))

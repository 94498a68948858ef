"""Ñ as one weighted convolution D^{1/2} C D^{1/2}: itself where it is one, the nearest one else. Works on factors alone."""

from __future__ import annotations

import torch

from napari_unroll.normal.factors import NormalFactors, diagonal
from napari_unroll.physics.convolution import AXES

SMALLEST_WEIGHT = 0.05
"""Weights below this share of the largest count as this share when inverted: there the data say next to nothing."""


def as_one_convolution(factors: NormalFactors) -> tuple[torch.Tensor | None, torch.Tensor]:
    """d and the kernel of C in Ñ ≈ D^{1/2} C D^{1/2}, found once."""

    def make() -> tuple[torch.Tensor | None, torch.Tensor]:
        d = _weight(factors)
        return d, mean_kernel(factors, d)

    return factors.once(("as one convolution",), make)


def mean_convolution(factors: NormalFactors) -> NormalFactors:
    """The one convolution nearest to Ñ in the Frobenius norm: h(ℓ) is the mean of Ñ[i, i − ℓ] over i."""
    return one_convolution(factors, mean_kernel(factors, None), None, "single-coil")


def one_convolution(
    factors: NormalFactors, kernel: torch.Tensor, weight: torch.Tensor | None, form: str
) -> NormalFactors:
    """W C W on the grid of ``factors``."""
    return NormalFactors(
        kernel=kernel,
        left=weight,
        right=weight,
        shape=factors.shape,
        circular=factors.circular,
        form=form,
    )


def mean_kernel(factors: NormalFactors, d: torch.Tensor | None) -> torch.Tensor:
    """Kernel (1, z, y, x) of the convolution nearest to D^{−1/2} Ñ D^{−1/2} (d None: to Ñ), same lags as Ñ."""
    if len(factors.terms) == 1 and d is not None and not factors.is_complex:
        return factors.kernel
    scale = 1.0 if d is None else d.rsqrt()
    total: torch.Tensor | None = None
    for a, b, k in factors.terms:
        left, right = _scaled(factors.weight("left", a), scale), _scaled(factors.weight("right", b), scale)
        part = factors.kernel[k] * _mean_product(factors, left, right)
        total = part if total is None else total + part
    assert total is not None
    return total[None]


def _mean_product(factors: NormalFactors, left: torch.Tensor | None, right: torch.Tensor | None) -> torch.Tensor:
    """Mean over i of conj(left[i]) right[i − ℓ] at the lags ℓ of the kernel (z, y, x)."""
    ones = torch.ones(factors.shape, device=factors.device)
    left, right = ones if left is None else left, ones if right is None else right
    sizes = [n if c or m == 1 else 2 * n for n, m, c in axes_of(factors)]
    product = _correlate(left, right, sizes)
    overlap = _correlate(ones, ones, sizes).real
    mean = product / overlap.clamp_min(0.5)
    for axis, (n, m, c) in zip(AXES, axes_of(factors), strict=True):
        if m == 1:
            mean = mean.narrow(axis, 0, 1)
        elif not c and m < 2 * n:
            s = m // 2
            lags = torch.cat([torch.arange(s), torch.arange(-s, 0)]).to(mean.device)
            mean = mean.index_select(axis, lags % (2 * n))
    return mean if mean.is_complex() and (left.is_complex() or right.is_complex()) else mean.real


def _correlate(left: torch.Tensor, right: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    f, g = (torch.fft.fftn(t.conj(), s=sizes, dim=AXES) for t in (left, right))
    return torch.fft.ifftn(f * g.conj(), dim=AXES)


def spectrum_of(kernel: torch.Tensor) -> torch.Tensor:
    """λ ≥ 0 of a kernel (k, z, y, x) of a Hermitian convolution; half of it for a real kernel."""
    spectrum = torch.fft.fftn(kernel, dim=AXES) if kernel.is_complex() else torch.fft.rfftn(kernel, dim=AXES)
    return spectrum.real.clamp_min(0)


def kernel_of(spectrum: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The kernel of a real spectrum, or of half of it where ``like`` is real, whose shape it has."""
    if like.is_complex():
        return torch.fft.ifftn(spectrum, dim=AXES)
    return torch.fft.irfftn(spectrum, s=like.shape[1:], dim=AXES)


def axes_of(factors: NormalFactors) -> list[tuple[int, int, bool]]:
    """Voxels, stored lags and whether it wraps around, along every axis."""
    return list(zip(factors.shape, factors.kernel.shape[1:], factors.circular, strict=True))


def _scaled(weight: torch.Tensor | None, scale: torch.Tensor | float) -> torch.Tensor | None:
    if weight is None:
        return None if isinstance(scale, float) else scale
    return weight * scale


def _weight(factors: NormalFactors) -> torch.Tensor | None:
    """d = |diag Ñ| (z, y, x) kept away from zero, or None where it is one."""
    if factors.left is None and factors.right is None:
        return None
    d = diagonal(factors).abs()
    return d.clamp_min(SMALLEST_WEIGHT * float(d.max()))

"""Inverting Ñ: preconditioners for conjugate gradients and for model-based data steps.

Ñ is brought to D^{1/2} C D^{1/2} with one convolution, whose inverse is one more set of factors; or, where no one
convolution resembles it, inverted by a polynomial. Works on factors alone; must not know physics, fits or solvers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from napari_unroll.events import Box
from napari_unroll.normal.factors import NormalFactors, diagonal
from napari_unroll.normal.patch import box_shape
from napari_unroll.physics.autograd import Apply as Apply
from napari_unroll.physics.convolution import AXES, Shape

SMALLEST_WEIGHT = 0.05
"""Weights below this share of the largest count as this share when inverted: there the data say next to nothing."""


def regularised_inverse(factors: NormalFactors, alpha: float) -> NormalFactors:
    """M = D^{−1/2} F⁻¹ [1 / (λ + α λ_max)] F D^{−1/2} ≈ (Ñ + α λ_max D)⁻¹, Hermitian and positive definite.

    ``alpha`` > 0 is relative to the largest λ. The kernel lives on the same padded grid as that of Ñ, so ``apply`` and
    ``restrict`` work alike: P M Pᵀ is a principal part of a positive definite operator. Where Ñ holds fewer lags than the
    volume has, that is so on patches up to them, or :func:`tapered`. Made once per ``alpha``.
    """
    return factors.once(("inverse", float(alpha)), lambda: _invert(factors, alpha))


def _invert(factors: NormalFactors, alpha: float) -> NormalFactors:
    d, kernel = _as_one_convolution(factors)
    spectrum = torch.fft.fftn(kernel, dim=AXES).real.clamp_min(0)
    gain = 1.0 / (spectrum + alpha * spectrum.max())
    weight = None if d is None else d.rsqrt()[None]
    info = {"alpha": float(alpha), "largest": float(spectrum.max()), "of": factors.form}
    return _one(factors, _kernel_of(gain, kernel), weight, "inverse", info)


def resolvent_inverse(factors: NormalFactors, tau: float) -> NormalFactors:
    """M = E^{1/2} F⁻¹ [1 / (1 + τ d̄ λ)] F E^{1/2} ≈ (I + τÑ)⁻¹, Hermitian and positive definite, for any τ ≥ 0.

    d̄ is the mean of d and E = (1 + τ d̄ λ̄) / (1 + τ D λ̄) with λ̄ the mean of λ: exact for a constant d, and near the
    identity where the scan sees nothing. As for :func:`regularised_inverse`, P M Pᵀ is a principal part of M.
    """
    d, kernel = _as_one_convolution(factors)
    spectrum = torch.fft.fftn(kernel, dim=AXES).real.clamp_min(0)
    typical = 1.0 if d is None else float(d.mean())
    weight = None
    if d is not None:
        middle = tau * float(spectrum.mean())
        weight = ((1 + typical * middle) / (1 + d * middle)).sqrt()[None]
    return _one(factors, _kernel_of(1 / (1 + tau * typical * spectrum), kernel), weight, "resolvent", {"tau": tau})


def regularised_preconditioner(factors: NormalFactors, alpha: float, boxes: Sequence[Box] | None = None) -> Apply:
    """:func:`regularised_inverse` on the whole volume, or P M Pᵀ on ``boxes`` (box, 1, z, y, x): positive definite on both.

    Kernels that hold fewer lags than the volume or the boxes need are :func:`tapered`.
    """
    return _on(regularised_inverse(factors, alpha), boxes)


def resolvent_preconditioner(factors: NormalFactors, tau: float, boxes: Sequence[Box] | None = None) -> Apply:
    """:func:`resolvent_inverse` on the whole volume or on ``boxes``, as :func:`regularised_preconditioner`."""
    return _on(resolvent_inverse(factors, tau), boxes)


def _on(inverse: NormalFactors, boxes: Sequence[Box] | None) -> Apply:
    reaching = tapered(inverse, inverse.shape if boxes is None else box_shape(boxes))
    return reaching.apply if boxes is None else reaching.restrict(boxes).apply


def tapered(factors: NormalFactors, shape: Shape) -> NormalFactors:
    """The same with a kernel times 1 − |lag| / s along axes where it holds lags below s and ``shape`` (z, y, x) needs more.

    So an inverse stays positive definite beyond its lags, where a cut would cost it that: the triangle is the kernel of a
    positive convolution too, and so is the product. Made once.
    """
    axes = zip(AXES, shape, _axes(factors), strict=True)
    short = tuple(axis for axis, p, (_, m, circular) in axes if not circular and 1 < m < 2 * p)
    return factors.once(("tapered", *short), lambda: _falling(factors, short)) if short else factors


def _falling(factors: NormalFactors, axes: Sequence[int]) -> NormalFactors:
    kernel = factors.kernel
    for axis in axes:
        m = kernel.shape[axis]
        lags = torch.arange(m, device=kernel.device)
        fall = (1 - torch.minimum(lags, m - lags) / (m // 2)).to(kernel.real.dtype)
        kernel = kernel * fall.reshape([-1 if a == axis else 1 for a in (-4, *AXES)])
    return replace(factors, kernel=kernel, _cache={})


def _as_one_convolution(factors: NormalFactors) -> tuple[torch.Tensor | None, torch.Tensor]:
    """d and the kernel of C in Ñ ≈ D^{1/2} C D^{1/2}, found once."""

    def make() -> tuple[torch.Tensor | None, torch.Tensor]:
        d = _weight(factors)
        return d, mean_kernel(factors, d)

    return factors.once(("as one convolution",), make)


def _kernel_of(spectrum: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The kernel of a real spectrum, real if ``like`` is."""
    kernel = torch.fft.ifftn(spectrum, dim=AXES)
    return kernel if like.is_complex() else kernel.real.contiguous()


def polynomial_inverse(apply: Apply, largest: float, alpha: float, degree: int) -> Apply:
    """M = p(Ñ) ≈ (Ñ + α λ_max)⁻¹ by Chebyshev's iteration, for Ñ that no convolution resembles (the coil sum of MRI).

    ``apply`` is Ñ, or P Ñ Pᵀ, whose spectrum lies in [0, λ_max] too, and ``largest`` is λ_max. Of residuals 1/T_{n+1} or
    less is left, T the Chebyshev polynomial on that interval: 6 % for α = 0.2 and degree n = 3. Unlike truncated
    conjugate gradients M is linear, Hermitian and positive definite, so it is its own derivative: the backward pass
    applies M and keeps nothing. Source: Saad, "Iterative Methods for Sparse Linear Systems", 2003, algorithm 12.1.
    """
    centre, radius = largest * (alpha + 0.5), largest * 0.5

    def solve(g: torch.Tensor) -> torch.Tensor:
        rho = radius / centre
        z = step = g / centre
        for _ in range(degree):
            residual = g - apply(z) - alpha * largest * z
            last, rho = rho, 1 / (2 * centre / radius - rho)
            step = rho * last * step + (2 * rho / radius) * residual
            z = z + step
        return z

    return lambda g: _SelfAdjoint.apply(g, solve)


class _SelfAdjoint(torch.autograd.Function):
    """A linear map that is its own adjoint."""

    @staticmethod
    def forward(ctx: Any, g: torch.Tensor, solve: Apply) -> torch.Tensor:
        ctx.solve = solve
        return solve(g)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.solve(gradients[0]), None


def mean_convolution(factors: NormalFactors) -> NormalFactors:
    """The one convolution nearest to Ñ in the Frobenius norm: h(ℓ) is the mean of Ñ[i, i − ℓ] over i."""
    return _one(factors, mean_kernel(factors, None), None, "single-coil", {})


def _one(
    factors: NormalFactors, kernel: torch.Tensor, weight: torch.Tensor | None, form: str, info: dict[str, Any]
) -> NormalFactors:
    return NormalFactors(
        kernel=kernel,
        left=weight,
        right=weight,
        shape=factors.shape,
        circular=factors.circular,
        form=form,
        info=info,
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
    sizes = [n if c or m == 1 else 2 * n for n, m, c in _axes(factors)]
    product = _correlate(left, right, sizes)
    overlap = _correlate(ones, ones, sizes).real
    mean = product / overlap.clamp_min(0.5)
    for axis, (n, m, c) in zip(AXES, _axes(factors), strict=True):
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


def _axes(factors: NormalFactors) -> list[tuple[int, int, bool]]:
    return list(zip(factors.shape, factors.kernel.shape[1:], factors.circular, strict=True))


def _scaled(weight: torch.Tensor | None, scale: torch.Tensor | float) -> torch.Tensor | None:
    if weight is None:
        return None if isinstance(scale, float) else scale
    return weight * scale


def _weight(factors: NormalFactors) -> torch.Tensor | None:
    """d = |diag Ñ| kept away from zero, or None where it is one."""
    if factors.left is None and factors.right is None:
        return None
    d = diagonal(factors).abs()
    return d.clamp_min(SMALLEST_WEIGHT * float(d.max()))

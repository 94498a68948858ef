"""Inverting Ñ: preconditioners for conjugate gradients and for model-based data steps.

Ñ is brought to D^{1/2} C D^{1/2} with one convolution, whose inverse is one more set of factors; or, where no one
convolution resembles it, inverted by a polynomial. Works on factors alone; must not know physics, fits or solvers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from napari_unroll.events import Box
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.far import is_short, whole_spectrum, wrapped
from napari_unroll.normal.one_convolution import as_one_convolution, axes_of, kernel_of, one_convolution, spectrum_of
from napari_unroll.normal.patch import PatchNormal, box_shape
from napari_unroll.physics.autograd import Apply as Apply
from napari_unroll.physics.convolution import AXES, Shape


def regularised_inverse(factors: NormalFactors, alpha: float) -> NormalFactors:
    """M = D^{−1/2} F⁻¹ [1 / (λ + α λ_max)] F D^{−1/2} ≈ (Ñ + α λ_max D)⁻¹, Hermitian and positive definite.

    ``alpha`` > 0 is relative to the largest λ. The kernel lives on the same padded grid as that of Ñ, so ``apply`` and
    ``restrict`` work alike: P M Pᵀ is a principal part of a positive definite operator. Where Ñ holds fewer lags than the
    volume has, that is so on patches up to them, or :func:`tapered`. Made once per ``alpha``.
    """
    return factors.once(("inverse", float(alpha)), lambda: _short(factors, _regularised(alpha), "inverse"))


def resolvent_inverse(factors: NormalFactors, tau: float) -> NormalFactors:
    """M = E^{1/2} F⁻¹ [1 / (1 + τ d̄ λ)] F E^{1/2} ≈ (I + τÑ)⁻¹, Hermitian and positive definite, for any τ ≥ 0.

    d̄ is the mean of d and E = (1 + τ d̄ λ̄) / (1 + τ D λ̄) with λ̄ the mean of λ: exact for a constant d, and near the
    identity where the scan sees nothing. As for :func:`regularised_inverse`, P M Pᵀ is a principal part of M.
    """
    return _short(factors, _resolvent(tau), "resolvent")


Recipe = Callable[[torch.Tensor, torch.Tensor | None], tuple[torch.Tensor, torch.Tensor | None]]
"""(λ, d) → the inverse's own λ, and its weight on either side."""


def _regularised(alpha: float) -> Recipe:
    def make(spectrum: torch.Tensor, d: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        return 1.0 / (spectrum + alpha * spectrum.max()), None if d is None else d.rsqrt()[None]

    return make


def _resolvent(tau: float) -> Recipe:
    def make(spectrum: torch.Tensor, d: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        typical, middle = 1.0 if d is None else float(d.mean()), tau * float(spectrum.mean())
        weight = None if d is None else ((1 + typical * middle) / (1 + d * middle)).sqrt()[None]
        return 1 / (1 + tau * typical * spectrum), weight

    return make


def _short(factors: NormalFactors, recipe: Recipe, form: str) -> NormalFactors:
    """The inverse on the grid of the kernel."""
    d, kernel = as_one_convolution(factors)
    gain, weight = recipe(spectrum_of(kernel), d)
    return one_convolution(factors, kernel_of(gain, kernel), weight, form)


def _whole(factors: NormalFactors, recipe: Recipe) -> PatchNormal:
    """The inverse on a whole volume of more lags than the kernel holds, with the far lags; means are of half the spectrum."""
    d, kernel = as_one_convolution(factors)
    return wrapped(factors, *recipe(whole_spectrum(factors, kernel), d))


def regularised_preconditioner(factors: NormalFactors, alpha: float, boxes: Sequence[Box] | None = None) -> Apply:
    """:func:`regularised_inverse` on the whole volume, or P M Pᵀ on ``boxes`` (box, 1, z, y, x): positive definite on both.

    On whole volumes of more lags than the kernel holds it is that of Ñ with the far lags (see normal/far.py); on such boxes it
    is :func:`tapered`.
    """
    if boxes is None and is_short(factors):
        return factors.once(("whole inverse", float(alpha)), lambda: _whole(factors, _regularised(alpha))).apply
    return _on(regularised_inverse(factors, alpha), boxes)


def resolvent_preconditioner(factors: NormalFactors, tau: float, boxes: Sequence[Box] | None = None) -> Apply:
    """:func:`resolvent_inverse` on ``boxes``; on the whole volume wrapped around a smaller grid, unless it wraps around itself.

    Made anew for every solve, which takes 2 % of it: kept, it would lie beside what a network holds.
    """
    if boxes is None and not any(factors.circular):
        return _whole(factors, _resolvent(tau)).apply
    return _on(resolvent_inverse(factors, tau), boxes)


def _on(inverse: NormalFactors, boxes: Sequence[Box] | None) -> Apply:
    return inverse.apply if boxes is None else tapered(inverse, box_shape(boxes)).restrict(boxes).apply


def tapered(factors: NormalFactors, shape: Shape) -> NormalFactors:
    """The same with a kernel times 1 − |lag| / s along axes where it holds lags below s and ``shape`` (z, y, x) needs more.

    So an inverse stays positive definite beyond its lags, where a cut would cost it that: the triangle is the kernel of a
    positive convolution too, and so is the product. Made once.
    """
    axes = zip(AXES, shape, axes_of(factors), strict=True)
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

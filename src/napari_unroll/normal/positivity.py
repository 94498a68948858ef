"""Whether Ñ is self-adjoint and positive semi-definite on the whole volume or a patch: what CG and proximal maps need.

Told from the structure of the factors, never by trying: Σ_k L_kᴴ C_k L_k is positive where every C_k is, and P C Pᵀ is
positive where its lags are those of a convolution with λ ≥ 0, of which it is then a principal part. Where Ñ is AᴴA itself
all of its principal parts are positive. A kernel that holds
fewer lags than a box needs is cut to zero beyond them, which no λ ≥ 0 survives. Works on factors alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from napari_unroll.errors import ParameterError
from napari_unroll.events import Box
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.patch import box_shape
from napari_unroll.physics.convolution import AXES

TOLERANCE = 1e-6
"""Share of the largest λ by which rounding may push the others below zero."""


def is_positive(factors: NormalFactors, box: Box | Sequence[Box] | None = None) -> bool:
    """Whether P Ñ Pᵀ on ``box`` (boxes of one shape; None: the whole volume) is self-adjoint with eigenvalues ≥ 0.

    Sufficient, not necessary: True is certain to rounding, False says that nothing guarantees it.
    """
    return not obstacle(factors, box)


def refuse_unless_positive(
    factors: NormalFactors, box: Box | Sequence[Box] | None = None, what: str = "This method"
) -> None:
    """Raise ParameterError, which says why and what to do, where ``what`` needs a positive Ñ and this is none."""
    reason = obstacle(factors, box)
    if reason:
        raise ParameterError(f"{what} needs a self-adjoint, positive approximation of AᴴA, but {reason}.")


def obstacle(factors: NormalFactors, box: Box | Sequence[Box] | None = None) -> str:
    """Why P Ñ Pᵀ is not sure to be positive, and what to do about it, in words; empty where it is."""
    if factors.exact:
        return ""
    if not factors.symmetric:
        return f"the form {factors.form} weighs one side of its convolution more than the other; fit the form dcd"
    if any(a != b for a, b, _ in factors.terms):
        return f"nothing keeps the varying kernels of the form {factors.form} positive; fit the form dcd"
    if not (
        factors.positive_kernel or factors.once(("spectrum is positive",), lambda: _has_positive_spectrum(factors))
    ):
        return f"the convolution of the form {factors.form} has negative frequencies; fit the form dcd or coils"
    return _missing_lags(factors, box)


def _has_positive_spectrum(factors: NormalFactors) -> bool:
    """Whether the kernels as they are stored, wrapped around their own size, have real λ ≥ 0."""
    spectrum = torch.fft.fftn(factors.kernel, dim=AXES)
    slack = TOLERANCE * float(spectrum.abs().max())
    return bool((spectrum.real.min() >= -slack) & (spectrum.imag.abs().max() <= slack))


def _missing_lags(factors: NormalFactors, box: Box | Sequence[Box] | None) -> str:
    shape = factors.shape if box is None else box_shape(box)
    for n, m, circular in zip(shape, factors.kernel.shape[1:], factors.circular, strict=True):
        if not circular and 2 < m < 2 * n:
            return f"its kernel holds lags below {m // 2} voxels, which is too few for {n}; use patches of at most {m // 2} voxels"
    return ""

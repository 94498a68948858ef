"""How a network's data step is preconditioned: one function for training, whole volumes and patches."""

from __future__ import annotations

from collections.abc import Sequence

from napari_unroll.events import Box
from napari_unroll.methods.unrolled.network import UnrolledConfig
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.precondition import Apply, polynomial_inverse, regularised_inverse


def preconditioner(config: UnrolledConfig, factors: NormalFactors, boxes: Sequence[Box] | None = None) -> Apply:
    """M = (Ñ + α‖Ñ‖)⁻¹ on the whole volume, or P M Pᵀ on ``boxes``; 1/‖Ñ‖ for the plain gradient step (α None).

    With a degree M is a polynomial in Ñ, and on ``boxes`` in P Ñ Pᵀ.
    """
    if config.preconditioner is None:
        norm = factors.norm_squared
        return lambda g: g / norm
    if config.degree:
        operator = factors if boxes is None else factors.restrict(boxes)
        return polynomial_inverse(operator.apply, factors.norm_squared, config.preconditioner, config.degree)
    inverse = regularised_inverse(factors, config.preconditioner)
    return inverse.apply if boxes is None else inverse.restrict(boxes).apply

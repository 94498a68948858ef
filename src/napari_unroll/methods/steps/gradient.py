"""The gradient step x ↦ x − η_k M ∇f(x), plain or preconditioned.

M is 1/‖N‖ as in the paper, or the regularised inverse of the approximated normal operator, which makes the step
dimensionless and lets few iterations reach all frequencies; a step of length 1 is then the proximal map of the data term, as
nearly as M is that inverse.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator

from napari_unroll.methods.problem import MethodParams
from napari_unroll.methods.steps.data import Data


class GradientStepConfig(MethodParams):
    """How gradient steps are made."""

    kind: Literal["gradient"] = "gradient"
    preconditioner: float | None = Field(
        0.05, gt=0, description="Relative α of M = (Ñ + α‖Ñ‖)⁻¹; None for the paper's gradient step, M = 1/‖N‖."
    )
    degree: int = Field(
        0,
        ge=0,
        le=30,
        description="0: M is one convolution, which suits Ñ = D·C. Above: M is the Chebyshev polynomial of this degree in Ñ, "
        "for multi-coil MRI.",
    )
    is_shared: bool = Field(False, description="One η for all iterations, or one each.")
    substeps: int = Field(
        1,
        ge=1,
        le=8,
        description="Equal parts of a data step, with the gradient carried on by Ñ between them, so that long steps do not "
        "overshoot where M N is large.",
    )

    @model_validator(mode="after")
    def _degree_of_something(self) -> GradientStepConfig:
        if self.degree and self.preconditioner is None:
            raise ValueError("degree is that of the preconditioner; give its α too (preconditioner=0.2), or degree=0")
        return self

    @property
    def title(self) -> str:
        """In words."""
        polynomial = f" by a polynomial of degree {self.degree}" if self.degree else ""
        parts = f", data steps in {self.substeps} parts" if self.substeps > 1 else ""
        return f"preconditioner {self.preconditioner or 'none'}{polynomial}{parts}"

    def build(self, n_steps: int, length: float = 1.0) -> GradientStep:
        """The module with its learned step sizes, ``n_steps`` or one."""
        return GradientStep(self, 1 if self.is_shared else n_steps, length)


class GradientStep(torch.nn.Module):
    """x − η_k M ∇f(x), with η_k learned; iterations beyond the last repeat it.

    In n parts it is η_k/n, n times: errors of eigenvalue λ of M N shrink by (1 − η_k λ/n)ⁿ instead of 1 − η_k λ.
    """

    def __init__(self, config: GradientStepConfig, n_steps: int, length: float = 1.0) -> None:
        super().__init__()
        self.config = config
        self.stepsize = torch.nn.Parameter(torch.full((n_steps,), length))

    @property
    def is_nonexpansive(self) -> bool:
        """Whether it surely takes no two points apart: steps of 1/‖N‖ at most, and no preconditioner."""
        lengths = self.stepsize / self.config.substeps
        return self.config.preconditioner is None and bool(((lengths >= 0) & (lengths <= 1)).all())

    def forward(self, x: torch.Tensor, k: int, data: Data) -> torch.Tensor:
        """The step of iteration k from x (batch, 1, z, y, x)."""
        part = self.stepsize[min(k, len(self.stepsize) - 1)] / self.config.substeps
        precondition = data.preconditioner(self.config.preconditioner, self.config.degree)
        for _ in range(self.config.substeps):
            x = x - part * precondition(data.gradient(x))
        return x

"""The resolvent step v ↦ argmin_u τ/2 ‖A x(u) − y‖² + ½‖u − v‖² = (I + τN)⁻¹(v + τAᴴy): the proximal map of the data term.

Solved by conjugate gradients, preconditioned by the approximated normal operator; the backward pass solves another system
and keeps nothing of the iterations (Aggarwal, Mani, Jacob, "MoDL" (2019), doi:10.1109/TMI.2018.2865356, sec. III-C).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field

from napari_unroll.methods.problem import MethodParams
from napari_unroll.methods.steps.data import Data


class ResolventStepConfig(MethodParams):
    """How resolvent steps are made."""

    kind: Literal["resolvent"] = "resolvent"
    strength: float = Field(
        10.0,
        gt=0,
        le=1e4,
        description="τ‖N‖ that training begins with: how much the measurements count against the prior.",
    )
    is_shared: bool = Field(True, description="One τ for all iterations, or one each.")
    tolerance: float = Field(1e-4, gt=0, lt=1, description="Relative residual at which conjugate gradients end.")
    max_steps: int = Field(50, ge=1, le=1000, description="Most conjugate gradient steps.")

    @property
    def title(self) -> str:
        """In words."""
        return f"resolvent steps from τ‖N‖ = {self.strength:g}{' shared' if self.is_shared else ''}"

    def build(self, n_steps: int, length: float = 1.0) -> ResolventStep:
        """The module; ``length`` scales its first τ."""
        return ResolventStep(self, 1 if self.is_shared else n_steps, length)


class ResolventStep(torch.nn.Module):
    """(I + τ_k N)⁻¹(v + τ_k Aᴴy) with τ_k‖N‖ learned in its logarithm; iterations beyond the last repeat it."""

    def __init__(self, config: ResolventStepConfig, n_steps: int, length: float = 1.0) -> None:
        super().__init__()
        self.config = config
        first = math.log(config.strength * max(length, 1e-6))
        self.log_strength = torch.nn.Parameter(torch.full((n_steps,), first))

    @property
    def is_nonexpansive(self) -> bool:
        """Whether it surely takes no two points apart: N is positive (see ``Data.resolve``)."""
        return True

    def forward(self, v: torch.Tensor, k: int, data: Data) -> torch.Tensor:
        """The step of iteration k from v (batch, 1, z, y, x)."""
        strength = self.log_strength[min(k, len(self.log_strength) - 1)].exp()
        return data.resolve(v, strength, self.config.tolerance, self.config.max_steps)

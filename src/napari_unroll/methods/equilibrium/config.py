"""How a fixed point is looked for and how gradients pass through it, as one record."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_unroll.methods.problem import MethodParams


class EquilibriumConfig(MethodParams):
    """How z = f(z) is solved, and its gradient."""

    solver: Literal["anderson", "damped", "plain"] = Field(
        "anderson", description="Anderson mixing, a step of part of the way to f(z), or z ← f(z)."
    )
    tolerance: float = Field(
        1e-4, gt=0, lt=1, description="‖f(z) − z‖ / ‖f(z)‖ at which a fixed point counts as found (MOL's κ)."
    )
    max_evaluations: int = Field(50, ge=1, le=10_000, description="Most evaluations of f.")
    memory: int = Field(5, ge=1, le=20, description="Earlier differences that Anderson mixing remembers.")
    damping: float = Field(
        0.5, gt=0, le=1, description="Part of the way to f(z) that a damped step goes, and a phantom one."
    )
    gradient: Literal["implicit", "jacobian-free", "phantom"] = Field(
        "implicit",
        description="implicit: q = Jᵀq + g by the same solver. jacobian-free: q = g. phantom: through a few damped steps.",
    )
    phantom_steps: int = Field(5, ge=1, le=50, description="Steps that a phantom gradient passes through.")

    @property
    def title(self) -> str:
        """In words."""
        return f"to a fixed point ({self.solver}, tolerance {self.tolerance:g}, at most {self.max_evaluations} evaluations)"

    @property
    def volumes(self) -> int:
        """How many copies of z a search holds."""
        return 2 * self.memory + 5 if self.solver == "anderson" else 5

"""What an estimate leaves of the measurements, kept up to date as the estimate moves; by A and Aᴴ, or by AᴴA alone.

Algorithms that need Aᴴ(y − A x) and ‖y − A x‖ ask ``residual_at``, which takes the cheaper exact way. With A and Aᴴ the residual
r = y − A x itself is kept, which is stable in single precision however ill-conditioned A is (Björck, "Numerical Methods for Least
Squares Problems" 1996, sec. 7.4). Where the operator has AᴴA in closed form (trajectories in k-space) its image g = Aᴴy − N x
is kept, and ‖r‖² = ‖y‖² − Re⟨x, Aᴴy + g⟩, which is exact to about a thousandth of ‖y‖ in ‖r‖.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from napari_unroll.physics.autograd import Apply
from napari_unroll.physics.laws import inner, norm
from napari_unroll.physics.volume_physics import VolumePhysics


class Residual(Protocol):
    """The residual at the estimate ``x`` (1, 1, z, y, x)."""

    x: torch.Tensor

    @property
    def left(self) -> torch.Tensor:
        """What is kept of the measurements, which is never changed in place."""

    def image(self) -> torch.Tensor:
        """Aᴴ(y − A x), the negative gradient of ½‖A x − y‖²."""

    def norm(self) -> float:
        """‖y − A x‖."""

    def along(self, p: torch.Tensor) -> tuple[torch.Tensor, float]:
        """What :meth:`move` needs of a direction, and ‖A p‖²."""

    def move(self, p: torch.Tensor, seen: torch.Tensor, length: float) -> None:
        """Go to x + ``length`` p, with ``seen`` from :meth:`along`."""


@dataclass
class MeasuredResidual:
    """By r = y − A x."""

    physics: VolumePhysics
    x: torch.Tensor
    r: torch.Tensor

    @property
    def left(self) -> torch.Tensor:
        """r."""
        return self.r

    def image(self) -> torch.Tensor:
        """Aᴴ r."""
        return self.physics.A_adjoint(self.r)

    def norm(self) -> float:
        """‖r‖."""
        return norm(self.r)

    def along(self, p: torch.Tensor) -> tuple[torch.Tensor, float]:
        """A p and its square."""
        q = self.physics.A(p)
        return q, norm(q) ** 2

    def move(self, p: torch.Tensor, seen: torch.Tensor, length: float) -> None:
        """r loses ``length`` A p, whose memory it takes."""
        self.x = self.x + length * p
        self.r = seen.mul_(-length).add_(self.r)


@dataclass
class NormalResidual:
    """By g = Aᴴy − N x, with ``adjoint`` Aᴴy and ``size`` ‖y‖."""

    normal: Apply
    x: torch.Tensor
    g: torch.Tensor
    adjoint: torch.Tensor
    size: float

    @property
    def left(self) -> torch.Tensor:
        """g."""
        return self.g

    def image(self) -> torch.Tensor:
        """g."""
        return self.g

    def norm(self) -> float:
        """‖y − A x‖ from ‖y‖² − Re⟨x, Aᴴy + g⟩."""
        square = self.size**2 - inner(self.x, self.adjoint).real - inner(self.x, self.g).real
        return max(square, 0.0) ** 0.5

    def along(self, p: torch.Tensor) -> tuple[torch.Tensor, float]:
        """N p and ⟨p, N p⟩."""
        q = self.normal(p)
        return q, max(inner(p, q).real, 0.0)

    def move(self, p: torch.Tensor, seen: torch.Tensor, length: float) -> None:
        """The image loses ``length`` N p."""
        self.x = self.x + length * p
        self.g = self.g - length * seen

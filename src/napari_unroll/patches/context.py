"""Domain partitioning: the local problem of a patch when everything around it is known.

With the context supplied by x̂ and its global residual image r = Aᴴ(y − A x̂), the data gradient in a patch is
∇(u) = (P N Pᵀ)(u − P x̂) − P r (Efficient Unrolled Networks, arXiv 2601.02141, sec. 4.1): the exact operator runs once
for r, every later step is local. Must not know networks, loops over patches or viewers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from napari_unroll.errors import ParameterError
from napari_unroll.events import Box
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.physics.volume_physics import VolumePhysics


class LocalNormal(Protocol):
    """P N Pᵀ, exact or approximated, on patches (box, 1, z, y, x)."""

    def apply(self, u: torch.Tensor, /) -> torch.Tensor:
        """P N Pᵀ u."""


@dataclass(frozen=True)
class LocalProblem:
    """The data term of a batch of patches: ∇(u) = N_p (u − context) − residual, all (box, 1, z, y, x).

    ``context`` is P x̂ and ``residual`` is P r.
    """

    normal: LocalNormal
    context: torch.Tensor
    residual: torch.Tensor

    def gradient(self, u: torch.Tensor) -> torch.Tensor:
        """∇ ½‖A x(u) − y‖² for u (box, 1, z, y, x), where x(u) is the patch u in its context.

        At the context itself, the very tensor, it is known without N_p.
        """
        if u is self.context:
            return -self.residual
        return self.normal.apply(u - self.context) - self.residual

    def step(self, u: torch.Tensor, stepsize: torch.Tensor | float) -> torch.Tensor:
        """u − stepsize ∇(u)."""
        return u - stepsize * self.gradient(u)


@dataclass(frozen=True)
class ExactPatchNormal:
    """P AᴴA Pᵀ by the operator restricted to the patch (``physics.restrict(box)``): the exact mode and self-check."""

    physics: VolumePhysics

    def apply(self, u: torch.Tensor) -> torch.Tensor:
        """P N Pᵀ u."""
        return self.physics.normal(u)


class Restrictable(Protocol):
    """A normal operator that can be cut to patches: NormalFactors, or ExactNormal."""

    def restrict(self, boxes: Sequence[Box], /) -> LocalNormal:
        """P N Pᵀ for a batch of patches."""


@dataclass(frozen=True)
class ExactNormal:
    """AᴴA as something that can be cut to patches, box by box."""

    physics: VolumePhysics

    def restrict(self, boxes: Sequence[Box]) -> LocalNormal:
        """P AᴴA Pᵀ for every box."""
        return _EachBox([ExactPatchNormal(self.physics.restrict(box)) for box in boxes])


@dataclass(frozen=True)
class WholeNormal:
    """AᴴA where every box is the whole volume: training without partitioning."""

    physics: VolumePhysics

    def restrict(self, boxes: Sequence[Box]) -> LocalNormal:
        """AᴴA for every volume. Raises ParameterError where a box is not the whole volume."""
        shape = tuple(self.physics.x_shape[-3:])
        if any(tuple((b.start, b.stop) for b in box) != tuple((0, n) for n in shape) for box in boxes):
            raise ParameterError(
                f"Without partitioning a patch is the whole volume {shape}; raise the patch size to it."
            )
        return _EachBox([ExactPatchNormal(self.physics)] * len(boxes))


@dataclass(frozen=True)
class _EachBox:
    """One operator per entry of the batch."""

    normals: list[ExactPatchNormal]

    def apply(self, u: torch.Tensor) -> torch.Tensor:
        return torch.cat([normal.apply(v[None]) for normal, v in zip(self.normals, u, strict=True)])


def residual_image(physics: VolumePhysics, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """r = Aᴴ(y − A x) (1, 1, z, y, x): the only use of the exact operator for all patches together."""
    return physics.A_adjoint(y - physics.A(x))


def cut(volume: torch.Tensor, boxes: Sequence[Box]) -> torch.Tensor:
    """Patches (box, 1, z, y, x) of a volume (1, 1, z, y, x) or (z, y, x)."""
    flat = volume.reshape(volume.shape[-3:])
    return torch.stack([flat[box] for box in boxes])[:, None]


def local_problem(
    factors: NormalFactors, context: torch.Tensor, residual: torch.Tensor, boxes: Sequence[Box]
) -> LocalProblem:
    """The local problems of ``boxes`` (one shape) from volumes x̂ and r, with the approximated operator."""
    return LocalProblem(factors.restrict(list(boxes)), cut(context, boxes), cut(residual, boxes))


def exact_local_problem(
    physics: VolumePhysics, context: torch.Tensor, residual: torch.Tensor, box: Box
) -> LocalProblem:
    """The same for one box with the exact operator."""
    return LocalProblem(ExactPatchNormal(physics.restrict(box)), cut(context, [box]), cut(residual, [box]))

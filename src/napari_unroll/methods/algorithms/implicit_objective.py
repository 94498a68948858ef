"""What a fitted volume is held to: ‖A x − y‖² / (2 μ) + λ s TV(x), in batches of views where the measurements are views (CT).

    f_b(x) = B ‖A_b x − y_b‖² / (2 μ) + λ s TV(x),    so that the mean over the B batches is the whole, and its gradient likewise

Batches interleave, as ordered subsets do. It is the objective of ``classical.tv_objective`` with the length of ∇x rounded at
zero, (|∇x|² + ε²)^½, so that it has a gradient. Objectives on larger voxels are those of an operator with larger voxels where
there is one, else those of the volume interpolated to its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

from napari_unroll.methods.classical.differences import Differences
from napari_unroll.methods.subsets import groups
from napari_unroll.physics.autograd import Linear
from napari_unroll.physics.volume_physics import VolumePhysics

Shape = tuple[int, int, int]

ROUNDED = 0.01
"""ε, relative to s."""


@dataclass(frozen=True)
class Penalty:
    """λ s TV(x) with ``weight`` λ s and slopes rounded at ``rounded``."""

    differences: Differences
    weight: float
    rounded: float

    def value(self, x: torch.Tensor) -> torch.Tensor:
        """Of x (1, 1, z, y, x); zero for a constant."""
        slopes = Linear.apply(x[0, 0], self.differences.gradient, self.differences.divergence)
        squares = (torch.view_as_real(slopes) if slopes.is_complex() else slopes[..., None]).square().sum((0, -1))
        return self.weight * ((squares + self.rounded**2).sqrt() - self.rounded).sum()


@dataclass(frozen=True)
class Part:
    """The measurements of one batch."""

    physics: VolumePhysics
    y: torch.Tensor

    def misfit(self, x: torch.Tensor) -> torch.Tensor:
        """A_b x − y_b for x on any voxels."""
        return self.physics.A(resampled(x, self.physics.grid.shape)) - self.y


@dataclass(frozen=True)
class Objective:
    """f on volumes (1, 1, z, y, x) of ``shape``, as the mean over its ``parts``; ``mean`` is μ."""

    shape: Shape
    parts: tuple[Part, ...]
    mean: float = 1.0
    penalty: Penalty | None = None

    def value(self, x: torch.Tensor, misfit: torch.Tensor) -> torch.Tensor:
        """f_b(x) from the misfit of its batch."""
        parts = torch.view_as_real(misfit) if misfit.is_complex() else misfit
        data = len(self.parts) * parts.square().sum() / (2 * self.mean)
        return data if self.penalty is None else data + self.penalty.value(x)


def data_parts(physics: VolumePhysics, y: torch.Tensor, n_batches: int, coarsening: int = 1) -> tuple[Part, ...]:
    """The batches of ``y``, on voxels ``coarsening`` times as large where the operator can."""
    coarse = physics.coarsen(coarsening) if coarsening > 1 else physics
    if coarse is None:
        return (Part(physics, y),)
    return tuple(Part(*part) for part in groups(coarse, y, n_batches))


def resampled(x: torch.Tensor, shape: Shape) -> torch.Tensor:
    """x (1, 1, z, y, x) on ``shape`` voxels over the same extent, by linear interpolation; real or complex."""
    if x.shape[-3:] == torch.Size(shape):
        return x
    if x.is_complex():
        return torch.complex(resampled(x.real, shape), resampled(x.imag, shape))
    return interpolate(x, size=shape, mode="trilinear")

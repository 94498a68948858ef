"""What regularisation strengths are measured against, so that they have no unit.

A method minimises ‖A x − y‖² / (2 μ) + λ R(x): μ, the mean eigenvalue of AᴴA, takes the units of data and detector and
the number of measurements out; s, the typical magnitude of the object, those of the volume where R is not quadratic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field

from napari_unroll.physics.laws import norm, random_like
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.scan import Scan

Strength = Annotated[float, Field(gt=0, le=100)] | Literal["auto"]
"""A strength λ, or ``auto`` for the method's default."""


def resolve_strength(strength: float | str, defaults: Mapping[str, float], scan: Scan) -> float:
    """The strength itself, or for ``auto`` the default of the scan's modality."""
    return defaults[scan.modality] if isinstance(strength, str) else strength


def mean_eigenvalue(physics: VolumePhysics, seed: int = 0) -> float:
    """μ = ‖A w‖² / ‖w‖² for one white Gaussian w; within a percent of trace(AᴴA) / n already for small volumes."""
    w = random_like(physics.x_shape, physics.dtype, physics.device, seed)
    return norm(physics.A(w)) ** 2 / norm(w) ** 2


def volume_scale(x: torch.Tensor) -> float:
    """s = ‖x‖₄² / ‖x‖₂: the typical magnitude inside the object, however much empty space surrounds it."""
    squared = x.abs().double().square()
    return float((squared.square().sum() / squared.sum().clamp(min=1e-300)).sqrt())

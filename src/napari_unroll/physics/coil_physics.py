"""What Cartesian and non-Cartesian multi-coil MRI share: maps, coil images, their combinations. Knows no sampling."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch

from napari_unroll.errors import ParameterError
from napari_unroll.physics.volume_physics import VolumePhysics


class CoilPhysics(VolumePhysics):
    """Multi-coil samples y = E S x of a complex image x, S the coil sensitivity maps and E the same for every coil."""

    dtype = torch.complex64
    x_axes = "image (batch, 1, z, y, x)"

    @property
    @abstractmethod
    def csm(self) -> torch.Tensor:
        """Coil sensitivity maps (coil, z, y, x)."""

    def coil_images(self, y: torch.Tensor) -> torch.Tensor:
        """Eᴴ y, the adjoint image of every coil (batch, coil, z, y, x). Raises ScanError."""
        self._check(y, self.y_shape, self.y_axes)
        return self._coil_images(y)

    def compensate(self, y: torch.Tensor) -> torch.Tensor:
        """Samples weighted so that their adjoint is an image; as they are where they cover k-space evenly."""
        return y

    def A_dagger(self, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The adjoint of the compensated samples: the zero-filled or the gridded image."""
        return self.A_adjoint(self.compensate(y), **kwargs)

    def rss(self, y: torch.Tensor) -> torch.Tensor:
        """Root sum of squares of the compensated coil images, float32 (batch, 1, z, y, x); needs no maps."""
        return torch.linalg.vector_norm(self.coil_images(self.compensate(y)), dim=1, keepdim=True)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return (self.csm.conj() * self._coil_images(y)).sum(1, keepdim=True)

    @abstractmethod
    def _coil_images(self, y: torch.Tensor) -> torch.Tensor:
        """Eᴴ y."""


def csm_of(physics: VolumePhysics) -> torch.Tensor:
    """The coil sensitivity maps (coil, z, y, x) of a physics. Raises ParameterError where it has none."""
    if physics.csm is None:
        raise ParameterError(f"This needs an operator with coil maps (MRI); {type(physics).__name__} has none.")
    return physics.csm

"""What Cartesian and non-Cartesian multi-coil MRI share: maps, coil images, their combinations. Knows no sampling.

Processes of one run share the coils: samples and coil images are gathered, what is a sum over coils is summed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch

from napari_unroll.errors import ParameterError
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.team import gathered, summed


class CoilPhysics(VolumePhysics):
    """Multi-coil samples y = E S x of a complex image x, S the coil sensitivity maps and E the same for every coil.

    A back end says what happens to some coils.
    """

    dtype = torch.complex64
    x_axes = "image (batch, 1, z, y, x)"

    @property
    @abstractmethod
    def csm(self) -> torch.Tensor:
        """Coil sensitivity maps (coil, z, y, x)."""

    def coil_images(self, y: torch.Tensor) -> torch.Tensor:
        """Eᴴ y, the adjoint image of every coil (batch, coil, z, y, x). Raises ScanError."""
        self._check(y, self.y_shape, self.y_axes)
        return self._of_coils(lambda coils: self._images(y[:, coils]))

    def compensate(self, y: torch.Tensor) -> torch.Tensor:
        """Samples weighted so that their adjoint is an image; as they are where they cover k-space evenly."""
        return y

    def A_dagger(self, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The adjoint of the compensated samples: the zero-filled or the gridded image."""
        return self.A_adjoint(self.compensate(y), **kwargs)

    def rss(self, y: torch.Tensor) -> torch.Tensor:
        """Root sum of squares of the compensated coil images, float32 (batch, 1, z, y, x); needs no maps."""
        return torch.linalg.vector_norm(self.coil_images(self.compensate(y)), dim=1, keepdim=True)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._of_coils(lambda coils: self._samples(x, coils))

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return summed(lambda coils: self._combined(y[:, coils], coils), len(self.csm))

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        return summed(lambda coils: self._normal_by(x, coils), len(self.csm))

    def _of_coils(self, work: Callable[[slice], torch.Tensor]) -> torch.Tensor:
        """(batch, coil, …) of all coils, where ``work`` makes that of some."""
        return gathered(lambda coils: work(coils).movedim(1, 0), len(self.csm)).movedim(0, 1)

    @abstractmethod
    def _samples(self, x: torch.Tensor, coils: slice) -> torch.Tensor:
        """E S x (batch, coil, …) of these coils."""

    @abstractmethod
    def _images(self, y: torch.Tensor) -> torch.Tensor:
        """Eᴴ y (batch, coil, z, y, x), y of some coils."""

    def _combined(self, y: torch.Tensor, coils: slice) -> torch.Tensor:
        """Sᴴ Eᴴ y (batch, 1, z, y, x), y of these coils."""
        return self._joined(self._images(y), coils)

    def _joined(self, images: torch.Tensor, coils: slice) -> torch.Tensor:
        """Sᴴ of coil images (batch, 1, z, y, x)."""
        return (self.csm[coils].conj() * images).sum(1, keepdim=True)

    def _normal_by(self, x: torch.Tensor, coils: slice) -> torch.Tensor:
        """Sᴴ Eᴴ E S x (batch, 1, z, y, x) of these coils."""
        return self._combined(self._samples(x, coils), coils)


def csm_of(physics: VolumePhysics) -> torch.Tensor:
    """The coil sensitivity maps (coil, z, y, x) of a physics. Raises ParameterError where it has none."""
    if physics.csm is None:
        raise ParameterError(f"This needs an operator with coil maps (MRI); {type(physics).__name__} has none.")
    return physics.csm

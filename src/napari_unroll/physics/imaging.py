"""deepinv's blur and inpainting on volumes, thin: operators whose normal operator is known in closed form.

They exist to hold the normal operator's approximation against truth, and for volumes that were blurred or have gaps.
"""

from __future__ import annotations

import torch
from deepinv.physics import Blur, Inpainting

from napari_unroll.errors import ParameterError
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.geometry import VolumeGrid


class VolumeBlur(VolumePhysics, Blur):
    """Convolution of real volumes with ``kernel`` (z, y, x): ``border`` "circular", or "valid" (smaller output)."""

    def __init__(
        self, kernel: torch.Tensor, grid: VolumeGrid, border: str = "circular", device: torch.device | str = "cpu"
    ) -> None:
        if border not in ("circular", "valid"):
            raise ParameterError(f"Expected a border of 'circular' or 'valid'; got {border!r}.")
        if kernel.ndim != 3 or any(k > n for k, n in zip(kernel.shape, grid.shape, strict=True)):
            raise ParameterError(
                f"Expected a kernel (z, y, x) not larger than the grid {grid.shape}; got {tuple(kernel.shape)}."
            )
        filters = kernel.to(torch.float32)[None, None]
        reason = f"{border} convolution (torch FFT)"
        super().__init__(grid, device, reason, filter=filters, padding=border, use_fft=True)
        self.is_periodic = border == "circular"

    @property
    def y_shape(self) -> tuple[int, ...]:
        """(1, 1, z, y, x) of the blurred volume."""
        lost = [k - 1 if self.padding == "valid" else 0 for k in self.filter.shape[-3:]]
        return (1, 1, *(n - k for n, k in zip(self.grid.shape, lost, strict=True)))

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return Blur.A(self, x)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return Blur.A_adjoint(self, y)


class VolumeInpainting(VolumePhysics, Inpainting):
    """Known voxels of a volume: y = mask · x with ``mask`` (z, y, x)."""

    def __init__(self, mask: torch.Tensor, grid: VolumeGrid, device: torch.device | str = "cpu") -> None:
        if tuple(mask.shape) != grid.shape:
            raise ParameterError(f"Expected a mask of the grid's shape {grid.shape}; got {tuple(mask.shape)}.")
        known = mask.to(torch.float32)[None]
        super().__init__(grid, device, "voxel mask (torch)", img_size=(1, *grid.shape), mask=known)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """The same as ``x_shape``."""
        return self.x_shape

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return Inpainting.A(self, x)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return Inpainting.A_adjoint(self, y)

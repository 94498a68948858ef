"""Blur and inpainting as deepinv LinearPhysics, thin: operators whose normal operator is known in closed form.

They exist to hold the normal operator's approximation against truth, and for volumes that were blurred or have gaps.
"""

from __future__ import annotations

from typing import Any

import torch
from deepinv.physics import Blur, Inpainting

from napari_unroll.errors import ParameterError
from napari_unroll.scan.geometry import VolumeGrid


class VolumeBlur(Blur):
    """Convolution of real volumes with ``kernel`` (z, y, x): ``border`` "circular", or "valid" (smaller output)."""

    dtype = torch.float32

    def __init__(
        self, kernel: torch.Tensor, grid: VolumeGrid, border: str = "circular", device: torch.device | str = "cpu"
    ) -> None:
        if border not in ("circular", "valid"):
            raise ParameterError(f"Expected a border of 'circular' or 'valid'; got {border!r}.")
        if kernel.ndim != 3 or any(k > n for k, n in zip(kernel.shape, grid.shape, strict=True)):
            raise ParameterError(
                f"Expected a kernel (z, y, x) not larger than the grid {grid.shape}; got {tuple(kernel.shape)}."
            )
        super().__init__(filter=kernel.to(torch.float32)[None, None], padding=border, use_fft=True, device=device)
        self.grid = grid
        self.reason = f"{border} convolution (torch FFT)"

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(1, 1, z, y, x)."""
        return (1, 1, *self.grid.shape)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """(1, 1, z, y, x) of the blurred volume."""
        lost = [k - 1 if self.padding == "valid" else 0 for k in self.filter.shape[-3:]]
        return (1, 1, *(n - k for n, k in zip(self.grid.shape, lost, strict=True)))

    @property
    def device(self) -> torch.device:
        """Where x and y live."""
        return self.filter.device


class VolumeInpainting(Inpainting):
    """Known voxels of a volume: y = mask · x with ``mask`` (z, y, x)."""

    dtype = torch.float32

    def __init__(self, mask: torch.Tensor, grid: VolumeGrid, device: torch.device | str = "cpu") -> None:
        if tuple(mask.shape) != grid.shape:
            raise ParameterError(f"Expected a mask of the grid's shape {grid.shape}; got {tuple(mask.shape)}.")
        super().__init__(img_size=(1, *grid.shape), mask=mask.to(torch.float32)[None], device=device)
        self.grid = grid
        self.reason = "voxel mask (torch)"

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(1, 1, z, y, x)."""
        return (1, 1, *self.grid.shape)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """The same as ``x_shape``."""
        return self.x_shape

    @property
    def device(self) -> torch.device:
        """Where x and y live."""
        mask: Any = self.mask
        return mask.device

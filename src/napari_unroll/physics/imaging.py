"""deepinv's blur and inpainting on volumes, thin: operators whose normal operator is known in closed form.

They are what images are deblurred and enlarged with, and they hold the normal operator's approximation against truth.
"""

from __future__ import annotations

from typing import Any

import torch
from deepinv.physics import Blur, Inpainting

from napari_unroll.errors import ParameterError
from napari_unroll.events import Box
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.blurring import BlurredSampling
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
        padding = "valid" if kernel.numel() == 1 else border  # the same, and deepinv warns of anything else
        super().__init__(grid, device, reason, filter=filters, padding=padding, use_fft=True)
        self.is_periodic = border == "circular"
        self.period = (1, 1, 1) if border == "circular" else None

    @property
    def y_shape(self) -> tuple[int, ...]:
        """(1, 1, z, y, x) of the blurred volume."""
        lost = [k - 1 if self.padding == "valid" else 0 for k in self.filter.shape[-3:]]
        return (1, 1, *(n - k for n, k in zip(self.grid.shape, lost, strict=True)))

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return Blur.A(self, x)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return Blur.A_adjoint(self, y)


class DownsampledBlur(VolumeBlur):
    """Images blurred by a circular convolution, of which every few voxels were measured (see ``BlurredSampling``).

    x and y are real, y of the shape (batch, 1, z, y, x) divided by the factors. With factors of one it is the blur itself.
    """

    y_axes = "image (batch, 1, z, y, x)"

    def __init__(
        self, sampling: BlurredSampling, grid: VolumeGrid | None = None, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(torch.tensor(sampling.kernel), grid or VolumeGrid(shape=sampling.shape), device=device)
        self.sampling = sampling
        self.period = sampling.factor
        if sampling.factor != (1, 1, 1):
            self.reason += f", every {' × '.join(map(str, sampling.factor))} voxels"
        self.is_periodic = sampling.factor == (1, 1, 1)
        z, y, x = (slice((f - 1) // 2, None, f) for f in sampling.factor)
        self._measured: Box = (z, y, x)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """(1, 1, z, y, x) of what was measured."""
        return (1, 1, *self.sampling.measurement_shape)

    def A_dagger(self, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The measured image on the finer grid: bicubic in (y, x), linear along z. Raises ScanError."""
        self._check(y, self.y_shape, self.y_axes)
        _, height, width = self.grid.shape
        slices = torch.nn.functional.interpolate(y[:, 0], size=(height, width), mode="bicubic")
        return torch.nn.functional.interpolate(slices[:, None], size=self.grid.shape, mode="trilinear")

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return super()._forward(x)[(..., *self._measured)].contiguous()

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        blurred = y.new_zeros(len(y), 1, *self.grid.shape)
        blurred[(..., *self._measured)] = y
        return super()._adjoint(blurred)


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

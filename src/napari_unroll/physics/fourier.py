"""Cartesian multi-coil Fourier sampling: deepinv's ``MultiCoilMRI`` with complex tensors at its border.

y_c = M F S_c x with F the centred orthonormal FFT over (z, y, x). Knows no files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics, MultiCoilMRI

from napari_unroll.errors import ScanError
from napari_unroll.physics.coil_physics import CoilPhysics
from napari_unroll.physics.convolution import AXES, Circular
from napari_unroll.scan.geometry import VolumeGrid

PART = 1 << 22
"""Voxels above which images are transformed one by one, between which it can be stopped."""


def centred_fft(x: torch.Tensor) -> torch.Tensor:
    """Centred orthonormal FFT over the last three axes; k = 0 at index n // 2."""
    return _each(MultiCoilMRI.fft, x)


def centred_ifft(y: torch.Tensor) -> torch.Tensor:
    """Inverse (and adjoint) of :func:`centred_fft`."""
    return _each(MultiCoilMRI.ifft, y)


def _each(transform: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """``transform`` of all images at once where they are small, one after the other where they are large; there may be none."""
    if x.numel() == 0:
        return x
    if x.numel() <= PART:
        return transform(x, dim=AXES)
    return torch.stack([transform(image, dim=AXES) for image in x.reshape(-1, *x.shape[-3:])]).reshape(x.shape)


class CartesianMRI(CoilPhysics, MultiCoilMRI):
    """Multi-coil k-space samples of a complex image on a Cartesian grid.

    x is complex64 (batch, 1, z, y, x), y complex64 (batch, coil, z, y, x), zero where ``mask`` (z, y, x) is. ``csm``
    (coil, z, y, x) are the coil sensitivity maps; with Σ|S|² ≤ 1 the norm of A is at most 1. Two-dimensional data
    have z of 1. deepinv's two real channels never appear.

    Raises ScanError where mask, maps and grid do not fit.
    """

    y_axes = "k-space (batch, coil, z, y, x)"

    def __init__(
        self,
        mask: np.ndarray | torch.Tensor,
        csm: np.ndarray | torch.Tensor,
        grid: VolumeGrid | None = None,
        device: torch.device | str = "cpu",
        reason: str = "centred FFT (torch)",
    ) -> None:
        maps = torch.as_tensor(np.array(csm) if isinstance(csm, np.ndarray) else csm, dtype=torch.complex64)
        samples = torch.as_tensor(np.array(mask) if isinstance(mask, np.ndarray) else mask)
        if maps.ndim != 4 or tuple(samples.shape) != tuple(maps.shape[1:]):
            raise ScanError(
                "Expected a mask (z, y, x) and coil maps (coil, z, y, x) on one grid; got "
                f"{tuple(samples.shape)} and {tuple(maps.shape)}."
            )
        grid = grid or VolumeGrid(shape=tuple(samples.shape))  # type: ignore[arg-type]
        if grid.shape != tuple(samples.shape):
            raise ScanError(f"The mask has shape {tuple(samples.shape)} but the volume grid is {grid.shape}.")
        super().__init__(grid, device, reason, mask=samples, coil_maps=maps, three_d=True)

    @property
    def csm(self) -> torch.Tensor:
        """Coil sensitivity maps (coil, z, y, x)."""
        maps: torch.Tensor = self.coil_maps
        return maps[0]

    @property
    def y_shape(self) -> tuple[int, ...]:
        """(1, coil, z, y, x)."""
        return (1, *self.coil_maps.shape[1:])

    @staticmethod
    def check_mask(mask: torch.Tensor | None = None, three_d: bool = True) -> torch.Tensor | None:
        """The mask as float32 (z, y, x)."""
        return None if mask is None else mask.reshape(mask.shape[-3:]).to(torch.float32)

    def update_parameters(self, mask: Any = None, coil_maps: Any = None, **kwargs: Any) -> None:
        """Replace ``mask`` (z, y, x) or ``coil_maps`` (coil, z, y, x) by ones of the same shape."""
        maps = None if coil_maps is None else self.check_coil_maps(coil_maps, three_d=True)
        LinearPhysics.update_parameters(self, mask=self.check_mask(mask), coil_maps=maps, **kwargs)

    def normal_kernel(self) -> tuple[torch.Tensor, Circular]:
        """The circular kernel of Fᴴ M F, of length 1 along axes where M is constant."""
        spectrum = torch.fft.ifftshift(self.mask, dim=AXES)
        for axis in AXES:
            first = spectrum.narrow(axis, 0, 1)
            spectrum = first if bool((spectrum == first).all()) else spectrum
        return torch.fft.ifftn(spectrum, dim=AXES)[None], (True, True, True)

    def _samples(self, x: torch.Tensor, coils: slice) -> torch.Tensor:
        return self.mask * centred_fft(self.csm[coils] * x)

    def _images(self, y: torch.Tensor) -> torch.Tensor:
        return centred_ifft(self.mask * y)

    def noise(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The noise model applied to measured samples only."""
        return self.mask * self.noise_model(x, **kwargs)

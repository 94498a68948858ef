"""Cartesian multi-coil Fourier sampling: deepinv's ``MultiCoilMRI`` with complex tensors at its border.

y_c = M F S_c x with F the centred orthonormal FFT over (z, y, x). An image whose middle lies at index n // 2 needs no turn to
the corner first: that is a phase in k-space, which goes with the mask. Knows no files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def fft(x: torch.Tensor) -> torch.Tensor:
    """Orthonormal FFT over the last three axes, k = 0 at index 0."""
    return _each(torch.fft.fftn, x)


def ifft(y: torch.Tensor) -> torch.Tensor:
    """Inverse (and adjoint) of :func:`fft`."""
    return _each(torch.fft.ifftn, y)


def _each(transform: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """``transform`` of all images at once where they are small, one after the other where they are large; there may be none."""
    if x.numel() == 0:
        return x
    if x.numel() <= PART:
        return transform(x, dim=AXES, norm="ortho")
    images = [transform(image, dim=AXES, norm="ortho") for image in x.reshape(-1, *x.shape[-3:])]
    return torch.stack(images).reshape(x.shape)


def middle_phase(shape: Sequence[int]) -> torch.Tensor:
    """exp(2πi k·(n // 2) / n) on the centred grid of k-space, complex128 (z, y, x).

    By as much the FFT of an image changes whose middle, at index n // 2, is turned to the corner; ±1 along even axes.
    """
    phase = torch.ones((), dtype=torch.complex128)
    for n in shape:
        turns = (torch.arange(n) - n // 2) * (n // 2) % n / n
        phase = phase[..., None] * torch.polar(torch.ones(n, dtype=torch.float64), 2 * torch.pi * turns.double())
    return phase


class CartesianMRI(CoilPhysics, MultiCoilMRI):
    """Multi-coil k-space samples of a complex image on a Cartesian grid.

    x is complex64 (batch, 1, z, y, x), y complex64 (batch, coil, z, y, x), zero where ``mask`` (z, y, x) is. ``csm``
    (coil, z, y, x) are the coil sensitivity maps; with Σ|S|² ≤ 1 the norm of A is at most 1. Two-dimensional data
    have z of 1. deepinv's two real channels never appear.

    Raises ScanError where mask, maps and grid do not fit.
    """

    y_axes = "k-space (batch, coil, z, y, x)"
    _turned: torch.Tensor | None = None

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
        if mask is not None:
            self._turned = None

    @property
    def turned_mask(self) -> torch.Tensor:
        """The mask times :func:`middle_phase` (z, y, x), real where all axes are even."""
        if self._turned is None:
            phase = middle_phase(self.mask.shape).to(self.mask.device)
            is_real = all(n % 2 == 0 or n == 1 for n in self.mask.shape)
            self._turned = self.mask * (phase.real.float() if is_real else phase.to(torch.complex64))
        return self._turned

    def normal_kernel(self) -> tuple[torch.Tensor, Circular]:
        """The circular kernel of Fᴴ M F, of length 1 along axes where M is constant."""
        spectrum = torch.fft.ifftshift(self.mask, dim=AXES)
        for axis in AXES:
            first = spectrum.narrow(axis, 0, 1)
            spectrum = first if bool((spectrum == first).all()) else spectrum
        return torch.fft.ifftn(spectrum, dim=AXES)[None], (True, True, True)

    def _samples(self, x: torch.Tensor, coils: slice) -> torch.Tensor:
        return torch.fft.fftshift(fft(self.csm[coils] * x), dim=AXES) * self.turned_mask

    def _images(self, y: torch.Tensor) -> torch.Tensor:
        return ifft(torch.fft.ifftshift(y * self.turned_mask.conj(), dim=AXES))

    def _normal_by(self, x: torch.Tensor, coils: slice) -> torch.Tensor:
        at_corner = torch.fft.ifftshift(self.mask**2, dim=AXES)
        return self._joined(ifft(fft(self.csm[coils] * x) * at_corner), coils)

    def noise(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The noise model applied to measured samples only."""
        return self.mask * self.noise_model(x, **kwargs)

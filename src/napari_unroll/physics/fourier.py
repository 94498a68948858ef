"""Cartesian multi-coil Fourier sampling as a deepinv LinearPhysics with complex tensors at its border.

y_c = M F S_c x with F the centred orthonormal FFT over (z, y, x). Differentiable by torch itself. Knows no files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics, MultiCoilMRI

from napari_unroll.errors import ScanError
from napari_unroll.scan.geometry import VolumeGrid

AXES = (-3, -2, -1)


PART = 1 << 22
"""Voxels above which images are transformed one by one, between which it can be stopped."""


def centred_fft(x: torch.Tensor) -> torch.Tensor:
    """Centred orthonormal FFT over the last three axes; k = 0 at index n // 2."""
    return _each(MultiCoilMRI.fft, x)


def centred_ifft(y: torch.Tensor) -> torch.Tensor:
    """Inverse (and adjoint) of :func:`centred_fft`."""
    return _each(MultiCoilMRI.ifft, y)


def _each(transform: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """``transform`` of all images at once where they are small, one after the other where they are large."""
    if x.numel() <= PART:
        return transform(x, dim=AXES)
    return torch.stack([transform(image, dim=AXES) for image in x.reshape(-1, *x.shape[-3:])]).reshape(x.shape)


def check_complex(tensor: torch.Tensor, shape: tuple[int, ...], what: str) -> None:
    """ScanError unless ``tensor`` is complex with the axes ``shape[1:]`` after its batch axis."""
    if tuple(tensor.shape[1:]) != shape[1:] or not tensor.is_complex():
        raise ScanError(
            f"Expected a complex {what} with axes {shape[1:]} after the batch; got {tensor.dtype} "
            f"of shape {tuple(tensor.shape)}."
        )


class CartesianMRI(MultiCoilMRI):
    """Multi-coil k-space samples of a complex image on a Cartesian grid.

    x is complex64 (batch, 1, z, y, x), y complex64 (batch, coil, z, y, x), zero where ``mask`` (z, y, x) is. ``csm``
    (coil, z, y, x) are the coil sensitivity maps; with Σ|S|² ≤ 1 the norm of A is at most 1. Two-dimensional data
    have z of 1. deepinv's two real channels never appear.

    Raises ScanError where mask, maps and grid do not fit.
    """

    dtype = torch.complex64

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
        super().__init__(mask=samples, coil_maps=maps, three_d=True, device=device)
        shape = tuple(samples.shape)
        self.grid = grid or VolumeGrid(shape=shape)  # type: ignore[arg-type]
        if self.grid.shape != shape:
            raise ScanError(f"The mask has shape {shape} but the volume grid is {self.grid.shape}.")
        self.reason = reason

    @property
    def csm(self) -> torch.Tensor:
        """Coil sensitivity maps (coil, z, y, x)."""
        return self.coil_maps[0]

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(1, 1, z, y, x)."""
        return (1, 1, *self.grid.shape)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """(1, coil, z, y, x)."""
        return (1, *self.coil_maps.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where x and y live."""
        return self.coil_maps.device

    @staticmethod
    def check_mask(mask: torch.Tensor | None = None, three_d: bool = True) -> torch.Tensor | None:
        """The mask as float32 (z, y, x)."""
        return None if mask is None else mask.reshape(mask.shape[-3:]).to(torch.float32)

    def update_parameters(self, mask: Any = None, coil_maps: Any = None, **kwargs: Any) -> None:
        """Replace ``mask`` (z, y, x) or ``coil_maps`` (coil, z, y, x) by ones of the same shape."""
        maps = None if coil_maps is None else self.check_coil_maps(coil_maps, three_d=True)
        LinearPhysics.update_parameters(self, mask=self.check_mask(mask), coil_maps=maps, **kwargs)

    def A(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Measured k-space of ``x``."""
        check_complex(x, self.x_shape, "image (batch, 1, z, y, x)")
        self.update_parameters(**kwargs)
        return self.mask * centred_fft(self.coil_maps * x)

    def A_adjoint(self, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Zero-filled coil images combined with the conjugate maps: Σ_c S_cᴴ Fᴴ M y_c."""
        self.update_parameters(**kwargs)
        return (self.coil_maps.conj() * self.coil_images(y)).sum(1, keepdim=True)

    def A_dagger(self, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The zero-filled image Aᴴ y; exact inverse for a full mask and Σ|S|² = 1."""
        return self.A_adjoint(y, **kwargs)

    def coil_images(self, y: torch.Tensor) -> torch.Tensor:
        """Zero-filled image of every coil, (batch, coil, z, y, x)."""
        check_complex(y, self.y_shape, "k-space (batch, coil, z, y, x)")
        return centred_ifft(self.mask * y)

    def rss(self, y: torch.Tensor) -> torch.Tensor:
        """Root-sum-of-squares magnitude of the zero-filled coil images, float32 (batch, 1, z, y, x); needs no maps."""
        return torch.linalg.vector_norm(self.coil_images(y), dim=1, keepdim=True)

    def noise(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The noise model applied to measured samples only."""
        return self.mask * self.noise_model(x, **kwargs)

"""Tiny operators whose matrices can be written down: the oracles of this room's tests."""

from __future__ import annotations

import numpy as np
import torch

from napari_unroll.physics.coil_physics import CoilPhysics
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.physics.xray import XRay
from napari_unroll.scan.geometry import ConeBeam, VolumeGrid

AXES = (-3, -2, -1)


class Dense(VolumePhysics):
    """Any operator given by functions on volumes (1, 1, z, y, x) that gives volumes."""

    def __init__(self, shape, forward, adjoint, dtype=torch.float32):
        super().__init__(VolumeGrid(shape=shape))
        self.dtype = dtype
        self._functions = forward, adjoint

    @property
    def y_shape(self):
        return self.x_shape

    def _forward(self, x):
        return self._functions[0](x)

    def _adjoint(self, y):
        return self._functions[1](y)


def circular_blur(shape, width=1.0):
    """Circular convolution with a Gaussian."""
    axes = torch.meshgrid(*[torch.fft.fftfreq(n) for n in shape], indexing="ij")
    transfer = torch.exp(-0.5 * (2 * np.pi * width) ** 2 * sum(a * a for a in axes) / 4)

    def blur(x):
        return torch.fft.ifftn(torch.fft.fftn(x, dim=(-3, -2, -1)) * transfer, dim=(-3, -2, -1)).real

    return Dense(shape, blur, blur)


def inpainting(shape, seed=0):
    """Multiplication with a binary mask."""
    mask = (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6).float()
    return Dense(shape, lambda x: mask * x, lambda y: mask * y)


class Coils(CoilPhysics):
    """Cartesian multi-coil MRI with the centred orthonormal Fourier transform, written out."""

    def __init__(self, csm, mask):
        super().__init__(VolumeGrid(shape=csm.shape[1:]))
        self._csm, self.mask = csm, mask

    @property
    def csm(self):
        return self._csm

    @property
    def y_shape(self):
        return (1, *self._csm.shape)

    def normal_kernel(self):
        spectrum = torch.fft.ifftshift(self.mask.float())
        is_readout = bool((spectrum == spectrum[..., :1]).all())
        return torch.fft.ifftn(spectrum[..., :1] if is_readout else spectrum)[None], (True, True, True)

    def _samples(self, x, coils):
        shifted = torch.fft.ifftshift(self._csm[coils] * x, dim=AXES)
        return self.mask * torch.fft.fftshift(torch.fft.fftn(shifted, dim=AXES, norm="ortho"), dim=AXES)

    def _images(self, y):
        shifted = torch.fft.ifftshift(self.mask * y, dim=AXES)
        return torch.fft.fftshift(torch.fft.ifftn(shifted, dim=AXES, norm="ortho"), dim=AXES)


def coils(shape=(6, 8, 10), n_coils=3, seed=0, readout=False):
    """Smooth random maps and a random mask, not symmetric; with ``readout`` fully sampled along x."""
    g = torch.Generator().manual_seed(seed)
    f = torch.zeros(n_coils, *shape, dtype=torch.complex64)
    f[:, :2, :2, :2] = torch.randn(n_coils, 2, 2, 2, dtype=torch.complex64, generator=g)
    csm = torch.fft.ifftn(f, dim=(-3, -2, -1), norm="forward") + 0.5
    mask = torch.rand(shape[:2] + ((1,) if readout else shape[2:]), generator=g) < 0.5
    return Coils(csm, mask.expand(shape))


def cone(n=16, n_views=12, shape=None, arc=2 * np.pi, part=1.0):
    """A small cone-beam scan of a cube; ``part`` cuts the detector to its middle."""
    geometry = ConeBeam.circular(
        angles_rad=np.arange(n_views) * arc / n_views,
        source_origin_mm=3.0 * n,
        source_detector_mm=4.0 * n,
        detector_shape=(int(1.6 * n), int(2 * part * n)),
        pixel_mm=(1.0, 1.0),
    )
    return XRay(geometry, VolumeGrid(shape=shape or (n, n, n)), n_threads=1)


def dense_normal(physics):
    """AᴴA as a matrix (n, n)."""
    shape = physics.x_shape
    n = int(np.prod(shape))
    columns = []
    for j in range(n):
        e = torch.zeros(n, dtype=physics.dtype)
        e[j] = 1
        columns.append(physics.A_adjoint(physics.A(e.reshape(shape))).reshape(-1))
    return torch.stack(columns, 1)


def dense(apply, shape, dtype=torch.float32):
    """The matrix of ``apply`` on volumes (1, 1, z, y, x)."""
    n = int(np.prod(shape))
    eye = torch.eye(n, dtype=dtype)
    return torch.stack([apply(e.reshape(1, 1, *shape)).reshape(-1) for e in eye], 1)


def gap(a, b):
    """‖a − b‖ / ‖a‖."""
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(a))

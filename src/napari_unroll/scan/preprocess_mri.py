"""Coil sensitivity maps and coil compression from the measured k-space itself.

Plain numpy arrays (coil, z, y, x), centred FFT, k = 0 at index n // 2. Knows no files and no devices.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from napari_unroll.errors import ScanError
from napari_unroll.interrupt import check, stage

AXES = (-3, -2, -1)


def calibration_radius(mask: np.ndarray) -> float:
    """Radius in samples of the largest fully sampled ball about k = 0, axes that are fully sampled set aside.

    ``mask`` bool (z, y, x). Infinite for a full mask.
    """
    missing = np.argwhere(~np.asarray(mask, bool))
    if len(missing) == 0:
        return float("inf")
    offsets = missing - np.array([n // 2 for n in mask.shape])
    return float(np.linalg.norm(offsets[:, undersampled_axes(mask)], axis=1).min())


def undersampled_axes(mask: np.ndarray) -> list[int]:
    """Axes along which the mask changes."""
    return [a for a in range(3) if not (mask == np.take(mask, [0], axis=a)).all()]


def low_resolution_images(kspace: np.ndarray, radius: float) -> np.ndarray:
    """Coil images (coil, z, y, x) from samples within ``radius`` of the centre, with a Hann window against ringing."""
    weight: np.ndarray = np.ones((1, 1, 1), np.float32)
    for axis, n in enumerate(kspace.shape[1:]):
        weight = weight * _hann(n, radius).reshape([-1 if a == axis else 1 for a in range(3)])
    images = np.empty(kspace.shape, np.complex64)
    with stage(len(kspace), "coil maps") as done:
        for k, coil in enumerate(kspace):
            done(k)
            images[k] = centred_ifft(coil * weight)
    return images


def centred_ifft(kspace: np.ndarray) -> np.ndarray:
    """Orthonormal inverse FFT over z, y, x, the middles of k-space and image at index n // 2."""
    shifted = scipy.fft.ifftshift(kspace, axes=AXES)
    return np.asarray(scipy.fft.fftshift(scipy.fft.ifftn(shifted, axes=AXES, norm="ortho"), axes=AXES))


def _hann(n: int, radius: float) -> np.ndarray:
    """Window of unit height at n // 2 that is zero from ``radius`` on; all ones for an axis of one sample."""
    distance = np.abs(np.arange(n) - n // 2) / (radius + 1)
    return np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * distance), 0).astype(np.float32)


def estimate_csm(kspace: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Coil sensitivity maps (coil, z, y, x), complex64, Σ|S|² = 1, from the fully sampled centre of ``kspace``.

    Low-resolution coil images over their root-sum-of-squares (McKenzie et al., self-calibrating parallel imaging,
    doi:10.1002/mrm.10087), from at most 16 samples around k = 0. The smooth phase of the object goes into the maps, so
    the reconstructed image is nearly real and positive.

    Raises ScanError where the centre of k-space is too small to see the coils.
    """
    radius = min(calibration_radius(mask), 16.0)
    if radius < 3:
        raise ScanError(
            f"Coil maps need a fully sampled centre of k-space of radius 3 or more; here it is {radius:.1f}. "
            "Bring coil maps with the scan, or a scan with calibration lines."
        )
    return unit_norm(low_resolution_images(kspace, radius - 1))


def unit_norm(images: np.ndarray) -> np.ndarray:
    """Coil images (coil, z, y, x) over their root sum of squares, in place."""
    total = np.zeros(images.shape[1:], np.float32)
    for image in images:
        check()
        total += image.real**2 + image.imag**2
    root = np.sqrt(total, out=total).clip(np.finfo(np.float32).tiny)
    for image in images:
        check()
        image /= root
    return images


def _principal_axes(data: np.ndarray) -> np.ndarray:
    """Eigenvectors (coil, virtual coil) of the coils' covariance, strongest first."""
    flat = data.reshape(len(data), -1)
    _, vectors = np.linalg.eigh(flat @ flat.conj().T)
    return np.asarray(vectors[:, ::-1])


def compress_coils(kspace: np.ndarray, n_coils: int) -> np.ndarray:
    """The ``n_coils`` virtual coils (coil, z, y, x) with the most signal: a rotation of the coils by their SVD.

    Huang et al., doi:10.1016/j.mri.2007.04.010. Raises ScanError for more virtual coils than coils.
    """
    if not 1 <= n_coils <= len(kspace):
        raise ScanError(f"Expected between 1 and {len(kspace)} virtual coils; got {n_coils}.")
    axes = _principal_axes(kspace)[:, :n_coils]
    return np.asarray(np.einsum("cv,czyx->vzyx", axes.conj(), kspace), np.complex64)

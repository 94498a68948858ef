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


def coil_axes(kspace: np.ndarray, n_coils: int) -> np.ndarray:
    """The ``n_coils`` orthonormal combinations (coil, virtual coil) of the coils with the most signal, strongest first.

    The eigenvectors of the coils' covariance, which are the left singular vectors of k-space (Huang et al.,
    doi:10.1016/j.mri.2007.04.010). ``kspace`` has any axes after (coil,). Raises ScanError for more virtual coils than coils.
    """
    if not 1 <= n_coils <= len(kspace):
        raise ScanError(f"Expected between 1 and {len(kspace)} virtual coils; got {n_coils}.")
    covariance = np.zeros((len(kspace), len(kspace)), np.complex128)
    for part in np.array_split(kspace.reshape(len(kspace), -1), max(1, kspace[0].size >> 20), axis=1):
        check()
        covariance += part @ part.conj().T
    return np.asarray(np.linalg.eigh(covariance)[1][:, ::-1][:, :n_coils])


def in_axes(values: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Samples or maps (coil, …) in the ``axes`` (coil, virtual coil): complex64 (virtual coil, …)."""
    return np.tensordot(axes.conj().T.astype(np.complex64), values.astype(np.complex64, copy=False), axes=1)


def prewhitening(noise: np.ndarray) -> np.ndarray:
    """The matrix (coil, coil) that makes the noise of the coils independent and alike, of unchanged mean power.

    The inverse Cholesky factor of the covariance of ``noise`` (coil, sample), measured without excitation (Pruessmann et
    al., doi:10.1002/mrm.1241). Raises ScanError where the noise says too little.
    """
    n_coils, n_samples = noise.shape
    if n_samples < 2 * n_coils:
        raise ScanError(f"The noise scan has {n_samples} samples, too few for the covariance of {n_coils} coils.")
    covariance = noise.astype(np.complex128) @ noise.conj().T / n_samples
    power = float(np.trace(covariance).real) / n_coils
    try:
        return np.asarray(np.sqrt(power) * np.linalg.inv(np.linalg.cholesky(covariance)))
    except np.linalg.LinAlgError as error:
        raise ScanError("The noise scan has a coil without noise, so that its coils cannot be whitened.") from error

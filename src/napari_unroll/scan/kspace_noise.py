"""The standard deviation of k-space, from the samples that hold least signal. Values only."""

from __future__ import annotations

import numpy as np

from napari_unroll.scan.estimate import Estimate, jackknife
from napari_unroll.scan.geometry import CartesianSampling
from napari_unroll.scan.preprocess_mri import low_resolution_images
from napari_unroll.scan.scan import Scan, once_per_scan

OUTER = 0.1
"""Share of the samples of k-space, furthest from its middle, that hold little but noise."""
MOST_SAMPLES = 1_000_000
"""Of all coils together that are looked at; of more only some are."""
BLURRED = 16.0
"""Radius in samples of the middle of k-space that makes a blurred image."""
LEAST_PER_COIL = 2
"""Samples without which the covariance of the coils says nothing."""


@once_per_scan
def sample_deviation(scan: Scan) -> Estimate | None:
    """Standard deviation σ of the noise of Cartesian k-space, E|n|² = σ²; None for other scans.

    That of the combination of coils in which the tenth of the samples that lies furthest out is least: coils have the signal in
    common, so that little of it is left there even where small matrices end within the signal. It is the deviation of every
    coil where their noise is independent. The standard error is that of chance alone.
    """
    samples = _outer_samples(scan)
    return None if samples is None else jackknife(_quietest, samples)


def _quietest(samples: np.ndarray) -> float:
    """The deviation of (coil, sample) in the combination of coils in which it is least.

    The smallest eigenvalue of the covariance of n samples of c coils with unit noise is (1 − √(c/n))² (Marchenko and Pastur
    1967). Never more than the median magnitude says, which is all that too few samples tell.
    """
    median = float(np.median(np.abs(samples))) / float(np.sqrt(np.log(2)))
    n_coils, n = samples.shape
    if n < LEAST_PER_COIL * n_coils:
        return median
    least = np.linalg.eigvalsh((samples @ samples.conj().T).astype(np.complex128) / n)[0]
    return min(median, float(np.sqrt(max(least, 0.0)) / (1 - np.sqrt(n_coils / n))))


def _outer_samples(scan: Scan) -> np.ndarray | None:
    """Those (coil, sample) of Cartesian k-space that lie furthest out; None for other scans."""
    geometry = scan.geometry
    if not isinstance(geometry, CartesianSampling):
        return None
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in geometry.shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    radius = np.broadcast_to(z**2 + y**2 + x**2, geometry.shape)[geometry.mask]
    outer = np.flatnonzero(geometry.mask)[radius >= np.quantile(radius, 1 - OUTER)]
    outer = outer[:: -(-len(outer) * geometry.n_coils // MOST_SAMPLES)]
    return np.asarray(scan.measurements.reshape(len(scan.measurements), -1)[:, outer])


@once_per_scan
def relative_deviation(scan: Scan) -> float | None:
    """The same over the brightest voxel of the coils' root sum of squares, of a blurred image or of all samples."""
    sigma = sample_deviation(scan)
    blurred = blurred_deviation(scan)
    return None if sigma is None or blurred is None else min(blurred, sigma.value / _brightest(scan, np.inf))


@once_per_scan
def blurred_deviation(scan: Scan) -> float | None:
    """The same over the brightest voxel of a blurred image, which is as bright as large parts of the object are.

    Strengths of methods are relative to that: some voxels of fat may be several times as bright.
    """
    sigma = sample_deviation(scan)
    return None if sigma is None else sigma.value / _brightest(scan, BLURRED)


def _brightest(scan: Scan, radius: float) -> float:
    """Of the image that samples within ``radius`` of the middle of k-space make, where there are any."""
    energy = np.zeros(scan.measurements.shape[1:], np.float32)
    for k in range(len(scan.measurements)):
        energy += np.abs(low_resolution_images(scan.measurements[k : k + 1], radius)[0]) ** 2
    return max(float(np.sqrt(energy.max())), 1e-30)

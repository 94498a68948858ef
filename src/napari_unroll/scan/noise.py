"""How noisy a scan is, from its measurements alone: photons per pixel of X-rays, the standard deviation of k-space.

Values only. Of images and of k-space along a trajectory nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, ParallelBeam
from napari_unroll.scan.preprocess_mri import low_resolution_images
from napari_unroll.scan.scan import Scan, once_per_scan

NORMAL_MAD = 0.6745
"""Median of |x| over its standard deviation, of a normal x."""
THIN = 0.1
"""Share of the rays that photons are counted on: those that met least, where the object shows least."""
THICKEST = 3.0
"""Nepers beyond which so few photons arrive that their square root varies less than it should."""
BLOCK, QUIET = 8, 0.03
"""Views and columns of a block, and which of the blocks is asked: the one that this share of them varies less than."""
FEWEST_BLOCKS = 30
FEWEST, MOST = 10.0, 1e15
"""Photons per pixel; fewer mean that the values are no line integrals in nepers, such as those of electron tilt series."""
MOST_PIXELS = 4_000_000
"""Looked at; of larger scans only some of the views are."""
OUTER = 0.1
"""Share of the samples of k-space, furthest from its middle, that hold little but noise."""
BLURRED = 16.0
"""Radius in samples of the middle of k-space that makes a blurred image."""
LEAST_PER_COIL = 2
"""Samples without which the covariance of the coils says nothing."""


@dataclass(frozen=True)
class Noise:
    """What was found: in words, and ``share`` = ‖noise‖ / ‖measurements‖, the residual that the true volume would have."""

    text: str
    share: float


@once_per_scan
def measured_noise(scan: Scan) -> Noise | None:
    """The noise of a scan; None where it cannot be told from the measurements."""
    n = photons(scan)
    if n is not None:
        return _counting(scan, n)
    sigma = sample_deviation(scan)
    if sigma is None:
        return None
    assert isinstance(scan.geometry, CartesianSampling)
    n_samples = scan.geometry.n_coils * int(scan.geometry.mask.sum())
    level = relative_deviation(scan)
    return Noise(
        f"about {level:.2%} of the brightest voxel, or less (measured at the border of k-space)",
        _share(scan.measurements, n_samples * sigma**2),
    )


@once_per_scan
def photons(scan: Scan) -> float | None:
    """Photons per pixel without an object that would give such noise, of line integrals; None for other scans.

    A line integral p of N exp(−p) photons has the variance exp(p) / N. Differences of neighbours that vanish where these are
    smooth hold little of the object on thin rays, and in the quietest blocks of few views and columns. What they hold of it
    comes on top of the noise, so that the smaller of both is taken; photons are rather too few, of rough objects that fill
    the detector most.
    """
    if not isinstance(scan.geometry, (ConeBeam, ParallelBeam)):
        return None
    p = _some(scan.measurements)
    if p.shape[2] < 5:
        return None
    deviation = min(_on_thin_rays(p), _in_quiet_blocks(p))
    n = min(deviation**-2, MOST) if deviation > 0 else MOST
    return n if n >= FEWEST else None


def _some(p: np.ndarray) -> np.ndarray:
    return p[:: -(-p.size // MOST_PIXELS)]


def _on_thin_rays(p: np.ndarray) -> float:
    """1 / √N from the differences of pixels where these mean least."""
    detail, mean = _differences(p)
    thin = mean <= np.quantile(mean, THIN)
    return float(np.median(np.abs(detail[thin] * np.exp(-0.5 * np.clip(mean[thin], -2, 20))))) / NORMAL_MAD


def _differences(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Differences with the variance of one pixel, and means, of squares of four pixels; of five in a row where rows are single.

    The noise of either tells nothing of that of the other, so that the least means may be chosen.
    """
    if p.shape[1] > 1:
        p = p[:, : p.shape[1] // 2 * 2, : p.shape[2] // 2 * 2]
        a, b, c, d = p[:, ::2, ::2], p[:, ::2, 1::2], p[:, 1::2, ::2], p[:, 1::2, 1::2]
        return (a - b - c + d) / 2, (a + b + c + d) / 4
    return np.diff(p, 4) / np.sqrt(70), np.mean([p[..., i : p.shape[2] - 4 + i] for i in range(5)], axis=0)


def _in_quiet_blocks(p: np.ndarray) -> float:
    """1 / √N from u = 2 exp(−p / 2), whose noise has that deviation on every ray; inf where few blocks have thinner rays.

    Blocks are compared with those of white noise, for the quietest are so by chance too.
    """
    u = 2 * np.exp(-0.5 * np.clip(p, -2, None))
    white = np.random.default_rng(0).standard_normal(p.shape, dtype=np.float32)
    found = _variations(np.where(p > THICKEST, np.nan, u))
    found = found[found > 0]  # not where all values are the same
    if found.size < FEWEST_BLOCKS:
        return np.inf
    return float(np.quantile(found, QUIET) / np.quantile(_variations(white), QUIET))


def _variations(u: np.ndarray) -> np.ndarray:
    """Median magnitudes of fourth differences in blocks, along the row or along the views, wherever they are less."""
    along = [np.diff(u, 4)]
    if len(u) > 4:
        along = [along[0][2:-2], np.diff(u, 4, axis=0)[..., 2:-2]]
    return np.asarray(np.min([np.median(np.abs(_blocks(d)), axis=(1, 4)) for d in along], axis=0))


def _blocks(d: np.ndarray) -> np.ndarray:
    """(view, row, column) cut into (·, view, row, ·, column), without what is left at the ends."""
    n, m = min(BLOCK, len(d)), min(BLOCK, d.shape[2])
    d = d[: len(d) // n * n, :, : d.shape[2] // m * m]
    return d.reshape(len(d) // n, n, d.shape[1], -1, m)


def _counting(scan: Scan, n: float) -> Noise:
    if n >= MOST:
        return Noise("none that can be measured", 0.0)
    p = _some(scan.measurements)
    energy = float(np.exp(np.clip(p, -2, np.log(n))).sum(dtype=np.float64)) / n  # beyond log n no photon arrives
    return Noise(f"as of {n:.2g} photons per pixel without an object (measured)", _share(p, energy))


def _share(y: np.ndarray, energy: float) -> float:
    return float(np.sqrt(energy)) / max(float(np.linalg.norm(y)), 1e-30)


@once_per_scan
def sample_deviation(scan: Scan) -> float | None:
    """Standard deviation σ of the noise of Cartesian k-space, E|n|² = σ²; None for other scans.

    That of the combination of coils in which the tenth of the samples that lies furthest out is least: coils have the signal in
    common, so that little of it is left there even where small matrices end within the signal. It is the deviation of every
    coil where their noise is independent. The smallest eigenvalue of the covariance of n samples of c coils with unit noise is
    (1 − √(c/n))² (Marchenko and Pastur 1967). Never more than the median magnitude says, which is all that too few samples tell.
    """
    samples = _outer_samples(scan)
    if samples is None:
        return None
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
    return np.asarray(scan.measurements.reshape(len(scan.measurements), -1)[:, outer])


@once_per_scan
def relative_deviation(scan: Scan) -> float | None:
    """The same over the brightest voxel of the coils' root sum of squares, of a blurred image or of all samples."""
    sigma = sample_deviation(scan)
    blurred = blurred_deviation(scan)
    return None if sigma is None or blurred is None else min(blurred, sigma / _brightest(scan, np.inf))


@once_per_scan
def blurred_deviation(scan: Scan) -> float | None:
    """The same over the brightest voxel of a blurred image, which is as bright as large parts of the object are.

    Strengths of methods are relative to that: some voxels of fat may be several times as bright.
    """
    sigma = sample_deviation(scan)
    return None if sigma is None else sigma / _brightest(scan, BLURRED)


def relative_noise(scan: Scan) -> float | None:
    """One number for networks: ``blurred_deviation`` of k-space, ‖noise‖ / ‖measurements‖ of X-rays, None where unknown."""
    if isinstance(scan.geometry, CartesianSampling):
        return blurred_deviation(scan)
    found = measured_noise(scan)
    return None if found is None else found.share


def _brightest(scan: Scan, radius: float) -> float:
    """Of the image that samples within ``radius`` of the middle of k-space make, where there are any."""
    energy = np.zeros(scan.measurements.shape[1:], np.float32)
    for k in range(len(scan.measurements)):
        energy += np.abs(low_resolution_images(scan.measurements[k : k + 1], radius)[0]) ** 2
    return max(float(np.sqrt(energy.max())), 1e-30)

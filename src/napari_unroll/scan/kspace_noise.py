"""The standard deviation of k-space, from the samples that hold least signal. Values only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import scipy.fft

from napari_unroll.scan.estimate import Estimate, jackknife
from napari_unroll.scan.geometry import CartesianSampling
from napari_unroll.scan.preprocess_mri import low_resolution_images, undersampled_axes
from napari_unroll.scan.scan import Scan, once_per_scan
from napari_unroll.scan.trajectories import NonCartesianSampling

OUTER = 0.1
"""Share of the samples of k-space, furthest from its middle, that hold little but noise."""
MOST_SAMPLES = 1_000_000
"""Of all coils together that are looked at; of more only some are."""
BANDS = 8
"""Into which the frequencies along a readout are cut, of both signs."""
FLAT = 0.25
"""Cycles per sample up to which receivers let all noise pass. Two measured scans lose a sixth of it in the band beyond, two thirds
at 0.5."""
FEWEST_PER_BAND = 4
"""Samples of a readout for every band, without which there are no bands."""
UNEVEN = 1.1
"""By how much one half of a band without signal may be louder than the other (docs/decisions/noise_told.md)."""
MOST_REACH = 0.5
"""Cycles per sample; there are no higher frequencies."""
HANN_DEPENDENCE = 1 + 2 * ((2 / 3) ** 2 + (1 / 6) ** 2)
"""Samples of white noise under a Hann window that say as much as one (Harris 1978, doi:10.1109/PROC.1978.10837)."""
BLURRED = 16.0
"""Radius in samples of the middle of k-space that makes a blurred image."""
LEAST_PER_COIL = 2
"""Samples without which the covariance of the coils says nothing."""


@once_per_scan
def sample_deviation(scan: Scan) -> Estimate | None:
    """Standard deviation σ of the noise of k-space, E|n|² = σ², of samples without weights; None for other scans.

    The root mean square of a band of frequencies along readouts or fully sampled axes, where that is flat: what lies beside the
    object is there, or nothing at all where readouts are sampled more finely than the volume needs. Elsewhere it is a limit,
    that of the combination of coils in which samples are least: coils have the signal in common, so that it drops out. Samples
    are then the tenth that lies furthest out or a band, whichever is quietest. The standard error is that of chance alone.
    """
    if isinstance(scan.geometry, CartesianSampling):
        others, bands = _on_grid(scan.measurements, scan.geometry)
    elif isinstance(scan.geometry, NonCartesianSampling):
        others, bands = _along_trajectory(scan.measurements, scan.geometry)
    else:
        return None
    quiet = min(bands, key=_root_mean_square, default=None)
    if quiet is not None and _is_flat(quiet):
        return jackknife(_root_mean_square, _as_samples(quiet))
    candidates = others + [(_as_samples(band), HANN_DEPENDENCE) for band in bands]
    quietest, dependence = min(candidates, key=lambda candidate: _quietest(*candidate))
    return replace(jackknife(lambda values: _quietest(values, dependence), quietest), is_limit=True)


Candidates = tuple[list[tuple[np.ndarray, float]], list[np.ndarray]]
"""What may hold no signal: samples (coil, sample) with how many of them say as much as one, and bands (coil, line, frequency)."""


def _on_grid(kspace: np.ndarray, geometry: CartesianSampling) -> Candidates:
    lines = [_lines(kspace, geometry.mask, axis) for axis in {0, 1, 2} - set(undersampled_axes(geometry.mask))]
    return [(_outer_samples(kspace, geometry), 1.0)], [band for along in lines for band in _bands(along, MOST_REACH)]


def _along_trajectory(values: np.ndarray, geometry: NonCartesianSampling) -> Candidates:
    samples, radius = _without_weights(values, geometry)
    reach = _reach(geometry)
    bands = list(_bands(samples, min(MOST_REACH, max(FLAT, reach) + MOST_REACH / BANDS)))
    # where bands go beyond the volume, much of what single samples hold was filtered by the receiver
    others = [] if bands and reach < MOST_REACH else [(_furthest(samples, radius), 1.0)]
    assert geometry.weights is not None
    if (geometry.weights > 0).all():
        return others, bands
    return others + [(_as_samples(band), HANN_DEPENDENCE) for band in bands], []  # a gap makes signal look white


def _is_flat(band: np.ndarray) -> bool:
    """Whether the halves of (coil, line, frequency) with the lower and the higher frequencies are about as loud."""
    half = band.shape[2] // 2
    lower, higher = _root_mean_square(band[..., :half]), _root_mean_square(band[..., half:])
    return max(lower, higher) < UNEVEN * min(lower, higher)


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(np.abs(values)), dtype=np.float64)))


def _as_samples(band: np.ndarray) -> np.ndarray:
    """(coil, sample) of (coil, line, frequency)."""
    return band.reshape(len(band), -1)


def _quietest(samples: np.ndarray, dependence: float = 1.0) -> float:
    """The deviation of (coil, sample) in the combination of coils in which it is least.

    The smallest eigenvalue of the covariance of n samples of c coils with unit noise is (1 − √(c/n))² (Marchenko and Pastur
    1967), with n fewer where so many samples as ``dependence`` say as much as one. Never more than the median magnitude says,
    which is all that too few samples tell.
    """
    median = float(np.median(np.abs(samples))) / float(np.sqrt(np.log(2)))
    n_coils, n = samples.shape[0], samples.shape[1] / dependence
    if n < LEAST_PER_COIL * n_coils:
        return median
    least = np.linalg.eigvalsh((samples @ samples.conj().T).astype(np.complex128) / samples.shape[1])[0]
    return min(median, float(np.sqrt(max(least, 0.0)) / (1 - np.sqrt(n_coils / n))))


def _outer_samples(kspace: np.ndarray, geometry: CartesianSampling) -> np.ndarray:
    """Those (coil, sample) of Cartesian ``kspace`` that lie furthest out."""
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in geometry.shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    radius = np.broadcast_to(z**2 + y**2 + x**2, geometry.shape)[geometry.mask]
    outer = np.flatnonzero(geometry.mask)[radius >= np.quantile(radius, 1 - OUTER)]
    outer = outer[:: -(-len(outer) * geometry.n_coils // MOST_SAMPLES)]
    return np.asarray(kspace.reshape(len(kspace), -1)[:, outer])


def _lines(kspace: np.ndarray, mask: np.ndarray, axis: int) -> np.ndarray:
    """Some of the sampled lines (coil, line, sample) along an axis that is fully sampled."""
    rows, columns = np.nonzero(np.moveaxis(mask, axis, 2)[..., 0])
    some = slice(None, None, -(-len(rows) * len(kspace) * mask.shape[axis] // (4 * MOST_SAMPLES)))
    return np.moveaxis(kspace, axis + 1, 3)[:, rows[some], columns[some]]


def _without_weights(values: np.ndarray, geometry: NonCartesianSampling) -> tuple[np.ndarray, np.ndarray]:
    """Samples (coil, shot, readout) of some shots as they were measured, and their distance from k = 0; 0 where unknown."""
    some = slice(None, None, -(-values.size // (4 * MOST_SAMPLES)))
    assert geometry.weights is not None
    root = np.sqrt(geometry.weights[some])
    samples = np.divide(values[:, some], root, out=np.zeros_like(values[:, some]), where=root > 0)
    return samples, np.where(root > 0, np.linalg.norm(geometry.trajectory[some], axis=2), 0)


def _furthest(samples: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Those (coil, sample) of (coil, shot, readout) whose ``radius`` (shot, readout) is largest."""
    return np.asarray(samples[:, (radius >= np.quantile(radius, 1 - OUTER)) & (radius > 0)])


def _reach(geometry: NonCartesianSampling) -> float:
    """Largest frequency, in cycles per sample of a readout, of what lies within the volume."""
    steps = np.diff(geometry.trajectory, axis=1) * geometry.shape
    return min(MOST_REACH, 0.5 * float(np.linalg.norm(steps, axis=2).max(initial=0)))


def _bands(samples: np.ndarray, reach: float) -> Iterator[np.ndarray]:
    """(coil, shot, frequency) of every band along readouts, of white noise as strong as that of (coil, shot, readout).

    Frequencies of both signs go up to ``reach``, the lowest first.
    """
    n = samples.shape[2]
    if n < BANDS * FEWEST_PER_BAND:
        return
    window = np.hanning(n + 2)[1:-1] * (samples != 0).any(axis=0)
    window /= np.maximum(np.linalg.norm(window, axis=1, keepdims=True), 1e-30)
    spectra = scipy.fft.fft(samples * window.astype(np.float32))
    frequency = np.abs(scipy.fft.fftfreq(n))
    order = np.argsort(frequency, kind="stable")[: np.count_nonzero(frequency <= reach)]
    for band in np.array_split(order, round(BANDS * reach / MOST_REACH)):
        yield spectra[..., band]


def noise_energy(scan: Scan, sigma: float) -> float:
    """E‖noise‖² of measurements of k-space whose samples have the deviation ``sigma``."""
    if isinstance(scan.geometry, CartesianSampling):
        return scan.geometry.n_coils * int(scan.geometry.mask.sum()) * sigma**2
    assert isinstance(scan.geometry, NonCartesianSampling)
    assert scan.geometry.weights is not None
    return scan.geometry.n_coils * float(scan.geometry.weights.sum()) * sigma**2


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


def noise_of_images(scan: Scan) -> float:
    """Deviation of the noise of Aᴴy / μ, μ the mean eigenvalue of AᴴA, over that of the samples of k-space, without weights.

    √R, for weights w √(n Σ w²) / Σ w with n voxels.
    """
    if isinstance(scan.geometry, CartesianSampling):
        return float(scan.geometry.acceleration**0.5)
    assert isinstance(scan.geometry, NonCartesianSampling)
    weights = np.asarray(scan.geometry.weights)
    return math.sqrt(math.prod(scan.grid.shape) * float(np.square(weights).sum())) / float(weights.sum())


def _brightest(scan: Scan, radius: float) -> float:
    """Of the image that samples within ``radius`` of the middle of k-space make, where there are any."""
    energy = np.zeros(scan.grid.shape, np.float32)
    for coil in _coils_on_grid(scan):
        energy += np.abs(low_resolution_images(coil[None], radius)[0]) ** 2
    return max(float(np.sqrt(energy.max())), 1e-30)


def _coils_on_grid(scan: Scan) -> Iterator[np.ndarray]:
    """The k-space (z, y, x) of every coil; along trajectories the means of the samples nearest to each point, zero without any."""
    if isinstance(scan.geometry, CartesianSampling):
        yield from scan.measurements
        return
    assert isinstance(scan.geometry, NonCartesianSampling)
    assert scan.geometry.weights is not None
    measured = scan.geometry.weights > 0
    number = np.maximum(scan.geometry.on_grid(measured), 1)
    root = np.sqrt(np.where(measured, scan.geometry.weights, np.inf))
    for coil in scan.measurements:
        yield (scan.geometry.on_grid(coil.real / root) + 1j * scan.geometry.on_grid(coil.imag / root)) / number

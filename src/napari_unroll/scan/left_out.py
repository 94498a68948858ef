"""Measurements that a run does not see: they tell afterwards how well its volume foretells what was measured.

A scan falls into two, ``kept`` and ``left_out``: whole views of X-rays, shots of a trajectory, and of Cartesian k-space samples
outside the calibrated centre, whole lines where the mask has lines. Values only; draws are seeded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from napari_unroll.errors import ParameterError, ScanError
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, ParallelBeam
from napari_unroll.scan.preprocess_mri import calibration_radius, undersampled_axes
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling

FRACTION = 0.05
"""Of the measurements that are left out."""
CENTRE = 16.0
"""Largest radius of k-space about its middle, in samples, that is never left out: coil maps are estimated from it."""


@dataclass(frozen=True)
class Parts:
    """A scan in two: what a run sees, and what it does not; ``noise`` is the part of ‖y‖² left out that is noise, if known."""

    kept: Scan
    left_out: Scan
    noise: float | None = None


def leave_out(scan: Scan, fraction: float = FRACTION, seed: int = 0) -> Parts:
    """Leave out about ``fraction`` of the measurements, at least one view, shot or sample; coil maps stay those of the scan.

    Views and shots are drawn one from each of so many equal runs of neighbours. Raises ParameterError for a fraction outside 0 …
    0.5, ScanError where nothing can be spared: of images, of a single view, of k-space that is a centre only.
    """
    if not 0 < fraction <= 0.5:
        raise ParameterError(f"Expected a part above 0 and up to 0.5 of the measurements to leave out; got {fraction}.")
    rng, geometry = np.random.default_rng(seed), scan.geometry
    if isinstance(geometry, CartesianSampling):
        return _samples(scan, geometry, fraction, rng)
    if isinstance(geometry, NonCartesianSampling):
        return _shots(scan, geometry, _evenly(np.arange(geometry.measurement_shape[1]), fraction, rng, "shots"))
    if isinstance(geometry, (ConeBeam, ParallelBeam)):
        drawn = _evenly(np.argsort(geometry.angles_rad, kind="stable"), fraction, rng, "views")
        return Parts(scan.subset(~drawn), scan.subset(drawn))
    raise ScanError("Of an image nothing is left out, because every voxel was measured by one pixel only.")


def _evenly(order: np.ndarray, fraction: float, rng: np.random.Generator, what: str) -> np.ndarray:
    """A bool array, true for one of every 1 / fraction neighbours in ``order``."""
    n = len(order)
    if n < 2:
        raise ScanError(f"One of {n} {what} cannot be left out; a scan needs two or more for that.")
    edges = np.linspace(0, n, max(1, round(fraction * n)) + 1)
    drawn = np.zeros(n, bool)
    drawn[order[(edges[:-1] + rng.random(len(edges) - 1) * np.diff(edges)).astype(int)]] = True
    return drawn


def _shots(scan: Scan, geometry: NonCartesianSampling, drawn: np.ndarray) -> Parts:
    kept, left_out = (
        replace(scan, geometry=geometry.subset(which), measurements=np.ascontiguousarray(scan.measurements[:, which]))
        for which in (~drawn, drawn)
    )
    return Parts(kept, left_out)


def _samples(scan: Scan, geometry: CartesianSampling, fraction: float, rng: np.random.Generator) -> Parts:
    drawn = _drawn_samples(geometry.mask, fraction, rng)
    return Parts(scan.masked(geometry.mask & ~drawn), scan.masked(geometry.mask & drawn))


def _drawn_samples(mask: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """A bool array (z, y, x) of samples outside the centre; they come in lines along axes where the mask does not change."""
    axes = undersampled_axes(mask) or [a for a in range(3) if mask.shape[a] > 1]
    pattern = mask.any(axis=tuple(a for a in range(3) if a not in axes), keepdims=True)
    radius = min(calibration_radius(mask), CENTRE, *(mask.shape[a] / 4 for a in axes))
    offsets = np.meshgrid(*(np.arange(n) - n // 2 for n in pattern.shape), indexing="ij", sparse=True)
    outside = np.flatnonzero(pattern & (sum(offsets[a] ** 2 for a in axes) >= radius**2))
    if len(outside) < 2:
        raise ScanError(
            "Nothing of k-space outside its centre can be left out; a scan needs two or more samples there."
        )
    n = min(max(1, round(fraction * int(pattern.sum()))), len(outside) // 2)
    drawn = np.zeros(pattern.shape, bool)
    drawn.flat[rng.choice(outside, n, replace=False)] = True
    return np.broadcast_to(drawn, mask.shape)

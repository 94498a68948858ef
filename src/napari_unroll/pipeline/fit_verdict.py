"""Whether a volume fits the measurements: its residual beside what the true volume would leave.

That is the noise of the scan and, of X-rays, what voxels cannot show: volumes on a grid cast other shadows than objects do.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from napari_unroll.physics.build import build_physics
from napari_unroll.scan.estimate import percent
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from napari_unroll.scan.noise import measured_noise
from napari_unroll.scan.resample import block_mean
from napari_unroll.scan.scan import Scan

VIEWS = 8
"""On which shadows are compared."""
MOST_VOXELS = 1 << 27
"""Of volumes that are judged; larger ones would take memory and minutes after the run."""
PER_DOUBLING = 2.3
"""By how much larger the error of the shadows is on voxels twice as large (docs/decisions/residual_verdict.md)."""
FITS = (0.7, 1.7)
"""Of a residual over that of the true volume: below, the volume holds some of the noise; above, it misses some of the data."""
OVERFITTED = "the volume holds some of the noise"
UNLESS = ", unless the noise is less than that"
FITTED = "the volume fits the data"
UNDERFITTED = "the volume may be too smooth, or geometry or coil maps inexact"


def verdict(scan: Scan, volume: np.ndarray, residual: float) -> str:
    """What the relative ``residual`` of ``volume`` (z, y, x) says, in words.

    Empty where the noise is not known or the volume is too large.
    """
    noise = measured_noise(scan)
    if noise is None or not noise.share or volume.size > MOST_VOXELS:
        return ""
    grid = grid_share(scan, volume)
    ratio = residual / math.hypot(noise.share, grid)
    says = OVERFITTED if ratio < FITS[0] else UNDERFITTED if ratio > FITS[1] else FITTED
    says += UNLESS * (says == OVERFITTED and noise.is_limit)
    own = percent(noise.share, noise.error)
    rest = f" (the scan's noise is {own}, what such voxels cannot show about {grid:.2%})" if grid else ""
    return f"{ratio:.2g} times what the true volume would leave{rest or f' by the noise of the scan, {own}'}: {says}"


def grid_share(scan: Scan, volume: np.ndarray) -> float:
    """‖A x − A x*‖ / ‖A x‖ of X-rays, of the object x* and its means over voxels x, foretold from ``volume``; 0 of other scans.

    It is the difference between the shadows of the volume and of its means over voxels twice as large, over
    ``PER_DOUBLING``, on ``VIEWS`` of the views.
    """
    if not isinstance(scan.geometry, (ConeBeam, ParallelBeam)):
        return 0.0
    factors = [2 if n > 1 else 1 for n in volume.shape]
    box = tuple(slice(0, n // f * f) for n, f in zip(volume.shape, factors, strict=True))
    fine = volume[box]
    coarse = block_mean(fine, [n // f for n, f in zip(fine.shape, factors, strict=True)])
    few = scan.subset(slice(None, None, max(1, scan.geometry.n_views // VIEWS)))
    grid = scan.grid.restrict(box)  # type: ignore[arg-type]
    shadows = _shadows(replace(few, grid=grid, truth=None), fine)
    z, y, x = coarse.shape
    coarser = _shadows(replace(few, grid=grid.resample((z, y, x)), truth=None), coarse)
    error, size = float(np.linalg.norm(coarser - shadows)), float(np.linalg.norm(shadows))
    return error / max(size, 1e-30) / PER_DOUBLING


def _shadows(scan: Scan, volume: np.ndarray) -> np.ndarray:
    """A x (view, row, column)."""
    x = torch.from_numpy(np.ascontiguousarray(volume, np.float32))[None, None]
    return np.asarray(build_physics(scan, "cpu").A(x)[0, 0].numpy())

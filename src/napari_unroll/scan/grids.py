"""Which volume belongs to a CT geometry, and what binning does to a geometry. Values only."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np

from napari_unroll.errors import ScanError
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid

OFF_CENTRE = 0.05
"""Of the detector's columns: how far from its middle the axis of a half acquisition lies at least."""
CtGeometry = ConeBeam | ParallelBeam
G = TypeVar("G", bound=ConeBeam | ParallelBeam)


def magnification(geometry: CtGeometry) -> float:
    """How much larger the rotation axis appears on the detector; 1 for a parallel beam."""
    if isinstance(geometry, ParallelBeam):
        return 1.0
    return geometry.source_detector_mm / geometry.source_origin_mm


def axis_heights_mm(geometry: CtGeometry) -> np.ndarray:
    """Height z at which the ray to the detector's centre passes the rotation axis, (view,)."""
    v = geometry.vectors
    start, ray = (v[:, 3:6], v[:, :3]) if isinstance(geometry, ParallelBeam) else (v[:, :3], v[:, 3:6] - v[:, :3])
    along = -(start[:, :2] * ray[:, :2]).sum(1) / np.maximum((ray[:, :2] ** 2).sum(1), 1e-30)
    return np.asarray(start[:, 2] + along * ray[:, 2])


def axis_column(geometry: CtGeometry) -> float:
    """Detector column (0 at the centre of the first pixel) on which the rotation axis (z = 0) falls, median of the views."""
    v = geometry.vectors
    rays, centre, u = geometry.central_rays, v[:, 3:6], v[:, 6:9]
    through, start = (-v[:, :3], v[:, :3]) if isinstance(geometry, ConeBeam) else (rays, np.zeros_like(centre))
    normal = np.cross(u, v[:, 9:12])
    along = ((centre - start) * normal).sum(1) / (through * normal).sum(1)
    across = ((start + along[:, None] * through - centre) * u).sum(1) / (u * u).sum(1)
    return float(np.median(across) + 0.5 * (geometry.detector_shape[1] - 1))


def default_grid(geometry: CtGeometry) -> VolumeGrid:
    """Cubic voxels as large as a detector pixel at the rotation axis, as many as the detector has rows and columns.

    The grid is centred on the axis, at the height that the detector's centre sees. Of a full turn about an axis away from the
    middle (half acquisition) it is twice as wide as the detector's wider side, all of which was seen; along a helix it is as
    high as the helix.
    """
    rows, cols = geometry.detector_shape
    away = abs(axis_column(geometry) - 0.5 * (cols - 1))
    if away > OFF_CENTRE * cols and away < 0.5 * cols and is_full_turn(geometry.angles_rad):
        cols = round(cols + 2 * away)
    voxel = float(np.sqrt(np.prod(geometry.pixel_mm))) / magnification(geometry)
    heights = axis_heights_mm(geometry)
    height = 0.5 * float(heights.min() + heights.max())
    climbed = float(np.ptp(heights)) / voxel
    rows += round(climbed) if climbed > 0.5 * rows else 0
    center = (0.0 if abs(height) < voxel else height, 0.0, 0.0)
    return VolumeGrid(shape=(rows, cols, cols), spacing_mm=(voxel,) * 3, center_mm=center)


def is_full_turn(angles_rad: np.ndarray) -> bool:
    """Whether no gap between views around the turn is wider than three of the typical ones."""
    angles = np.sort(np.mod(angles_rad, 2 * np.pi))
    gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
    return bool(gaps.max() <= 3 * np.median(gaps[gaps > 1e-6]))


def limit_grid(grid: VolumeGrid, max_size: int | None) -> VolumeGrid:
    """The same extent with larger voxels, so that no edge counts more than ``max_size`` voxels."""
    if max_size is None or max(grid.shape) <= max_size:
        return grid
    factor = max(grid.shape) / max_size
    shape = tuple(max(1, round(n / factor)) for n in grid.shape)
    spacing = tuple(s * factor for s in grid.spacing_mm)
    return VolumeGrid(shape=shape, spacing_mm=spacing, center_mm=grid.center_mm)  # type: ignore[arg-type]


def crop_geometry(geometry: G, rows: range) -> G:
    """The geometry of a detector of which only the ``rows`` are left, one after the other."""
    n_rows, n_columns = geometry.detector_shape
    if len(rows) == n_rows:
        return geometry
    v = np.array(geometry.vectors)
    v[:, 3:6] += (rows.start + 0.5 * (len(rows) - n_rows)) * v[:, 9:12]
    return type(geometry)(vectors=v, detector_shape=(len(rows), n_columns))


def planes_seen(grid: VolumeGrid, geometry: CtGeometry) -> VolumeGrid:
    """The planes z of a grid that its rows of the detector see: those within :func:`default_grid`, at least one."""
    seen = default_grid(geometry)
    below, step = seen.origin_mm[0] - grid.origin_mm[0], grid.spacing_mm[0]
    low, high = ((below + k * seen.spacing_mm[0]) / step for k in (-0.5, seen.shape[0] - 0.5))
    first = min(max(0, math.ceil(low)), grid.shape[0] - 1)
    last = min(max(first, math.floor(high)), grid.shape[0] - 1)
    return grid.restrict((slice(first, last + 1), slice(0, grid.shape[1]), slice(0, grid.shape[2])))


def bin_geometry(geometry: G, factor: int) -> G:
    """The geometry of views binned by ``factor`` (pixels that do not fill a block are dropped at the end)."""
    if factor == 1:
        return geometry
    old = np.array(geometry.detector_shape)
    new = old // factor
    if new.min() < 1:
        raise ScanError(f"Binning by {factor} leaves nothing of a detector of {old[0]} × {old[1]} pixels.")
    lost_rows, lost_cols = old - new * factor
    v = np.array(geometry.vectors)
    v[:, 3:6] -= 0.5 * (lost_cols * v[:, 6:9] + lost_rows * v[:, 9:12])
    v[:, 6:] *= factor
    return type(geometry)(vectors=v, detector_shape=(int(new[0]), int(new[1])))

"""Which volume belongs to a CT geometry, and what binning does to a geometry. Values only."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from napari_unroll.errors import ScanError
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid

CtGeometry = ConeBeam | ParallelBeam
G = TypeVar("G", bound=ConeBeam | ParallelBeam)


def magnification(geometry: CtGeometry) -> float:
    """How much larger the rotation axis appears on the detector; 1 for a parallel beam."""
    if isinstance(geometry, ParallelBeam):
        return 1.0
    return geometry.source_detector_mm / geometry.source_origin_mm


def axis_height_mm(geometry: CtGeometry) -> float:
    """Mean height z at which the rays to the detector's centre pass the rotation axis."""
    v = geometry.vectors
    start, ray = (v[:, 3:6], v[:, :3]) if isinstance(geometry, ParallelBeam) else (v[:, :3], v[:, 3:6] - v[:, :3])
    along = -(start[:, :2] * ray[:, :2]).sum(1) / np.maximum((ray[:, :2] ** 2).sum(1), 1e-30)
    return float((start[:, 2] + along * ray[:, 2]).mean())


def default_grid(geometry: CtGeometry) -> VolumeGrid:
    """Cubic voxels as large as a detector pixel at the rotation axis, as many as the detector has rows and columns.

    The grid is centred on the axis, at the height that the detector's centre sees.
    """
    rows, cols = geometry.detector_shape
    voxel = float(np.sqrt(np.prod(geometry.pixel_mm))) / magnification(geometry)
    height = axis_height_mm(geometry)
    center = (0.0 if abs(height) < voxel else height, 0.0, 0.0)
    return VolumeGrid(shape=(rows, cols, cols), spacing_mm=(voxel,) * 3, center_mm=center)


def limit_grid(grid: VolumeGrid, max_size: int | None) -> VolumeGrid:
    """The same extent with larger voxels, so that no edge counts more than ``max_size`` voxels."""
    if max_size is None or max(grid.shape) <= max_size:
        return grid
    factor = max(grid.shape) / max_size
    shape = tuple(max(1, round(n / factor)) for n in grid.shape)
    spacing = tuple(s * factor for s in grid.spacing_mm)
    return VolumeGrid(shape=shape, spacing_mm=spacing, center_mm=grid.center_mm)  # type: ignore[arg-type]


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

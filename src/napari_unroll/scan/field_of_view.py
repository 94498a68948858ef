"""Whether the rays of a CT geometry meet a volume grid. Values only."""

from __future__ import annotations

import numpy as np

from napari_unroll.errors import ScanError
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid

SIGNS = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, -1).T
"""The corners (8, 3) of a unit cube."""


def check_volume(geometry: ConeBeam | ParallelBeam, grid: VolumeGrid) -> None:
    """Raise ScanError unless all sources lie outside the grid and in some view the rays to the detector may meet it.

    Views are asked one after the other until one sees the grid, so this takes no time where all is well.
    """
    centre, size = np.array(grid.center_mm[::-1]), np.array(grid.size_mm[::-1])
    if isinstance(geometry, ConeBeam):
        inside = (np.abs(geometry.vectors[:, :3] - centre) < 0.5 * size).all(axis=1)
        if inside.any():
            raise ScanError(
                f"The source of view {inside.argmax()} lies inside the volume of {_mm(size)}; expected it outside. "
                "Make the volume smaller, or check the distances and the pixel size."
            )
    corners = centre + SIGNS * size
    if not any(_sees(geometry, view, corners) for view in range(geometry.n_views)):
        raise ScanError(
            f"No ray meets the volume of {_mm(size)} around ({_mm(centre, ', ')}), x, y, z: it lies beside every view. "
            "Move it into the field of view, or check the rotation axis and the distances."
        )


def _mm(lengths: np.ndarray, between: str = " × ") -> str:
    return between.join(f"{v:.4g}" for v in lengths) + " mm"


def _sees(geometry: ConeBeam | ParallelBeam, view: int, corners: np.ndarray) -> bool:
    """Whether the shadow of the corners (8, 3) may overlap the detector; always where some lie behind the source."""
    v = geometry.vectors[view]
    cone = isinstance(geometry, ConeBeam)
    centre, u_mm, v_mm = v[3:6], v[6:9], v[9:12]
    normal = np.cross(u_mm, v_mm)
    normal = normal / np.linalg.norm(normal)
    start, ray = (v[:3], corners - v[:3]) if cone else (corners, v[None, :3])
    depth, distance = ray @ normal, (centre - start) @ normal
    if cone:
        behind = depth * distance <= 0
        if behind.any():
            return not behind.all()
    shadow = start + ray * (distance / depth)[:, None] - centre
    return all(
        _overlaps(shadow @ across / (axis @ across), n)
        for axis, across, n in (
            (u_mm, np.cross(v_mm, normal), geometry.detector_shape[1]),
            (v_mm, np.cross(normal, u_mm), geometry.detector_shape[0]),
        )
    )


def _overlaps(pixels: np.ndarray, n: int) -> bool:
    """Whether positions, in pixels from the detector's middle, span a part of its ``n`` pixels."""
    return bool(pixels.min() <= 0.5 * n and pixels.max() >= -0.5 * n)

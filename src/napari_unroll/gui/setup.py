"""The set-up of an X-ray scan as points and lines in space (z, y, x) in mm, for 3-D layers.

Computes nothing but positions; knows no layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from napari_unroll.pipeline.edits import ct_geometry
from napari_unroll.scan.geometry import ConeBeam
from napari_unroll.scan.scan import Scan

MAX_POINTS = 720
"""Of the source's path that are shown."""


@dataclass(frozen=True)
class Setup:
    """One view: ``path`` (n, 3) of the source, ``detector`` its corners (4, 3), ``rays`` and ``volume`` lines (n, 2, 3).

    Parallel beams have no source: the path is empty, their rays run from as far before the axis as the detector is shown
    behind it.
    """

    path: np.ndarray
    source: np.ndarray
    detector: np.ndarray
    rays: np.ndarray
    volume: np.ndarray


def setup_of(scan: Scan, view: int) -> Setup:
    """The set-up at one view. Raises ScanError for scans without views."""
    geometry = ct_geometry(scan)
    first, middle, u, v = geometry.vectors[view].reshape(4, 3)
    rows, columns = geometry.detector_shape
    corners = np.array(
        [middle + a * columns * u / 2 + b * rows * v / 2 for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    )
    path = np.zeros((0, 3))
    if isinstance(geometry, ConeBeam):
        every = -(-geometry.n_views // MAX_POINTS)
        path, starts = geometry.vectors[::every, :3], np.broadcast_to(first, corners.shape)
        source = first[None]
    else:
        ray = first / np.linalg.norm(first)
        reach = max(scan.grid.size_mm)
        middle_depth = corners.mean(0) @ ray
        corners = corners + (reach - middle_depth) * ray
        starts, source = corners - 2 * reach * ray, path
    rays = np.stack([starts, corners], axis=1)
    return Setup(path[:, ::-1], source[:, ::-1], corners[:, ::-1], rays[:, :, ::-1], _edges(scan))


def _edges(scan: Scan) -> np.ndarray:
    """The twelve edges (12, 2, 3) of the volume."""
    half, centre = 0.5 * np.array(scan.grid.size_mm), np.array(scan.grid.center_mm)
    corners = [np.array(signs) for signs in product((-1, 1), repeat=3)]
    pairs = [(a, b) for a, b in combinations(corners, 2) if np.abs(a - b).sum() == 2]
    return np.array([(centre + a * half, centre + b * half) for a, b in pairs])

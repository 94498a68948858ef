"""X-ray scanners drawn widely, each from a seed: what networks meet in the world, not in one laboratory.

Cone, fan and parallel beams, numbers and arcs of views, distances, detectors, voxels, and objects that the field of view
cuts. Knows nothing of networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.training.plan import Noise
from napari_unroll.training.scanners import XRayScanner

BEAMS = ("cone", "cone", "cone", "fan", "parallel")
VOXEL_MM = (0.2, 0.8)
PLANES = (0.35, 1.2)
"""Planes of cone and parallel beams over ``size``; a fan beam sees one."""
EDGES = (0.75, 1.3)
"""Rows and columns of the grid over ``size``."""
PIXELS = (0.75, 1.5)
"""Size of a pixel at the axis over that of a voxel."""
DISTANCES = (2.0, 12.0)
"""From source to axis over the radius of the field of view: half-angles of 30° to 5°."""
MAGNIFICATIONS = (1.2, 5.0)
THICKEST = (0.7, 4.0)
"""Largest line integrals."""
OFFSET_PIXELS = 2.0
"""By how much the axis misses the middle of the detector at most."""
SHORT, LIMITED = 0.15, 0.07
"""Part of the scanners that see half a turn and the fan, and less than that."""
LIMITED_ARC = (0.5, 0.85)
"""What is seen of half a turn then."""
CUT, HIGHER = 0.15, 0.15
"""Part of the scanners whose objects are wider than the field of view, and higher."""
BEYOND = (1.1, 1.5)
"""How much larger such objects are."""
FAN_OBJECT = 0.5
"""Planes over ``size`` of the objects of which a fan beam sees one."""


@dataclass(frozen=True)
class _Draw:
    """Numbers of one seed: the same name is the same number, whatever else was drawn."""

    seed: int

    def __call__(self, name: str, low: float = 0.0, high: float = 1.0) -> float:
        """Uniform between the limits."""
        return float(np.random.default_rng([self.seed, 8, *name.encode()]).uniform(low, high))

    def log(self, name: str, limits: tuple[float, float]) -> float:
        """Log-uniform between the limits."""
        return math.exp(self(name, *map(math.log, limits)))

    def count(self, name: str, limits: tuple[float, float], size: int) -> int:
        """A whole number between the limits times ``size``."""
        return max(1, round(self(name, *limits) * size))


def drawn_xray_scanner(
    seed: int, size: int, views: tuple[float, float], noise: Noise | None = None, device: str = "cpu"
) -> XRayScanner:
    """The X-ray scanner of ``seed``: about ``size`` voxels across, a number of views within the limits, both of any kind."""
    draw = _Draw(seed)
    beam = BEAMS[int(draw("beam", 0, len(BEAMS)))]
    grid = _grid(draw, beam, size)
    n_views = round(draw.log("views", views))
    geometry = _parallel(draw, grid, n_views) if beam == "parallel" else _cone(draw, grid, n_views, beam)
    name = f"drawn {beam} beam {seed}, {n_views} views"
    thickest = draw.log("thickest", THICKEST)
    return XRayScanner(name, geometry, grid, noise or Noise(), thickest, device, around=_around(draw, grid, size))


def _grid(draw: _Draw, beam: str, size: int) -> VolumeGrid:
    edge = draw.count("edge", EDGES, size)
    planes = 1 if beam == "fan" else draw.count("planes", PLANES, size)
    return VolumeGrid(shape=(planes, edge, edge), spacing_mm=(draw.log("voxel", VOXEL_MM),) * 3)


def _around(draw: _Draw, grid: VolumeGrid, size: int) -> tuple[int, int, int]:
    """Voxels on either side that objects reach beyond the grid: nothing, or what the field of view cuts off."""
    planes, edge, _ = grid.shape
    beyond = draw("beyond", *BEYOND) - 1
    across = round(beyond * edge / 2) if draw("is cut") < CUT else 0
    along = round(beyond * planes / 2) if _is_higher(draw) else 0
    return (round(FAN_OBJECT * size / 2) if planes == 1 else along), across, across


def _is_higher(draw: _Draw) -> bool:
    return draw("is higher") < HIGHER


def _cone(draw: _Draw, grid: VolumeGrid, n_views: int, beam: str) -> ConeBeam:
    """A circular orbit whose detector just holds the cylinder inscribed in the grid; one row for a fan beam.

    Where objects are higher it holds their height at the axis only, as no grid could hold all that more rows see.
    """
    radius, half_height, voxel = 0.5 * grid.size_mm[2], 0.5 * grid.size_mm[0], grid.spacing_mm[2]
    distance = radius * draw.log("distance", DISTANCES)
    source_detector = distance * draw.log("magnification", MAGNIFICATIONS)
    across = source_detector * radius / math.sqrt(distance**2 - radius**2)
    along = source_detector * half_height / (distance if _is_higher(draw) else distance - radius)
    pixel = voxel * source_detector / distance * draw("pixel", *PIXELS)
    shape = (1 if beam == "fan" else _pixels(along, pixel), _pixels(across, pixel))
    return ConeBeam.circular(
        angles_rad=_angles(draw, n_views, math.asin(across / math.hypot(across, source_detector))),
        source_origin_mm=distance,
        source_detector_mm=source_detector,
        detector_shape=shape,
        pixel_mm=(pixel, pixel),
        detector_offset_mm=(0.0, pixel * draw("offset", -OFFSET_PIXELS, OFFSET_PIXELS)),
    )


def _parallel(draw: _Draw, grid: VolumeGrid, n_views: int) -> ParallelBeam:
    pixel = grid.spacing_mm[2] * draw("pixel", *PIXELS)
    return ParallelBeam.circular(
        angles_rad=_angles(draw, n_views, 0.0),
        detector_shape=(_pixels(0.5 * grid.size_mm[0], pixel), _pixels(0.5 * grid.size_mm[2], pixel)),
        pixel_mm=(pixel, pixel),
        detector_offset_mm=(0.0, pixel * draw("offset", -OFFSET_PIXELS, OFFSET_PIXELS)),
    )


def _angles(draw: _Draw, n_views: int, half_fan_rad: float) -> np.ndarray:
    """Evenly spaced over a turn, a short scan (half a turn and the fan), or less; parallel beams take half a turn for a turn."""
    kind, short = draw("arc"), math.pi + 2 * half_fan_rad
    arc = math.pi if half_fan_rad == 0 else 2 * math.pi
    if kind < SHORT:
        arc = short
    elif kind < SHORT + LIMITED:
        arc = math.pi * draw("limited", *LIMITED_ARC)
    turned = math.copysign(1.0, draw("sense", -1, 1)) * arc * np.arange(n_views) / n_views
    return draw("first", 0, 2 * math.pi) + turned


def _pixels(half_width: float, pixel: float) -> int:
    return 2 * math.ceil(half_width / pixel + OFFSET_PIXELS / 2)

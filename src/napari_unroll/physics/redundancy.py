"""How often each ray of an orbit was measured: the weights that filtered back-projection gives to rays measured twice.

A ray of a circular orbit comes back reversed, at source angle β with fan angle γ as at β + π + 2γ with −γ. Weights of such a
pair add up to one and change smoothly along the detector, or the ramp filter would turn their steps into streaks: Parker,
"Optimal short scan convolution reconstruction" (1982), doi:10.1118/1.595078, for arcs below a full turn, with the arc itself for
his angle as Silver does (2000), doi:10.1118/1.599023; and for detectors that stand to one side of the axis (half acquisition)
the displaced-detector weights of Wang (2002), doi:10.1118/1.1489043, with a smooth step. Knows geometries and arrays only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from napari_unroll.scan.geometry import ConeBeam, ParallelBeam

CtGeometry = ConeBeam | ParallelBeam

WEDGE = 3.0
"""A gap between views of so many times the median is a missing wedge."""
UNPAIRED = 0.05
"""Share of the columns that only one side of the axis has, from which on a full turn counts as half acquisition."""
STEP = 0.25
"""Width of the step of half acquisition, as a share of the narrower side."""


@dataclass(frozen=True)
class Arc:
    """What a circular orbit covers: ``start`` and ``length`` in radians; ``is_full`` for a full turn."""

    start: float
    length: float
    is_full: bool


def covered_arc(angles_rad: np.ndarray) -> Arc | None:
    """The arc of the views, each standing for the typical gap; None where several wedges are missing."""
    angles = np.sort(np.mod(angles_rad, 2 * np.pi))
    gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
    distinct = gaps[gaps > 1e-6]
    typical = float(np.median(distinct)) if len(distinct) else 2 * np.pi
    wedges = np.flatnonzero(gaps > WEDGE * typical)
    if len(wedges) == 0:
        return Arc(0.0, 2 * np.pi, is_full=True)
    if len(wedges) > 1:
        return None
    after = angles[(wedges[0] + 1) % len(angles)]
    return Arc(float(after) - 0.5 * typical, 2 * np.pi - float(gaps[wedges[0]]) + typical, is_full=False)


def fan_angles(geometry: CtGeometry) -> np.ndarray:
    """γ in radians (view, column): from the ray through the axis to that of the column, counter-clockwise from +z.

    Of a parallel beam, whose rays do not fan, it is the signed distance from the axis in mm instead, growing in the same sense.
    """
    v = geometry.vectors
    columns = np.arange(geometry.detector_shape[1]) - 0.5 * (geometry.detector_shape[1] - 1)
    pixels = v[:, None, 3:5] + columns[:, None] * v[:, None, 6:8]
    if isinstance(geometry, ParallelBeam):
        along = v[:, None, :2] / np.linalg.norm(v[:, None, :2], axis=2, keepdims=True)
        return np.asarray(along[..., 1] * pixels[..., 0] - along[..., 0] * pixels[..., 1])
    inward, ray = -v[:, None, :2], pixels - v[:, None, :2]
    across = inward[..., 0] * ray[..., 1] - inward[..., 1] * ray[..., 0]
    return np.asarray(np.arctan2(across, (inward * ray).sum(2)))


def redundancy_weights(geometry: CtGeometry) -> np.ndarray:
    """Weights (view, column), float32: those of the two measurements of a ray add up to one.

    A half throughout where every ray is measured twice, and for orbits that are not circles.
    """
    gamma = fan_angles(geometry)
    half = np.full(gamma.shape, 0.5, np.float32)
    arc = _circular_arc(geometry)
    if arc is None:
        return half
    if arc.is_full:
        return _of_displaced_detector(gamma) if _unpaired(gamma) else half
    if isinstance(geometry, ParallelBeam):
        return half
    beta = np.mod(geometry.angles_rad - arc.start, 2 * np.pi)
    return _parker(beta[:, None], gamma, arc.length)


def widened(geometry: CtGeometry) -> tuple[CtGeometry, tuple[int, int]]:
    """The geometry with as many columns on either side of the axis, and how many came before the first and after the last.

    Of half acquisitions only. What the ramp filter spreads beyond the narrower side belongs to the voxels there.
    """
    gamma = fan_angles(geometry)
    arc = _circular_arc(geometry)
    n = _unpaired(gamma) if arc is not None and arc.is_full else 0
    if n == 0:
        return geometry, (0, 0)
    ends = gamma[:, [0, -1]].mean(axis=0)
    columns = (n, 0) if abs(ends[0]) < abs(ends[1]) else (0, n)
    vectors = np.array(geometry.vectors)
    vectors[:, 3:6] += 0.5 * (columns[1] - columns[0]) * vectors[:, 6:9]
    shape = (geometry.detector_shape[0], geometry.detector_shape[1] + n)
    return replace(geometry, vectors=vectors, detector_shape=shape), columns


def missing_arc(geometry: CtGeometry) -> float:
    """Radians that the orbit lacks for a complete scan: half a turn, plus the fan for cone beams; 0 where nothing is missing."""
    arc = covered_arc(geometry.angles_rad)
    if arc is None or arc.is_full:
        return 0.0
    fan = 2 * float(np.abs(fan_angles(geometry)).max()) if isinstance(geometry, ConeBeam) else 0.0
    return max(0.0, np.pi + fan - arc.length)


def _circular_arc(geometry: CtGeometry) -> Arc | None:
    """The covered arc; None where the orbit is no circle, too."""
    return covered_arc(geometry.angles_rad) if _is_circle(geometry) else None


def _is_circle(geometry: CtGeometry) -> bool:
    v = geometry.vectors
    if np.abs(v[:, 8]).max() > 1e-3 * np.linalg.norm(v[:, 6:9], axis=1).max():
        return False  # columns do not lie in the plane of rotation
    if isinstance(geometry, ParallelBeam):
        return float(np.abs(v[:, 2]).max()) <= 1e-3 * float(np.linalg.norm(v[:, :3], axis=1).max())
    radius = np.linalg.norm(v[:, :2], axis=1)
    return bool(np.ptp(radius) <= 0.02 * radius.mean() and np.ptp(v[:, 2]) <= 0.02 * radius.mean())


def _unpaired(gamma: np.ndarray) -> int:
    """How many columns the detector lacks to be as wide on both sides of the axis; 0 where that is not half acquisition."""
    low, high = float(gamma.min(axis=1).mean()), float(gamma.max(axis=1).mean())
    columns = round(gamma.shape[1] * abs(high + low) / (high - low)) if low < 0 < high else 0
    return columns if columns > UNPAIRED * gamma.shape[1] else 0


def _of_displaced_detector(gamma: np.ndarray) -> np.ndarray:
    """A half in the middle, one on the side that is measured once, zero where the narrower side ends."""
    low, high = float(gamma.min(axis=1).mean()), float(gamma.max(axis=1).mean())
    side, narrower = (1.0, -low) if high > -low else (-1.0, high)
    width = STEP * narrower
    place = np.clip((np.abs(gamma) - (narrower - width)) / width, 0, 1)
    step = 0.5 * np.sin(0.5 * np.pi * place) ** 2
    return np.asarray(0.5 + side * np.sign(gamma) * step, np.float32)


def _parker(beta: np.ndarray, gamma: np.ndarray, length: float) -> np.ndarray:
    """Parker's weights for an arc of ``length`` from β = 0; one for all rays that are measured once."""
    spare = 0.5 * (length - np.pi)
    rise, fall = 2 * (spare - gamma), 2 * (spare + gamma)
    weights = np.ones(np.broadcast_shapes(beta.shape, gamma.shape))
    with np.errstate(divide="ignore", invalid="ignore"):
        starts, ends = beta < rise, length - beta < fall
        weights = np.where(starts, np.sin(0.5 * np.pi * beta / rise) ** 2, weights)
        weights = np.where(ends & ~starts, np.sin(0.5 * np.pi * (length - beta) / fall) ** 2, weights)
    return weights.astype(np.float32)

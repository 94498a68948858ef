"""How much the beam hardened, by what the views say themselves: all parallel views of an object see the same mass.

That is the zeroth of the conditions of Helgason and Ludwig (D. Ludwig, Comm. Pure Appl. Math. 19 (1966) 49,
doi:10.1002/cpa.3160190105). Hardening breaks it, because thick paths count too little; the a₂ of p + a₂ p² that mends it best is
the estimate. Views of a cone are sorted into parallel ones in the plane of the source.
"""

from __future__ import annotations

import numpy as np

from napari_unroll.errors import ScanError
from napari_unroll.interrupt import check
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from napari_unroll.scan.grids import is_full_turn

LARGEST = 2.0
"""Of a₂; the strongest hardening of metals stays below one."""
BETTER = 0.5
"""Of the differences between views: what may be left for an estimate to be believed. Those of round objects are noise only."""
CUT = 0.15
"""Of the strongest column's mean: what the outermost columns may hold."""


def estimated_hardening(stack: np.ndarray, geometry: ConeBeam | ParallelBeam) -> float:
    """The a₂ of p + a₂ p², 0 to LARGEST, for line integrals (view, row, column) with which parallel views agree best.

    Raises ScanError where the object is cut by the detector, where a cone beam covers no full turn, and where the views agree no
    better with any a₂, as those of round objects do.
    """
    columns = stack.mean(axis=(0, 1))
    if max(columns[0], columns[-1]) > CUT * columns.max():
        raise ScanError(
            "The object reaches beyond the detector, so that its views do not see the same; give beam_hardening."
        )
    mass = [_masses(np.square(stack) if squared else stack, geometry) for squared in (False, True)]
    between, level = _quadratic(*(m - m.mean(axis=0) for m in mass)), _quadratic(*(m.mean(axis=0)[None] for m in mass))
    found = min((0.0, *_stationary(between, level)), key=lambda a: _value(between, a) / _value(level, a))
    left = _value(between, found) / _value(level, found)
    if found == 0 or left > BETTER * _value(between, 0.0) / _value(level, 0.0):
        raise ScanError(
            "The views of this object do not tell how the beam hardened, as it is too round; give beam_hardening."
        )
    return found


def _masses(stack: np.ndarray, geometry: ConeBeam | ParallelBeam) -> np.ndarray:
    """Sums over the columns of parallel views (view, row), float64."""
    if isinstance(geometry, ParallelBeam):
        return np.asarray(stack.sum(axis=2, dtype=np.float64))
    if not is_full_turn(geometry.angles_rad):
        raise ScanError("In a cone beam hardening is estimated from a full turn only; give beam_hardening.")
    return _of_fan(stack, geometry)


def _of_fan(stack: np.ndarray, geometry: ConeBeam) -> np.ndarray:
    """The same in the plane of the source: column by column a parallel view is that of the source turned by the fan angle."""
    v, (n_rows, n_columns) = geometry.vectors, geometry.detector_shape
    row = np.clip(np.median((v[:, 2] - v[:, 5]) / v[:, 11]) + 0.5 * (n_rows - 1), 0, n_rows - 1)
    across = np.arange(n_columns) - 0.5 * (n_columns - 1)
    rays = v[:, None, 3:5] + across[:, None] * v[:, None, 6:8] - v[:, None, :2]
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    direction = np.arctan2(rays[..., 1], rays[..., 0])
    distance = np.median(v[:, None, 0] * rays[..., 1] - v[:, None, 1] * rays[..., 0], axis=0)
    width = np.abs(np.gradient(distance))
    wanted = np.linspace(-np.pi, np.pi, len(v), endpoint=False)
    total, view = np.zeros(len(v)), stack[:, round(float(row))].astype(np.float64)
    for k in range(n_columns):
        check()
        total += width[k] * np.interp(wanted, direction[:, k], view[:, k], period=2 * np.pi)
    return total[:, None]


def _quadratic(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """The coefficients of ‖first + a second‖² / n by the power of a."""
    n = len(first)
    return float((first**2).sum() / n), float(2 * (first * second).sum() / n), float((second**2).sum() / n)


def _value(quadratic: tuple[float, float, float], a: float) -> float:
    return quadratic[0] + quadratic[1] * a + quadratic[2] * a * a


def _stationary(top: tuple[float, float, float], bottom: tuple[float, float, float]) -> list[float]:
    """Where the derivative of a quotient of two quadratics is zero, from 0 to LARGEST."""
    (t0, t1, t2), (b0, b1, b2) = top, bottom
    roots = np.roots([t2 * b1 - t1 * b2, 2 * (t2 * b0 - t0 * b2), t1 * b0 - t0 * b1])
    return [float(r.real) for r in roots if abs(r.imag) < 1e-12 * max(1.0, abs(r.real)) and 0 < r.real <= LARGEST]

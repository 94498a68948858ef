"""What is sane: the limits that geometries, grids and options share, named once, and the checks that say so in words.

Knows numbers only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_unroll.errors import ScanError
from napari_unroll.record import shown

SHORTEST_MM, LONGEST_MM = 1e-9, 1e7
"""Voxels, pixels and distances: from a picometre to ten kilometres; the longest also bounds every position."""
MOST = 1_000_000
"""Views, detector rows and columns, coils, shots, samples of a readout, voxels along an edge."""
LARGEST_ANGLE_RAD = 1e6
"""160,000 turns; the sine of larger angles means little."""
LARGEST_WEIGHT = 1e15
"""Of a sample of k-space against one; its inverse is the smallest that the heaviest sample may have."""
LARGEST_VALUE = 1e15
"""Of a measurement, line integral or sample of k-space; sums of their squares are then no trouble to float32."""
GRAZING = 1e-4
"""Sine of the angle between a ray and its detector, or between the detector's axes, below which they are parallel."""


def is_length(value: Any) -> bool:
    """Whether a number is a length in mm within the limits; NaN is none."""
    return bool(SHORTEST_MM <= value <= LONGEST_MM)


def counts(values: Any, n: int, what: str) -> tuple[int, ...]:
    """``n`` counts, whole numbers from 1 to MOST; raises ScanError beginning with ``what`` otherwise."""
    try:
        numbers = [float(v) for v in values]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != n or not all(1 <= v <= MOST and v == int(v) for v in numbers):
        raise ScanError(
            f"{what} must be {_several(n, 'whole number')} from 1 to {MOST:,}; got {shown(values)}. Check the file or the form."
        )
    return tuple(int(v) for v in numbers)


def _several(n: int, noun: str) -> str:
    return f"a {noun}" if n == 1 else f"{n} {noun}s"


def lengths(values: Any, n: int, what: str) -> tuple[float, ...]:
    """``n`` lengths in mm; raises ScanError beginning with ``what`` otherwise."""
    found = _numbers(values)
    if len(found) != n or not all(is_length(v) for v in found):
        raise ScanError(
            f"{what} must be {_several(n, 'length')} from {SHORTEST_MM:g} to {LONGEST_MM:g} mm; got {shown(values)}. "
            "Check the unit."
        )
    return found


def positions(values: Any, n: int, what: str) -> tuple[float, ...]:
    """``n`` coordinates in mm; raises ScanError beginning with ``what`` otherwise."""
    found = _numbers(values)
    if len(found) != n or not all(abs(v) <= LONGEST_MM for v in found):
        raise ScanError(
            f"{what} must be {_several(n, 'position')} within {LONGEST_MM:g} mm of the axis; got {shown(values)}. Check the unit."
        )
    return found


def _numbers(values: Any) -> tuple[float, ...]:
    try:
        return tuple(float(v) for v in values)
    except (TypeError, ValueError, OverflowError):
        return ()


def angles(values: Any) -> np.ndarray:
    """Angles in radians, float64 (view,); raises ScanError where one is NaN, infinite or beyond all turning."""
    found = np.asarray(values, dtype=np.float64).ravel()
    wrong = np.flatnonzero(~(np.abs(found) <= LARGEST_ANGLE_RAD))
    if len(wrong):
        raise ScanError(
            f"Angles must be finite, up to {LARGEST_ANGLE_RAD:g} rad; view {wrong[0]} has {found[wrong[0]]:g}. "
            "Correct the angles, or their unit."
        )
    return found

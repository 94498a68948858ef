"""A sample that turns before a source and a detector that stand still: what the scan's frame sees of it.

Scanners describe themselves so, with an axis that may lie anywhere and lean. Values only, no files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_unroll.errors import ScanError
from napari_unroll.scan import limits


@dataclass(frozen=True, kw_only=True)
class Turntable:
    """Positions and directions (x, y, z) in mm of a scanner that stands still.

    ``ray`` is the position of the source, or the direction of a parallel beam where ``parallel``; ``detector`` the middle
    of the detector; ``u`` and ``v`` lead to the next column and row and carry the pixel pitch. The sample turns about
    the line through ``axis`` along ``axis_direction``, a growing angle counter-clockwise seen from its tip.
    """

    ray: np.ndarray
    detector: np.ndarray
    u: np.ndarray
    v: np.ndarray
    axis: np.ndarray
    axis_direction: np.ndarray
    parallel: bool = False

    def vectors(self, angles_rad: np.ndarray) -> np.ndarray:
        """ASTRA vectors (view, 12) in the frame of the sample: its axis is z, and the scanner turns the other way.

        Raises ScanError where a position is not finite or the axis has no direction.
        """
        for name in ("ray", "detector", "u", "v", "axis", "axis_direction"):
            limits.positions(getattr(self, name), 3, f"The scanner's {name}")
        upright = _to_z(np.asarray(self.axis_direction, np.float64))
        points = [self.ray if self.parallel else self.ray - self.axis, self.detector - self.axis, self.u, self.v]
        fixed = np.stack([upright @ np.asarray(p, np.float64) for p in points])
        angles = limits.angles(angles_rad)
        s, c, zero = np.sin(-angles), np.cos(-angles), np.zeros_like(angles)
        turns = np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], axis=1).reshape(-1, 3, 3)
        return np.einsum("vij,pj->vpi", turns, fixed).reshape(len(angles), 12)


def _to_z(direction: np.ndarray) -> np.ndarray:
    """The smallest rotation (3, 3) that takes a direction to +z (Rodrigues' formula)."""
    length = float(np.linalg.norm(direction))
    if not length > limits.SHORTEST_MM:
        raise ScanError("The rotation axis has no direction; expected one such as 0, 0, 1.")
    x, y, z = direction / length
    if z < -1 + 1e-12:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + z)

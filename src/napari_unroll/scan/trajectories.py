"""Non-Cartesian k-space: sampling positions as values, and the trajectories that are commonly driven.

Positions are in cycles per voxel, axes (z, y, x), k = 0 at 0; knows no coils' data and no devices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from napari_unroll.errors import ScanError
from napari_unroll.scan import limits
from napari_unroll.scan.geometry import _Value
from napari_unroll.scan.limits import LARGEST_WEIGHT

GOLDEN_ANGLE_RAD = np.pi * (np.sqrt(5) - 1) / 2
"""Between successive spokes, which never fall on one another (Winkelmann et al. 2007, doi:10.1109/TMI.2006.885337)."""
_GOLDEN_MEANS = (0.4656, 0.6823)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NonCartesianSampling(_Value):
    """Where k-space was measured: ``trajectory`` (shot, readout, 3) in cycles per voxel along z, y, x, within ±0.5.

    ``shape`` is the grid (z, y, x) that the cycles refer to; an axis of one voxel has k = 0 throughout. Measurements are
    √w times the samples with ``weights`` w (shot, readout), one where None: with the density of the samples as weights
    least squares is well conditioned.
    """

    trajectory: np.ndarray
    shape: tuple[int, int, int]
    n_coils: int
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        k = np.array(self.trajectory, dtype=np.float64)
        shape = limits.counts(self.shape, 3, "The grid (z, y, x) of a trajectory")
        n_coils = limits.counts([self.n_coils], 1, "The number of coils")[0]
        if k.ndim != 3 or k.shape[2] != 3 or k.size == 0 or not np.isfinite(k).all():
            raise ScanError(
                f"A trajectory needs finite positions (shot, readout, 3); got an array of shape {k.shape}"
                f"{'' if np.isfinite(k).all() else ' with NaN or infinity'}. Correct the trajectory."
            )
        if np.abs(k).max() > 0.5 + 1e-6:
            raise ScanError(
                f"k-space positions must lie within ±0.5 cycles per voxel; got up to {np.abs(k).max():.3g}. "
                "Divide radians by 2π, or cycles per field of view by the number of voxels."
            )
        if any(n == 1 and np.abs(k[..., a]).max() > 1e-6 for a, n in enumerate(shape)):
            raise ScanError(
                f"An axis of one voxel needs k = 0, but the trajectory moves along it; the grid is {shape}."
            )
        w = np.ones(k.shape[:2]) if self.weights is None else np.array(self.weights, dtype=np.float64)
        if w.shape != k.shape[:2] or not (w >= 0).all() or not 1 / LARGEST_WEIGHT <= w.max() <= LARGEST_WEIGHT:
            raise ScanError(
                f"Expected weights (shot, readout) = {k.shape[:2]}, not negative, the largest from {1 / LARGEST_WEIGHT:g} to "
                f"{LARGEST_WEIGHT:g}; got shape {w.shape}, up to {w.max(initial=0):g}. Correct them, or leave them out."
            )
        k.setflags(write=False)
        w.setflags(write=False)
        object.__setattr__(self, "trajectory", k)
        object.__setattr__(self, "weights", w)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "n_coils", n_coils)

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """(coil, shot, readout)."""
        return (self.n_coils, *self.trajectory.shape[:2])

    def subset(self, shots: slice | np.ndarray) -> NonCartesianSampling:
        """The same sampling with only ``shots``."""
        assert self.weights is not None
        return replace(self, trajectory=self.trajectory[shots], weights=self.weights[shots])

    def on_grid(self, values: np.ndarray) -> np.ndarray:
        """Sums of ``values`` (shot, readout) at the nearest points of the centred Cartesian grid, float32 (z, y, x)."""
        n = np.array(self.shape)
        index = np.mod(np.rint(self.trajectory.reshape(-1, 3) * n).astype(int) + n // 2, n)
        flat = np.ravel_multi_index(tuple(index.T), self.shape)
        sums = np.bincount(flat, np.ravel(values), minlength=int(n.prod()))
        return sums.reshape(self.shape).astype(np.float32)

    def __repr__(self) -> str:
        shots, readout = self.trajectory.shape[:2]
        return f"NonCartesianSampling(shape={self.shape}, n_coils={self.n_coils}, shots={shots}, readout={readout})"


def _readout(n: int) -> np.ndarray:
    """``n`` positions along a spoke, −0.5 … 0.5, with k = 0 at index n // 2."""
    return (np.arange(n) - n // 2) / n


def radial_2d(n_spokes: int, n_readout: int, golden: bool = True) -> np.ndarray:
    """Spokes through k = 0 in the plane (y, x): trajectory (spoke, readout, 3).

    Golden-angle order (Winkelmann et al., doi:10.1109/TMI.2006.885337) or ``n_spokes`` even steps over π.
    """
    step = GOLDEN_ANGLE_RAD if golden else np.pi / n_spokes
    angle = step * np.arange(n_spokes)
    direction = np.stack([np.zeros(n_spokes), np.sin(angle), np.cos(angle)], axis=1)
    return np.asarray(_readout(n_readout)[None, :, None] * direction[:, None, :])


def stack_of_stars(n_spokes: int, n_readout: int, n_partitions: int) -> np.ndarray:
    """``radial_2d`` repeated on ``n_partitions`` Cartesian planes of k_z: trajectory (partition · spoke, readout, 3)."""
    planes = np.repeat(radial_2d(n_spokes, n_readout)[None], n_partitions, axis=0)
    planes[..., 0] = _readout(n_partitions)[:, None, None]
    return planes.reshape(n_partitions * n_spokes, n_readout, 3)


def radial_3d(n_spokes: int, n_readout: int) -> np.ndarray:
    """Spokes over the sphere by two-dimensional golden means (Chan et al., doi:10.1002/mrm.21837)."""
    m = np.arange(n_spokes)
    z = 2 * np.mod(m * _GOLDEN_MEANS[0], 1) - 1
    angle = 2 * np.pi * np.mod(m * _GOLDEN_MEANS[1], 1)
    across = np.sqrt(1 - z**2)
    direction = np.stack([z, across * np.sin(angle), across * np.cos(angle)], axis=1)
    return np.asarray(_readout(n_readout)[None, :, None] * direction[:, None, :])

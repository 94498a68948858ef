"""Multi-coil scanners and images drawn widely, each scanner from a seed: what networks meet in the world, not in one protocol.

Coils, kinds of masks, accelerations, planes and their size, errors of coil maps; contrasts and phases of objects. Knows
nothing of networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from napari_unroll.scan.geometry import CartesianSampling, VolumeGrid
from napari_unroll.scan.phantoms import coil_maps, poisson_disc_mask
from napari_unroll.scan.preprocess_mri import estimate_csm
from napari_unroll.scan.random_fields import Space
from napari_unroll.scan.retrospective import line_mask
from napari_unroll.scan.sampling_masks import star_mask
from napari_unroll.scan.scan import Modality, Scan
from napari_unroll.training.plan import Noise
from napari_unroll.training.scanners import CoilScanner

COILS = (1, 2, 4, 5, 6, 8, 10, 12, 13, 16, 20, 24, 32)
PLANES = (1, 1, 5, 8, 12)
"""Slices are as common as slabs."""
OBJECT_PLANES = 32
"""Of which objects have at least so many; scanners see some of them."""
MASKS = ("poisson", "poisson", "lines", "star")
MOST_OF_LINES = 6.0
"""Largest acceleration of whole lines."""
MOST_OF_FEW = 1.5
"""Largest acceleration is this and as much for every coil, up to what is asked for."""
CALIBRATION = (0.08, 0.16)
"""Radius of the fully sampled centre over the shorter edge."""
ESTIMATED = 0.5
"""Part of the scanners whose coil maps are estimated from their samples, as those of most measured scans are."""
KNOTS = 5
"""Of the curves that contrasts are drawn by."""


@dataclass(frozen=True)
class DrawnCoilScanner:
    """The multi-coil scanner of ``seed``: planes of about ``size`` voxels an edge, accelerations within ``limits``."""

    seed: int
    size: int
    limits: tuple[float, float]
    noise: Noise
    modality: Modality = "mri"
    is_flat: bool = False
    """Whether it sees one plane, and objects have no other."""

    @property
    def name(self) -> str:
        """For cards and logs."""
        return f"drawn coils and mask {self.seed}"

    @property
    def grid(self) -> VolumeGrid:
        """Planes whose edges differ by up to a factor of two, slices up to four times as thick as voxels are wide."""
        rng = self._rng(0)
        low, high = round(0.75 * self.size), round(1.5 * self.size)
        y, x = (int(rng.integers(low, high + 1)) for _ in range(2))
        planes, wide = int(rng.choice(PLANES)), float(np.exp(rng.uniform(np.log(0.7), np.log(2.8))))
        return VolumeGrid(
            shape=(1 if self.is_flat else planes, y, x), spacing_mm=(wide * rng.uniform(1, 4), wide, wide)
        )

    @property
    def object_grid(self) -> VolumeGrid:
        """The same planes and others beside them."""
        z, y, x = self.grid.shape
        return self.grid if self.is_flat else replace(self.grid, shape=(max(OBJECT_PLANES, z), y, x))

    def simulate(self, volume: np.ndarray, seed: int) -> Scan:
        """Sample the k-space of some planes of ``volume`` (z, y, x), in a contrast and phase of ``seed``, and add noise."""
        rng, grid = np.random.default_rng([seed, 6]), self.grid
        image = recoloured(_some_planes(volume, grid.shape[0], rng), rng, seed)
        mask, csm = self._mask(), coil_maps(grid.shape, self._n_coils, self.seed)
        scan = CoilScanner(self.name, mask, csm, grid, self._noise).simulate(image, seed)
        return with_estimated_maps(scan) if self._rng(4).random() < ESTIMATED else scan

    @property
    def _n_coils(self) -> int:
        return int(self._rng(1).choice(COILS))

    @property
    def _noise(self) -> Noise:
        """That of the plan, with coils that are correlated unless the plan says how."""
        if self.noise.coil_correlation or self.noise.coil_covariance:
            return self.noise
        return self.noise.model_copy(update={"coil_correlation": float(self._rng(2).uniform(0, 0.4))})

    def _mask(self) -> np.ndarray:
        rng, shape = self._rng(3), self.grid.shape
        kind, (low, high) = str(rng.choice(MASKS)), self.limits
        high = min(high, MOST_OF_FEW * (1 + self._n_coils), MOST_OF_LINES if kind == "lines" else high)
        radius = max(4, round(rng.uniform(*CALIBRATION) * min(shape[1:])))
        held = (2 * radius + 1) / shape[1] if kind == "lines" else math.pi * (radius + 1) ** 2 / math.prod(shape[1:])
        r = float(np.exp(rng.uniform(np.log(low), np.log(max(low, min(high, 0.8 / held))))))
        return np.broadcast_to(MAKE[kind]((shape[1], shape[2]), r, radius, self.seed), shape)

    def _rng(self, what: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 7, what])


def _lines(shape: tuple[int, int], acceleration: float, radius: int, seed: int) -> np.ndarray:
    return line_mask(shape, acceleration, 2 * radius, seed)


MAKE: dict[str, Callable[[tuple[int, int], float, int, int], np.ndarray]] = {
    "poisson": poisson_disc_mask,
    "lines": _lines,
    "star": star_mask,
}
"""(shape (y, x), acceleration, radius of the centre, seed) → mask, by kind."""


def _some_planes(volume: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` planes of ``volume`` (z, y, x) in a row that show at least half as much as those that show the most."""
    up_to = np.concatenate([[0.0], np.abs(volume).sum((1, 2), dtype=np.float64).cumsum()])
    shown = up_to[n:] - up_to[:-n]
    first = int(rng.choice(np.flatnonzero(shown >= shown.max() / 2)))
    return volume[first : first + n]


def with_estimated_maps(scan: Scan) -> Scan:
    """``scan`` with coil maps from its own samples; its truth is what the true maps S show through the estimated ones."""
    assert scan.csm is not None
    assert scan.truth is not None
    assert isinstance(scan.geometry, CartesianSampling)
    found = estimate_csm(scan.measurements, scan.geometry.mask)
    truth = (found.conj() * scan.csm).sum(0) * scan.truth
    return replace(scan, csm=found, truth=truth.astype(np.complex64))


def recoloured(image: np.ndarray, rng: np.random.Generator, seed: int) -> np.ndarray:
    """``image`` (z, y, x), complex, in another contrast (any curve of the magnitude from zero) and with more smooth phase."""
    size = np.abs(image)
    top = float(size.max()) or 1.0
    values = np.concatenate([[0.0], rng.uniform(0.1, 1.0, KNOTS - 1)])
    values = np.sort(values) if rng.random() < 0.5 else values
    curve = np.interp(size / top, np.linspace(0, 1, KNOTS), values / values.max()).astype(np.float32)
    angle = np.angle(image) + rng.uniform(0, 2) * Space(image.shape, seed).noise(2)
    return np.asarray(curve * np.exp(1j * angle), np.complex64)

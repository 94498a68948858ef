"""Smooth random fields and soft shapes on the cube [-1, 1]³: the material of generated phantoms.

Everything is a function of continuous coordinates and of the seed alone, never of the number of voxels, so the
same seed gives the same object at every resolution. NumPy only; knows nothing of scanners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import unwrap
from typing import Any, TypeVar

import numpy as np

from napari_unroll.interrupt import check, stage

Array = np.ndarray
T = TypeVar("T")
PART = 1 << 20
"""Voxels of the slabs that volumes are made in: hundredths of a second per operation on all of them."""
_SPLINE_STD = 0.692  # RMS weight of a cubic B-spline, averaged over positions, per axis


def _spline_matrix(n: int, n_cells: int) -> Array:
    """Weights (n, n_cells + 3) of uniform cubic B-splines at n voxel centres over ``n_cells`` lattice cells."""
    t = (np.arange(n) + 0.5) / n * n_cells
    cell = np.minimum(t.astype(int), n_cells - 1)
    f = t - cell
    weights = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], axis=1) / 6
    matrix = np.zeros((n, n_cells + 3), np.float32)
    np.put_along_axis(matrix, cell[:, None] + np.arange(4), weights.astype(np.float32), axis=1)
    return matrix


def rotation(rng: np.random.Generator) -> Array:
    """A uniformly random proper rotation, float32 (3, 3)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return (q * np.linalg.det(q)).astype(np.float32)


class Space:
    """Voxel centres of a volume ``whole`` (z, y, x) as coordinates in [-1, 1], with seeded random fields on them.

    All of it, or a slab of ``planes``, whose ``shape`` arrays have then; slabs of one volume draw the same numbers, and
    share what they make ``once``.
    """

    def __init__(
        self, whole: Sequence[int], seed: int = 0, planes: slice = slice(None), made: dict[int, Any] | None = None
    ) -> None:
        self.whole = tuple(int(n) for n in whole)
        self.planes = slice(*planes.indices(self.whole[0]))
        self.shape = (self.planes.stop - self.planes.start, *self.whole[1:])
        self.rng = np.random.default_rng(seed)
        axes = [((2 * np.arange(n) + 1) / n - 1).astype(np.float32) for n in self.whole]
        self.axes = [axes[0][self.planes], *axes[1:]]
        self.z, self.y, self.x = np.ix_(*self.axes)
        self.voxel = 2.0 / max(self.whole)
        self._made, self._n_made = {} if made is None else made, 0

    def once(self, make: Callable[[np.random.Generator], T]) -> T:
        """What ``make`` draws whatever the planes: made for the first slab, remembered for the others."""
        self._n_made += 1
        if self._n_made not in self._made:
            self._made[self._n_made] = make(self.rng), self.rng.bit_generator.state
        value, self.rng.bit_generator.state = self._made[self._n_made]
        return value

    def noise(self, n_cells: int) -> Array:
        """Gaussian field of unit variance with features of 2 / ``n_cells``; zero where voxels are too coarse for it."""
        check()
        lattice = self.rng.standard_normal((n_cells + 3,) * 3, dtype=np.float32)
        if n_cells > max(self.whole):
            return np.zeros(self.shape, np.float32)
        for n, rows in zip(self.whole, (self.planes, slice(None), slice(None)), strict=True):
            lattice = np.tensordot(lattice, _spline_matrix(n, n_cells)[rows], axes=(0, 1))
        return lattice / _SPLINE_STD**3

    def fractal(self, n_cells: int, octaves: int = 4, gain: float = 0.6) -> Array:
        """Sum of ``octaves`` noises, each half as large in features and ``gain`` times as strong; unit variance."""
        field = np.zeros(self.shape, np.float32)
        for k in range(octaves):
            field += gain**k * self.noise(n_cells * 2**k)
        return field / np.float32(np.sqrt(sum(gain ** (2 * k) for k in range(octaves))))

    def warped(self, amplitude: float, n_cells: int = 3) -> tuple[Array, Array, Array]:
        """Coordinates z, y, x displaced by smooth noise of RMS ``amplitude``."""
        moved: list[Array] = [c + amplitude * self.noise(n_cells) for c in (self.z, self.y, self.x)]
        return moved[0], moved[1], moved[2]

    def soft(self, level: Array, width: float | None = None) -> Array:
        """Indicator of level > 0 with an edge as wide as a voxel (or ``width``): partial-volume borders."""
        check()
        return np.clip(0.5 + level / (width or 1.5 * self.voxel), 0, 1)

    def window(self, centre: Array, radius: float) -> tuple[slice, slice, slice]:
        """The voxels of the cube around ``centre`` (z, y, x) with half side ``radius`` plus a border."""
        check()
        edges = []
        for c, n, first, held in zip(centre, self.whole, (self.planes.start, 0, 0), self.shape, strict=True):
            start = int(np.floor((c - radius + 1) * n / 2)) - 2 - first
            stop = int(np.ceil((c + radius + 1) * n / 2)) + 2 - first
            edges.append(slice(min(max(start, 0), held), max(min(stop, held), 0)))
        return edges[0], edges[1], edges[2]

    def offsets(self, box: tuple[slice, slice, slice], centre: Array) -> tuple[Array, Array, Array]:
        """Coordinates z, y, x inside ``box`` relative to ``centre``, ready to broadcast."""
        z, y, x = np.ix_(*(a[b] - np.float32(c) for a, b, c in zip(self.axes, box, centre, strict=True)))
        return z, y, x

    def field_of_view(self, radius: float = 0.95) -> Array:
        """Soft indicator of the inscribed cylinder of ``radius`` about z, with |z| < ``radius``."""
        return self.soft(np.minimum(self.cylinder(radius), radius - np.abs(self.z)))

    def cylinder(self, radius: float = 0.95) -> Array:
        """Depth below the surface of the endless cylinder of ``radius`` about z; negative outside."""
        return radius - np.sqrt(self.y**2 + self.x**2)


def in_slabs(make: Callable[[Space], Array]) -> Callable[..., Array]:
    """``make``, which works voxel by voxel, as a function of shape (z, y, x) and seed that goes slab by slab.

    So it takes little memory beside the result (..., z, y, x), tells how far it is, and can be stopped.
    """

    @wraps(make)
    def whole(shape: Sequence[int], seed: int = 0) -> Array:
        thick, made = max(1, PART // (int(shape[1]) * int(shape[2]))), dict[int, Any]()
        volume: Array | None = None
        with stage(int(shape[0])) as done:
            for first in range(0, int(shape[0]), thick):
                done(first)
                planes = slice(first, first + thick)
                slab = make(Space(shape, seed, planes, made))
                if volume is None:
                    volume = np.empty((*slab.shape[:-3], *(int(n) for n in shape)), slab.dtype)
                volume[..., planes, :, :] = slab
        assert volume is not None
        return volume

    return whole


def one_plane(make: Callable[..., Array], shape: Sequence[int], seed: int, plane: int) -> Array:
    """The ``plane`` (..., 1, y, x) of the volume ``make(shape, seed)`` of a function that goes ``in_slabs``, without the others."""
    return np.asarray(unwrap(make)(Space(shape, seed, slice(plane, plane + 1))))

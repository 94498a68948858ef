"""Kernels that vary smoothly with position: one regression per lag from impulse responses.

Rays meet a voxel of a cone-beam scan from directions that turn with its position, so one kernel for all of space is a
compromise. Here N[i, j] ≈ Σ_b φ_b(i, j) h_b(i − j) with the ten symmetric polynomials 1, (c_i + c_j)/2 and c_i c_j of
the coordinates, which are sums of weights left and right of convolutions:
Ñ = √D (C_1 + ½ Σ (Z C_z + C_z Z) + Z C_zz Z + …) √D, four transforms each way. The columns are sums over probes as for
one kernel, each lag is a ridge regression of ten unknowns. Sees columns and positions only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numba
import numpy as np
import torch

from napari_unroll.errors import FileFormatError
from napari_unroll.normal.factors import NormalFactors, coordinates
from napari_unroll.normal.impulse import window, wrap
from napari_unroll.physics.convolution import Pairs, Shape
from napari_unroll.physics.pool import default_threads, run_tasks

N_BASIS = 10
PAIRS: Pairs = (
    (0, 0, 0), (1, 0, 1), (0, 1, 1), (2, 0, 2), (0, 2, 2), (3, 0, 3), (0, 3, 3), (1, 1, 4), (2, 2, 5), (3, 3, 6),
    (1, 2, 7), (2, 1, 7), (1, 3, 8), (3, 1, 8), (2, 3, 9), (3, 2, 9),
)  # fmt: skip
"""(left, right, kernel) with weights 1, z, y, x; kernels of mixed terms carry the factor ½."""
RIDGE = 0.02


class SmoothLags:
    """Running sums Σ φ_b(i, j) N[i, j] per lag for lags below ``support``; real operators, linear kernels."""

    def __init__(self, shape: Shape, support: Shape, device: torch.device) -> None:
        self.shape, self.support = shape, support
        self.sums = torch.zeros((N_BASIS, *(2 * s - 1 for s in support)), device=device)
        self.positions: list[tuple[int, ...]] = []
        self._axes = [torch.from_numpy(c).to(device) for c in coordinates(shape)]

    def add(self, column: torch.Tensor, position: Sequence[int]) -> None:
        """Add N e_j for j = ``position``: the part of the column inside :func:`impulse.window`."""
        j = tuple(int(p) for p in position)
        box = window(self.shape, self.support, j)
        target = tuple(
            slice(b.start - p + s - 1, b.stop - p + s - 1) for b, p, s in zip(box, j, self.support, strict=True)
        )
        here = [c[p] for c, p in zip(self._axes, j, strict=True)]
        z, y, x = (c[b] for c, b in zip(self._axes, box, strict=True))
        grid = (z[:, None, None], y[None, :, None], x[None, None, :])
        for b, phi in enumerate(_basis(grid, here)):
            self.sums[b][target] += phi * column
        self.positions.append(j)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The running sums."""
        return {"sums": self.sums}

    def restore(self, tensors: Mapping[str, torch.Tensor], positions: np.ndarray) -> None:
        """Take the sums over the columns at ``positions`` (probe, 3).

        Raises FileFormatError where they are of another volume.
        """
        if tensors["sums"].shape != self.sums.shape:
            raise FileFormatError(
                "The interrupted fit on disk is of another volume; empty the cache folder and fit again."
            )
        self.sums, self.positions = tensors["sums"], [tuple(int(p) for p in j) for j in positions]

    def kernels(self, ridge: float = RIDGE) -> torch.Tensor:
        """The ten kernels (10, z, y, x) in the wrapped order of :class:`NormalFactors`."""
        positions = np.array(self.positions, dtype=np.int64)
        sums = np.ascontiguousarray(self.sums.cpu().numpy())
        out = np.zeros_like(sums)
        axes = coordinates(self.shape)

        def solve(start: int, stop: int) -> Iterator[None]:
            for lag in range(start, stop):
                _solve_plane(lag, sums, positions, axes[0], axes[1], axes[2], ridge, out)
                yield

        run_tasks(solve, self.support[0], default_threads())
        kernels = torch.from_numpy(out).to(self.sums.device)
        for axis in (1, 2, 3):
            kernels = wrap(kernels, axis)
        return kernels


def _basis(i: Sequence[torch.Tensor], j: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    linear = [(a + b) / 2 for a, b in zip(i, j, strict=True)]
    square = [a * b for a, b in zip(i, j, strict=True)]
    mixed = [(i[a] * j[b] + i[b] * j[a]) / 2 for a, b in ((0, 1), (0, 2), (1, 2))]
    return [torch.ones_like(linear[0]), *linear, *square, *mixed]


def assemble(kernels: torch.Tensor, shape: Shape, d: torch.Tensor | None = None) -> NormalFactors:
    """Ñ from the ten kernels and a weight d ≥ 0 (z, y, x) put on both sides as its root."""
    weight = torch.ones(1, 1, 1, 1, device=kernels.device).expand(1, *shape) if d is None else d.sqrt()[None]
    scale = torch.tensor([1.0, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5]).to(kernels)
    scaled = kernels * scale[:, None, None, None]
    return NormalFactors(
        kernel=scaled, left=weight, right=weight, shape=shape, form="sum", pairs=PAIRS, polynomial=True
    )


@numba.njit(nogil=True, cache=True)
def _fill_basis(phi, zi, yi, xi, zj, yj, xj):  # type: ignore[no-untyped-def]
    phi[0] = 1.0
    phi[1], phi[2], phi[3] = 0.5 * (zi + zj), 0.5 * (yi + yj), 0.5 * (xi + xj)
    phi[4], phi[5], phi[6] = zi * zj, yi * yj, xi * xj
    phi[7], phi[8], phi[9] = 0.5 * (zi * yj + yi * zj), 0.5 * (zi * xj + xi * zj), 0.5 * (yi * xj + xi * yj)


@numba.njit(nogil=True, cache=True)
def _gram(gram, phi, lag, positions, zc, yc, xc):  # type: ignore[no-untyped-def]
    """Σ φ φᵀ over the probes whose voxel at ±lag lies in the volume; returns how many."""
    gram[:] = 0.0
    count = 0
    for sign in (1, -1):
        for p in range(positions.shape[0]):
            z, y, x = positions[p]
            u, v, w = z + sign * lag[0], y + sign * lag[1], x + sign * lag[2]
            if 0 <= u < zc.size and 0 <= v < yc.size and 0 <= w < xc.size:
                _fill_basis(phi, zc[u], yc[v], xc[w], zc[z], yc[y], xc[x])
                count += 1
                for a in range(N_BASIS):
                    for b in range(a + 1):
                        gram[a, b] += phi[a] * phi[b]
    return count


@numba.njit(nogil=True, cache=True)
def _cholesky_solve(gram, rhs):  # type: ignore[no-untyped-def]
    """Solve in place with the lower triangle of a positive definite matrix."""
    n = rhs.size
    for i in range(n):
        for j in range(i + 1):
            total = gram[i, j]
            for k in range(j):
                total -= gram[i, k] * gram[j, k]
            gram[i, j] = np.sqrt(total) if i == j else total / gram[j, j]
    for i in range(n):
        for k in range(i):
            rhs[i] -= gram[i, k] * rhs[k]
        rhs[i] /= gram[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            rhs[i] -= gram[k, i] * rhs[k]
        rhs[i] /= gram[i, i]


@numba.njit(nogil=True, cache=True)
def _solve_plane(lag_z, sums, positions, zc, yc, xc, ridge, out):  # type: ignore[no-untyped-def]
    """All lags (±lag_z, ·, ·): regress, and write h(ℓ) = h(−ℓ)."""
    _, nz, ny, nx = sums.shape
    gram, phi, rhs = np.zeros((N_BASIS, N_BASIS)), np.zeros(N_BASIS), np.zeros(N_BASIS)
    lag = np.zeros(3, np.int64)
    a = lag_z + nz // 2
    for b in range(ny):
        for c in range(nx):
            lag[0], lag[1], lag[2] = lag_z, b - ny // 2, c - nx // 2
            count = _gram(gram, phi, lag, positions, zc, yc, xc)
            if count == 0:
                continue
            for k in range(N_BASIS):
                rhs[k] = sums[k, a, b, c] + sums[k, nz - 1 - a, ny - 1 - b, nx - 1 - c]
                gram[k, k] += ridge * count if k > 0 else 1e-6 * count
            _cholesky_solve(gram, rhs)
            for k in range(N_BASIS):
                out[k, a, b, c] = rhs[k]
                out[k, nz - 1 - a, ny - 1 - b, nx - 1 - c] = rhs[k]

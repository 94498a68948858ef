"""The proximal map of total variation on the CPU: numba kernels that hold no lock, on a thread pool.

A dual step is two loops over rows of voxels, x from the dual field and the dual field from x; each reads and writes every number
once. A complex number is two real ones side by side whose common length is bounded. Plain arrays in, plain arrays out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from napari_unroll.physics.pool import default_threads, parts, run_tasks
from napari_unroll.scratch import empty

Array = np.ndarray[Any, Any]

COST = 20
"""Innermost steps of a projector that one number of a row takes as long as."""


def dual_steps(
    b: Array, p: Array, weight: float, spacing_weights: Sequence[float], positivity: bool, momenta: Sequence[float]
) -> Array:
    """x = b − weight ∇ᵀp (z, y, x) after one dual step per momentum from the field p (3, z, y, x), which is changed in place.

    b and p are C-contiguous and of one type, real or complex; ``spacing_weights`` are those of ``Differences``.
    """
    n_parts = 2 if b.dtype.kind == "c" else 1
    real = b.real.dtype
    x = empty(b.shape, b.dtype)
    given, dual, primal = b.view(real), p.view(real), x.view(real)
    ahead = empty(dual.shape, real)
    ahead[...] = dual
    outward = np.asarray(spacing_weights, real) * real.type(weight)
    axes = [w for w, n in zip(spacing_weights, b.shape, strict=True) if n > 1]
    step = 1 / (4 * sum(w * w for w in axes) * weight) if axes else 0.0
    inward = np.asarray(spacing_weights, real) * real.type(step)

    def find_primal(field: Array) -> None:
        _over_rows(given.shape, partial(_primal, given, field, outward, n_parts, positivity, primal))

    for momentum in momenta:
        find_primal(ahead)
        _over_rows(given.shape, partial(_dual, primal, inward, real.type(momentum), n_parts, dual, ahead))
    find_primal(dual)
    return x


def _over_rows(shape: Sequence[int], kernel: Callable[[int, int], None]) -> None:
    """``kernel(first, end)`` over all rows of a volume on the pool."""

    def task(first: int, end: int) -> Iterator[None]:
        for a, e in parts(first, end, COST * shape[2]):
            kernel(a, e)
            yield

    n_threads = default_threads()
    run_tasks(task, shape[0] * shape[1], n_threads, per_thread=1 if n_threads == 1 else 4)


@njit(nogil=True, cache=True, error_model="numpy")
def _primal(b, p, weights, n_parts, positivity, x, first, end):  # type: ignore[no-untyped-def]
    """x = b − ∇ᵀp, at or above zero with ``positivity``, for the rows ``first`` to ``end`` of all planes counted together.

    b and x (z, y, parts of x), p (3, z, y, parts of x), ``weights`` of the differences along z, y, x.
    """
    n_y, n = b.shape[1], b.shape[2]
    wz, wy, wx = weights
    zero = wz * 0
    for row in range(first, end):
        z, y = row // n_y, row % n_y
        given, out, along_x = b[z, y], x[z, y], p[2, z, y]
        along_z, along_y = p[0, z, y], p[1, z, y]
        before_z, vz = (p[0, z - 1, y], wz) if z > 0 else (along_z, zero)
        before_y, vy = (p[1, z, y - 1], wy) if y > 0 else (along_y, zero)
        for i in range(n):
            out[i] = (
                given[i] + (wz * along_z[i] - vz * before_z[i]) + (wy * along_y[i] - vy * before_y[i]) + wx * along_x[i]
            )
        for i in range(n_parts, n):
            out[i] -= wx * along_x[i - n_parts]
        if positivity:
            for i in range(n):
                out[i] = max(out[i], zero)


@njit(nogil=True, cache=True, error_model="numpy")
def _dual(x, weights, momentum, n_parts, p, ahead, first, end):  # type: ignore[no-untyped-def]
    """p⁺ = ahead + ∇x with vectors no longer than one, ahead⁺ = p⁺ + momentum (p⁺ − p), in place; rows as above."""
    n_z, n_y, n = x.shape
    wz, wy, wx = weights
    one = wz / wz
    new = np.empty((3, n), x.dtype)
    length = np.empty(n // n_parts, x.dtype)
    for row in range(first, end):
        z, y = row // n_y, row % n_y
        here = x[z, y]
        after_z = x[z + 1, y] if z + 1 < n_z else here
        after_y = x[z, y + 1] if y + 1 < n_y else here
        new_z, new_y, new_x = new[0], new[1], new[2]
        ahead_z, ahead_y, ahead_x = ahead[0, z, y], ahead[1, z, y], ahead[2, z, y]
        for i in range(n):
            new_z[i] = ahead_z[i] + wz * (after_z[i] - here[i])
            new_y[i] = ahead_y[i] + wy * (after_y[i] - here[i])
            new_x[i] = ahead_x[i]
        for i in range(n - n_parts):
            new_x[i] += wx * (here[i + n_parts] - here[i])
        if n_parts == 1:
            for i in range(n):
                length[i] = new_z[i] * new_z[i] + new_y[i] * new_y[i] + new_x[i] * new_x[i]
        else:
            for i in range(n // 2):
                j = 2 * i
                length[i] = new_z[j] * new_z[j] + new_y[j] * new_y[j] + new_x[j] * new_x[j]
                j += 1
                length[i] += new_z[j] * new_z[j] + new_y[j] * new_y[j] + new_x[j] * new_x[j]
        for i in range(len(length)):
            length[i] = one / np.sqrt(max(length[i], one))
        for a in range(3):
            fresh, old, next_ = new[a], p[a, z, y], ahead[a, z, y]
            if n_parts == 1:
                for i in range(n):
                    fresh[i] *= length[i]
            else:
                for i in range(n // 2):
                    fresh[2 * i] *= length[i]
                    fresh[2 * i + 1] *= length[i]
            for i in range(n):
                next_[i] = fresh[i] + momentum * (fresh[i] - old[i])
                old[i] = fresh[i]

"""Ray-driven Joseph projection on the CPU: numba kernels that hold no lock, on a thread pool.

Joseph, "An improved algorithm for reprojecting rays through pixel images" (1982), doi:10.1109/TMI.1982.4307572:
along the ray's dominant axis one bilinear sample per plane of voxels. The adjoint scatters with the same
weights, so the pair is matched to rounding. Each adjoint task owns a slab of planes: no atomics, and the same
bits in every run. Volumes are gone through slab by slab, each with the rays of all views that may meet it, so that one
on disk is read or written once. Plain arrays in, plain arrays out; no torch, no geometry classes.

The kernels never index outside their arrays, whatever numbers they are given: floats are compared, in the sense that
NaN fails, before they are cast, because the integer of a float beyond 2⁶³ is undefined. A ray without a sound walk
gives zero.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numba import njit

from napari_unroll.physics.pool import PASSES, one_by_one, parts, run_tasks
from napari_unroll.scratch import SLAB_BYTES, zeros

LONGEST_STEP_MM = 1e30
"""Per plane; rays that go further are taken to miss, so that float32 sums stay finite."""
VECTORS = {"reassoc", "contract", "nsz"}
"""What the compiler may change of sums and products to make several planes at once; NaN and infinity stay what they are."""
PLANES = 128
"""Of a ray that the adjoint weighs at once, before it scatters them one by one."""


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _clip(lo, hi, start, slope, limit):  # type: ignore[no-untyped-def]
    """Part of the plane range [lo, hi] where 0 < start + k·slope < limit."""
    if abs(slope) < 1e-12:
        if start <= 0.0 or start >= limit:
            return 1.0, 0.0
        return lo, hi
    k0 = -start / slope
    k1 = (limit - start) / slope
    if k0 > k1:
        k0, k1 = k1, k0
    return max(lo, k0), min(hi, k1)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _ray(view, row, col, cone, origin, spacing, sizes, strides, out):  # type: ignore[no-untyped-def]
    """Walk of one ray in padded voxel coordinates, written to ``out``.

    ``view`` 12 numbers (x, y, z order), ``origin`` and ``spacing`` (z, y, x) of the unpadded grid. out: first plane,
    end plane, b at plane 0, slope of b, c at plane 0, slope of c, length per plane in mm, dominant axis (z 0, y 1, x 2).
    """
    sq = 0.0
    for i in range(3):
        j = 2 - i
        pixel = view[3 + j] + row * view[9 + j] + col * view[6 + j]
        direction = pixel - view[j] if cone else view[j]
        sq += direction * direction
        start = view[j] if cone else pixel
        out[8 + i] = (start - origin[i]) / spacing[i] + 1.0
        out[11 + i] = direction / spacing[i]
    a = 0
    if abs(out[12]) > abs(out[11 + a]):
        a = 1
    if abs(out[13]) > abs(out[11 + a]):
        a = 2
    b = 0 if a != 0 else 1
    c = 2 if a != 2 else 1
    sa = out[11 + a]
    slope_b = out[11 + b] / sa
    slope_c = out[11 + c] / sa
    b0 = out[8 + b] - out[8 + a] * slope_b
    c0 = out[8 + c] - out[8 + a] * slope_c
    lo, hi = 1.0, float(sizes[a])
    lo, hi = _clip(lo, hi, b0, slope_b, sizes[b] + 1.0)
    lo, hi = _clip(lo, hi, c0, slope_c, sizes[c] + 1.0)
    length = np.sqrt(sq) / abs(sa)
    out[0], out[1], out[6], out[7] = 1.0, 1.0, 0.0, a
    if not (lo <= hi and length < LONGEST_STEP_MM):
        return
    first = np.ceil(lo)
    # Rounding may put an end plane a hair outside the padded box, where its weight is zero: leave it out. The planes
    # between two ends that lie inside lie inside too, because rounding keeps k ↦ b0 + k·slope monotone; fused with
    # another rounding an end may still come to lie on the far face, so that indices are held below it.
    while first <= hi and not (
        0.0 <= b0 + first * slope_b < sizes[b] + 1.0 and 0.0 <= c0 + first * slope_c < sizes[c] + 1.0
    ):
        first += 1.0
    last = np.floor(hi)
    while last >= first and not (
        0.0 <= b0 + last * slope_b < sizes[b] + 1.0 and 0.0 <= c0 + last * slope_c < sizes[c] + 1.0
    ):
        last -= 1.0
    out[0], out[1] = first, last + 1.0
    out[2], out[3], out[4], out[5] = b0, slope_b, c0, slope_c
    out[6] = length


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _axes(a, sizes, strides):  # type: ignore[no-untyped-def]
    """Strides along the dominant axis ``a`` and the other two, and the last voxels along these that have a next one."""
    b = 0 if a != 0 else 1
    c = 2 if a != 2 else 1
    return strides[a], strides[b], strides[c], sizes[b], sizes[c]


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _cell(k, b0, db, c0, dc, sa, sb, sc, last_b, last_c):  # type: ignore[no-untyped-def]
    """The first of the four voxels about a ray in plane ``k``, and the parts of the way to the next along b and c."""
    b = b0 + k * db
    c = c0 + k * dc
    ib = min(int(b), last_b)
    ic = min(int(c), last_c)
    return k * sa + ib * sb + ic * sc, b - ib, c - ic


@njit(nogil=True, cache=True, error_model="numpy", fastmath=VECTORS)
def _sum_along(volume, walk, sizes, strides):  # type: ignore[no-untyped-def]
    """Σ of bilinear samples on one ray's planes."""
    sa, sb, sc, last_b, last_c = _axes(int(walk[7]), sizes, strides)
    b0, db, c0, dc = walk[2], walk[3], walk[4], walk[5]
    total = 0.0
    for k in range(int(walk[0]), int(walk[1])):
        at, wb, wc = _cell(k, b0, db, c0, dc, sa, sb, sc, last_b, last_c)
        i = np.uint64(at)
        total += (1.0 - wb) * ((1.0 - wc) * volume[i] + wc * volume[i + np.uint64(sc)]) + wb * (
            (1.0 - wc) * volume[i + np.uint64(sb)] + wc * volume[i + np.uint64(sb + sc)]
        )
    return total


@njit(nogil=True, cache=True, error_model="numpy", fastmath=VECTORS)
def _weights_along(first, n, walk, sizes, strides, value, at, weights):  # type: ignore[no-untyped-def]
    """Of ``n`` planes from ``first`` on: the first of four voxels, and ``value`` shared out among them, (4, plane)."""
    sa, sb, sc, last_b, last_c = _axes(int(walk[7]), sizes, strides)
    b0, db, c0, dc = walk[2], walk[3], walk[4], walk[5]
    for j in range(n):
        at[j], wb, wc = _cell(first + j, b0, db, c0, dc, sa, sb, sc, last_b, last_c)
        low = (1.0 - wb) * value
        high = wb * value
        weights[0, j] = (1.0 - wc) * low
        weights[1, j] = wc * low
        weights[2, j] = (1.0 - wc) * high
        weights[3, j] = wc * high


@njit(nogil=True, cache=True, error_model="numpy")
def _forward(volume, vectors, cone, origin, spacing, sizes, strides, projections, rows, first, end):  # type: ignore[no-untyped-def]
    """Added to detector rows ``first`` to ``end``, counted on from view to view, those of each view within its ``rows``."""
    walk = np.empty(14)
    n_rows, n_cols = projections.shape[1], projections.shape[2]
    for v in range(first // n_rows, -(-end // n_rows)):
        view = vectors[v]
        for r in range(max(rows[v, 0], first - v * n_rows), min(rows[v, 1], end - v * n_rows)):
            for q in range(n_cols):
                _ray(view, r - 0.5 * (n_rows - 1), q - 0.5 * (n_cols - 1), cone, origin, spacing, sizes, strides, walk)
                projections[v, r, q] += _sum_along(volume, walk, sizes, strides) * walk[6]


@njit(nogil=True, cache=True, error_model="numpy")
def _adjoint(projections, vectors, cone, origin, spacing, sizes, strides, volume, rows, first, end):  # type: ignore[no-untyped-def]
    """Of detector rows ``first`` to ``end``, counted on from view to view, those of each view within its ``rows``."""
    walk = np.empty(14)
    at = np.empty(PLANES, np.int64)
    weights = np.empty((4, PLANES), np.float32)
    n_rows, n_cols = projections.shape[1], projections.shape[2]
    for v in range(first // n_rows, -(-end // n_rows)):
        view = vectors[v]
        for r in range(max(rows[v, 0], first - v * n_rows), min(rows[v, 1], end - v * n_rows)):
            for q in range(n_cols):
                _ray(view, r - 0.5 * (n_rows - 1), q - 0.5 * (n_cols - 1), cone, origin, spacing, sizes, strides, walk)
                _, sb, sc, _, _ = _axes(int(walk[7]), sizes, strides)
                for start in range(int(walk[0]), int(walk[1]), PLANES):
                    n = min(PLANES, int(walk[1]) - start)
                    _weights_along(start, n, walk, sizes, strides, projections[v, r, q] * walk[6], at, weights)
                    for j in range(n):
                        i = np.uint64(at[j])
                        volume[i] += weights[0, j]
                        volume[i + np.uint64(sc)] += weights[1, j]
                        volume[i + np.uint64(sb)] += weights[2, j]
                        volume[i + np.uint64(sb + sc)] += weights[3, j]


def _strides(sizes: np.ndarray) -> np.ndarray:
    """Element strides (z, y, x) of a volume padded by one voxel on each side."""
    return np.array([(sizes[1] + 2) * (sizes[2] + 2), sizes[2] + 2, 1], dtype=np.int64)


def slabs(shape: tuple[int, ...]) -> list[slice]:
    """Planes of a volume (z, y, x) that are in memory at once: of SLAB_BYTES, or of a part of the volume where that is more.

    All of a volume of less than twice SLAB_BYTES, else no half of one, which would count as a volume (see ``scratch``).
    """
    n_wanted = min(PASSES, 4 * math.prod(shape) // SLAB_BYTES)
    n_slabs = min(shape[0], max(3, n_wanted)) if n_wanted > 1 else 1
    edges = np.linspace(0, shape[0], n_slabs + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def rows_that_meet(
    vectors: np.ndarray, cone: bool, origin: np.ndarray, spacing: np.ndarray, shape: tuple[int, ...], n_rows: int
) -> np.ndarray:
    """First and end detector rows (view, 2) between which lie all rays that meet a grid.

    They lie between the images of its padded corners. Of a view where these do not all lie on one side of the source, and
    where numbers are senseless, all rows.
    """
    ends = [(start - step, start + n * step) for start, step, n in zip(origin, spacing, shape, strict=True)]
    corners = np.array(list(itertools.product(*ends)))[None, :, ::-1]
    source, centre, u, v = (vectors[:, None, i : i + 3] for i in (0, 3, 6, 9))
    start, ray = (source, corners - source) if cone else (corners, source)
    with np.errstate(all="ignore"):
        normal = np.cross(u, v)
        depth = (ray * normal).sum(-1)
        along = ((centre - start) * normal).sum(-1) / depth
        at = start + along[..., None] * ray - centre
        row = (at * np.cross(normal, u)).sum(-1) / (normal**2).sum(-1) + 0.5 * (n_rows - 1)
        one_side = abs(depth).min(1) > 1e-6 * abs(depth).max(1)
        one_side &= (depth > 0).all(1) | (depth < 0).all(1)
        sound = one_side & np.isfinite(row).all(1)
        first = np.where(sound, np.clip(np.floor(row.min(1)) - 1, 0, n_rows), 0)
        end = np.where(sound, np.clip(np.ceil(row.max(1)) + 2, 0, n_rows), n_rows)
    return np.stack([first, end], 1).astype(np.int64)


def forward(
    volume: np.ndarray,
    vectors: np.ndarray,
    cone: bool,
    origin: np.ndarray,
    spacing: np.ndarray,
    detector_shape: tuple[int, int],
    n_threads: int,
) -> np.ndarray:
    """Line integrals (view, row, column), float32, of ``volume`` (z, y, x), which is zero outside its grid.

    ``vectors`` (view, 12), ``origin`` and ``spacing`` (z, y, x) in mm; see ``scan.geometry``.
    """
    projections = np.zeros((len(vectors), *detector_shape), np.float32)

    def add(planes: slice) -> None:
        slab, start = volume[planes], _moved(origin, spacing, planes.start)
        padded = zeros([n + 2 for n in slab.shape])
        padded[1:-1, 1:-1, 1:-1] = slab
        flat, sizes = padded.ravel(), np.array(slab.shape, dtype=np.int64)
        rows = rows_that_meet(vectors, cone, start, spacing, slab.shape, detector_shape[0])

        def task(first: int, end: int) -> Iterator[None]:
            for a, b in parts(first, end, detector_shape[1] * max(slab.shape)):
                _forward(flat, vectors, cone, start, spacing, sizes, _strides(sizes), projections, rows, a, b)
                yield

        run_tasks(task, len(vectors) * detector_shape[0], n_threads)

    one_by_one(slabs(volume.shape), add)
    return projections


def adjoint(
    projections: np.ndarray,
    vectors: np.ndarray,
    cone: bool,
    origin: np.ndarray,
    spacing: np.ndarray,
    shape: tuple[int, int, int],
    n_threads: int,
    volume: np.ndarray | None = None,
) -> np.ndarray:
    """The transpose of :func:`forward`: a volume (z, y, x), float32, added to ``volume`` where one is given.

    A slab of planes is a smaller grid with another origin, so each task is a whole adjoint of its own.
    """
    out = zeros(shape) if volume is None else volume
    n_views, n_rows, n_cols = projections.shape

    def add(planes: slice) -> None:
        n_planes = planes.stop - planes.start
        edges = np.linspace(0, n_planes, min(n_planes, n_threads) + 1).astype(int)
        padded = zeros((n_planes + 2 * (len(edges) - 1), shape[1] + 2, shape[2] + 2))

        def task(which: int, _: int) -> Iterator[None]:
            first, end = edges[which : which + 2]
            sizes = np.array([end - first, *shape[1:]], dtype=np.int64)
            start = _moved(origin, spacing, planes.start + first)
            own = padded[first + 2 * which : end + 2 * which + 2]
            flat = own.ravel()
            rows = rows_that_meet(vectors, cone, start, spacing, tuple(sizes), n_rows)
            for a, b in parts(0, n_views * n_rows, n_cols * int(max(sizes))):
                _adjoint(projections, vectors, cone, start, spacing, sizes, _strides(sizes), flat, rows, a, b)
                yield
            out[planes][first:end] += own[1:-1, 1:-1, 1:-1]

        run_tasks(task, len(edges) - 1, n_threads, per_thread=1)

    one_by_one(slabs(shape), add)
    return out


def _moved(origin: np.ndarray, spacing: np.ndarray, plane: int) -> np.ndarray:
    """The origin of a grid that begins at this plane."""
    with np.errstate(all="ignore"):
        return origin + np.array([plane * spacing[0], 0.0, 0.0])

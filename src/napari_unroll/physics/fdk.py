"""Filtered back-projection for arbitrary views: FDK for cone beams, FBP for parallel beams.

Feldkamp, Davis, Kress, "Practical cone-beam algorithm" (1984), doi:10.1364/JOSAA.1.000612; the ramp filter is the
band-limited one of Kak and Slaney, "Principles of Computerized Tomographic Imaging", eq. 3.61. Distances are taken per view from
its vectors, so tilted detectors and moved sources are honoured. Knows geometries and arrays, no torch modules.
The kernel compares before it casts, in the sense that NaN fails: no number makes it index outside its arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import scipy.fft
import torch
from numba import njit

from napari_unroll.errors import ParameterError
from napari_unroll.interrupt import check
from napari_unroll.physics.joseph import VECTORS
from napari_unroll.physics.pool import in_chunks, parts, run_tasks
from napari_unroll.physics.redundancy import WEDGE, redundancy_weights, widened
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scratch import zeros
from napari_unroll.team import summed

WINDOWS = ("ram-lak", "shepp-logan", "hann")


def reconstruct(
    projections: np.ndarray, geometry: ConeBeam | ParallelBeam, grid: VolumeGrid, window: str, n_threads: int
) -> np.ndarray:
    """Volume (z, y, x) in 1/mm from line integrals (view, row, column)."""
    shares = redundancy_weights(geometry)
    counts_pairs = isinstance(geometry, ConeBeam) or bool((shares != 0.5).any())
    weights = angular_weights(geometry.angles_rad, 2 * np.pi if counts_pairs else np.pi)
    wide, columns = widened(geometry)

    def spread(some_views: slice) -> torch.Tensor:
        volume = zeros(grid.shape)

        def add(views: slice) -> None:
            some = projections[views] * shares[views, None, :] if counts_pairs else projections[views]
            some = np.pad(some, ((0, 0), (0, 0), columns)) if any(columns) else some
            plane = _DetectorPlanes(wide, views)
            _add(volume, grid, plane, _filtered(some, plane, window, weights[views]), n_threads)

        in_chunks(add, some_views, 4 * math.prod(wide.detector_shape), volume.nbytes)
        return torch.from_numpy(volume)

    return summed(spread, wide.n_views).numpy()


def _filtered(projections: np.ndarray, plane: _DetectorPlanes, window: str, weights: np.ndarray) -> np.ndarray:
    """Views as they are spread over the volume; cone beams' ``projections`` are changed in place."""
    if plane.cone:
        projections *= plane.cosine()
    filtered = ramp_filter(projections, plane.pitch_at_axis(), window)
    filtered *= weights[:, None, None].astype(np.float32)
    return filtered


def _add(volume: np.ndarray, grid: VolumeGrid, plane: _DetectorPlanes, filtered: np.ndarray, n_threads: int) -> None:
    """Spread filtered views over the volume."""
    coefficients = plane.coefficients()
    origin, spacing = np.array(grid.origin_mm), np.array(grid.spacing_mm)

    def task(first: int, end: int) -> Iterator[None]:
        for z in range(first, end):
            for a, b in parts(0, len(filtered), grid.shape[1] * grid.shape[2]):
                _backproject(filtered[a:b], coefficients[a:b], plane.cone, origin, spacing, volume, z, z + 1)
                yield

    run_tasks(task, grid.shape[0], n_threads)


def angular_weights(angles_rad: np.ndarray, period: float) -> np.ndarray:
    """Arc that each view stands for, by half the gaps to its neighbours on the circle of ``period``.

    Missing wedges are nobody's: the views beside one stand for the median gap there.
    """
    angles = np.mod(angles_rad, period)
    if len(angles) == 1:
        return np.array([period])
    order = np.argsort(angles)
    gaps = np.diff(np.append(angles[order], angles[order[0]] + period))
    typical = np.median(gaps[gaps > 1e-6 * period]) if (gaps > 1e-6 * period).any() else period
    gaps = np.where(gaps > WEDGE * typical, typical, gaps)
    weights = np.empty(len(angles))
    weights[order] = 0.5 * (gaps + np.roll(gaps, 1))
    return weights


def ramp_filter(projections: np.ndarray, pitch_mm: np.ndarray, window: str = "ram-lak") -> np.ndarray:
    """Ramp-filter every detector row of (view, row, column); ``pitch_mm`` per view at the rotation axis."""
    if window not in WINDOWS:
        raise ParameterError(f"Expected a filter window of {WINDOWS}; got {window!r}.")
    n = projections.shape[-1]
    size = scipy.fft.next_fast_len(2 * n, real=True)
    lags = np.minimum(np.arange(size), size - np.arange(size))
    kernel = np.zeros(size)
    kernel[lags % 2 == 1] = -1.0 / (np.pi * lags[lags % 2 == 1]) ** 2
    kernel[0] = 0.25
    response = scipy.fft.rfft(kernel).real * _window(np.arange(size // 2 + 1) / size, window)
    filtered = np.empty(projections.shape, np.float32)
    for view, pitch, out in zip(projections, pitch_mm, filtered, strict=True):
        check()
        spectrum = scipy.fft.rfft(view.astype(np.float32), size, axis=-1)
        spectrum *= (response / pitch).astype(np.float32)
        out[:] = scipy.fft.irfft(spectrum, size, axis=-1)[..., :n]
    return filtered


def _window(frequency: np.ndarray, name: str) -> np.ndarray:
    if name == "shepp-logan":
        return np.sinc(frequency)
    if name == "hann":
        return 0.5 * (1 + np.cos(2 * np.pi * frequency))
    return np.ones_like(frequency)


class _DetectorPlanes:
    """Per view of some ``views``: the unit normal, the dual basis and the distances of the detector plane."""

    def __init__(self, geometry: ConeBeam | ParallelBeam, views: slice) -> None:
        v = geometry.vectors[views]
        self.cone = isinstance(geometry, ConeBeam)
        self.shape = geometry.detector_shape
        self.source, self.centre, self.u, self.v = v[:, :3], v[:, 3:6], v[:, 6:9], v[:, 9:12]
        ray = self.centre - self.source if self.cone else self.source
        normal = np.cross(self.u, self.v)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        self.normal = normal * np.sign((normal * ray).sum(1, keepdims=True))
        self.distance = ((self.centre - self.source) * self.normal).sum(1)
        self.axis_distance = -(self.source * self.normal).sum(1)

    def _dual(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The vector that gives 1 on ``a`` and 0 on ``b`` and the normal."""
        dual = np.cross(b, self.normal)
        return dual / (dual * a).sum(1, keepdims=True)

    def pitch_at_axis(self) -> np.ndarray:
        """Column pitch per view, demagnified to the rotation axis, mm."""
        pitch = np.linalg.norm(self.u, axis=1)
        return pitch * self.axis_distance / self.distance if self.cone else pitch

    def cosine(self) -> np.ndarray:
        """Cosine of the angle between each ray and the detector's normal, (view, row, column)."""
        rows, cols = (np.arange(n) - 0.5 * (n - 1) for n in self.shape)
        out = np.empty((len(self.u), *self.shape), np.float32)
        for cosine, offset, u, v, distance in zip(
            out, self.centre - self.source, self.u, self.v, self.distance, strict=True
        ):  # one view at a time: the rays of all take six times the memory of the measurements
            check()
            rays = offset + rows[:, None, None] * v + cols[:, None] * u
            cosine[...] = distance / np.linalg.norm(rays, axis=-1)
        return out

    def coefficients(self) -> np.ndarray:
        """Per view 16 numbers: column, row, depth as affine functions of (x, y, z), then distances.

        Cone: with w = p − source, depth = w·n, column = c0 + D (w·u*) / depth; parallel: column = c0 + p·u* along the ray.
        """
        du, dv = self._dual(self.u, self.v), self._dual(self.v, self.u)
        out = np.zeros((len(du), 16))
        if self.cone:
            start = self.source - self.centre
            for i, dual in enumerate((du, dv)):
                out[:, 4 * i : 4 * i + 3] = dual
                out[:, 4 * i + 3] = -(self.source * dual).sum(1)
                out[:, 12 + i] = (start * dual).sum(1)
            out[:, 8:11], out[:, 11] = self.normal, -(self.source * self.normal).sum(1)
            out[:, 14], out[:, 15] = self.distance, self.axis_distance
        else:
            ray_n = (self.source * self.normal).sum(1, keepdims=True)
            for i, dual in enumerate((du, dv)):
                slope = (self.source * dual).sum(1, keepdims=True) / ray_n
                shifted = dual - slope * self.normal
                out[:, 4 * i : 4 * i + 3] = shifted
                out[:, 4 * i + 3] = -(self.centre * shifted).sum(1)
        half = 0.5 * (np.array(self.shape) - 1)
        out[:, 12] += half[1]
        out[:, 13] += half[0]
        return out


LARGEST_WEIGHT = 1e30
"""Of one view; voxels nearer to the source are left out, so that float32 sums stay finite."""


@njit(nogil=True, cache=True, error_model="numpy", fastmath=VECTORS)
def _look(c, cone, first_x, step_x, y, z, n_rows, n_cols, at, across, down, weights):  # type: ignore[no-untyped-def]
    """Where a row of voxels along x lies on the detector: the first of four pixels, the parts of two, and the weight.

    What lies beside the detector, or behind the source, has weight zero; conditions fail for NaN before floats are cast.
    """
    col_0 = c[1] * y + c[2] * z + c[3]
    row_0 = c[5] * y + c[6] * z + c[7]
    depth_0 = c[9] * y + c[10] * z + c[11]
    last_col, last_row = max(n_cols - 2, 0), max(n_rows - 2, 0)
    for i in range(len(at)):
        x = first_x + i * step_x
        col = c[0] * x + col_0
        row = c[4] * x + row_0
        depth, weight = 1.0, 1.0
        if cone:
            depth = c[8] * x + depth_0
            inverse = 1.0 / depth
            weight = (c[15] * inverse) ** 2
            col *= c[14] * inverse
            row *= c[14] * inverse
        col += c[12]
        row += c[13]
        before = (depth > 0.0) & (weight < LARGEST_WEIGHT)
        seen = before & (col >= 0.0) & (row >= -0.5) & (col <= n_cols - 1.0) & (row <= n_rows - 0.5)
        col = col if seen else 0.0
        row = min(max(row, 0.0), n_rows - 1.0) if seen else 0.0
        q = min(int(col), last_col)
        r = min(int(row), last_row)
        at[i] = r * n_cols + q
        across[i] = col - q
        down[i] = row - r
        weights[i] = weight if seen else 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def _backproject(filtered, coefficients, cone, origin, spacing, volume, first, end):  # type: ignore[no-untyped-def]
    n_views, n_rows, n_cols = filtered.shape
    n_x = volume.shape[2]
    at = np.empty(n_x, np.int64)
    across, down, weights = np.empty(n_x), np.empty(n_x), np.empty(n_x)
    right = np.uint64(1 if n_cols > 1 else 0)
    below = np.uint64(n_cols if n_rows > 1 else 0)
    for iz in range(first, end):
        z = origin[0] + iz * spacing[0]
        for view in range(n_views):
            image = filtered[view].ravel()
            for iy in range(volume.shape[1]):
                y = origin[1] + iy * spacing[1]
                line = volume[iz, iy]
                _look(coefficients[view], cone, origin[2], spacing[2], y, z, n_rows, n_cols, at, across, down, weights)
                for ix in range(n_x):
                    if weights[ix] != 0.0:
                        i = np.uint64(at[ix])
                        wq, wr = across[ix], down[ix]
                        value = (1.0 - wr) * ((1.0 - wq) * image[i] + wq * image[i + right])
                        value += wr * ((1.0 - wq) * image[i + below] + wq * image[i + below + right])
                        line[ix] += weights[ix] * value

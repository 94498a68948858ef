"""Volumes on coarser or finer grids: means over blocks, then linear interpolation. Real and complex."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import affine_transform

from napari_unroll.errors import ScanError
from napari_unroll.interrupt import check

PART = 1 << 22
"""Voxels that are interpolated at once: about half a second."""


def block_mean(volume: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """``volume`` (z, y, x) averaged over blocks to ``shape``, float32 or complex64.

    Raises ScanError unless its shape is a whole multiple.
    """
    if any(n % m for n, m in zip(volume.shape, shape, strict=True)):
        raise ScanError(f"A volume of shape {volume.shape} is no whole multiple of the grid {tuple(shape)}.")
    split = [k for n, m in zip(volume.shape, shape, strict=True) for k in (m, n // m)]
    kind = np.complex64 if volume.dtype.kind == "c" else np.float32
    return np.asarray(volume.reshape(split).mean(axis=(1, 3, 5), dtype=kind))


def shrunk(volume: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Means over blocks of ``factors`` voxels; what does not fill a block at the far end is cut off."""
    shape = [max(1, n // f) for n, f in zip(volume.shape, factors, strict=True)]
    whole = tuple(slice(0, m * min(f, n)) for n, m, f in zip(volume.shape, shape, factors, strict=True))
    return block_mean(volume[whole], shape)


def resized(volume: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Linear interpolation to ``shape``, after means over whole blocks where voxels become larger."""
    mean = shrunk(volume, [max(1, n // m) for n, m in zip(volume.shape, shape, strict=True)])
    step = np.array([n / m for n, m in zip(mean.shape, shape, strict=True)])
    out = np.empty(tuple(shape), mean.dtype)
    thick = max(1, PART // math.prod(shape[1:]))
    for first in range(0, len(out), thick):
        check()
        part = out[first : first + thick]
        start = 0.5 * (step - 1) + np.eye(len(step))[0] * first * step
        part[...] = affine_transform(mean, step, start, part.shape, order=1, mode="nearest")
    return out

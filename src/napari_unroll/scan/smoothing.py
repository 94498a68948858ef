"""Gaussian smoothing of large volumes in parts, so that it can be stopped. Arrays only."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.ndimage import gaussian_filter1d

from napari_unroll.interrupt import check

PART = 1 << 24
"""Multiplications of one part: some hundredths of a second."""


def smoothed(volume: np.ndarray, sigma: float) -> np.ndarray:
    """``volume`` convolved with a Gaussian of ``sigma`` voxels, as ``scipy.ndimage.gaussian_filter`` does it."""
    out = np.array(volume, np.result_type(volume, np.float32))
    for axis in range(out.ndim):
        along = 1 if axis == 0 else 0  # parts are cut across another axis than the one that is filtered
        taps = 2 * int(4 * sigma + 0.5) + 1
        thick = max(1, PART * out.shape[along] // max(1, out.size * taps))
        for first, end in itertools.pairwise([*range(0, out.shape[along], thick), out.shape[along]]):
            check()
            part = out[(slice(None),) * along + (slice(first, end),)]
            part[...] = gaussian_filter1d(part, sigma, axis)
    return out

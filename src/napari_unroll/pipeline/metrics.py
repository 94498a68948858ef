"""How close a reconstruction is to a known truth: PSNR, SSIM and NRMSE of magnitudes, with the truth's maximum as range.

deepinv's SSIM is a dense 11³ convolution, twenty times slower in 3-D on a CPU; scikit-image's separable one is used with
the constants and window of Wang et al. (2004), doi:10.1109/TIP.2003.819861.
"""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity

from napari_unroll.interrupt import check
from napari_unroll.scan.quality import comparable, psnr

__all__ = ["nrmse", "psnr", "ssim"]
RADIUS = 5
"""Of the window, 3.5 σ."""
PART = 1 << 21
"""Voxels of one slab: about half a second."""


def nrmse(volume: np.ndarray, truth: np.ndarray) -> float:
    """‖x − truth‖ / ‖truth‖ of magnitudes, the Euclidean normalisation of scikit-image; infinite for a truth of zeros."""
    x, t = comparable(volume, truth)
    norm = float(np.linalg.norm(t.astype(np.float64)))
    return float(np.linalg.norm((x - t).astype(np.float64))) / norm if norm else float("inf")


def ssim(volume: np.ndarray, truth: np.ndarray) -> float:
    """Mean structural similarity, Gaussian window of σ = 1.5 voxels (in a single plane where z is thin)."""
    x, t = comparable(volume, truth)
    if min(x.shape) < 11:
        planes = [_ssim(a, b, float(t.max())) for a, b in zip(x, t, strict=True)]
        return float(np.mean(planes))
    return _ssim(x, t, float(t.max()))


def _ssim(x: np.ndarray, t: np.ndarray, top: float) -> float:
    """The mean over windows that lie inside, in slabs that overlap by a window, between which it can be stopped."""
    total, count, thick = 0.0, 0, max(1, PART // x[0].size)
    inside = (slice(RADIUS, -RADIUS),) * x.ndim
    for first in range(RADIUS, max(len(x) - RADIUS, RADIUS + 1), thick):
        check()
        slab = slice(first - RADIUS, first + thick + RADIUS)
        _, similarity = structural_similarity(
            x[slab], t[slab], data_range=top or 1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            full=True,
        )  # fmt: skip
        total += float(similarity[inside].sum(dtype=np.float64))
        count += similarity[inside].size
    return total / count

"""How close a reconstruction is to a known truth: PSNR, SSIM and NRMSE of magnitudes, with the truth's maximum as range.

deepinv's SSIM is a dense 11³ convolution, twenty times slower in 3-D on a CPU; scikit-image's separable one is used with
the constants and window of Wang et al. (2004), doi:10.1109/TIP.2003.819861.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
import scipy.ndimage
from skimage.metrics import structural_similarity

from napari_unroll.interrupt import check
from napari_unroll.scan.quality import comparable, psnr

__all__ = ["difference", "fsc", "line_profile", "nrmse", "psnr", "ssim"]
RADIUS = 5
"""Of the window, 3.5 σ."""
PART = 1 << 21
"""Voxels of one slab: about half a second."""


def difference(volume: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|volume| − |truth|, float32 (z, y, x): like with like, whether either is complex or not."""
    x, t = comparable(volume, truth)
    return np.asarray(x - t, np.float32)


def fsc(volume: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Fourier shell correlation of magnitudes: frequencies in cycles per mm, and the correlation on each shell, 1 where equal.

    Shells are as wide as the lowest frequency of the longest edge and end at the lowest Nyquist frequency of the axes that
    have more than one voxel (Harauz and van Heel, Optik 73 (1986) 146). Empty where there is no such axis.
    """
    x, t = comparable(volume, truth)
    axes = [a for a, n in enumerate(x.shape) if n > 1]
    if not axes:
        return np.empty(0), np.empty(0)
    width = 1 / max(x.shape[a] * spacing_mm[a] for a in axes)
    nyquist = 0.5 / max(spacing_mm[a] for a in axes)
    f, g = (_spectrum(v) for v in (x, t))
    frequencies = [scipy.fft.fftfreq(n, d) for n, d in zip(x.shape[:-1], spacing_mm[:-1], strict=True)]
    frequencies.append(scipy.fft.rfftfreq(x.shape[-1], spacing_mm[-1]))
    grid = np.meshgrid(*(k.astype(np.float32) for k in frequencies), indexing="ij", sparse=True)
    shell = np.rint(np.sqrt(sum(k * k for k in grid)) / width).astype(np.int32).ravel()
    check()
    twice = np.where((frequencies[-1] > 0) & (frequencies[-1] < 0.5 / spacing_mm[-1]), 2, 1)  # and their conjugates
    n_shells = int(nyquist / width) + 1
    product, energy_f, energy_g = (
        np.bincount(shell, weights=(twice * values).ravel(), minlength=n_shells)[:n_shells]
        for values in ((f * g.conj()).real, np.abs(f) ** 2, np.abs(g) ** 2)
    )
    return width * np.arange(n_shells), product / np.maximum(np.sqrt(energy_f * energy_g), 1e-30)


def _spectrum(values: np.ndarray) -> np.ndarray:
    check()
    return np.asarray(scipy.fft.rfftn(values))


def nrmse(volume: np.ndarray, truth: np.ndarray) -> float:
    """‖x − truth‖ / ‖truth‖ of magnitudes, the Euclidean normalisation of scikit-image; infinite for a truth of zeros."""
    x, t = comparable(volume, truth)
    norm = float(np.linalg.norm(t.astype(np.float64)))
    return float(np.linalg.norm((x - t).astype(np.float64))) / norm if norm else float("inf")


def line_profile(plane: np.ndarray, ends: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Values of a plane (y, x) along a straight line: mm from its beginning, and the values there, linear between pixels.

    ``ends`` (2, y x) are in pixels, at most one of which lies between two values; outside the plane there is NaN.
    """
    step = np.diff(ends, axis=0)[0]
    share = np.linspace(0, 1, int(np.ceil(np.abs(step).max())) + 1)
    at = ends[0] + share[:, None] * step
    values = scipy.ndimage.map_coordinates(plane, at.T, order=1, mode="constant", cval=np.nan)
    return share * float(np.linalg.norm(step * np.asarray(spacing_mm))), values


def ssim(volume: np.ndarray, truth: np.ndarray) -> float:
    """Mean structural similarity, Gaussian window of σ = 1.5 voxels (in a single plane where z is thin).

    NaN where not even one window fits a plane.
    """
    x, t = comparable(volume, truth)
    if min(x.shape[-2:]) <= 2 * RADIUS:
        return float("nan")
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

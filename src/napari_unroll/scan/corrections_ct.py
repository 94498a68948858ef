"""What disturbs line integrals, and how it is taken back: bad pixels, scattered light, phase contrast, hardening.

Plain numpy on views (row, column) or stacks (view, row, column). It knows no files, options or geometries. Zingers and
stripes that vary are left to the library algotom, see ``io/repairs.py`` and ``io/corrections.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import fft, ndimage

HC_MM_KEV = 1.239841984e-6
"""Planck's constant times the speed of light: the wavelength in mm times the energy in keV."""


def bad_pixels(views: Iterable[np.ndarray], sigmas: float) -> np.ndarray:
    """Pixels (row, column), bool, that are bad in every view: dead, stuck, hot or flickering ones.

    Their mean or their spread over the views is further than ``sigmas`` robust deviations from the median of their 3 × 3
    neighbours. Of the deviations nearby and of those of the whole picture the larger counts. Views are taken one by one
    (B. P. Welford, Technometrics 4 (1962) 419).
    """
    mean: np.ndarray = np.zeros(1, np.float32)
    squares, n = mean, 0
    for n, view in enumerate(views, 1):
        apart = view - mean
        mean = mean + apart / n
        squares = squares + apart * (view - mean)
    return _outliers(mean, sigmas) | _outliers(np.sqrt(squares / n), sigmas)


def _outliers(picture: np.ndarray, sigmas: float) -> np.ndarray:
    deviation = np.abs(picture - ndimage.median_filter(picture, size=3, mode="nearest"))
    scale = np.maximum(ndimage.median_filter(deviation, size=9, mode="nearest"), np.median(deviation))
    floor = np.float32(1e-6) * np.abs(picture).max()
    return np.asarray(deviation > sigmas * (np.float32(1.4826) * scale + floor))


def without_offsets(sinogram: np.ndarray, size: int, passes: int = 2) -> np.ndarray:
    """The sinogram (view, column) without what a column has too much in all views, which is a ring in the volume.

    That is the median over the views of the difference to the median of ``size`` columns, which keeps edges.
    """
    for _ in range(passes):
        smooth = ndimage.median_filter(sinogram, (1, size), mode="nearest")
        sinogram = sinogram - np.median(sinogram - smooth, axis=0)
    return sinogram


def without_scatter(transmission: np.ndarray, scatter: float) -> np.ndarray:
    """Transmission (T − s) / (1 − s) without an even offset s of scattered light, s in units of the open beam."""
    return (transmission - np.float32(scatter)) / np.float32(1 - scatter)


def hardening_polynomial(line_integrals: np.ndarray, second: float, third: float) -> np.ndarray:
    """Line integrals p + a₂ p² + a₃ p³ as a beam of one energy would have given them.

    Source: G. T. Herman, Phys. Med. Biol. 24 (1979) 81, doi:10.1088/0031-9155/24/1/008.
    """
    p = line_integrals
    return p * (1 + p * (np.float32(second) + p * np.float32(third)))


def paganin(transmission: np.ndarray, length_mm2: float, pixel_mm: float) -> np.ndarray:
    """Transmission (row, column) in the sample's plane from one with phase contrast: F⁻¹ F T / (1 + L f²).

    L = π λ (z / M) δ/β in mm² with the wavelength λ, the propagation z and the magnification M; f in cycles per mm of
    the sample's plane, whose pixels are ``pixel_mm``. The view is continued by its mirror image.

    Source: D. Paganin et al., J. Microsc. 206 (2002) 33, eq. 12, doi:10.1046/j.1365-2818.2002.01010.x.
    """
    rows, columns = (np.pi * np.arange(n) / n for n in transmission.shape)
    f_squared = np.add.outer(rows**2, columns**2) / (2 * np.pi * pixel_mm) ** 2
    low_passed = fft.dctn(transmission, type=2) / (1 + length_mm2 * f_squared).astype(np.float32)
    return np.asarray(fft.idctn(low_passed, type=2), np.float32)

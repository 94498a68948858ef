"""Retrospective undersampling: of a scan that was measured in full, what an accelerated one would have kept.

The reference is the coil combination Σ S̄ x / Σ |S|² of the images x of all samples, with the noise that they have. Arrays and
scans; knows no files and no devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from napari_unroll.errors import ParameterError, ScanError
from napari_unroll.scan.geometry import CartesianSampling
from napari_unroll.scan.preprocess_mri import centred_ifft, estimate_csm
from napari_unroll.scan.scan import Scan

Maps = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Coil maps (coil, z, y, x) from k-space (coil, z, y, x) and its mask (z, y, x)."""
NEARLY_FULL = 0.7
"""The part of a grid that must have been sampled: partial Fourier and cut corners are, an accelerated scan is not."""


def line_mask(shape: tuple[int, int], acceleration: float, calibration: int = 16, seed: int = 0) -> np.ndarray:
    """A mask (y, x) of whole lines along x: the middle ``calibration`` + 1, and others that grow rarer outwards.

    Raises ParameterError where the middle alone has more lines than the acceleration allows.
    """
    n, rng = shape[0], np.random.default_rng(seed)
    distance = np.abs(np.arange(n) - n // 2)
    chosen = distance <= calibration // 2
    more = round(n / acceleration) - int(chosen.sum()) if acceleration >= 1 else -1
    if more < 0:
        raise ParameterError(
            f"{n} lines, {int(chosen.sum())} of them calibration, allow an acceleration between 1 and "
            f"{n / chosen.sum():.1f}; got {acceleration:g}. Lower the acceleration or the calibration."
        )
    likely = np.where(chosen, 0, (1 - distance / n) ** 4)
    chosen[rng.choice(n, more, replace=False, p=likely / max(likely.sum(), 1e-30) if more else None)] = True
    return np.broadcast_to(chosen[:, None], shape)


def combined(kspace: np.ndarray, csm: np.ndarray) -> np.ndarray:
    """Σ S̄ x / Σ |S|² of the coil images x of full k-space, complex64 (z, y, x); zero where no coil sees anything."""
    seen = (np.abs(csm) ** 2).sum(0)
    image = (csm.conj() * centred_ifft(kspace)).sum(0) / np.maximum(seen, 1e-12)
    return np.where(seen > 1e-6 * seen.max(), image, 0).astype(np.complex64)


def undersampled(scan: Scan, mask: np.ndarray, maps: Maps = estimate_csm) -> Scan:
    """``scan`` seen through ``mask`` (z, y, x), with the coil combination of all its samples as truth.

    Coil maps that the scan lacks are estimated by ``maps`` from what the mask leaves, as they will be for a reconstruction.
    Raises ScanError unless the scan is Cartesian and (nearly) fully sampled.
    """
    if not isinstance(scan.geometry, CartesianSampling) or scan.geometry.mask.mean() < NEARLY_FULL:
        raise ScanError(
            "Only Cartesian k-space that was sampled in full can be undersampled; leave option 'undersample'."
        )
    mask = mask & scan.geometry.mask
    seen = scan.masked(mask)
    csm = maps(seen.measurements, mask) if scan.csm is None else scan.csm
    return replace(seen, truth=combined(scan.measurements, csm))

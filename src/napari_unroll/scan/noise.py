"""How noisy a scan is, from its measurements alone, in words and as one number. Values only; of images nothing is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_unroll.scan.estimate import Estimate, percent, scientific
from napari_unroll.scan.kspace_noise import noise_energy, relative_deviation, sample_deviation
from napari_unroll.scan.photon_counts import MOST, photons, some_views
from napari_unroll.scan.scan import Scan, once_per_scan


@dataclass(frozen=True)
class Noise:
    """What was found: in words, and ``share`` = ‖noise‖ / ‖measurements‖, the residual that the true volume would have.

    ``error`` is the standard error of the share, as far as chance goes; the share is that or less where ``is_limit``.
    """

    text: str
    share: float
    error: float
    is_limit: bool = False


@once_per_scan
def measured_noise(scan: Scan) -> Noise | None:
    """The noise of a scan; None where it cannot be told from the measurements."""
    n = photons(scan)
    if n is not None:
        return _counting(scan, n)
    sigma = sample_deviation(scan)
    return None if sigma is None else _sampling(scan, sigma)


def _counting(scan: Scan, n: Estimate) -> Noise:
    if n.value >= MOST:
        return Noise("none that can be measured", 0.0, 0.0)
    p = some_views(scan.measurements)
    energy = np.exp(np.clip(p, -2, np.log(n.value))).sum(dtype=np.float64) / n.value  # beyond log n no photon arrives
    share = _share(p, energy)
    told = f"{'at least' if n.is_limit else 'about'} {scientific(n.value, n.error)}"
    text = f"as of {told} photons per pixel without an object (measured)"
    return Noise(text, share, share * n.relative_error / 2, n.is_limit)


def _sampling(scan: Scan, sigma: Estimate) -> Noise:
    level = relative_deviation(scan)
    assert level is not None
    share = _share(scan.measurements, noise_energy(scan, sigma.value))
    told = percent(level, level * sigma.relative_error)
    text = (
        f"{told} of the brightest zero-filled voxel, or less (measured where k-space holds least signal)"
        if sigma.is_limit
        else f"about {told} of the brightest zero-filled voxel (measured beside the object)"
    )
    return Noise(text, share, share * sigma.relative_error, sigma.is_limit)


def _share(y: np.ndarray, energy: float) -> float:
    return float(np.sqrt(energy)) / max(float(np.linalg.norm(y)), 1e-30)


def relative_noise(scan: Scan, scale: float) -> float | None:
    """One number for networks, None where unknown: of k-space the deviation of a sample over ``scale``, how bright the volume is.

    Of X-rays ‖noise‖ / ‖measurements‖.
    """
    if scan.modality == "mri":
        sigma = sample_deviation(scan)
        return None if sigma is None else sigma.value / scale
    found = measured_noise(scan)
    return None if found is None else found.share

"""Photons per pixel of X-rays, from the noise of their line integrals.

A line integral p of N exp(−p) photons has the variance exp(p) / N. Differences of neighbours that vanish where these are
smooth hold little of the object on thin rays, and in the quietest blocks of few views and columns. Values only.
"""

from __future__ import annotations

import numpy as np

from napari_unroll.scan.estimate import Estimate, jackknife
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from napari_unroll.scan.scan import Scan, once_per_scan

NORMAL_MAD = 0.6745
"""Median of |x| over its standard deviation, of a normal x."""
THIN = 0.1
"""Share of the rays that photons are counted on: those that met least, where the object shows least."""
AIR = 0.02
"""Of the thickest ray: what all of those may have met at most for them to have passed beside the object."""
THICKEST = 3.0
"""Nepers beyond which so few photons arrive that their square root varies less than it should."""
BLOCK, QUIET = 8, 0.03
"""Views and columns of a block, and which of the blocks is asked: the one that this share of them varies less than."""
FEWEST_BLOCKS = 30
FEWEST, MOST = 10.0, 1e15
"""Photons per pixel; fewer mean that the values are no line integrals in nepers, such as those of electron tilt series."""
MOST_PIXELS = 4_000_000
"""Looked at; of larger scans only some of the views are."""


@once_per_scan
def photons(scan: Scan) -> Estimate | None:
    """Photons per pixel without an object that would give such noise, of line integrals; None for other scans.

    What differences hold of the object comes on top of the noise, so that the smaller of both estimates is taken; photons are
    rather too few, of rough objects that fill the detector most: without rays beside the object they are a limit. The standard
    error is that of chance alone.
    """
    if not isinstance(scan.geometry, (ConeBeam, ParallelBeam)):
        return None
    p = some_views(scan.measurements)
    if p.shape[2] < 5:
        return None
    detail, mean = _differences(p)
    thinnest = np.quantile(mean, THIN)
    deviation = min(_on_thin_rays(detail, mean, thinnest), _in_quiet_blocks(p), key=lambda found: found.value)
    n = min(deviation.value**-2, MOST) if deviation.value > 0 else MOST
    sees_air = bool(thinnest <= AIR * mean.max())
    return Estimate(n, 2 * n * deviation.relative_error, is_limit=not sees_air) if n >= FEWEST else None


def some_views(p: np.ndarray) -> np.ndarray:
    """At most about ``MOST_PIXELS`` of (view, row, column), evenly spread."""
    return p[:: -(-p.size // MOST_PIXELS)]


def _on_thin_rays(detail: np.ndarray, mean: np.ndarray, thinnest: float) -> Estimate:
    """1 / √N from the differences of pixels where these mean ``thinnest`` at most."""
    thin = mean <= thinnest
    white = np.abs(detail[thin] * np.exp(-0.5 * np.clip(mean[thin], -2, 20))) / NORMAL_MAD
    return jackknife(lambda values: float(np.median(values)), white)


def _differences(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Differences with the variance of one pixel, and means, of squares of four pixels; of five in a row where rows are single.

    The noise of either tells nothing of that of the other, so that the least means may be chosen.
    """
    if p.shape[1] > 1:
        p = p[:, : p.shape[1] // 2 * 2, : p.shape[2] // 2 * 2]
        a, b, c, d = p[:, ::2, ::2], p[:, ::2, 1::2], p[:, 1::2, ::2], p[:, 1::2, 1::2]
        return (a - b - c + d) / 2, (a + b + c + d) / 4
    return np.diff(p, 4) / np.sqrt(70), np.mean([p[..., i : p.shape[2] - 4 + i] for i in range(5)], axis=0)


def _in_quiet_blocks(p: np.ndarray) -> Estimate:
    """1 / √N from u = 2 exp(−p / 2), whose noise has that deviation on every ray; inf where few blocks have thinner rays.

    Blocks are compared with those of white noise, for the quietest are so by chance too.
    """
    u = 2 * np.exp(-0.5 * np.clip(p, -2, None))
    white = np.random.default_rng(0).standard_normal(p.shape, dtype=np.float32)
    found = _variations(np.where(p > THICKEST, np.nan, u)).ravel()
    usable = found > 0  # not where all values are the same, or some are not known
    if np.count_nonzero(usable) < FEWEST_BLOCKS:
        return Estimate(np.inf, np.inf)
    return jackknife(_quiet, np.stack([np.where(usable, found, np.nan), _variations(white).ravel()]))


def _quiet(blocks: np.ndarray) -> float:
    """The quiet ones of the scan over those of white noise, of (2, block)."""
    found, white = blocks
    return float(np.nanquantile(found, QUIET) / np.quantile(white, QUIET))


def _variations(u: np.ndarray) -> np.ndarray:
    """Median magnitudes of fourth differences in blocks, along the row or along the views, wherever they are less."""
    along = [np.diff(u, 4)]
    if len(u) > 4:
        along = [along[0][2:-2], np.diff(u, 4, axis=0)[..., 2:-2]]
    return np.asarray(np.min([np.median(np.abs(_blocks(d)), axis=(1, 4)) for d in along], axis=0))


def _blocks(d: np.ndarray) -> np.ndarray:
    """(view, row, column) cut into (·, view, row, ·, column), without what is left at the ends."""
    n, m = min(BLOCK, len(d)), min(BLOCK, d.shape[2])
    d = d[: len(d) // n * n, :, : d.shape[2] // m * m]
    return d.reshape(len(d) // n, n, d.shape[1], -1, m)

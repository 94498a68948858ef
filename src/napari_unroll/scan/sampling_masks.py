"""Which k-space samples an accelerated Cartesian scan measures: variable-density Poisson-disc masks, and stars of spokes.

Arrays only; knows nothing of images or coils.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from napari_unroll.errors import ParameterError
from napari_unroll.interrupt import check
from napari_unroll.scan.trajectories import GOLDEN_ANGLE_RAD


def poisson_disc_mask(
    shape_yx: tuple[int, int], acceleration: float, calibration: int = 16, seed: int = 0, density_slope: float = 2.0
) -> np.ndarray:
    """A centred mask, bool (y, x): a fully sampled disc of radius ``calibration`` and Poisson-disc samples around it.

    Samples keep a distance that grows linearly, from r₀ at the centre to (1 + ``density_slope``) r₀ at the edge;
    r₀ is found by bisection so that (points) / (samples) is ``acceleration`` (Bridson-like dart throwing on the
    grid; variable density as Lustig & Vasanawala use it, doi:10.1002/mrm.21391).

    Raises ParameterError where the calibration disc alone has more samples than the acceleration allows.
    """
    distance = _relative_distance(shape_yx)
    centre, wanted = _calibrated(shape_yx, acceleration, calibration)
    if not 0 <= density_slope < np.inf:
        raise ParameterError(f"The slope of the density is a finite number from 0 on; got {density_slope}.")
    order = np.random.default_rng(seed).permutation(distance.size)
    mask = _bisect(order, centre, 1 + density_slope * distance, wanted)
    return _with_exact_count(mask, centre, order, round(wanted))


def star_mask(shape_yx: tuple[int, int], acceleration: float, calibration: int = 16, seed: int = 0) -> np.ndarray:
    """A mask, bool (y, x): spokes at golden angles through the centre, rounded to the grid, and a disc of ``calibration``.

    As many spokes as leave (points) / (samples) not below ``acceleration``. Raises ParameterError as
    :func:`poisson_disc_mask` does.
    """
    mask, most = _calibrated(shape_yx, acceleration, calibration)
    along = np.linspace(-0.5, 0.5, 2 * max(shape_yx), endpoint=False)
    angle = np.random.default_rng(seed).uniform(0, np.pi)
    while True:
        check()
        more = mask.copy()
        y, x = (
            np.round(along * n * f(angle)).astype(int) + n // 2 for n, f in zip(shape_yx, (np.sin, np.cos), strict=True)
        )
        more[np.clip(y, 0, shape_yx[0] - 1), np.clip(x, 0, shape_yx[1] - 1)] = True
        if more.sum() > most:
            return mask
        mask, angle = more, angle + GOLDEN_ANGLE_RAD


def random_mask(
    shape_yx: tuple[int, int], acceleration: float, calibration: int = 16, seed: int = 0, power: float = 4.0
) -> np.ndarray:
    """A centred mask, bool (y, x): a fully sampled disc of radius ``calibration`` and random samples, rarer outwards.

    Each is drawn with a chance that falls as (1 − d)^``power``, d being the distance from the middle over that of a corner
    (Lustig et al., doi:10.1002/mrm.21391). Raises ParameterError as :func:`poisson_disc_mask` does.
    """
    centre, wanted = _calibrated(shape_yx, acceleration, calibration)
    distance = _relative_distance(shape_yx)
    chance = np.where(centre, 0, (1 + 1e-3 - distance / distance.max()) ** power).ravel()
    rng, mask = np.random.default_rng(seed), centre.copy()
    more = round(wanted) - int(centre.sum())
    mask.ravel()[rng.choice(mask.size, more, replace=False, p=chance / max(chance.sum(), 1e-30)) if more else []] = True
    return mask


def _calibrated(shape_yx: tuple[int, int], acceleration: float, calibration: int) -> tuple[np.ndarray, float]:
    """The fully sampled disc, and the number of samples that are wanted."""
    centre = _centre_disc(shape_yx, calibration)
    wanted = centre.size / acceleration if acceleration else 0.0
    if not (acceleration >= 1 and centre.sum() <= wanted):
        raise ParameterError(
            f"A calibration disc of radius {calibration} on a grid of {shape_yx} allows an acceleration between 1 and "
            f"{centre.size / max(centre.sum(), 1):.1f}; got {acceleration}. Lower the acceleration or the radius."
        )
    return centre, wanted


def _relative_distance(shape: tuple[int, int]) -> np.ndarray:
    """Distance from the centre n // 2 over half the size, per axis; 1 at the middle of an edge."""
    y, x = ((np.arange(n) - n // 2) / max(n / 2, 1) for n in shape)
    return np.hypot(y[:, None], x[None, :])


def _centre_disc(shape: tuple[int, int], radius: int) -> np.ndarray:
    y, x = (np.arange(n) - n // 2 for n in shape)
    return np.hypot(y[:, None], x[None, :]) <= radius


def _bisect(order: np.ndarray, centre: np.ndarray, growth: np.ndarray, wanted: float) -> np.ndarray:
    """The dart-thrown mask whose number of samples is just not below ``wanted``."""
    dense, sparse = 0.0, 2.0 * np.sqrt(centre.size / wanted) + 2.0
    best = np.ones_like(centre)
    for _ in range(18):
        check()
        middle = 0.5 * (dense + sparse)
        mask = centre.copy()
        _throw(order, middle * growth, mask)
        if mask.sum() < wanted:
            sparse = middle
        else:
            dense, best = middle, mask
    return best


def _with_exact_count(mask: np.ndarray, centre: np.ndarray, order: np.ndarray, count: int) -> np.ndarray:
    """Drop the last few thrown samples outside the centre until ``count`` are left."""
    loose = order[(mask & ~centre).ravel()[order]]
    extra = int(mask.sum()) - count
    if extra > 0:
        mask.ravel()[loose[len(loose) - extra :]] = False
    return mask


@njit(cache=True)
def _throw(order, radius, mask):  # type: ignore[no-untyped-def]
    """Accept grid points in ``order`` that lie in no accepted point's disc and have none in their own."""
    ny, nx = mask.shape
    taken = mask.copy()
    for flat in order:
        i, j = flat // nx, flat % nx
        if mask[i, j]:
            continue
        r = radius[i, j]
        w = int(r) if r < ny + nx else ny + nx
        free = True
        for a in range(max(i - w, 0), min(i + w + 1, ny)):
            for b in range(max(j - w, 0), min(j + w + 1, nx)):
                if taken[a, b] and (a - i) ** 2 + (b - j) ** 2 < r * r:
                    free = False
                    break
            if not free:
                break
        if free:
            taken[i, j] = True
            mask[i, j] = True

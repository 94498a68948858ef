"""Numbers that were estimated from many values, with their standard error, and how both are written.

Arrays; knows nothing of scans.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PARTS = 20
"""Into which values are cut: the standard error itself is then off by about a sixth."""
MOST_DECIMALS = 3


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error, which is what chance does; infinite where values are too few to tell.

    ``is_limit`` where what is not noise may have added to it: of a deviation the truth is that or less, of photons that or more.
    """

    value: float
    error: float
    is_limit: bool = False

    @property
    def relative_error(self) -> float:
        """The standard error in parts of the number."""
        return self.error / self.value if self.value else 0.0


def jackknife(statistic: Callable[[np.ndarray], float], values: np.ndarray) -> Estimate:
    """``statistic`` of ``values`` (…, n), and what leaving out every of ``PARTS`` stretches of the last axis says of its error.

    √((P − 1) / P Σ (s_k − s̄)²) with s_k the statistic without stretch k (the delete-a-group jackknife; Efron 1982,
    doi:10.1137/1.9781611970319). Values that depend on each other only nearby count for what they say together.
    """
    n = values.shape[-1]
    edges = np.linspace(0, n, min(PARTS, n) + 1).astype(int)
    if len(edges) < 3:
        return Estimate(statistic(values), np.inf)
    without = [
        statistic(np.concatenate([values[..., :a], values[..., b:]], axis=-1)) for a, b in itertools.pairwise(edges)
    ]
    return Estimate(statistic(values), float(np.sqrt(len(without) - 1) * np.std(without)))


def percent(value: float, error: float) -> str:
    """``0.81% ± 0.03%``; the value alone where the error is not known."""
    if not math.isfinite(error):
        return f"{value:.2%}"
    digits = max(2, min(MOST_DECIMALS, _decimals(100 * error)))
    return f"{value:.{digits}%} ± {error:.{digits}%}"


def scientific(value: float, error: float) -> str:
    """``9.81e+04 ± 0.03e+04``; the value alone where the error is not known."""
    if not math.isfinite(error):
        return f"{value:.2g}"
    exponent = math.floor(math.log10(value))
    unit = 10.0**exponent
    digits = max(1, min(MOST_DECIMALS, _decimals(error / unit)))
    return f"{value / unit:.{digits}f}e{exponent:+03d} ± {error / unit:.{digits}f}e{exponent:+03d}"


def _decimals(error: float) -> int:
    """Places after the point at which an error has its first digit."""
    return -math.floor(math.log10(error)) if error > 0 else MOST_DECIMALS

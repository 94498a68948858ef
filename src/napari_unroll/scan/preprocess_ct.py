"""From what a detector counts to line integrals: flat and dark fields, bad pixels, −log, the rotation axis.

Plain numpy on views (row, column) or stacks (view, row, column). It knows no files, grids or devices.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from napari_unroll.errors import ScanError

FULL_TURN = 0.98
"""Of a turn: what a scan must cover for its axis to lie anywhere on the detector."""
LEAST_OVERLAP = 0.1
"""Of the columns: what opposite views of such a scan must have in common."""
FLOOR = 1e-4
"""Smallest transmission that −log takes: fewer photons than this say nothing about thickness."""


def flat_dark(views: np.ndarray, flat: np.ndarray | float, dark: np.ndarray | float = 0.0) -> np.ndarray:
    """Transmission (I − d) / (f − d), float32; pixels without flat signal become NaN (see :func:`repair`)."""
    signal = np.asarray(flat, np.float32) - np.asarray(dark, np.float32)
    usable = np.where(signal > 0, signal, np.float32(np.nan))
    return (np.asarray(views, np.float32) - np.asarray(dark, np.float32)) / usable


def minus_log(transmission: np.ndarray, floor: float = FLOOR) -> np.ndarray:
    """Line integrals −log(max(transmission, floor)), float32."""
    clipped = np.maximum(np.asarray(transmission, np.float32), np.float32(floor))
    return -np.log(clipped, out=clipped)


def hot_pixels(view: np.ndarray, sigmas: float = 8.0) -> np.ndarray:
    """Pixels (bool) further from the median of their 3 × 3 neighbours than ``sigmas`` robust deviations."""
    finite = np.where(np.isfinite(view), view, np.nanmedian(view[np.isfinite(view)]))
    deviation = np.abs(finite - ndimage.median_filter(finite, size=3, mode="nearest"))
    scale = 1.4826 * np.median(deviation) + 1e-6 * np.abs(finite).max()
    return np.asarray(deviation > sigmas * max(scale, np.finfo(np.float32).tiny))


def repair(view: np.ndarray, bad: np.ndarray | None = None) -> np.ndarray:
    """Replace NaN, infinite and ``bad`` pixels by the median of their good 3 × 3 neighbours, from the rim inwards.

    The view itself comes back where nothing is bad. Raises ScanError when no good pixel is left.
    """
    broken = ~np.isfinite(view) if bad is None else bad | ~np.isfinite(view)
    if not broken.any():
        return view
    if broken.all():
        raise ScanError("A view has no good pixel at all; leave it out, or check the flat and dark fields.")
    padded = np.pad(np.where(broken, np.nan, view).astype(np.float32), 1, constant_values=np.nan)
    while (rows_cols := np.argwhere(np.isnan(padded[1:-1, 1:-1]))).size:
        _fill_rim(padded, rows_cols)
    return np.ascontiguousarray(padded[1:-1, 1:-1])


def _fill_rim(padded: np.ndarray, rows_cols: np.ndarray) -> None:
    r, c = rows_cols.T
    neighbours = np.stack([padded[r + dr, c + dc] for dr in (0, 1, 2) for dc in (0, 1, 2)], axis=1)
    ready = np.isfinite(neighbours).any(axis=1)
    padded[r[ready] + 1, c[ready] + 1] = np.nanmedian(neighbours[ready], axis=1)


def bin_view(view: np.ndarray, factor: int) -> np.ndarray:
    """Mean over ``factor`` × ``factor`` pixels; rows and columns that do not fill a block are dropped at the end."""
    if factor == 1:
        return view
    rows, cols = (n // factor for n in view.shape)
    if min(rows, cols) < 1:
        raise ScanError(
            f"Binning by {factor} leaves nothing of a detector of {view.shape[0]} × {view.shape[1]} pixels."
        )
    blocks = view[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def border_levels(stack: np.ndarray) -> tuple[float, float, float]:
    """Medians of a stack at its left border, at its right border, and in its central half."""
    n = stack.shape[-1]
    edge, quarter = max(1, n // 40), n // 4
    middle = stack[..., quarter : max(n - quarter, quarter + 1)]
    return tuple(float(np.median(part)) for part in (stack[..., :edge], stack[..., -edge:], middle))  # type: ignore[return-value]


def air_level(transmission: np.ndarray) -> float:
    """The value of empty air: the brighter of the medians at the left and right border of the detector."""
    left, right, _ = border_levels(transmission)
    level = max(left, right)
    if not level > 0:
        raise ScanError(f"No air was found at the detector's borders (level {level:.3g}); give the value of air.")
    return level


def opposite_views(angles_rad: np.ndarray, max_pairs: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of views half a turn apart, (pair, 2), and the deviation of each pair from the half turn, in radians.

    Exact pairs (to a tenth of the angular step) where there are any, spread over the scan; otherwise those whose
    deviation is up to three steps, the nearest first.
    """
    angles = np.asarray(angles_rad, np.float64)
    if len(angles) < 2:
        return np.empty((0, 2), int), np.empty(0)
    first, second = _nearly_opposite(angles)
    deviation = np.angle(np.exp(1j * (angles[second] - angles[first]))) % (2 * np.pi) - np.pi
    step = float(np.median(np.abs(np.diff(angles))))
    selected = np.flatnonzero(np.abs(deviation) <= 0.1 * step)
    if len(selected):
        selected = selected[np.linspace(0, len(selected) - 1, min(max_pairs, len(selected))).round().astype(int)]
    else:
        close = np.flatnonzero(np.abs(deviation) <= min(3.1 * step, 0.15))
        selected = close[np.argsort(np.abs(deviation[close]), kind="stable")][:max_pairs]
    return np.stack([first[selected], second[selected]], axis=1), deviation[selected]


def _nearly_opposite(angles: np.ndarray, most: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Pairs first < second of every view and the ``most`` views nearest to half a turn away, in order.

    All pairs of n views would be n² / 2: 10 GB for 50,000 views.
    """
    n, turn = len(angles), 2 * np.pi
    order = np.argsort(np.mod(angles, turn), kind="stable")
    at = np.searchsorted(np.mod(angles, turn)[order], np.mod(angles + np.pi, turn))
    around = np.arange(min(most, n)) - min(most, n) // 2
    partners = order[(at[:, None] + around) % n]
    pairs = np.sort(np.stack([np.broadcast_to(np.arange(n)[:, None], partners.shape), partners]), axis=0).reshape(2, -1)
    first, second = np.divmod(np.unique(pairs[0] * n + pairs[1]), n)
    return first[first < second], second[first < second]


def rotation_axis(line_integrals: np.ndarray, angles_rad: np.ndarray) -> float | None:
    """Column (pixels, fractional) of the rotation axis of a parallel-beam scan, or None without opposite views.

    A view and the mirrored view half a turn later differ by a shift of n − 1 − 2 c columns: the peak of the
    correlation of their column derivatives (so that truncated objects do not pull it to the centre), refined by a
    parabola. Where no pair is exactly opposite, c is extrapolated linearly to a deviation of zero. Of a full turn, whose axis may
    lie anywhere, the correlation is that of the columns that both views have, times the root of their number.
    """
    pairs, deviation = opposite_views(angles_rad)
    anywhere = float(np.ptp(angles_rad)) > FULL_TURN * 2 * np.pi
    found = np.array([_mirror_axis(line_integrals[a], line_integrals[b], anywhere) for a, b in pairs])
    usable = np.isfinite(found)
    if not usable.any():
        return None
    return float(np.clip(_at_zero_deviation(deviation[usable], found[usable]), 0, line_integrals.shape[2] - 1))


def _at_zero_deviation(deviation: np.ndarray, axes: np.ndarray) -> float:
    """The axis at a deviation of zero by a line through the estimates, without those far from their median."""
    apart = np.abs(axes - np.median(axes))
    keep = apart <= 3 * np.median(apart) + 0.5
    if len(np.unique(deviation[keep].round(6))) < 2:
        return float(np.median(axes[keep]))
    return float(np.polyval(np.polyfit(deviation[keep], axes[keep], 1), 0.0))


def _mirror_axis(view: np.ndarray, opposite: np.ndarray, anywhere: bool) -> float:
    n, mirrored = view.shape[1], opposite[:, ::-1]
    correlation = _correlation(view, mirrored)
    if anywhere:
        correlation = correlation * _significance(view, mirrored)
    if n < 4 or not correlation.max() > 0:
        return float("nan")
    return (n - 1 - (_parabola(correlation) - (n - 2))) / 2


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Σ_rows Σ_x first'(x) second'(x + s) for the shifts s = −(n − 2) … n − 2, n columns."""
    a, b = np.diff(first, axis=1), np.diff(second, axis=1)
    n = a.shape[1]
    size = fft.next_fast_len(2 * n, real=True)
    spectrum = (np.conj(fft.rfft(a, size, axis=1)) * fft.rfft(b, size, axis=1)).sum(axis=0)
    return np.roll(fft.irfft(spectrum, size), n - 1)[: 2 * n - 1]


def _significance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """√overlap / (‖first'‖ ‖second'‖) over the columns that overlap at the shifts of :func:`_correlation`; 0 where they are few."""
    a, b = ((np.diff(view, axis=1) ** 2).sum(axis=0, dtype=np.float64) for view in (first, second))
    n = len(a)
    shifts = np.arange(1 - n, n)
    low, high = np.maximum(0, -shifts), np.minimum(n, n - shifts)
    below_a, below_b = (np.concatenate([[0.0], np.cumsum(v)]) for v in (a, b))
    energy = (below_a[high] - below_a[low]) * (below_b[high + shifts] - below_b[low + shifts])
    floor = 1e-6 * below_a[-1] * below_b[-1]
    overlap = high - low
    usable = (overlap >= LEAST_OVERLAP * n) & (energy > floor)
    return np.where(usable, np.sqrt(overlap / np.where(usable, energy, 1.0)), 0.0)


def _parabola(values: np.ndarray) -> float:
    """Position of the maximum, refined by the parabola through it and its neighbours."""
    k = int(values.argmax())
    if not 0 < k < len(values) - 1:
        return float(k)
    left, top, right = values[k - 1 : k + 2]
    bend = left - 2 * top + right
    return float(k + (0.5 * (left - right) / bend if bend < 0 else 0.0))


def axis_direction(line_integrals: np.ndarray) -> tuple[float, float]:
    """How much the profile along rows, and along columns, changes between views (relative deviation).

    Each slice across the rotation axis keeps its total mass in every view (parallel beam, nothing truncated), so
    the smaller number tells the direction of the axis: the first for an axis along the columns of a picture
    (vertical), the second for an axis along its rows (horizontal).
    """
    return tuple(_relative_change(line_integrals.sum(axis=axis)) for axis in (2, 1))  # type: ignore[return-value]


def _relative_change(profiles: np.ndarray) -> float:
    mean = profiles.mean(axis=0)
    return float(np.linalg.norm(profiles.std(axis=0)) / max(float(np.linalg.norm(mean)), 1e-30))

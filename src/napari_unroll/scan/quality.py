"""How close a volume is to a known truth, by values alone: the peak signal-to-noise ratio."""

from __future__ import annotations

import numpy as np

from napari_unroll.errors import ParameterError


def psnr(volume: np.ndarray, truth: np.ndarray) -> float:
    """10 log₁₀(max|truth|² / mean squared error), dB; magnitudes of complex volumes. Plane by plane, to spare memory."""
    x, t = comparable(volume, truth)
    error = float(np.mean([np.mean((a - b) ** 2, dtype=np.float64) for a, b in zip(x, t, strict=True)]))
    return float("inf") if error == 0 else float(10 * np.log10(float(t.max()) ** 2 / error))


def comparable(volume: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as real arrays: magnitudes where the truth is complex. Raises ParameterError where shapes differ."""
    if volume.shape != truth.shape:
        raise ParameterError(
            f"A volume of shape {volume.shape} cannot be compared with a truth of shape {truth.shape}."
        )
    if np.iscomplexobj(truth):
        return np.abs(volume), np.abs(truth)
    return np.real(volume), truth

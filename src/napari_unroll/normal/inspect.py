"""Numbers for looking at Ñ next to N: errors in space and frequency, and times.

Plain arrays out, for viewers and tables. Must not know either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.events import Box
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.probes import CountedNormal, ellipsoids, frequency_radius, gaussian, relative_error
from napari_unroll.physics.convolution import Shape
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.smoothing import smoothed

Kind = Literal["noise", "phantom", "constant", "impulse"]


@dataclass(frozen=True)
class Comparison:
    """N x beside Ñ x, arrays (z, y, x) real or complex, with relative error and seconds of both."""

    x: np.ndarray
    exact: np.ndarray
    approximated: np.ndarray
    error: float
    seconds_exact: float
    seconds_approximated: float

    @property
    def difference(self) -> np.ndarray:
        """N x − Ñ x."""
        return np.asarray(self.exact - self.approximated)

    @property
    def speedup(self) -> float:
        """How many Ñ fit in the time of one N."""
        return self.seconds_exact / max(self.seconds_approximated, 1e-9)


@dataclass(frozen=True)
class Profile:
    """Values against frequency in cycles per voxel."""

    frequency: np.ndarray
    values: np.ndarray


def probe_volume(
    kind: Kind, physics: VolumePhysics, position: Sequence[int] | None = None, seed: int = 0
) -> torch.Tensor:
    """A volume to compare on (1, 1, z, y, x): noise, a phantom, a constant, or an impulse at voxel ``position``.

    Raises ParameterError where the impulse lies outside the volume.
    """
    normal = CountedNormal(physics)
    if kind == "noise":
        return gaussian(normal.shape, normal.dtype, seed, normal.device)
    if kind == "phantom":
        return ellipsoids(normal.shape, normal.dtype, seed, normal.device)
    if kind == "constant":
        return torch.ones_like(normal.zeros())
    at = tuple(n // 2 for n in normal.shape) if position is None else tuple(int(p) for p in position)
    if len(at) != 3 or any(not 0 <= p < n for p, n in zip(at, normal.shape, strict=False)):
        raise ParameterError(f"The impulse needs a voxel (z, y, x) inside the volume {normal.shape}; got {at}.")
    x = normal.zeros()
    x[(0, 0, *at)] = 1
    return x


def compare(physics: VolumePhysics, factors: NormalFactors, x: torch.Tensor | np.ndarray) -> Comparison:
    """N x and Ñ x for x (z, y, x) or (1, 1, z, y, x)."""
    normal = CountedNormal(physics)
    volume = torch.as_tensor(x).to(normal.device, normal.dtype).reshape(1, 1, *normal.shape)
    factors.convolution(factors.shape)
    exact, seconds_exact = _timed(lambda: normal(volume))
    approximated, seconds = _timed(lambda: factors.apply(volume))
    arrays = [t[0, 0].cpu().numpy() for t in (volume, exact, approximated)]
    return Comparison(arrays[0], arrays[1], arrays[2], relative_error(exact, approximated), seconds_exact, seconds)


def _timed(work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    begun = time.perf_counter()
    with torch.no_grad():
        out = work()
    if out.is_cuda:
        torch.cuda.synchronize()
    return out, time.perf_counter() - begun


def radial_profile(factors: NormalFactors, n_bins: int = 48) -> Profile:
    """Mean |λ| on shells of equal frequency."""
    values = torch.fft.ifftshift(torch.from_numpy(factors.frequency_map)).numpy()
    sums, counts, centres = _shells(values, n_bins)
    return Profile(centres, sums / np.maximum(counts, 1))


def error_against_frequency(comparison: Comparison, n_bins: int = 32) -> Profile:
    """‖F(N x − Ñ x)‖ / ‖F N x‖ on shells of equal frequency; nan where N x has nothing."""
    gap, size = (
        torch.fft.fftn(torch.from_numpy(v)).abs().square().numpy() for v in (comparison.difference, comparison.exact)
    )
    (top, _, centres), (bottom, _, _) = _shells(gap, n_bins), _shells(size, n_bins)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Profile(centres, np.sqrt(np.where(bottom > 0, top / bottom, np.nan)))


def _shells(values: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    radius = frequency_radius(values.shape).numpy().ravel()
    edges = np.linspace(0, 0.5, n_bins + 1)
    which = np.digitize(radius, edges) - 1
    inside = which < n_bins
    sums = np.bincount(which[inside], values.ravel()[inside], n_bins)
    counts = np.bincount(which[inside], minlength=n_bins)
    return sums, counts, (edges[1:] + edges[:-1]) / 2


def error_against_position(comparison: Comparison, width: float = 3.0) -> np.ndarray:
    """Local relative error (z, y, x), float32: both energies averaged over a Gaussian of ``width`` voxels."""
    gap = smoothed(np.abs(comparison.difference).astype(np.float64) ** 2, width)
    size = smoothed(np.abs(comparison.exact).astype(np.float64) ** 2, width)
    return np.sqrt(np.maximum(gap, 0) / np.maximum(size, 1e-6 * size.max() + 1e-300)).astype(np.float32)


@dataclass(frozen=True)
class PatchTimes:
    """Seconds of one data step N u: whole volume exact, one patch exact and approximated."""

    patch: Shape
    whole_exact: float
    patch_exact: float
    patch_approximated: float
    bare_transforms: float


def time_patches(physics: VolumePhysics, factors: NormalFactors, size: int = 32, repeats: int = 3) -> PatchTimes:
    """Best of ``repeats`` timings for a central patch of edge ``size``."""
    normal = CountedNormal(physics)
    patch: Shape = tuple(min(size, n) for n in normal.shape)  # type: ignore[assignment]
    starts = [(n - p) // 2 for n, p in zip(normal.shape, patch, strict=True)]
    box: Box = tuple(slice(a, a + p) for a, p in zip(starts, patch, strict=True))  # type: ignore[assignment]
    u = gaussian(patch, normal.dtype, 0, normal.device)
    x = gaussian(normal.shape, normal.dtype, 0, normal.device)
    local, convolution = factors.restrict(box), factors.convolution(patch)
    inputs = u if local.right is None else local.right * u
    spectra = convolution.forward(inputs) if convolution.axes else inputs

    def best(work: Callable[[], torch.Tensor]) -> float:
        return min(_timed(work)[1] for _ in range(repeats))

    return PatchTimes(
        patch,
        whole_exact=best(lambda: normal(x)),
        patch_exact=best(lambda: normal.patch(u, box)),
        patch_approximated=best(lambda: local.apply(u)),
        bare_transforms=best(lambda: convolution.forward(inputs)) + best(lambda: convolution.inverse(spectra)),
    )

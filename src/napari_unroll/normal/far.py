"""The lags that a short kernel lacks, on a whole volume.

A kernel of few lags is all that patches need. On a larger volume the lags it lacks are half of what AᴴA makes of a
constant: X-ray kernels fall as slowly as 1/|ℓ|. What is missing there is smooth, so one wide Gaussian stands in for it,
D^{1/2} (C + w G) D^{1/2}, whose standard deviation is the number of lags that are held. Its weight w fits N 1, which every fit
knows. G is positive, and so the sum stays positive. Works on factors alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.fft import next_fast_len

from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.one_convolution import as_one_convolution, axes_of
from napari_unroll.normal.patch import PatchNormal
from napari_unroll.physics.convolution import AXES, Convolution, Shape, resized, transform

POINTS = (0.25, 0.5, 0.75)
"""Where along every axis N 1 is compared."""


def is_short(factors: NormalFactors) -> bool:
    """Whether a linear kernel holds fewer lags than the volume has along an axis."""
    return any(not circular and 1 < m < 2 * n for n, m, circular in axes_of(factors))


def far_weight(factors: NormalFactors, constant: torch.Tensor) -> float:
    """w ≥ 0 of least squares between N 1 = ``constant`` (1, 1, z, y, x) and what Ñ makes of 1, on a few voxels.

    Zero for sums of several convolutions, which vary in space as one Gaussian does not.
    """
    if len(factors.terms) > 1:
        return 0.0
    root, kernel = _root(factors), as_one_convolution(factors)[1][0]
    missing, wide = [], []
    for point in torch.cartesian_prod(*(_places(n) for n in factors.shape)).reshape(-1, 3).tolist():
        here = root[tuple(point)]
        missing.append(constant[(0, 0, *point)].real - here * _near(kernel, root, point))
        z, y, x = (_gaussian(factors, axis)[p].to(root) for axis, p in enumerate(point))
        wide.append(here * (root @ x @ y @ z))
    rest, basis = torch.stack(missing).double(), torch.stack(wide).double()
    return max(0.0, float(rest @ basis / (basis @ basis)))


def _places(n: int) -> torch.Tensor:
    return torch.tensor(sorted({min(n - 1, int(n * share)) for share in POINTS}))


def _near(kernel: torch.Tensor, root: torch.Tensor, point: list[int]) -> torch.Tensor:
    """Σ_ℓ h(ℓ) root[point − ℓ] over the lags that the kernel holds."""
    for axis, p in enumerate(point):
        m = kernel.shape[axis]
        reach = max(1, m // 2)
        first, end = max(0, p - reach + 1), min(root.shape[axis], p + reach)
        root = root.narrow(axis, first, end - first)
        kernel = kernel.index_select(axis, (p - torch.arange(first, end, device=kernel.device)) % m)
    return (kernel.real * root).sum()


def _gaussian(factors: NormalFactors, axis: int) -> torch.Tensor:
    """exp(−(i − j)² / 2s²) between the voxels of one axis."""
    i = torch.arange(factors.shape[axis])
    return torch.exp(-((i[:, None] - i) ** 2) / (2 * _width(factors) ** 2))


def _width(factors: NormalFactors) -> float:
    """s, the lags that the kernel holds along the axis where it holds most."""
    return max(factors.kernel.shape[1:]) / 2


def _root(factors: NormalFactors) -> torch.Tensor:
    """D^{1/2}, made once: every application needs it twice."""

    def make() -> torch.Tensor:
        d, _ = as_one_convolution(factors)
        return torch.ones(factors.shape, device=factors.device) if d is None else d.sqrt()

    return factors.once(("root of d",), make)


@dataclass(frozen=True)
class WholeNormal:
    """Ñ with the far lags: ``factors`` and their Gaussian of weight ``weight``."""

    factors: NormalFactors
    weight: float

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Ñ x for x (batch, 1, z, y, x)."""
        root = _root(self.factors).to(x.real.dtype)
        far = root * x
        for axis, dim in enumerate(AXES):
            line = _gaussian(self.factors, axis).to(far)
            far = torch.movedim(torch.movedim(far, dim, -1) @ line, -1, dim)
        return self.factors.apply(x) + self.weight * root * far


def whole_normal(factors: NormalFactors) -> NormalFactors | WholeNormal:
    """Ñ for whole volumes: with the far lags where the kernel lacks them and the fit has found their weight."""
    weight = float(factors.info.get("far_weight", 0.0))
    return WholeNormal(factors, weight) if weight > 0 and is_short(factors) else factors


def whole_spectrum(factors: NormalFactors, kernel: torch.Tensor) -> torch.Tensor:
    """λ ≥ 0 (1, z, y, x) of C + w G, wrapped around a grid half as many lags larger than the volume; half of it for a real kernel.

    Inverses of it are short, so that little of them wraps into the volume, and no lag of them is cut off.
    """
    sizes = _wrapped_sizes(factors)
    spectrum = transform(resized(kernel, sizes), sizes, not kernel.is_complex()).real
    far = torch.full((1, 1, 1), float(factors.info.get("far_weight", 0.0)), device=kernel.device)
    for axis, size in enumerate(sizes):
        lags = torch.fft.fftfreq(size, 1 / size)
        line = torch.fft.fft(torch.exp(-(lags**2) / (2 * _width(factors) ** 2))).real[: spectrum.shape[axis + 1]]
        far = far * line.to(far).reshape([-1 if a == axis else 1 for a in range(3)])
    return (spectrum + far).clamp_min(0)


def wrapped(factors: NormalFactors, spectrum: torch.Tensor, weight: torch.Tensor | None) -> PatchNormal:
    """W F⁻¹ ``spectrum`` F W on the whole volume, wrapped around the grid of :func:`whole_spectrum`."""
    side, real = None if weight is None else weight[None], not factors.kernel.is_complex()
    spectrum = spectrum.to(torch.promote_types(spectrum.dtype, torch.complex64))
    return PatchNormal(Convolution(spectrum, factors.shape, _wrapped_sizes(factors), real), side, side)


def _wrapped_sizes(factors: NormalFactors) -> Shape:
    z, y, x = (1 if m == 1 else 2 * next_fast_len(-(-(n + m // 4) // 2)) for n, m, _ in axes_of(factors))
    return z, y, x

"""Closed forms from impulse responses: kernels as averages over probes, weights from the response to a constant.

One response N e_j holds a whole row of lags, h(i − j) = N[i, j], where a Gaussian probe buries the same numbers in
noise. Must not know physics objects; sees columns and positions only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from napari_unroll.events import Box
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.physics.convolution import AXES, Circular, Shape, inverse_transform, resized, transform
from napari_unroll.scan.smoothing import smoothed


def window(shape: Shape, support: Shape, position: Sequence[int]) -> Box:
    """The voxels that lie within ``support`` − 1 of ``position`` along every axis."""
    bounds = [(max(0, int(j) - s + 1), min(n, int(j) + s)) for n, s, j in zip(shape, support, position, strict=True)]
    return tuple(slice(a, b) for a, b in bounds)  # type: ignore[return-value]


class LagAverage:
    """Running average of columns by lag: below ``support`` on linear axes, modulo n on circular ones."""

    def __init__(
        self, shape: Shape, support: Shape, circular: Circular, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.shape, self.support, self.circular = shape, support, circular
        size = [n if c else 2 * s - 1 for n, s, c in zip(shape, support, circular, strict=True)]
        self.total = torch.zeros(size, dtype=dtype, device=device)
        self.count = torch.zeros(size, dtype=torch.float32, device=device)

    def add(self, column: torch.Tensor, position: Sequence[int]) -> None:
        """Add N e_j for j = ``position``: the part of the column inside :func:`window`."""
        axes = [a for a in range(3) if self.circular[a]]
        rolled = torch.roll(column, [-int(position[a]) for a in axes], axes) if axes else column
        target = tuple(self._lags(axis, int(j)) for axis, j in enumerate(position))
        self.total[target] += rolled
        self.count[target] += 1

    def tensors(self) -> dict[str, torch.Tensor]:
        """The running sums."""
        return {"total": self.total, "count": self.count}

    def restore(self, tensors: Mapping[str, torch.Tensor], positions: np.ndarray) -> None:
        """Take the sums over the columns at ``positions`` (probe, 3)."""
        self.total, self.count = tensors["total"], tensors["count"]

    def _lags(self, axis: int, j: int) -> slice:
        n, s = self.shape[axis], self.support[axis]
        if self.circular[axis]:
            return slice(0, n)
        return slice(max(0, j - s + 1) - j + s - 1, min(n, j + s) - j + s - 1)

    def kernel(self) -> torch.Tensor:
        """The Hermitian average (1, z, y, x) in the wrapped order of :class:`NormalFactors`."""
        total, count = self._wrapped(self.total), self._wrapped(self.count)
        total = total + _reversed(total).conj()
        count = count + _reversed(count)
        return (total / count.clamp_min(1.0))[None]

    def _wrapped(self, t: torch.Tensor) -> torch.Tensor:
        for axis in range(3):
            if not self.circular[axis]:
                t = wrap(t, axis)
        return t


def wrap(t: torch.Tensor, axis: int) -> torch.Tensor:
    """Lags −(s−1) … s−1 in order, moved to index lag mod 2s along ``axis``."""
    if t.shape[axis] == 1:
        return t
    gap = torch.zeros_like(t.narrow(axis, 0, 1))
    return torch.fft.ifftshift(torch.cat([gap, t], axis), dim=axis)


def _reversed(t: torch.Tensor) -> torch.Tensor:
    """h(−ℓ) for a kernel in wrapped order."""
    return torch.roll(torch.flip(t, AXES), (1, 1, 1), AXES)


def nonnegative(kernel: torch.Tensor, circular: Circular, n_iter: int = 15, tolerance: float = 2e-3) -> torch.Tensor:
    """The nearby kernel whose convolution is positive semi-definite.

    A circular kernel is clamped to λ ≥ 0. For a linear one lags beyond the kernel's are free, so it is continued on a
    larger grid by alternating projections (λ ≥ 0; the given lags) until the least λ is above −``tolerance`` of the
    largest; clamping at once would bend kernels with sharp spectra (a missing wedge: 4 times the error on images).
    """
    sizes = [m if c or m == 1 else 2 * ((5 * m // 2) // 4) for m, c in zip(kernel.shape[1:], circular, strict=True)]
    given = resized(kernel, sizes)
    known = resized(torch.ones_like(kernel.real), sizes) > 0
    estimate = given
    for _ in range(n_iter):
        clamped, least = _clamped(estimate)
        if least > -tolerance:
            break
        estimate = torch.where(known, given, clamped)
    return resized(clamped, list(kernel.shape[1:]))


def _clamped(kernel: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The kernel with λ ≥ 0, and the least λ in units of the largest before."""
    sizes, real = (kernel.shape[1], kernel.shape[2], kernel.shape[3]), not kernel.is_complex()
    if max(sizes) == 1:
        return kernel.real.clamp_min(0).to(kernel.dtype), 0.0
    transformed = transform(kernel, sizes, real)
    spectrum = transformed.real
    clamped = inverse_transform(spectrum.clamp_min(0).to(transformed.dtype), sizes, real)
    return clamped, float(spectrum.min() / spectrum.max().clamp_min(torch.finfo(spectrum.dtype).tiny))


def weight_from_constant(response: torch.Tensor, unweighted: NormalFactors) -> torch.Tensor:
    """d = (N 1) / (C 1), (z, y, x), non-negative; zero where the convolution sees nothing."""
    shape = unweighted.shape
    ones = torch.ones(1, 1, *shape, dtype=response.real.dtype, device=response.device)
    constant = unweighted.apply(ones)[0, 0].real
    floor = 1e-3 * constant.max()
    return (response.reshape(shape).real / constant.clamp_min(floor)).clamp_min(0)


def weight_gain(
    factors: NormalFactors, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], width: float
) -> torch.Tensor:
    """The smooth least-squares gain between N w and Ñ w for probes w, (z, y, x), by which to multiply the weight.

    ``pairs`` are (w, N w); the gain is averaged over a Gaussian of ``width`` voxels and kept within a factor of 5.
    """
    top = torch.zeros(factors.shape, dtype=factors.kernel.real.dtype, device=factors.device)
    bottom = torch.zeros_like(top)
    for w, exact in pairs:
        guess = factors.apply(w)[0, 0]
        top += (exact[0, 0] * guess.conj()).real
        bottom += guess.abs().square()
    smooth = [torch.from_numpy(smoothed(t.cpu().numpy(), width)).to(top) for t in (top, bottom)]
    return (smooth[0] / smooth[1].clamp_min(torch.finfo(top.dtype).tiny)).clamp(0.2, 5.0)


def assemble(
    kernel: torch.Tensor,
    d: torch.Tensor | None,
    shape: Shape,
    circular: Circular,
    form: str = "dcd",
    positive_kernel: bool = False,
) -> NormalFactors:
    """D·C, C·D or √D·C·√D (``form`` dc, cd, dcd) from a kernel and a non-negative weight (z, y, x).

    ``positive_kernel`` where the kernel went through :func:`nonnegative`.
    """
    left = right = None
    if d is not None and form == "dcd":
        left = right = d.sqrt()[None]
    elif d is not None and form == "dc":
        left = d[None]
    elif d is not None:
        right = d[None]
    return NormalFactors(
        kernel=kernel,
        left=left,
        right=right,
        shape=shape,
        circular=circular,
        form=form,
        positive_kernel=positive_kernel,
    )

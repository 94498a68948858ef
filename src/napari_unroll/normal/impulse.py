"""Closed forms from impulse responses: kernels as averages over probes, weights from the response to a constant.

One response N e_j holds a whole row of lags, h(i − j) = N[i, j], where a Gaussian probe buries the same numbers in
noise. Must not know physics objects; sees columns and positions only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.patch import AXES, Circular, Shape


class LagAverage:
    """Running average of columns by lag, for lags below ``support`` on linear axes, modulo n on circular ones.

    ``total`` and ``count`` lie with lag 0 at index ``support − 1`` (linear) or 0 (circular).
    """

    def __init__(self, shape: Shape, support: Shape, circular: Circular, dtype: torch.dtype, device: torch.device):
        self.shape, self.support, self.circular = shape, support, circular
        size = [n if c else 2 * s - 1 for n, s, c in zip(shape, support, circular, strict=True)]
        self.total = torch.zeros(size, dtype=dtype, device=device)
        self.count = torch.zeros(size, dtype=torch.float32, device=device)
        self.n_probes = 0

    def add(self, column: torch.Tensor, position: Sequence[int], weight: torch.Tensor | None = None) -> None:
        """Add N e_j (z, y, x) for j = ``position``; with a ``weight`` (z, y, x), least squares for w_i h(i − j)."""
        rows = [self._rows(axis, int(j)) for axis, j in enumerate(position)]
        source, target = tuple(r[0] for r in rows), tuple(r[1] for r in rows)
        values = self._rolled(column, position)[source]
        if weight is None:
            self.total[target] += values
            self.count[target] += 1
        else:
            w = self._rolled(weight, position)[source]
            self.total[target] += w * values
            self.count[target] += w * w
        self.n_probes += 1

    def _rolled(self, t: torch.Tensor, position: Sequence[int]) -> torch.Tensor:
        axes = [a for a in range(3) if self.circular[a]]
        return torch.roll(t, [-int(position[a]) for a in axes], axes) if axes else t

    def _rows(self, axis: int, j: int) -> tuple[slice, slice]:
        n, s = self.shape[axis], self.support[axis]
        if self.circular[axis]:
            return slice(0, n), slice(0, n)
        first, last = max(0, j - s + 1), min(n, j + s)
        return slice(first, last), slice(first - j + s - 1, last - j + s - 1)

    def kernel(self) -> torch.Tensor:
        """The Hermitian average (1, z, y, x) in the wrapped order of :class:`NormalFactors`."""
        total, count = self._wrapped(self.total), self._wrapped(self.count)
        total = total + _reversed(total).conj()
        count = count + _reversed(count)
        return (total / count.clamp_min(torch.finfo(count.dtype).tiny))[None]

    def _wrapped(self, t: torch.Tensor) -> torch.Tensor:
        for axis in range(3):
            if not self.circular[axis]:
                t = _wrap(t, axis)
        return t


def _wrap(t: torch.Tensor, axis: int) -> torch.Tensor:
    if t.shape[axis] == 1:
        return t
    gap = torch.zeros_like(t.narrow(axis, 0, 1))
    return torch.fft.ifftshift(torch.cat([gap, t], axis), dim=axis)


def _reversed(t: torch.Tensor) -> torch.Tensor:
    """h(−ℓ) for a kernel in wrapped order."""
    return torch.roll(torch.flip(t, AXES), (1, 1, 1), AXES)


def nonnegative(kernel: torch.Tensor) -> torch.Tensor:
    """The kernel with its spectrum clamped to λ ≥ 0, so that convolution with it is positive semi-definite."""
    if kernel.is_complex():
        return torch.fft.ifftn(torch.fft.fftn(kernel, dim=AXES).real.clamp_min(0), dim=AXES)
    spectrum = torch.fft.rfftn(kernel, dim=AXES).real.clamp_min(0)
    return torch.fft.irfftn(spectrum, s=kernel.shape[1:], dim=AXES)


def weight_from_constant(kernel: torch.Tensor, response: torch.Tensor, circular: Circular) -> torch.Tensor:
    """d = (N 1) / (C 1), (z, y, x), non-negative; zero where the convolution sees nothing."""
    shape: Shape = tuple(response.shape[-3:])  # type: ignore[assignment]
    blind = NormalFactors(kernel=kernel, left=None, right=None, shape=shape, circular=circular)
    constant = blind.apply(torch.ones(1, 1, *shape, dtype=response.real.dtype, device=response.device))[0, 0].real
    floor = 1e-3 * constant.max()
    d = response.reshape(shape).real / constant.clamp_min(floor)
    return d.clamp_min(0)


def assemble(
    kernel: torch.Tensor, d: torch.Tensor | None, shape: Shape, circular: Circular, form: str
) -> NormalFactors:
    """D·C, C·D or √D·C·√D (``form`` dc, cd, dcd) from a kernel and a non-negative weight (z, y, x)."""
    left = right = None
    if d is not None and form == "dcd":
        left = right = d.sqrt()[None]
    elif d is not None and form == "dc":
        left = d[None]
    elif d is not None:
        right = d[None]
    return NormalFactors(kernel=kernel, left=left, right=right, shape=shape, circular=circular, form=form)

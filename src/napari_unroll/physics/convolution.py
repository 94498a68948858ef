"""Zero-padded and circular convolutions of volumes, restricted to patches without a full-size vector.

P C Pᵀ needs the kernel only at lags −(p−1) … p−1 (Efficient Unrolled Networks, arXiv 2601.02141, eq. 20), so the
kernel is cropped once per patch size, transformed at the next good FFT size, and kept. Works on tensors alone;
must not know whose kernels they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.fft import next_fast_len

Shape = tuple[int, int, int]
Circular = tuple[bool, bool, bool]
"""Per axis (z, y, x): whether a convolution wraps around."""
Pairs = tuple[tuple[int, int, int], ...]

AXES = (-3, -2, -1)


@dataclass(frozen=True)
class AxisPlan:
    """One axis: which entries of the kernel are read, where they go, and the transform's size (1: no transform)."""

    source: torch.Tensor
    target: torch.Tensor
    fft_size: int


def plan_axis(n: int, m: int, p: int, circular: bool) -> AxisPlan:
    """Plan one axis of a convolution restricted to ``p`` of ``n`` voxels, for a kernel stored with ``m`` lags.

    A linear kernel holds lags −(s−1) … s−1 at index lag mod 2s (m = 2s; m = 1 holds lag 0 alone); a circular one
    holds all lags mod n (m = n), so the patch stays exact also when 2p > n.
    """
    reach = p if circular else min(p, max(1, m // 2))
    if m == 1 or reach == 1:
        return AxisPlan(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), 1)
    size = next_fast_len(p + reach - 1, real=True)
    if circular and n <= size:
        lags = torch.arange(n)
        return AxisPlan(lags, lags, n)
    lags = torch.arange(-(reach - 1), reach)
    return AxisPlan(lags % m, lags % size, size)


@dataclass(frozen=True)
class Convolution:
    """``crop(F⁻¹(spectrum · F(pad(u))))`` for u (…, z, y, x) of one fixed shape.

    ``spectrum`` (kernel, …) is complex, which multiplies faster than the real numbers of a Hermitian kernel would, or
    the kernel itself where no axis is transformed. ``sizes`` are transform sizes, 1 where an axis
    needs none; ``real`` says that kernel and data are real, so that half-spectra suffice.
    """

    spectrum: torch.Tensor
    shape: Shape
    sizes: Shape
    real: bool

    @property
    def axes(self) -> tuple[int, ...]:
        """The transformed axes."""
        return tuple(a for a in AXES if self.sizes[a] > 1)

    @property
    def dtype(self) -> torch.dtype:
        """Of the data that it convolves: real or complex, in the kernel's precision."""
        real = self.spectrum.real.dtype
        return real if self.real else torch.promote_types(real, torch.complex64)

    @property
    def nbytes(self) -> int:
        """Bytes that one transform of one patch takes."""
        cells = 1
        for a in AXES:
            cells *= max(self.sizes[a], self.shape[a])
        return cells * self.spectrum.element_size() * (1 if self.spectrum.is_complex() or self.real else 2)

    def __call__(self, u: torch.Tensor, pairs: Pairs | None = None, n_left: int = 1) -> torch.Tensor:
        """Convolve u (box, right, z, y, x) to (box, left, z, y, x).

        Without ``pairs`` term k goes through kernel k. With them every (a, b, k) adds kernel k of input b to output a,
        and each input and output is transformed once however many kernels it meets.
        """
        if not self.axes:
            return self._mix(u, pairs, n_left)
        return self.inverse(self._mix(self.forward(u), pairs, n_left))

    def _mix(self, f: torch.Tensor, pairs: Pairs | None, n_left: int) -> torch.Tensor:
        if pairs is None:
            return f * self.spectrum
        out: list[torch.Tensor | None] = [None] * n_left
        for a, b, k in pairs:
            so_far = out[a]
            part = f[:, b] * self.spectrum[k] if so_far is None else torch.addcmul(so_far, f[:, b], self.spectrum[k])
            out[a] = part
        return torch.stack([torch.zeros_like(f[:, 0]) if g is None else g for g in out], 1)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """F(pad(u)): lines that are still zero are never transformed."""
        return transform(u, self.sizes, self.real)

    def inverse(self, f: torch.Tensor) -> torch.Tensor:
        """crop(F⁻¹(f)): lines are cropped as soon as their axis is done."""
        *others, last = self.axes
        for axis in others:
            f = torch.fft.ifft(f, dim=axis).narrow(axis, 0, self.shape[axis])
        u = torch.fft.irfft(f, n=self.sizes[last], dim=last) if self.real else torch.fft.ifft(f, dim=last)
        return u.narrow(last, 0, self.shape[last])


def make_convolution(kernel: torch.Tensor, shape: Shape, patch: Shape, circular: Circular) -> Convolution:
    """The convolution with ``kernel`` (kernel, z, y, x) on ``shape``, restricted to patches of shape ``patch``."""
    plans = [plan_axis(n, m, p, c) for n, m, p, c in zip(shape, kernel.shape[1:], patch, circular, strict=True)]
    h = kernel
    for axis, plan in zip(AXES, plans, strict=True):
        h = _place(h, axis, plan)
    sizes = (plans[0].fft_size, plans[1].fft_size, plans[2].fft_size)
    real = not kernel.is_complex()
    spectrum = transform(h, sizes, real) if max(sizes) > 1 else h
    return Convolution(spectrum, patch, sizes, real)


def _place(h: torch.Tensor, axis: int, plan: AxisPlan) -> torch.Tensor:
    picked = h.index_select(axis, plan.source.to(h.device))
    shape = list(h.shape)
    shape[axis] = plan.fft_size
    return torch.zeros(shape, dtype=h.dtype, device=h.device).index_copy(axis, plan.target.to(h.device), picked)


def resized(kernel: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Lags −(s−1) … s−1 of a kernel (k, z, y, x) in wrapped order, moved to ``sizes``; s is half the smaller size per axis."""
    for axis, size in zip(AXES, sizes, strict=True):
        m = kernel.shape[axis]
        if m != size:
            s = min(m, size) // 2
            shape = list(kernel.shape)
            shape[axis] = size
            out = torch.zeros(shape, dtype=kernel.dtype, device=kernel.device)
            out.narrow(axis, 0, s).copy_(kernel.narrow(axis, 0, s))
            out.narrow(axis, size - s + 1, s - 1).copy_(kernel.narrow(axis, m - s + 1, s - 1))
            kernel = out
    return kernel


def transform(u: torch.Tensor, sizes: Shape, real: bool) -> torch.Tensor:
    """FFT of u (…, z, y, x) padded to ``sizes``, axis by axis; half of it where u is real.

    Kernels go through it too, so that spectra lie in memory as the data they multiply.
    """
    *others, last = [a for a in AXES if sizes[a] > 1]
    first = torch.fft.rfft if real else torch.fft.fft
    f = first(u, n=sizes[last], dim=last)
    for axis in reversed(others):
        f = torch.fft.fft(f, n=sizes[axis], dim=axis)
    return f


def inverse_transform(f: torch.Tensor, sizes: Shape, real: bool) -> torch.Tensor:
    """The inverse of :func:`transform`, axis by axis too."""
    *others, last = [a for a in AXES if sizes[a] > 1]
    for axis in others:
        f = torch.fft.ifft(f, dim=axis)
    return torch.fft.irfft(f, n=sizes[last], dim=last) if real else torch.fft.ifft(f, dim=last)

"""Ñ on a large volume block by block: overlap–save, so that memory grows with the block and not with the volume.

A kernel of few lags reaches only that far, so each block of the result needs its surroundings and nothing else; the
circular wrap of a transform falls on what is thrown away. Works on the parts of factors alone.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Literal, Protocol

import torch
from scipy.fft import next_fast_len

from napari_unroll.events import Box
from napari_unroll.physics.convolution import Circular, Convolution, Pairs, Shape, make_convolution, resized

Interval = tuple[int, int]
LARGE = 512**3
"""Voxels above which memory counts more than time: at 384³ blocks take 7 volumes instead of 14, and four times as long."""


class WeightedConvolutions(Protocol):
    """What this file needs of ``NormalFactors``."""

    @property
    def kernel(self) -> torch.Tensor:
        """The kernels (k, z, y, x)."""

    @property
    def shape(self) -> Shape:
        """The volume's (z, y, x)."""

    @property
    def circular(self) -> Circular:
        """Which axes wrap around."""

    @property
    def pairs(self) -> Pairs | None:
        """(left, right, kernel) of every term, None where term k is (k, k, k)."""

    @property
    def is_complex(self) -> bool:
        """Whether kernels or weights are complex."""

    def count(self, side: Literal["left", "right"], /) -> int:
        """How many weights a side has."""

    def weights(self, side: Literal["left", "right"], box: Box, /) -> torch.Tensor | None:
        """All weights of a side in a box (k, z, y, x), None for one."""


def worthwhile(factors: WeightedConvolutions) -> bool:
    """Whether short kernels would otherwise be transformed at the size of a large volume, or many of any volume."""
    lags = factors.kernel.shape[1:]
    short = any(3 * (m // 2) < n for m, n in zip(lags, factors.shape, strict=True))
    much = factors.pairs is not None or math.prod(factors.shape) > LARGE
    return much and short and min(lags) > 1 and not any(factors.circular) and not factors.is_complex


def axis_blocks(n: int, m: int) -> tuple[int, list[tuple[Interval, Interval]]]:
    """Transform size, and per block the voxels (from, to) that it reads and those that it gives, along one axis."""
    s = m // 2
    if 3 * s >= n:
        return next_fast_len(n + s - 1, real=True), [((0, n), (0, n))]
    size = next_fast_len(4 * s, real=True)
    step = size - 2 * (s - 1)
    return size, [((a - s + 1, a - s + 1 + size), (a, min(a + step, n))) for a in range(0, n, step)]


@torch.no_grad()
def apply(factors: WeightedConvolutions, x: torch.Tensor) -> torch.Tensor:
    """Ñ x for x (B, 1, z, y, x)."""
    axes = [axis_blocks(n, m) for n, m in zip(factors.shape, factors.kernel.shape[1:], strict=True)]
    sizes: Shape = tuple(size for size, _ in axes)  # type: ignore[assignment]
    convolution = _convolution(factors.kernel, sizes)
    out = torch.empty_like(x)
    for block in itertools.product(*(intervals for _, intervals in axes)):
        _one(factors, convolution, x, [read for read, _ in block], [given for _, given in block], out)
    return out


def _convolution(kernel: torch.Tensor, sizes: Shape) -> Convolution:
    """The kernels as circular ones of ``sizes``, transformed one at a time to spare memory."""
    made: Convolution | None = None
    for k in range(kernel.shape[0]):
        one = make_convolution(resized(kernel[[k]], sizes), sizes, sizes, (True, True, True))
        made = made or replace(one, spectrum=one.spectrum.new_empty((kernel.shape[0], *one.spectrum.shape[1:])))
        made.spectrum[k] = one.spectrum[0]
    assert made is not None
    return made


def _one(
    factors: WeightedConvolutions,
    convolution: Convolution,
    x: torch.Tensor,
    read: list[Interval],
    given: list[Interval],
    out: torch.Tensor,
) -> None:
    inside: Box = tuple(slice(max(a, 0), min(b, n)) for (a, b), n in zip(read, factors.shape, strict=True))  # type: ignore[assignment]
    target: Box = tuple(slice(a, b) for a, b in given)  # type: ignore[assignment]
    widths = [
        w
        for (a, _), s, size in reversed(list(zip(read, inside, convolution.shape, strict=True)))
        for w in (s.start - a, size - (s.stop - a))
    ]
    u = x[(..., *inside)].to(convolution.dtype)
    right = factors.weights("right", inside)
    v = torch.nn.functional.pad(u if right is None else right * u, widths)
    v = convolution(v, factors.pairs, factors.count("left"))
    local: Box = tuple(slice(t.start - a, t.stop - a) for t, (a, _) in zip(target, read, strict=True))  # type: ignore[assignment]
    left = factors.weights("left", target)
    v = v[(..., *local)]
    out[(..., *target)] = (v if left is None else left.conj() * v).sum(1, keepdim=True).to(out.dtype)

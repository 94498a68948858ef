"""Convolutions whose norm as an operator on images is at most one, whatever their weights.

torch's ``spectral_norm`` normalises the kernel reshaped to a matrix, whose norm bounds that of the convolution only up to the
root of the kernel's size (3 in 2-D, 5.2 in 3-D). Here it is the transfer matrix Ŵ(ω) that is normalised: ‖W‖ = max_ω ‖Ŵ(ω)‖
(Sedghi, Gupta, Long, "The Singular Values of Convolutional Layers" (2019), arXiv 1805.10408), by power iteration at the
frequencies of a grid, with the most that a trigonometric polynomial may rise between them. Must not know priors.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch.nn.modules.conv import _ConvNd

GRID = {2: 16, 3: 12}
"""Frequencies per axis, by dimension."""
SETTLE = 20
"""Power iterations from random vectors."""
STEPS = 2
"""Power iterations per step of the optimiser."""
FIRST = 0.1
"""Factor of a prior's last layer at the start of training."""


class _Normalised(_ConvNd):
    """A convolution with weights W/σ, where σ = ⟨W, G⟩ ≥ ‖W‖ as nearly as the power iteration has come.

    G is the derivative of the norm, fixed until the next :meth:`refresh`, so that σ is linear in W, costs nothing, and f does
    not change while its fixed point is looked for.
    """

    _vectors: torch.Tensor
    _slope: torch.Tensor

    def __init__(self, *sizes: Any, **choices: Any) -> None:
        super().__init__(*sizes, **choices)
        frequencies = _offsets(self.kernel_size)[0]
        generator = torch.Generator().manual_seed(0)
        vectors = torch.randn(len(frequencies), self.weight.shape[1], 1, dtype=torch.complex64, generator=generator)
        self.register_buffer("_vectors", vectors, persistent=False)
        self.register_buffer("_slope", torch.zeros_like(self.weight), persistent=False)
        self.register_load_state_dict_post_hook(lambda loaded, _: loaded.refresh(SETTLE))
        self.refresh(SETTLE)

    @torch.no_grad()
    def refresh(self, n_steps: int = STEPS) -> None:
        """Power iterations on the present weights, and G anew."""
        frequencies, margin = _offsets(self.kernel_size)
        phases = frequencies.to(self.weight.device)
        symbol = torch.einsum("fk,oik->foi", phases, self.weight.flatten(2).to(phases.dtype))
        adjoint, right = symbol.mH.contiguous(), _unit(self._vectors)
        for _ in range(n_steps):
            right = _unit(adjoint @ _unit(symbol @ right))
        left = symbol @ right
        top = int(torch.linalg.vector_norm(left, dim=1).argmax())
        u, v = _unit(left)[top, :, 0], right[top, :, 0]
        slope = torch.einsum("o,i,k->oik", u.conj(), v, phases[top]).real
        self._vectors.copy_(right)
        self._slope.copy_(margin * slope.reshape(self.weight.shape))

    @property
    def norm(self) -> torch.Tensor:
        """σ."""
        return (self.weight * self._slope).sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve x (batch, channel, …)."""
        return self._conv_forward(x, self.weight / self.norm.clamp_min(1e-12), self.bias)


class NormalisedConv2d(_Normalised, torch.nn.Conv2d):
    """Of slices."""


class NormalisedConv3d(_Normalised, torch.nn.Conv3d):
    """Of volumes."""


def convolution(
    dim: int, n_in: int, n_out: int, *, bias: bool = True, is_normalised: bool = False, size: int = 3
) -> torch.nn.Module:
    """A convolution that keeps the size of its images, plain or of norm at most one."""
    plain, bounded = {2: (torch.nn.Conv2d, NormalisedConv2d), 3: (torch.nn.Conv3d, NormalisedConv3d)}[dim]
    return (bounded if is_normalised else plain)(n_in, n_out, size, padding=size // 2, bias=bias)


@torch.no_grad()
def beginning_small(last: torch.nn.Module) -> torch.nn.Module:
    """The last layer of a prior, which leaves volumes nearly as they are at first: iterations begin as the classical ones.

    Normalised layers do not feel it; there the learned share does the same.
    """
    for values in last.parameters():
        values.mul_(FIRST)
    return last


def refresh(network: torch.nn.Module, n_steps: int = STEPS) -> None:
    """:meth:`_Normalised.refresh` in all layers that have a norm: once per step of an optimiser."""
    for layer in network.modules():
        if isinstance(layer, _Normalised):
            layer.refresh(n_steps)


@cache
def _offsets(kernel_size: tuple[int, ...]) -> tuple[torch.Tensor, float]:
    """exp(−i ω·κ) (frequency, offset) on the grid, and how much larger than there ‖Ŵ‖ may be between its points.

    A trigonometric polynomial of degree d exceeds its values at n equidistant points by 1/cos(πd/n) at most
    (Ehlich and Zeller 1964, doi:10.1007/BF01111276).
    """
    n = GRID[len(kernel_size)]
    omega = torch.meshgrid(*[2 * math.pi * torch.arange(n) / n for _ in kernel_size], indexing="ij")
    kappa = torch.meshgrid(*[torch.arange(k) for k in kernel_size], indexing="ij")
    angle = sum(w.reshape(-1, 1) * k.reshape(1, -1) for w, k in zip(omega, kappa, strict=True))
    half = (n // 2 + 1) * n ** (len(kernel_size) - 1)  # real kernels: Ŵ(−ω) is the conjugate
    margin = math.prod(1 / math.cos(math.pi * (k // 2) / n) for k in kernel_size)
    assert isinstance(angle, torch.Tensor)
    return torch.polar(torch.ones_like(angle), -angle)[:half], margin


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """Of length one along the vectors (frequency, channel, 1)."""
    return vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min(1e-12)

"""A volume as a function of position: grids of features from coarse to fine, and a small network on every voxel's features.

    x(r) = w·φ(r) + MLP(φ(r)),    φ(r): the features of all grids, each interpolated linearly at r

Müller et al., "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding" (2022), doi:10.1145/3528223.3530127,
with dense grids in place of hash tables: they need no kernels of their own, and run wherever torch does. Knows tensors only: no
physics, no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

Shape = tuple[int, int, int]

SLAB_VOXELS = 1 << 21
"""A volume of more voxels is made slab by slab, whose activations are made again for the gradient instead of being kept."""
FIRST_FEATURES = 1e-3
"""Standard deviation of the features before the fit."""


@dataclass(frozen=True)
class FeatureGridConfig:
    """Architecture: ``shapes`` are the vertices (z, y, x) of every grid, each with ``n_features`` numbers.

    The network has ``n_layers`` hidden layers of ``n_hidden`` units; ``is_complex``: real and imaginary part are two outputs.
    """

    shapes: tuple[Shape, ...]
    n_features: int = 2
    n_hidden: int = 16
    n_layers: int = 1
    is_complex: bool = False

    @property
    def widths(self) -> list[int]:
        """Numbers per voxel at the entrance, in every hidden layer and at the exit."""
        return [len(self.shapes) * self.n_features, *[self.n_hidden] * self.n_layers, 2 if self.is_complex else 1]


def level_shapes(shape: Shape, n_levels: int, finest: float, growth: float) -> tuple[Shape, ...]:
    """Vertices (z, y, x) of ``n_levels`` grids over a volume of ``shape``, coarsest first.

    The finest has ``finest`` voxels per vertex, every coarser one ``growth`` times more; at least two vertices lie along an axis
    of more than one voxel.
    """
    pitches = [finest * growth**level for level in reversed(range(n_levels))]
    return tuple(tuple(min(n, max(2, math.ceil(n / p))) for n in shape) for p in pitches)  # type: ignore[misc]


class Voxelwise(torch.nn.Linear):
    """A linear layer on every voxel's features (feature, voxel)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """W φ + b, (feature, voxel)."""
        if self.bias is None:
            return self.weight @ features
        return torch.addmm(self.bias[:, None], self.weight, features)


class FeatureGrid(torch.nn.Module):
    """The volume at any resolution: ``grid(shape)`` is (1, 1, z, y, x), zero before the fit, real or complex."""

    def __init__(self, config: FeatureGridConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.features = torch.nn.ParameterList(
                FIRST_FEATURES * torch.randn(config.n_features, *shape) for shape in config.shapes
            )
            layers = [Voxelwise(n, m) for n, m in pairwise(config.widths)]
            self.linear = Voxelwise(config.widths[0], config.widths[-1], bias=False)
        self.hidden, self.last = torch.nn.ModuleList(layers[:-1]), layers[-1]
        for zero in (self.last.weight, self.last.bias, self.linear.weight):
            torch.nn.init.zeros_(zero)

    def forward(self, shape: Shape) -> torch.Tensor:
        """The volume on ``shape`` voxels over the same extent; grids that are finer than these voxels count as zero."""
        rows = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
        if rows >= shape[0]:
            return self._slab(shape, slice(0, shape[0]))
        slabs = (slice(first, first + rows) for first in range(0, shape[0], rows))
        made = [checkpoint(self._slab, shape, slab, use_reentrant=False, preserve_rng_state=False) for slab in slabs]
        return torch.cat(made, 2)

    def _slab(self, shape: Shape, planes: slice) -> torch.Tensor:
        """Some ``planes`` of the volume."""
        features = torch.cat([_at_voxels(level, shape, planes) for level in self.features])
        h = features.flatten(1)
        for layer in self.hidden:
            h = layer(h).relu()
        out = (self.last(h) + self.linear(features.flatten(1))).unflatten(1, features.shape[1:])
        return (torch.complex(out[:1], out[1:]) if self.config.is_complex else out)[None]


def _at_voxels(level: torch.Tensor, shape: Shape, planes: slice) -> torch.Tensor:
    """Features (feature, z, y, x) of one grid at the voxels of some planes: one product with a matrix per axis."""
    if any(have > want for have, want in zip(level.shape[1:], shape, strict=True)):
        return level.new_zeros(len(level), len(range(shape[0])[planes]), *shape[1:])
    if level.shape[1:] == shape:
        return level[:, planes]
    z, y, x = (_interpolation(have, want, level) for have, want in zip(level.shape[1:], shape, strict=True))
    along_z = (z[planes] @ level.flatten(2)).unflatten(2, level.shape[2:])
    return (y @ along_z) @ x.T


def _interpolation(n_vertices: int, n_voxels: int, like: torch.Tensor) -> torch.Tensor:
    """The matrix (voxel, vertex) of linear interpolation between two grids over one extent."""
    unit = torch.eye(n_vertices, dtype=like.dtype, device=like.device)
    return interpolate(unit[None], size=n_voxels, mode="linear")[0].T

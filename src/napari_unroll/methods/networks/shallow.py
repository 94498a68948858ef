"""LUSER's shallow equilibrium regulariser: the update of a prior is itself a fixed point of a few layers.

Guan, Jin, Romberg, Davenport, "Loop Unrolled Shallow Equilibrium Regularizer" (2022), arXiv 2210.04987, eq. 7 and table 1:
r = mix(data(r) ⊕ inject(d)), from r = 0. As published it does not contract, because group normalisation voids the norms of the
convolutions (docs/methods/equilibria.md); a learned gain of 0.02 before the output mends that.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator

from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.equilibrium.layer import fixed_point
from napari_unroll.methods.networks.convolution import convolution
from napari_unroll.methods.networks.prior import PriorConfig

GAIN = 0.02
"""Of the output at the start of training."""


class ShallowConfig(PriorConfig):
    """Architecture of LUSER's block."""

    kind: Literal["shallow"] = "shallow"
    width: int = Field(
        32, ge=2, le=1024, description="Channels of inject and data layers; mix layers have twice as many."
    )
    groups: int = Field(8, ge=1, le=64, description="Groups of channels that are normalised together.")
    published: bool = Field(
        False, description="Without the learned gain of the output: as published, which does not contract."
    )
    equilibrium: EquilibriumConfig = Field(
        EquilibriumConfig(max_evaluations=30), description="How the fixed point of the block is found."
    )

    @model_validator(mode="after")
    def _equal_groups(self) -> ShallowConfig:
        if self.width % self.groups:
            raise ValueError(
                "the channels (width) must fall into equal groups; choose a number of groups that divides them"
            )
        return self

    @property
    def name(self) -> str:
        """What people call it."""
        return "shallow equilibrium"

    @property
    def multiple(self) -> int:
        """Any size will do."""
        return 1

    @property
    def reach(self) -> int:
        """Seven layers, four of which are iterated to a fixed point: each evaluation sees further by them."""
        return 2 + 5 * self.equilibrium.max_evaluations

    @property
    def channel_pairs(self) -> int:
        """Of the mix layers."""
        return 4 * self.width**2

    @property
    def size(self) -> str:
        """Its channels."""
        return f"{self.width}{' as published' if self.published else ''}"

    def build(self, is_normalised: bool = False) -> torch.nn.Module:
        """The block; its convolutions are normalised always."""
        return ShallowEquilibrium(self)

    def activation_bytes(self, shape: tuple[int, int, int]) -> int:
        """The injected maps, three of the mix layers, and the search's copies of r."""
        per_voxel = self.width + 3 * 2 * self.width + self.equilibrium.volumes * self.parts
        return 4 * per_voxel * math.prod(shape)


class ShallowEquilibrium(torch.nn.Module):
    """d ↦ r* with r* = mix(data(r*) ⊕ inject(d))."""

    def __init__(self, config: ShallowConfig) -> None:
        super().__init__()
        n, self.config = config.width, config
        self.inject = torch.nn.Sequential(
            *self._layer(config.seen, n, has_norm=False), *self._layer(n, n, has_norm=False)
        )
        self.data = torch.nn.Sequential(*self._layer(config.parts, n), *self._layer(n, n))
        self.mix = torch.nn.Sequential(
            *self._layer(2 * n, 2 * n), *self._layer(2 * n, 2 * n), self._convolution(2 * n, config.parts)
        )
        self.gain = None if config.published else torch.nn.Parameter(torch.tensor(GAIN))

    def forward(self, d: torch.Tensor) -> torch.Tensor:
        """r* for d (batch, channel, …)."""
        injected = self.inject(d)
        return fixed_point(lambda r: self.update(r, injected), self.nothing(d), self.config.equilibrium)

    def update(self, r: torch.Tensor, injected: torch.Tensor) -> torch.Tensor:
        """One evaluation, in float32 whatever the arithmetic of the layers."""
        mixed: torch.Tensor = self.mix(torch.cat((self.data(r), injected), 1)).to(r.dtype)
        return mixed if self.gain is None else self.gain * mixed

    def nothing(self, d: torch.Tensor) -> torch.Tensor:
        """r = 0."""
        return torch.zeros_like(d[:, : self.config.parts])

    def _layer(self, n_in: int, n_out: int, has_norm: bool = True) -> list[torch.nn.Module]:
        norm: list[torch.nn.Module] = [torch.nn.GroupNorm(self.config.groups, n_out)] if has_norm else []
        return [self._convolution(n_in, n_out), *norm, torch.nn.LeakyReLU(0.01)]

    def _convolution(self, n_in: int, n_out: int) -> torch.nn.Module:
        return convolution(self.config.dim, n_in, n_out, is_normalised=True)

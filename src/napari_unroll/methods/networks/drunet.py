"""DRUNet: a U-Net of residual blocks, told the noise level.

Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior" (2021), doi:10.1109/TPAMI.2021.3088914; the 3-D
form is deepinv's ``DRUNet(dim=3)``. Bias-free, so a scaled volume with a scaled σ gives a scaled result.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from deepinv.models import DRUNet
from pydantic import Field

from napari_unroll.methods.networks.prior import PriorConfig, Width

SCRATCH_3D = 30 * 2**20
"""Bytes that 3-D convolutions take on the CPU whatever the volume: measured at 64³ and 128³ (``benchmarks/memory.py``)."""


class DRUNetConfig(PriorConfig):
    """Architecture of a DRUNet."""

    kind: Literal["drunet"] = "drunet"
    channels: tuple[Width, Width, Width, Width] = Field((16, 32, 64, 128), description="Channels per resolution level.")
    blocks: int = Field(1, ge=1, le=8, description="Residual blocks per level.")

    @property
    def name(self) -> str:
        """What people call it."""
        return "DRUNet"

    @property
    def multiple(self) -> int:
        """Three levels halve the resolution."""
        return 8

    @property
    def reach(self) -> int:
        """Two convolutions per block, whose steps double from level to level; head and tail."""
        return 2 + 2 * self.blocks * (2 * (1 + 2 + 4) + 8)

    @property
    def channel_pairs(self) -> int:
        """Of the first level."""
        return self.channels[0] ** 2

    @property
    def is_conditioned(self) -> bool:
        """It is told σ."""
        return True

    @property
    def size(self) -> str:
        """Its channels."""
        return str(self.channels)

    def build(self, is_normalised: bool = False) -> torch.nn.Module:
        """deepinv's network without its own padding; the residual form is the prior's."""
        return _Network(self.seen, self.parts, nc=self.channels, nb=self.blocks, dim=self.dim, pretrained=None)

    def activation_bytes(self, shape: tuple[int, int, int]) -> int:
        """Maps of the first level, over four in 3-D and six in 2-D, and four copies of the input; in 3-D the scratch of oneDNN."""
        maps, scratch = (4.25, SCRATCH_3D) if self.dim == 3 else (6, 0)
        return scratch + round(4 * (maps * self.channels[0] + 4 * self.seen) * math.prod(shape))


class _Network(DRUNet):
    """DRUNet on what already holds the noise level as its last channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network alone."""
        return self.forward_unet(x)

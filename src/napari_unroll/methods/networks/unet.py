"""The plain U-Net of post-processing (FBPConvNet).

Jin et al., "Deep Convolutional Neural Network for Inverse Problems in Imaging" (2017), doi:10.1109/TIP.2017.2713099; deepinv's
``UNet`` without batch normalisation, whose statistics over few patches are worth little.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from deepinv.models import UNet
from pydantic import Field

from napari_unroll.methods.networks.convolution import beginning_small
from napari_unroll.methods.networks.prior import PriorConfig, Width


class UNetConfig(PriorConfig):
    """Architecture of a U-Net."""

    kind: Literal["unet"] = "unet"
    channels: tuple[Width, ...] = Field(
        (16, 32, 64, 128), min_length=2, max_length=6, description="Channels per resolution level."
    )

    @property
    def name(self) -> str:
        """What people call it."""
        return "U-Net"

    @property
    def multiple(self) -> int:
        """Every level but the last halves the resolution."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def reach(self) -> int:
        """Two convolutions per level on the way down, three on the way up, whose steps double from level to level."""
        deepest = 2 ** (len(self.channels) - 1)
        return 5 * (deepest - 1) + 2 * deepest

    @property
    def channel_pairs(self) -> int:
        """Where the maps of the way down join those of the way up."""
        return 2 * self.channels[0] ** 2

    @property
    def size(self) -> str:
        """Its channels."""
        return str(self.channels)

    def build(self, is_normalised: bool = False) -> torch.nn.Module:
        """deepinv's network; the residual form is the prior's."""
        return _Network(
            self.seen, self.parts, residual=False, batch_norm=False, channels_per_scale=self.channels, dim=self.dim
        )

    def activation_bytes(self, shape: tuple[int, int, int]) -> int:
        """About six maps of the first level and four copies of the input."""
        return 4 * (6 * self.channels[0] + 4 * self.seen) * math.prod(shape)


class _Network(UNet):
    """U-Net on what is already a multiple of its strides."""

    def __init__(self, *sizes: Any, **choices: Any) -> None:
        super().__init__(*sizes, **choices)
        beginning_small(self.Conv_1x1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network alone."""
        return self._forward(x)

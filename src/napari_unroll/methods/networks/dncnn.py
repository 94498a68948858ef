"""Plain stacks of convolutions: DnCNN, and the small network of MoDL and MOL.

Zhang et al., "Beyond a Gaussian Denoiser" (2017), doi:10.1109/TIP.2017.2662206; as LUSER has it (17 layers, 64 channels,
bias-free, batch normalisation with weights) it has the published number of parameters, which deepinv's ``DnCNN`` has not.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field

from napari_unroll.methods.networks.convolution import beginning_small, convolution
from napari_unroll.methods.networks.prior import PriorConfig, Width


class StackConfig(PriorConfig):
    """What stacks of convolutions share."""

    width: Width = Field(64, description="Channels of every layer but the last.")
    layers: int = Field(5, ge=2, le=64, description="Convolutions.")

    @property
    def multiple(self) -> int:
        """Any size will do."""
        return 1

    @property
    def reach(self) -> int:
        """One voxel per layer, and the neighbouring slices."""
        return max(self.layers, self.neighbours)

    @property
    def channel_pairs(self) -> int:
        """Of every layer between the first and the last."""
        return self.width**2

    @property
    def can_be_normalised(self) -> bool:
        """Its layers can."""
        return True

    @property
    def size(self) -> str:
        """Its layers and channels."""
        return f"{self.layers}×{self.width}"

    def activation_bytes(self, shape: tuple[int, int, int]) -> int:
        """Two maps: of a layer and of the next."""
        return 2 * 4 * self.width * math.prod(shape)

    def _stack(self, is_normalised: bool, bias: bool, has_batch_norm: bool = False) -> torch.nn.Module:
        """Convolution, activation, … convolution."""

        def layer(n_in: int, n_out: int) -> torch.nn.Module:
            return convolution(self.dim, n_in, n_out, bias=bias, is_normalised=is_normalised)

        norm = torch.nn.BatchNorm3d if self.dim == 3 else torch.nn.BatchNorm2d
        parts: list[torch.nn.Module] = [layer(self.seen, self.width), torch.nn.ReLU()]
        for _ in range(self.layers - 2):
            parts += [layer(self.width, self.width)]
            parts += [norm(self.width)] if has_batch_norm else []
            parts += [torch.nn.ReLU()]
        last = layer(self.width, self.parts)
        return torch.nn.Sequential(*parts, last if is_normalised else beginning_small(last))


class DnCNNConfig(StackConfig):
    """Architecture of a DnCNN."""

    kind: Literal["dncnn"] = "dncnn"
    layers: int = Field(17, ge=2, le=64, description="Convolutions, without biases.")
    batch_norm: bool = Field(
        False, description="Batch normalisation in all layers but the first and the last, as published."
    )

    @property
    def name(self) -> str:
        """What people call it."""
        return "DnCNN"

    @property
    def can_be_normalised(self) -> bool:
        """Batch normalisation would void the norm of the layers."""
        return not self.batch_norm

    def build(self, is_normalised: bool = False) -> torch.nn.Module:
        """The network alone; the residual form is the prior's."""
        return self._stack(is_normalised, bias=False, has_batch_norm=self.batch_norm)


class CNNConfig(StackConfig):
    """Architecture of the small network of MoDL and MOL."""

    kind: Literal["cnn"] = "cnn"

    @property
    def name(self) -> str:
        """What people call it."""
        return "CNN"

    def build(self, is_normalised: bool = False) -> torch.nn.Module:
        """The network alone, with biases; the residual form is the prior's."""
        return self._stack(is_normalised, bias=True)

"""The learned prior D_θ: deepinv's DRUNet on volumes or slices, residual, real or complex.

Knows tensors only: no physics, no files.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from deepinv.models import DRUNet
from pydantic import Field, model_validator

from napari_unroll.methods.problem import MethodParams

DEPTH = 24
"""Voxels along z from which no resolution level of a prior is two deep."""


Width = Annotated[int, Field(ge=1, le=4096)]


class PriorConfig(MethodParams):
    """Architecture of a prior; stored with its weights."""

    dim: Literal[2, 3] = Field(3, description="2: slice by slice, 3: volumes.")
    neighbours: int = Field(
        0, ge=0, le=8, description="2-D only: slices on either side that are seen too (2.5-D); 0: a slice alone."
    )
    complex_valued: bool = Field(False, description="Real and imaginary part as two channels.")
    channels: tuple[Width, Width, Width, Width] = Field((16, 32, 64, 128), description="Channels per resolution level.")
    blocks: int = Field(1, ge=1, le=8, description="Residual blocks per level.")

    @model_validator(mode="after")
    def _flat_with_neighbours(self) -> PriorConfig:
        if self.neighbours and self.dim == 3:
            raise ValueError("neighbours are for 2-D priors; a 3-D prior sees all slices of its patch")
        return self

    @property
    def parts(self) -> int:
        """Channels of one voxel: real, or real and imaginary part."""
        return 2 if self.complex_valued else 1

    @property
    def title(self) -> str:
        """In words."""
        seen = f"{self.dim}-D" if not self.neighbours else f"2.5-D ({1 + 2 * self.neighbours} slices)"
        return f"DRUNet {seen} {self.channels}"


class Prior(torch.nn.Module):
    """x ↦ x + DRUNet([x, σ]), bias-free, so a scaled volume with a scaled σ gives a scaled result.

    Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior" (2021), doi:10.1109/TPAMI.2021.3088914;
    the 3-D form is deepinv's ``DRUNet(dim=3)``. The residual form and the training from scratch are ours.
    x is (batch, 1, z, y, x), real or complex; any size, padded by replication to multiples of eight inside.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        # Channels-last also keeps torch off its slow convolutions, which it takes for one volume on one thread.
        self._layout = torch.channels_last_3d if config.dim == 3 else torch.channels_last
        seen = config.parts * (1 + 2 * config.neighbours)
        unet = DRUNet(seen, config.parts, nc=config.channels, nb=config.blocks, dim=config.dim, pretrained=None)
        self.unet = unet.to(memory_format=self._layout)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        """The cleaned volume; ``sigma`` conditions the network on the strength of the artefacts."""
        channels = torch.cat((x.real, x.imag), 1) if self.config.complex_valued else x
        if self.config.dim == 2:
            folded = _with_neighbours(channels, self.config.neighbours).transpose(1, 2).flatten(0, 1)
            update = self._update(folded, sigma).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
        else:
            update = self._update(channels, sigma)
        update = update.float()
        return x + (torch.complex(update[:, :1], update[:, 1:]) if self.config.complex_valued else update)

    def _update(self, channels: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        size = channels.shape[2:]
        level = torch.ones_like(channels[:, :1]) * sigma
        wanted = [-(-n // 8) * 8 for n in size]
        if self.config.dim == 3 and _gradients_need_depth(channels):
            wanted[0] = max(wanted[0], DEPTH)
        pad = [p for n, m in zip(reversed(size), reversed(wanted), strict=True) for p in (0, m - n)]
        padded = torch.nn.functional.pad(torch.cat((channels, level), 1), pad, mode="replicate")
        return self.unet.forward_unet(padded.contiguous(memory_format=self._layout))[
            (..., *(slice(0, n) for n in size))
        ]


def _gradients_need_depth(x: torch.Tensor) -> bool:
    """Whether torch would make wrong gradients for thin volumes: oneDNN's bfloat16 gradient of the weights of a 3-D
    convolution reads memory that nobody wrote where its input is two voxels deep (torch 2.15, Zen 5)."""
    return x.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")


def _with_neighbours(channels: torch.Tensor, n: int) -> torch.Tensor:
    """Channels (batch, channel, z, y, x), then those of the slices at z − 1, z + 1, z − 2, … z + n; the ends repeat."""
    last = channels.shape[2] - 1
    z = torch.arange(last + 1, device=channels.device)
    shifts = [0, *(sign * i for i in range(1, n + 1) for sign in (-1, 1))]
    return torch.cat([channels[:, :, (z + shift).clamp(0, last)] for shift in shifts], 1)


def activation_bytes(config: PriorConfig, patch_size: tuple[int, int, int]) -> int:
    """Rough peak bytes of one forward pass without gradients on a patch: about six maps of the first level."""
    voxels = patch_size[0] * patch_size[1] * patch_size[2]
    return 6 * 4 * config.channels[0] * voxels

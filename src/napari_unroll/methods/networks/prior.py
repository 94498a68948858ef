"""What every learned prior D_θ shares: volumes or slices, real or complex, any size; the network itself is its ``kind``'s.

Knows tensors only: no physics, no files.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from napari_unroll.methods.equilibrium.lipschitz import LipschitzConfig
from napari_unroll.methods.networks.one_volume import one_volume
from napari_unroll.methods.problem import MethodParams

FREE = LipschitzConfig()
"""No bound."""
SHARE = 0.1
"""Of the network in a bounded prior, at the start of training; the rest is the identity."""
DEPTH = 24
"""Voxels along z from which no resolution level of a prior is two deep."""


Width = Annotated[int, Field(ge=1, le=4096)]


class PriorConfig(MethodParams):
    """Architecture of a prior; stored with its weights. A kind of prior adds its own fields and says how it is built."""

    kind: str
    dim: Literal[2, 3] = Field(3, description="2: slice by slice, 3: volumes.")
    neighbours: int = Field(
        0, ge=0, le=8, description="2-D only: slices on either side that are seen too (2.5-D); 0: a slice alone."
    )
    complex_valued: bool = Field(False, description="Real and imaginary part as two channels.")

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
    def seen(self) -> int:
        """Channels that the network is given: those of a voxel, and of the neighbouring slices in 2.5-D."""
        return self.parts * (1 + 2 * self.neighbours)

    @property
    def copies(self) -> int:
        """How often a voxel is seen at most: by its own slice and by those whose neighbour it is; end slices count repeated."""
        n = self.neighbours
        return max(1 + 2 * n, (n + 1) * (n + 2) // 2)

    @property
    def title(self) -> str:
        """In words."""
        dimension = f"{self.dim}-D" if not self.neighbours else f"2.5-D ({1 + 2 * self.neighbours} slices)"
        return f"{self.name} {dimension} {self.size}"

    @property
    @abstractmethod
    def name(self) -> str:
        """What people call this kind."""

    @property
    @abstractmethod
    def size(self) -> str:
        """Its width and depth, in words."""

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Voxels along every transformed axis must be a multiple of this; patches are padded to it inside."""

    @property
    @abstractmethod
    def reach(self) -> int:
        """Voxels to either side along an axis on which what it makes of a voxel depends."""

    @property
    @abstractmethod
    def channel_pairs(self) -> int:
        """Input times output channels of its heaviest convolution in full resolution."""

    @property
    def multiplications(self) -> int:
        """Per voxel, of its heaviest layer."""
        return int(3**self.dim * self.channel_pairs)

    @property
    def is_conditioned(self) -> bool:
        """Whether the network is told the noise level σ as one more channel."""
        return False

    @property
    def can_be_normalised(self) -> bool:
        """Whether its convolutions can be normalised, so that the network has a Lipschitz constant of at most one."""
        return False

    @abstractmethod
    def build(self, is_normalised: bool = False) -> torch.nn.Module:
        """The network: ``seen`` channels (and σ) to ``parts`` channels, of which it is the update x ↦ x + update.

        ``is_normalised`` is asked for only where it ``can_be_normalised``.
        """

    @abstractmethod
    def activation_bytes(self, shape: tuple[int, int, int]) -> int:
        """Peak bytes of one pass without gradients over a patch (z, y, x), float32."""


class Prior(torch.nn.Module):
    """x ↦ x + network(x), or x + network([x, σ]) where the kind is conditioned on the noise level σ.

    x is (batch, 1, z, y, x), real or complex; any size, padded by replication to what the network divides it by. With a
    penalty it is L (x + network(x)); of normalised layers L ((1 − s) x + s network(x)) with a learned share s, which no input
    takes further apart than L times.
    """

    def __init__(self, config: PriorConfig, lipschitz: LipschitzConfig = FREE) -> None:
        super().__init__()
        self.config, self.lipschitz = config, lipschitz
        is_normalised = lipschitz.kind == "layers"
        # oneDNN's own format: a DRUNet over 64³ takes 0.64 instead of 0.74 processor seconds.
        self._layout = torch.channels_last_3d if config.dim == 3 else torch.channels_last
        self.backbone = config.build(is_normalised).to(memory_format=self._layout)
        start = math.log(SHARE / (1 - SHARE))
        self.share = torch.nn.Parameter(torch.tensor(start)) if is_normalised else None

    def forward(self, x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        """The cleaned volume; ``sigma`` is one number, or one per volume (batch, 1, 1, 1, 1)."""
        channels = torch.cat((x.real, x.imag), 1) if self.config.complex_valued else x
        level = torch.ones_like(channels[:, :1]) * sigma
        if self.config.dim == 2:
            update = _unfolded(self._update(self._slices(channels), _folded(level)), x.shape)
        else:
            update = self._update(channels, level)
        update = update.to(channels.dtype)
        return self._joined(x, torch.complex(update[:, :1], update[:, 1:]) if self.config.complex_valued else update)

    def _joined(self, x: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
        """What the network adds to, or mixes into, its input."""
        if self.share is not None:
            share = self.share.sigmoid()
            return self.lipschitz.bound * ((1 - share) * x + share * update / self.config.copies**0.5)
        return x + update if self.lipschitz.kind == "free" else self.lipschitz.bound * (x + update)

    def _slices(self, channels: torch.Tensor) -> torch.Tensor:
        return _folded(_with_neighbours(channels, self.config.neighbours))

    def _update(self, channels: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        given = torch.cat((channels, level), 1) if self.config.is_conditioned else channels
        size = channels.shape[2:]
        wanted = [-(-n // self.config.multiple) * self.config.multiple for n in size]
        if self.config.dim == 3:
            wanted[0] = max(wanted[0], _least_depth(channels))
        pad = [p for n, m in zip(reversed(size), reversed(wanted), strict=True) for p in (0, m - n)]
        padded = torch.nn.functional.pad(given, pad, mode="replicate").contiguous(memory_format=self._layout)
        with one_volume(padded):
            return self.backbone(padded)[(..., *(slice(0, n) for n in size))]


def _folded(volume: torch.Tensor) -> torch.Tensor:
    """Slices (batch·z, channel, y, x) of volumes (batch, channel, z, y, x)."""
    return volume.transpose(1, 2).flatten(0, 1)


def _unfolded(slices: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Volumes (batch, channel, z, y, x) of their slices."""
    return slices.unflatten(0, (shape[0], shape[2])).transpose(1, 2)


def _least_depth(x: torch.Tensor) -> int:
    """How many voxels deep volumes must be for torch's 3-D convolutions to be right.

    oneDNN's in bfloat16 read memory that nobody wrote: of one channel where the input is one voxel deep, and for the gradient
    of the weights where it is two (torch 2.14 and 2.15, Zen 5).
    """
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return 1
    return DEPTH if torch.is_grad_enabled() else 2


def _with_neighbours(channels: torch.Tensor, n: int) -> torch.Tensor:
    """Channels (batch, channel, z, y, x), then those of the slices at z − 1, z + 1, z − 2, … z + n; the ends repeat."""
    last = channels.shape[2] - 1
    z = torch.arange(last + 1, device=channels.device)
    shifts = [0, *(sign * i for i in range(1, n + 1) for sign in (-1, 1))]
    return torch.cat([channels[:, :, (z + shift).clamp(0, last)] for shift in shifts], 1)

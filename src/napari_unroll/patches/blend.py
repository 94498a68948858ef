"""Putting overlapping patches together: a weighted mean with smooth windows, a partition of unity by division.

The outermost voxels of a patch, its halo, may count only where no other patch has arrived: where the halo is as wide as a
network's receptive field to one side, the blended volume is that of the network on the whole, whatever the patches are.
"""

from __future__ import annotations

import torch

from napari_unroll.events import Box

Shape = tuple[int, int, int]
FAINT = 1e-6
"""Weight of a halo along an axis, as good as nothing beside that of another patch."""


def window(patch: Shape, overlap: Shape, halo: int = 0, device: torch.device | str = "cpu") -> torch.Tensor:
    """Positive weights (z, y, x): one inside, falling linearly to the faces over ``overlap`` voxels, the outer ``halo`` faint."""
    z, y, x = (_ramp(p, o, halo).to(device) for p, o in zip(patch, overlap, strict=True))
    return z[:, None, None] * y[:, None] * x


def _ramp(p: int, overlap: int, halo: int) -> torch.Tensor:
    shared = max(0, min(overlap, p - 1) - 2 * halo)
    edge = torch.minimum(torch.arange(p) + 1, p - torch.arange(p)).to(torch.float32) - halo
    return (edge / (shared + 1)).clamp(min=FAINT, max=1.0)


class Blender:
    """Accumulates patches of one shape into a volume (z, y, x); any order, any number, ready at any time."""

    def __init__(
        self,
        shape: Shape,
        dtype: torch.dtype = torch.float32,
        overlap: int | Shape = 0,
        device: torch.device | str = "cpu",
        halo: int = 0,
    ) -> None:
        self.shape = shape
        self.overlap: Shape = (overlap, overlap, overlap) if isinstance(overlap, int) else overlap
        self.halo = halo
        self._sum = torch.zeros(shape, dtype=dtype, device=device)
        self._weight = torch.zeros(shape, dtype=torch.float32, device=device)
        self._windows: dict[Shape, torch.Tensor] = {}

    def add(self, box: Box, values: torch.Tensor) -> None:
        """Blend ``values`` (…, z, y, x) with leading axes of one into ``box``."""
        patch: Shape = tuple(s.stop - s.start for s in box)
        if patch not in self._windows:
            self._windows[patch] = window(patch, self.overlap, self.halo, self._sum.device)
        w = self._windows[patch]
        self._sum[box] += w * values.detach().reshape(patch).to(self._sum)
        self._weight[box] += w

    def values(self, box: Box | None = None) -> torch.Tensor:
        """The weighted mean (z, y, x) so far, inside ``box`` or everywhere; zero where nothing has arrived."""
        where = box if box is not None else (slice(None),) * 3
        weight = self._weight[where]
        return self._sum[where] / torch.where(weight > 0, weight, torch.ones_like(weight))

    @property
    def covered(self) -> torch.Tensor:
        """Where at least one patch has arrived (z, y, x), bool."""
        return self._weight > 0

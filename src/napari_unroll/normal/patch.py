"""A sum of weighted convolutions on a batch of patches: P Ñ Pᵀ, exact.

Works on tensors alone; must not know how kernels were fitted, nor physics, scans or viewers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from napari_unroll.events import Box
from napari_unroll.physics.convolution import Convolution, Pairs, Shape


def box_shape(box: Box | Sequence[Box]) -> Shape:
    """Voxels (z, y, x) of a box, or of the first of several."""
    first: Box = box if isinstance(box[0], slice) else box[0]  # type: ignore[assignment]
    return tuple(s.stop - s.start for s in first)


@dataclass(frozen=True)
class PatchNormal:
    """P Ñ Pᵀ for a batch of equally shaped patches, exact and differentiable; cost O(p log p) per patch.

    ``left`` and ``right`` are the weights cropped per box, (box, k, z, y, x), or None for one; ``pairs`` as in
    :class:`~napari_unroll.normal.factors.NormalFactors`.
    """

    convolution: Convolution
    left: torch.Tensor | None
    right: torch.Tensor | None
    pairs: Pairs | None = None

    def apply(self, u: torch.Tensor) -> torch.Tensor:
        """P Ñ Pᵀ u for u (box, 1, z, y, x); computed in the factors' precision, returned in that of ``u``."""
        if self.convolution.real and u.is_complex():
            return torch.complex(self.apply(u.real), self.apply(u.imag))
        v = u.to(self.convolution.dtype)
        v = v if self.right is None else self.right * v
        v = self.convolution(v, self.pairs, 1 if self.left is None else self.left.shape[1])
        v = v if self.left is None else self.left.conj() * v
        v = v.sum(1, keepdim=True)
        return v.to(u.dtype) if u.is_complex() == v.is_complex() else v

    __call__ = apply

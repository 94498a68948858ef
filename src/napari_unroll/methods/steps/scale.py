"""The intensity scale that makes volumes dimensionless for a network, the same in training and reconstruction."""

from __future__ import annotations

import torch


def intensity_scale(start: torch.Tensor) -> float:
    """99th percentile of |start| (…, z, y, x) after 4-voxel averaging, so that streaks and noise do not set it; 1 if zero."""
    size = [min(4, n) for n in start.shape[-3:]]
    volume = start.detach().reshape(1, 1, *start.shape[-3:])
    if volume.is_complex():
        volume = torch.view_as_real(volume)[0].movedim(-1, 0)
    pooled = torch.nn.functional.avg_pool3d(volume.float(), size)
    magnitude = torch.linalg.vector_norm(pooled, dim=0).flatten()
    top = magnitude.kthvalue(max(1, int(0.99 * magnitude.numel()))).values
    return float(top) or 1.0

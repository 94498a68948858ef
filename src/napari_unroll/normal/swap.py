"""What happens where Ñ takes the place of N in one patch, as it does in every patch of a patchwise method.

Around a patch P nothing changes: N x = N (x − PᵀP x) + N PᵀP x, and only P N Pᵀ in the last term gives way to P Ñ Pᵀ. Plain
arrays out; knows no viewers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.events import Box
from napari_unroll.interrupt import stage
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.inspect import Comparison
from napari_unroll.normal.probes import CountedNormal
from napari_unroll.physics.volume_physics import VolumePhysics


@dataclass(frozen=True)
class Swap:
    """N x with the patch ``box`` swapped, (z, y, x), for each of several Ñ, and the relative errors inside ``region``."""

    box: Box
    region: Box
    volumes: tuple[np.ndarray, ...]
    errors: tuple[float, ...]


def patch_around(region: Box, edge: int, shape: Sequence[int]) -> Box:
    """A patch of ``edge`` voxels about the middle of a region, moved or cut to lie within a volume of ``shape``."""

    def side(r: slice, n: int) -> slice:
        start = max(0, min((r.start + r.stop - edge) // 2, n - edge))
        return slice(start, min(start + edge, n))

    z, y, x = (side(r, n) for r, n in zip(region, shape, strict=True))
    return (z, y, x)


def swap(
    physics: VolumePhysics, candidates: Sequence[NormalFactors], found: Comparison, region: Box, edge: int
) -> Swap:
    """Swap N for every candidate in a patch of ``edge`` voxels about ``region``; ``found`` holds x and N x.

    The errors are ‖swapped − N x‖ / ‖N x‖ in the region. Raises ParameterError for one outside the volume.
    """
    normal = CountedNormal(physics)
    box = patch_around(region, edge, normal.shape)
    seen = _inside(region, normal.shape)
    x = torch.as_tensor(found.x).to(normal.device, normal.dtype)[None, None]
    patch = x[(..., *box)]
    alone = normal.zeros()
    alone[(..., *box)] = patch
    volumes, errors = [], []
    with stage(len(candidates)) as done:
        exact = normal(alone)[(..., *box)]
        for k, factors in enumerate(candidates):
            done(k)
            change = (factors.restrict(box).apply(patch) - exact)[0, 0].cpu().numpy()
            swapped = found.exact.copy()
            swapped[box] += change
            size = float(np.linalg.norm(found.exact[seen]))
            errors.append(float(np.linalg.norm((swapped - found.exact)[seen])) / max(size, 1e-30))
            volumes.append(swapped)
    return Swap(box, seen, tuple(volumes), tuple(errors))


def _inside(region: Box, shape: Sequence[int]) -> Box:
    z, y, x = (slice(max(r.start, 0), min(r.stop, n)) for r, n in zip(region, shape, strict=True))
    if any(side.stop <= side.start for side in (z, y, x)):
        raise ParameterError("The region lies outside the volume; draw it inside.")
    return (z, y, x)

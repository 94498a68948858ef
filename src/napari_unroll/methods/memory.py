"""What a run holds at its peak, counted in volumes and measurements.

The counts are of arrays that exist at once, double-precision ones twice; ``benchmarks/memory.py`` holds them to measured peaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Sizes:
    """Bytes of one volume and of the measurements, in the scan's own number type; the volume and a patch in voxels (z, y, x).

    ``volume`` is 0 where whole volumes lie on disk; ``in_patches`` is what one takes that is held cut into patches, which never
    do. ``n_patches`` go through a network at once, whose numbers have ``itemsize`` bytes. ``operator``: what one application
    of A takes and gives back, such as the images of all coils. ``residual``: what ``Problem.residual_at`` keeps of
    measurements, None where it keeps all.
    """

    volume: int
    measurements: int
    shape: Shape
    patch: Shape
    n_patches: int = 1
    operator: int = 0
    residual: int | None = None
    in_patches: int = 0
    itemsize: int = 4


IN_ONE_PIECE = 4
"""Volumes that a network takes which is given one whole: copies of its input, and its answer. Those of patches are small."""
Memory = Callable[[Sizes, Any], int]
"""(sizes, params) → bytes beyond the scan, the result and a device's copies."""


def holding(volumes: float, measurements: float = 0.0, residuals: float = 0.0) -> Memory:
    """So many volumes, sets of measurements and residuals beside an application of the operator, whatever the params."""

    def count(sizes: Sizes, params: Any) -> int:
        residual = sizes.measurements if sizes.residual is None else sizes.residual
        return held_bytes(sizes, volumes, measurements) + round(residuals * residual) + sizes.operator

    return count


def with_network(
    sizes: Sizes, activations: int, volumes: float, measurements: float = 0.0, transforms: float = 0.0
) -> int:
    """Bytes of a run that applies in turn the operator, a network with ``activations`` bytes per patch in float32, and transforms.

    The latter take as many ``transforms`` of volumes beside those that are held all the time, ``volumes`` where the network is
    given whole ones.
    """
    if sizes.patch != sizes.shape:
        volumes -= IN_ONE_PIECE
    network = sizes.n_patches * activations * sizes.itemsize // 4
    in_turn = max(sizes.operator, network, round(transforms * sizes.volume))
    return held_bytes(sizes, volumes, measurements) + in_turn


def held_bytes(sizes: Sizes, volumes: float, measurements: float) -> int:
    """Of so many volumes and sets of measurements."""
    return round(volumes * sizes.volume + measurements * sizes.measurements)


A_HANDFUL = holding(volumes=8, measurements=2)
"""What is assumed of a method that does not say."""

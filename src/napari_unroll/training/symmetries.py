"""Symmetries of the voxel cube that a normal operator has: what a training sample may be turned into without a projector.

If G N = N G for a flip or turn G, then (G x*, G x_0, G r*, G r_0) is a sample of the same scanner whenever
(x*, x_0, r*, r_0) is one: Aᴴ(y − A x) of the turned object is the turned residual image. Works on arrays and a physics;
knows no files and no networks.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch

from napari_unroll.physics.volume_physics import VolumePhysics

TOLERANCE = 1e-3
"""Largest ‖N G w − G N w‖ / ‖N w‖ for which N counts as symmetric under G."""


class Symmetry(NamedTuple):
    """Transpose to ``axes``, then flip: an element of the symmetry group of the cube (z, y, x)."""

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, volume: np.ndarray) -> np.ndarray:
        """A view of ``volume`` (z, y, x), turned."""
        turned = volume.transpose(self.axes)
        return turned[tuple(slice(None, None, -1 if flip else None) for flip in self.flips)]

    def after(self, first: Symmetry) -> Symmetry:
        """The symmetry that applies ``first``, then this one."""
        axes = tuple(first.axes[a] for a in self.axes)
        flips = tuple(first.flips[a] != flip for a, flip in zip(self.axes, self.flips, strict=True))
        return Symmetry(axes, flips)  # type: ignore[arg-type]


IDENTITY = Symmetry()
CUBE = tuple(
    Symmetry(axes, flips)  # type: ignore[arg-type]
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
)


def find_symmetries(physics: VolumePhysics, tolerance: float = TOLERANCE, seed: int = 0) -> tuple[Symmetry, ...]:
    """All symmetries that keep the volume's shape and commute with AᴴA on one Gaussian vector; the identity is first.

    They form a group, so what follows from elements already known is not measured again.
    """
    shape = tuple(physics.x_shape[-3:])
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(shape, generator=generator, dtype=physics.dtype).numpy()
    image = _normal(physics, w)
    group, outside = {IDENTITY}, set[Symmetry]()
    for candidate in CUBE:
        if candidate in group or candidate in outside or tuple(shape[a] for a in candidate.axes) != shape:
            continue
        difference = _normal(physics, candidate.apply(w)) - candidate.apply(image)
        if np.linalg.norm(difference) <= tolerance * np.linalg.norm(image):
            group = _closure(group | {candidate})
        else:
            outside |= {candidate.after(known) for known in group}
    return tuple(s for s in CUBE if s in group)


def _closure(elements: set[Symmetry]) -> set[Symmetry]:
    while True:
        products = {a.after(b) for a in elements for b in elements}
        if products <= elements:
            return elements
        elements |= products


@torch.no_grad()
def _normal(physics: VolumePhysics, volume: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(volume.copy())[None, None].to(physics.device)
    return np.asarray(physics.normal(x)[0, 0].cpu().numpy())

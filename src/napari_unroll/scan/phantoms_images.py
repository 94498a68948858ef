"""Seeded images with the statistics of photographs: occluding objects of all sizes, sharp edges, shading and grain.

The dead leaves model: Lee, Mumford, Huang, "Occlusion models for natural images" (2001), doi:10.1023/A:1011109015675.
Functions of continuous coordinates and the seed, so the same seed is the same image at every resolution, and a slice
through a volume is an image too. Values lie between 0 and 1. Knows nothing of cameras.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_unroll.scan.random_fields import Array, Space, in_slabs

N_LEAVES = 4000
RADII = (0.05, 0.8)
"""Smallest and largest; their density falls with the cube, so that the image looks alike at every scale."""
GRAINS = (0.0, 0.02, 0.06)
"""How strong the grain of a leaf is."""


@in_slabs
def leaves(space: Space) -> Array:
    """A still life (z, y, x), float32: ellipsoids that hide one another, each with its own grey, shading and grain."""
    drawn = space.once(_draw)
    grain = space.fractal(16, 3, 0.8)
    image = np.asarray(0.45 + 0.12 * space.fractal(2, 3), np.float32)
    for leaf in drawn:
        _paint(space, image, grain, leaf)
    return np.clip(image, 0, 1)


@dataclass(frozen=True)
class _Leaf:
    """One ellipsoid: where it is, how it lies (rows are its axes over their half lengths), and how it looks."""

    radius: float
    centre: Array
    axes: Array
    value: float
    shade: Array
    grain: float


def _draw(rng: np.random.Generator) -> list[_Leaf]:
    """The leaves from the hindmost to the foremost."""
    n, (largest, smallest) = N_LEAVES, (r**-2.0 for r in reversed(RADII))
    radius = rng.uniform(largest, smallest, n) ** -0.5
    turns, _ = np.linalg.qr(rng.standard_normal((n, 3, 3)))
    axes = turns / (radius[:, None] * rng.uniform(0.45, 1.0, (n, 3)))[..., None]
    shade = rng.uniform(-0.18, 0.18, (n, 3)) / radius[:, None]
    centre, value, grain = rng.uniform(-1.1, 1.1, (n, 3)), rng.uniform(0.05, 0.95, n), rng.choice(GRAINS, n)
    parts = (a.astype(np.float32) for a in (radius, centre, axes, value, shade, grain))
    return [_Leaf(*each) for each in zip(*parts, strict=True)]


def _paint(space: Space, image: Array, grain: Array, leaf: _Leaf) -> None:
    box = space.window(leaf.centre, leaf.radius)
    is_far = np.abs(space.axes[0] - leaf.centre[0]).min() > leaf.radius + space.voxel
    if is_far or any(b.stop <= b.start for b in box):
        return
    z, y, x = space.offsets(box, leaf.centre)
    lengths = sum((a[0] * z + a[1] * y + a[2] * x) ** 2 for a in leaf.axes)
    cover = space.soft((1 - np.sqrt(lengths)) * leaf.radius)
    look = leaf.value + leaf.shade[0] * z + leaf.shade[1] * y + leaf.shade[2] * x + leaf.grain * grain[box]
    image[box] += cover * (look - image[box])

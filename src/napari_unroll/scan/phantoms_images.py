"""Seeded images with the statistics of photographs: occluding objects of all sizes, sharp edges, shading and grain.

The dead leaves model: Lee, Mumford, Huang, "Occlusion models for natural images" (2001), doi:10.1023/A:1011109015675.
Functions of continuous coordinates and the seed, so the same seed is the same image at every resolution, and a slice
through a volume is an image too. Values lie between 0 and 1. Knows nothing of cameras.
"""

from __future__ import annotations

import numpy as np

from napari_unroll.scan.random_fields import Array, Space, in_slabs, rotation

N_LEAVES = 2500
RADII = (0.03, 0.7)
"""Smallest and largest; their density falls with the cube, so that the image looks alike at every scale."""


@in_slabs
def leaves(space: Space) -> Array:
    """A still life (z, y, x), float32: ellipsoids that hide one another, each with its own grey, shading and grain."""
    drawn = space.once(_draw)
    grain = space.fractal(16, 3, 0.8)
    image = np.asarray(0.45 + 0.12 * space.fractal(2, 3), np.float32)
    for leaf in drawn:
        _paint(space, image, grain, leaf)
    return np.clip(image, 0, 1)


class _Leaf:
    """One ellipsoid: where it is, how it lies, and how it looks."""

    def __init__(self, rng: np.random.Generator) -> None:
        low, high = (r**-2.0 for r in RADII)
        self.radius = float(rng.uniform(high, low) ** -0.5)
        self.centre = rng.uniform(-1.1, 1.1, 3).astype(np.float32)
        self.axes = rotation(rng) / rng.uniform(0.45, 1.0, 3)[:, None].astype(np.float32) / self.radius
        self.value = float(rng.uniform(0.05, 0.95))
        self.shade = (rng.uniform(-0.18, 0.18, 3) / self.radius).astype(np.float32)
        self.grain = float(rng.choice([0.0, 0.02, 0.06]))


def _draw(rng: np.random.Generator) -> list[_Leaf]:
    """The leaves from the hindmost to the foremost."""
    return [_Leaf(rng) for _ in range(N_LEAVES)]


def _paint(space: Space, image: Array, grain: Array, leaf: _Leaf) -> None:
    box = space.window(leaf.centre, leaf.radius)
    if any(b.stop <= b.start for b in box):
        return
    z, y, x = space.offsets(box, leaf.centre)
    turned = [a[0] * z + a[1] * y + a[2] * x for a in leaf.axes]
    depth = (1 - np.sqrt(sum(t * t for t in turned))) * leaf.radius
    cover = space.soft(depth)
    look = leaf.value + leaf.shade[0] * z + leaf.shade[1] * y + leaf.shade[2] * x + leaf.grain * grain[box]
    image[box] += cover * (look - image[box])

"""Seeded objects and coils for magnetic resonance: a brain-like complex image and smooth coil sensitivity maps.

Functions of continuous coordinates and the seed, so the same seed is the same head at every resolution. T1-like
contrast, largest magnitude near 1. Knows nothing of k-space.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_unroll.interrupt import check
from napari_unroll.scan.preprocess_mri import unit_norm
from napari_unroll.scan.random_fields import Array, Space, in_slabs


@in_slabs
def brain(space: Space) -> Array:
    """A head (z, y, x), complex64: scalp, skull, fluid, folded grey and white matter, ventricles, smooth phase."""
    z, y, x = space.warped(0.03, 3)
    axes = space.rng.uniform([0.88, 0.9, 0.74], [0.96, 0.98, 0.84])
    head = (1 - np.sqrt((z / axes[0]) ** 2 + (y / axes[1]) ** 2 + (x / axes[2]) ** 2)) * 0.85
    depth = head - 0.14 - 0.012 * space.noise(5)
    magnitude = _layered(space, [(head, _scalp(space)), (head - 0.055, _skull(space, head)), (depth, 0.2)])
    magnitude = _paint(space, magnitude, *_brain_tissue(space, depth, z, y, x))
    for level, value in _inner_parts(space, z, y, x):
        magnitude = _paint(space, magnitude, level, value)
    magnitude = np.maximum(magnitude, 0) * space.field_of_view()
    return (magnitude * np.exp(1j * _phase(space))).astype(np.complex64)


def _paint(space: Space, below: Array, level: Array, value: Array | float) -> Array:
    weight = space.soft(level)
    return np.asarray(below * (1 - weight) + weight * value)


def _layered(space: Space, layers: list[tuple[Array, Array | float]]) -> Array:
    """Paint (level, value) layers over nothing, the later ones on top."""
    image = np.zeros(space.shape, np.float32)
    for level, value in layers:
        image = _paint(space, image, level, value)
    return image


def _scalp(space: Space) -> Array:
    return np.asarray(0.75 + 0.10 * space.fractal(10, 3, 0.8))


def _skull(space: Space, head: Array) -> Array:
    """Dark compact bone with a layer of brighter marrow in its middle."""
    marrow = np.exp(-(((head - 0.095) / 0.014) ** 2))
    return np.asarray(0.06 + (0.28 + 0.08 * space.noise(12)) * marrow)


def _brain_tissue(space: Space, depth: Array, z: Array, y: Array, x: Array) -> tuple[Array, Array]:
    """Depth below the pial surface with its sulci, and the value of the tissue there."""
    coarse, fine = space.fractal(10, 2, 0.3), space.noise(18)
    cerebellum = space.soft(np.minimum(-0.42 - z, y - 0.05) + 0.03 * space.noise(4), 0.05)
    sulcus = np.abs(coarse) / 8 * (1 - cerebellum) + np.abs(fine) / 16 * cerebellum
    reach = 0.26 + 0.08 * space.noise(3)
    folded = np.maximum(sulcus - 0.008, 0.5 * (depth - reach))
    fissure = np.maximum(np.abs(x) - 0.012, 0.5 * (0.34 - np.sqrt((z + 0.02) ** 2 + (0.8 * y) ** 2)))
    surface = np.minimum(depth - 0.012, np.minimum(folded, np.where(z > -0.45, fissure, 1.0)))
    ribbon = 0.045 - 0.02 * cerebellum + 0.006 * space.noise(6)
    white = space.soft(surface - ribbon, 0.02)
    grey = 0.50 + 0.03 * space.fractal(12, 3, 0.9)
    bulk = 0.78 + 0.025 * space.fractal(8, 4, 0.95) + 0.04 * space.noise(2)
    return surface, grey * (1 - white) + white * bulk


def _inner_parts(space: Space, z: Array, y: Array, x: Array) -> list[tuple[Array, Array | float]]:
    """Deep grey nuclei, ventricles, vessels as (level, value)."""
    wide = space.rng.uniform(0.7, 1.5)
    side = np.abs(x)
    nuclei = 0.11 - np.sqrt((0.9 * (z + 0.06)) ** 2 + (0.6 * (y + 0.02)) ** 2 + (side - 0.2) ** 2)
    bend = side - 0.06 - 0.25 * (y + 0.05) ** 2
    ventricle = 0.05 * wide - np.sqrt((0.7 * (z - 0.06 + 0.5 * y**2)) ** 2 + (0.16 * y) ** 2 + bend**2)
    third = 0.025 * wide - np.sqrt((0.2 * (z + 0.14)) ** 2 + (0.2 * y) ** 2 + x**2)
    inside = 0.62 - np.sqrt(z**2 + y**2 + x**2)
    vessels = np.minimum(0.011 - 0.1 * np.hypot(space.noise(7), space.noise(7)), inside)
    grain = 0.02 * space.fractal(14, 3)
    return [(nuclei, 0.60 + grain), (ventricle, 0.17 + 0.3 * grain), (third, 0.17), (vessels, 0.95)]


def _phase(space: Space) -> Array:
    """A smooth phase of about ±π / 2, with a linear part as from a shifted echo."""
    slope = space.rng.uniform(-0.8, 0.8, 3)
    return np.asarray(slope[0] * space.z + slope[1] * space.y + slope[2] * space.x + 0.5 * space.noise(2))


def coil_maps(shape: Sequence[int], n_coils: int = 8, seed: int = 0) -> Array:
    """Sensitivity maps (coil, z, y, x), complex64, smooth, with Σ|S|² = 1 in every voxel.

    Loops on a cylinder about z, jittered by the seed; the field of a loop of radius a on its axis, a³/(a² + r²)^{3/2},
    with a phase that turns around the loop's centre.
    """

    def make(space: Space) -> Array:
        n_rings = 1 if n_coils < 6 or space.whole[0] < 2 else 2
        return unit_norm(np.stack([_loop(space, k, n_coils, n_rings) for k in range(n_coils)]))

    return in_slabs(make)(shape, seed)


def _loop(space: Space, k: int, n_coils: int, n_rings: int) -> Array:
    check()
    rng = space.rng
    ring = k % n_rings
    angle = 2 * np.pi * (k // n_rings + 0.5 * ring + rng.uniform(-0.1, 0.1)) / max(n_coils // n_rings, 1)
    radius, size = rng.uniform(1.15, 1.35), rng.uniform(0.7, 0.9)
    height = (ring - 0.5 * (n_rings - 1)) * 0.9 + rng.uniform(-0.1, 0.1)
    along = np.cos(angle) * space.y + np.sin(angle) * space.x
    across = np.cos(angle) * space.x - np.sin(angle) * space.y
    away = (radius - along) ** 2 + across**2 + (space.z - height) ** 2
    field = size**3 / (size**2 + away) ** 1.5
    turn = 0.9 * np.arctan2(across, radius + 0.4 - along) + 0.25 * (space.z - height) + angle + rng.uniform(-0.3, 0.3)
    return np.asarray(field * np.exp(1j * turn), np.complex64)

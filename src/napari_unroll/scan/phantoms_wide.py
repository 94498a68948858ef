"""More seeded random objects for X-ray scans, for trainings that draw widely: grains, layers, cut plates, bodies, clouds.

As those of ``phantoms_ct``, but for cut plates, which are the only ones that are piecewise constant, as machined parts are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial import cKDTree

from napari_unroll.scan.phantoms_ct import FAMILIES, as_imaged, cut_out, finished, outline
from napari_unroll.scan.random_fields import Array, Space, in_slabs, rotation


@in_slabs
def grains(space: Space) -> Array:
    """A packing (z, y, x) of rough grains, each of its own attenuation, with pores between them: sand, soil, a sintered part."""
    n = int(space.rng.integers(60, 1500))
    centres = space.once(lambda rng: rng.uniform(-1, 1, (n, 3)).astype(np.float32))
    values = space.once(lambda rng: np.clip(rng.normal(0.65, rng.uniform(0.02, 0.25), n), 0.1, 1.1).astype(np.float32))
    gap, filling = space.rng.uniform(0.0, 0.3), space.rng.choice([0.0, space.rng.uniform(0, 0.4)])
    places = np.stack(np.broadcast_arrays(*space.warped(0.01, 9)), -1)
    distance, nearest = cKDTree(centres).query(places.reshape(-1, 3), k=2)
    between = (distance[:, 1] - distance[:, 0]).reshape(space.shape).astype(np.float32)
    size = np.float32((8 / n) ** (1 / 3))
    own = values[nearest[:, 0]].reshape(space.shape) * (1 + 0.06 * space.fractal(10, 4, 0.9))
    solid = space.soft(between - gap * size + 0.02 * size * space.noise(24))
    body = space.soft(outline(space) + 0.015 * space.fractal(6, 3))
    return finished(space, body * (solid * own + (1 - solid) * filling))


@in_slabs
def layers(space: Space) -> Array:
    """Wavy layers (z, y, x) of different attenuation and texture, some torn, with inclusions: rock, wood, a laminate, a battery."""
    normal, n = rotation(space.rng)[0], int(space.rng.integers(4, 40))
    values = space.once(lambda rng: rng.uniform(0.05, 1.0, n).astype(np.float32))
    edges = space.once(lambda rng: np.sort(rng.uniform(-1.5, 1.5, n - 1)).astype(np.float32))
    wave = space.rng.uniform(0, 0.12) * space.noise(3) + space.rng.uniform(0, 0.02) * space.noise(12)
    bent = space.rng.choice([0.0, 1.0])
    round_axis = np.sqrt(space.y**2 + space.x**2) * 2 - 1
    height = wave + bent * round_axis + (1 - bent) * (normal[0] * space.z + normal[1] * space.y + normal[2] * space.x)
    volume = np.full(space.shape, values[0], np.float32)
    for edge, step in zip(edges, np.diff(values), strict=True):
        volume += step * space.soft(height - edge)
    torn = space.soft(space.noise(5) - space.rng.uniform(1.2, 2.5), 0.2)
    specks = space.soft(space.noise(28) - space.rng.uniform(1.8, 3.0), 0.5)
    volume = volume * (1 + space.rng.uniform(0, 0.12) * space.fractal(10, 4, 0.9)) * (1 - torn)
    return finished(space, space.soft(outline(space)) * np.maximum(volume, specks))


@in_slabs
def plates(space: Space) -> Array:
    """Machined parts (z, y, x): a cylinder or block of one material with holes, slots and inserts that go through it."""
    volume = space.soft(space.rng.uniform(0.6, 0.9) - np.hypot(space.y, space.x) + 0 * space.z)
    if space.rng.random() < 0.3:
        volume = space.soft(outline(space))
    for _ in range(int(space.rng.integers(3, 25))):
        volume = _worked(space, volume)
    return finished(space, volume * space.rng.uniform(0.5, 1.0))


def _worked(space: Space, volume: Array) -> Array:
    """``volume`` with one more hole (or another material) in the shape of a bar, a disc or a ring."""
    rng = space.rng
    turn, (v, u) = rng.uniform(0, np.pi), rng.uniform(-0.7, 0.7, 2)
    long, wide, level = rng.uniform(0.05, 0.35), rng.uniform(0.02, 0.15), rng.choice([0.0, 0.0, rng.uniform(0.3, 1.5)])
    b = np.cos(turn) * (space.y - v) - np.sin(turn) * (space.x - u) + rng.uniform(-0.3, 0.3) * space.z
    a = np.sin(turn) * (space.y - v) + np.cos(turn) * (space.x - u)
    radius = np.hypot(a, b)
    shapes = (np.minimum(long - np.abs(a), wide - np.abs(b)), wide - radius, 0.5 * wide - np.abs(radius - long))
    inside = space.soft(shapes[int(rng.integers(3))])
    return volume * (1 - inside) + level * inside * (volume > 0)


@in_slabs
def body(space: Space) -> Array:
    """A section of a body (z, y, x): skin, fat, muscle, organs, airways with vessels, bones with marrow."""
    z, y, x = space.warped(0.03, 4)
    flat = space.rng.uniform(0.6, 0.95)
    depth = 0.9 - np.sqrt((y / flat) ** 2 + x**2) + 0.02 * space.noise(3)
    muscle = depth - space.rng.uniform(0.03, 0.15) - 0.02 * space.noise(5)
    volume = space.soft(depth) * (0.42 + 0.03 * space.fractal(6, 3)) + space.soft(muscle) * 0.08
    for _ in range(int(space.rng.integers(3, 14))):
        inside = space.soft(np.minimum(_blob(space, z, y, x, 0.5), muscle))
        value = 0.45 + 0.12 * space.rng.random() + 0.03 * space.fractal(12, 3, 0.8)
        volume = volume * (1 - inside) + inside * value
    for _ in range(int(space.rng.integers(0, 3))):
        lung = space.soft(np.minimum(_blob(space, z, y, x, 0.75), muscle - 0.05))
        vessels = space.soft(0.12 - np.abs(space.fractal(6, 3)), 0.15)
        volume = volume * (1 - lung) + lung * (0.1 + 0.35 * vessels)
    for _ in range(int(space.rng.integers(1, 9))):
        level = np.minimum(_blob(space, z, y, x, 0.3), muscle - 0.02)
        bone, marrow = space.soft(level), space.soft(level - 0.05)
        volume = volume * (1 - bone) + bone * 0.95 - marrow * (0.35 + 0.08 * space.fractal(18, 2))
    return finished(space, volume)


def _blob(space: Space, z: Array, y: Array, x: Array, largest: float) -> Array:
    """Depth below the surface of a deformed ellipsoid of random place and axes, long ones along z."""
    rng = space.rng
    centre, axes = rng.uniform(-0.6, 0.6, 3), largest * rng.uniform(0.15, 0.8, 3) * np.array([2.0, 1.0, 1.0])
    distance = np.sqrt(sum(((c - m) / a) ** 2 for c, m, a in zip((z, y, x), centre, axes, strict=True)))
    return np.asarray((1 - distance) * axes[1:].min() + 0.02 * space.noise(6), np.float32)


@in_slabs
def clouds(space: Space) -> Array:
    """Materials (z, y, x) bounded by level sets of random fields of any roughness, from smooth to fractal: no shape at all."""
    rng, volume = space.rng, np.zeros(space.shape, np.float32)
    for _ in range(int(rng.integers(1, 5))):
        cells, octaves, gain = int(rng.integers(2, 14)), int(rng.integers(1, 5)), rng.uniform(0.3, 1.0)
        inside = space.soft(space.fractal(cells, octaves, gain) - rng.uniform(-0.8, 1.2), rng.uniform(0.02, 1.0))
        value = rng.uniform(0.05, 1.0) * (1 + rng.uniform(0, 0.15) * space.fractal(8, 4, 0.9))
        volume = volume * (1 - inside) + inside * value
    return finished(space, volume * space.soft(outline(space)))


WIDE_FAMILIES: dict[str, Callable[..., Array]] = FAMILIES | {
    "grains": grains,
    "layers": layers,
    "plates": plates,
    "body": body,
    "clouds": clouds,
}


def wide_family_of(seed: int) -> str:
    """The family that ``wide_volume`` draws: any of them alike."""
    return str(np.random.default_rng([seed, 11]).choice(list(WIDE_FAMILIES)))


def wide_volume(shape: Sequence[int], seed: int = 0) -> Array:
    """A volume (z, y, x) of the family ``wide_family_of(seed)``; one in four as imaged, one in five cut out of a larger one."""
    rng, make = np.random.default_rng([seed, 12]), WIDE_FAMILIES[wide_family_of(seed)]
    is_imaged, is_cut = rng.random(2) < (0.25, 0.2)

    def whole(shape: Sequence[int]) -> Array:
        volume = make(shape, seed)
        return as_imaged(volume, seed) if is_imaged else volume

    return cut_out(whole, shape, seed) if is_cut else whole(shape)

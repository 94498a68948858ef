"""Seeded random objects for X-ray scans: attenuation with dense material near 1, air 0.

None is piecewise constant: every material has multi-scale texture and gradients, edges have the width of a
voxel. All lie inside the inscribed cylinder of radius 0.95. The same seed is the same object at every resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import map_coordinates

from napari_unroll.interrupt import check
from napari_unroll.scan.random_fields import Array, Space, in_slabs, rotation
from napari_unroll.scan.smoothing import smoothed


def finished(space: Space, volume: Array) -> Array:
    """Non-negative, inside the field of view, float32."""
    return (np.maximum(volume, 0) * space.field_of_view()).astype(np.float32)


@in_slabs
def walnut(space: Space) -> Array:
    """A walnut (z, y, x): rough porous shell with a seam, air gap, folded kernel in halves, septum and cracks."""
    z, y, x = space.warped(0.03, 3)
    axes = space.rng.uniform([0.9, 0.84, 0.8], [0.98, 0.97, 0.95]).astype(np.float32)
    radius = np.sqrt((z / axes[0]) ** 2 + (y / axes[1]) ** 2 + (x / axes[2]) ** 2)
    seam = np.exp(-((x / 0.06) ** 2))
    shell, inner = _shell(space, radius, seam)
    septum = _septum(space, x, inner)
    kernel, value = _kernel(space, inner, x)
    volume = np.maximum(shell, septum)
    return finished(space, volume * (1 - kernel) + kernel * value)


def _shell(space: Space, radius: Array, seam: Array) -> tuple[Array, Array]:
    """Attenuation of the shell, and the depth below its inner face (positive inside)."""
    outer = 0.92 - radius + 0.02 * space.fractal(8, 3) + 0.03 * seam
    thickness = 0.085 + 0.02 * space.fractal(4, 3) + 0.06 * seam
    inner = outer - np.maximum(thickness, 0.035)
    wall = space.soft(outer) * space.soft(-inner)
    pores = space.soft(space.noise(26) - 2.0, 0.8) * space.soft(outer - 0.02)
    value = 0.86 + 0.09 * space.fractal(10, 4, 0.9) - 0.12 * np.clip(inner + 0.03, -0.05, 0.05) / 0.05
    return wall * value * (1 - 0.8 * pores), inner


def _septum(space: Space, x: Array, inner: Array) -> Array:
    """The membrane between the halves: thin, wavy, torn in places, thicker near the shell."""
    middle = x + 0.035 * space.noise(5)
    thickness = 0.016 + 0.05 * np.exp(-np.maximum(inner, 0) / 0.12)
    torn = space.soft(space.noise(4) + 1.1, 0.5)
    return space.soft(thickness - np.abs(middle)) * torn * space.soft(inner) * (0.55 + 0.08 * space.fractal(12, 3))


def _kernel(space: Space, inner: Array, x: Array) -> tuple[Array, Array]:
    """Indicator of the folded seed and its attenuation: skin, oily bulk with texture, vessels."""
    gap = space.rng.uniform(0.03, 0.09)
    folds = np.abs(space.fractal(5, 3, 0.5))
    cleft = 0.08 * space.rng.uniform(0.6, 1.6) + 0.03 * space.noise(4)
    near_centre = 0.14 * np.exp(-(((inner - 0.62) / 0.16) ** 2))
    halves = np.abs(x + 0.04 * space.noise(4)) - cleft + near_centre
    deep = np.clip(inner, 0, 0.5)
    level = np.minimum(np.minimum(inner - gap - 0.02 * space.noise(9), 0.2 * (folds - 0.45 + 0.8 * deep)), halves)
    crack = 0.12 * (np.abs(space.fractal(3, 3, 0.4)) - 0.05) + 0.4 * space.soft(space.noise(3) - 0.2, 1.0)
    level = np.minimum(level, crack)
    skin = 0.16 * np.exp(-np.maximum(level, 0) / 0.022)
    vessels = 0.10 * space.soft(0.07 - np.abs(space.fractal(9, 2)), 0.15)
    bulk = 0.52 + 0.055 * space.fractal(8, 4, 0.95) + 0.05 * space.noise(2)
    return space.soft(level), bulk + skin - vessels


@in_slabs
def foam(space: Space) -> Array:
    """A foam (z, y, x): polydisperse bubbles in a textured matrix with dense grains and a rough outline."""
    rng = space.rng
    n_bubbles = int(rng.integers(500, 1500))
    largest, smallest = rng.uniform(0.1, 0.3), rng.uniform(0.025, 0.05)
    bubbles = space.once(lambda rng: _packed_spheres(rng, n_bubbles, smallest, largest, rng.uniform(0.0, 0.12)))
    grains = space.once(lambda rng: _packed_spheres(rng, int(rng.integers(20, 120)), 0.02, 0.06, overlap=1.0))
    wall = -_union_of_spheres(space, bubbles, ripple=0.10) + 0.008 * space.fractal(14, 2)
    matrix = 0.68 + 0.10 * space.noise(2) + 0.08 * space.fractal(10, 4, 0.95)
    dense = space.soft(_union_of_spheres(space, grains, ripple=0.25))
    matrix = matrix * (1 - dense) + dense * (1.05 + 0.08 * space.noise(10))
    skin = 0.08 * np.exp(-np.maximum(wall, 0) / 0.03)
    body = space.soft(outline(space) + 0.02 * space.fractal(6, 3))
    return finished(space, body * space.soft(wall) * (matrix + skin))


def _packed_spheres(rng: np.random.Generator, n: int, smallest: float, largest: float, overlap: float) -> Array:
    """Rows (z, y, x, radius) placed at random, largest first, refused where they overlap by more than ``overlap``."""
    u = np.sort(rng.uniform(size=n))
    radii = largest * (smallest / largest) ** (u**0.6)
    placed = np.empty((n, 4))
    count = 0
    for radius in radii:
        check()
        centres = rng.uniform(-0.95, 0.95, size=(24, 3))
        gaps = np.linalg.norm(centres[:, None] - placed[None, :count, :3], axis=2) - placed[None, :count, 3]
        free = np.flatnonzero((gaps > (1 - overlap) * radius).all(axis=1))
        if len(free):
            placed[count] = [*centres[free[0]], radius]
            count += 1
    return placed[:count]


def _union_of_spheres(space: Space, spheres: Array, ripple: float) -> Array:
    """Depth below the surface of slightly deformed spheres (z, y, x, radius); negative outside."""
    level = np.full(space.shape, -0.1, np.float32)
    shape = 1 + ripple * space.noise(7)
    for *centre, radius in spheres:
        box = space.window(np.array(centre), 1.3 * radius)
        z, y, x = space.offsets(box, np.array(centre))
        inside = radius * shape[box] - np.sqrt(z**2 + y**2 + x**2)
        np.maximum(level[box], inside, out=level[box])
    return level


def outline(space: Space) -> Array:
    """Depth below the surface of a random body: a ball, a cylinder or a rounded, tilted block."""
    size = space.rng.uniform(0.78, 0.92)
    kind = space.rng.integers(3)
    tilt = rotation(space.rng)
    if kind == 0:
        return size - np.sqrt(space.z**2 + space.y**2 + space.x**2)
    if kind == 1:
        return np.minimum(size - np.sqrt(space.y**2 + space.x**2), 0.88 - np.abs(space.z))
    u, v, w = (t[0] * space.z + t[1] * space.y + t[2] * space.x for t in tilt)
    return (size**8 - (u**8 + v**8 + (w / 0.8) ** 8) * 4) / (8 * size**7)


@in_slabs
def fibres(space: Space) -> Array:
    """A fibre composite (z, y, x): plies of wavy oriented fibres in a textured binder with voids."""
    n_plies = int(space.rng.integers(2, 6))
    stack = rotation(space.rng)[0] * (1 if space.rng.random() < 0.5 else 0) + np.array([1, 0, 0], np.float32)
    height = (stack[0] * space.z + stack[1] * space.y + stack[2] * space.x) / np.linalg.norm(stack)
    ply = np.clip((height + 0.05 * space.noise(3) + 1) / 2 * n_plies, 0, n_plies - 1e-3).astype(np.int8)
    density = np.zeros(space.shape, np.float32)
    for k in range(n_plies):
        fibre = _bundle(space, turned=space.rng.uniform(0, np.pi), coarse=space.rng.uniform(0.03, 0.075))
        density = np.where(ply == k, fibre, density)
    binder = space.rng.uniform(0.15, 0.45) + 0.03 * space.fractal(8, 4, 0.8)
    voids = space.soft(space.fractal(5, 3) - space.rng.uniform(0.9, 1.8), 0.15)
    body = space.soft(outline(space) + 0.015 * space.fractal(6, 3))
    solid = np.maximum(density * (0.88 + 0.09 * space.fractal(10, 4, 0.8)), binder * (1 - voids))
    return finished(space, body * solid)


def _bundle(space: Space, turned: float, coarse: float) -> Array:
    """Indicator of parallel wavy fibres in the plane of a ply, of radius about ``coarse``."""
    c, s = np.cos(turned), np.sin(turned)
    across = c * space.y - s * space.x + 0.03 * space.noise(3)
    up = space.z + 0.03 * space.noise(3)
    section = space.once(lambda rng: _fibre_section(rng, coarse))
    scale = section.shape[0] / 3.2
    coordinates = np.stack(np.broadcast_arrays((up + 1.6) * scale, (across + 1.6) * scale))
    level = map_coordinates(section, coordinates, order=1, mode="grid-wrap", prefilter=False)
    return space.soft(level)


def _fibre_section(rng: np.random.Generator, coarse: float, n: int = 512) -> Array:
    """Depth below the surface of random, sometimes hollow discs on the square [-1.6, 1.6]²."""
    axis = ((np.arange(n) + 0.5) / n * 3.2 - 1.6).astype(np.float32)
    level = np.full((n, n), -0.1, np.float32)
    hollow = rng.random() < 0.3
    for _ in range(int(6 / coarse**2)):
        check()
        v, u = rng.uniform(-1.55, 1.55, 2)
        radius = coarse * rng.uniform(0.6, 1.15)
        rows, cols = (slice(*np.searchsorted(axis, [q - 1.4 * radius, q + 1.4 * radius])) for q in (v, u))
        distance = np.hypot(axis[rows, None] - v, axis[None, cols] - u)
        ring = np.minimum(radius - distance, distance - 0.45 * radius if hollow else 1.0)
        if level[rows, cols].max() < 0.2 * radius:
            np.maximum(level[rows, cols], ring, out=level[rows, cols])
    return level


@in_slabs
def ellipsoids(space: Space) -> Array:
    """Random ellipsoids (z, y, x) of many sizes, each with its own attenuation, gradient, texture and softness."""
    textures = [space.fractal(5, 5, 0.8), space.fractal(16, 3, 0.8), space.noise(3)]
    volume = np.zeros(space.shape, np.float32)
    for _ in range(int(space.rng.integers(60, 240))):
        _add_ellipsoid(space, volume, textures)
    holes = space.soft(space.fractal(8, 2) - 1.7, 0.2)
    return finished(space, np.minimum(volume, 1.2) * (1 - holes))


def _add_ellipsoid(space: Space, volume: Array, textures: list[Array]) -> None:
    rng = space.rng
    size = 0.6 * 0.1 ** rng.uniform(0, 1)
    axes = size * rng.uniform(0.35, 1.0, 3)
    centre = rng.uniform(-1, 1, 3)
    centre *= min(1.0, (0.93 - axes.max()) / max(np.linalg.norm(centre), 1e-6))
    turn = rotation(rng)
    value, slope, grain, edge = rng.uniform([0.1, -0.5, 0.02, 0.012], [0.9, 0.5, 0.12, 0.048])
    texture = textures[int(rng.integers(len(textures)))]
    box = space.window(centre, float(axes.max()))
    z, y, x = space.offsets(box, centre)
    u, v, w = ((t[0] * z + t[1] * y + t[2] * x) / a for t, a in zip(turn, axes, strict=True))
    level = (1 - np.sqrt(u**2 + v**2 + w**2)) * axes.min()
    weight = space.soft(level, max(1.5 * space.voxel, edge))
    inside = value * (1 + slope * u) + grain * texture[box]
    volume[box] = volume[box] * (1 - weight) + weight * np.maximum(inside, 0)


FAMILIES: dict[str, Callable[..., Array]] = {
    "walnut": walnut,
    "foam": foam,
    "fibres": fibres,
    "ellipsoids": ellipsoids,
}


def family_of(seed: int) -> str:
    """The family that ``random_volume`` draws: walnuts twice as often as each of the others."""
    return str(np.random.default_rng([seed, 1]).choice(list(FAMILIES), p=[0.4, 0.2, 0.2, 0.2]))


def random_volume(shape: Sequence[int], seed: int = 0) -> Array:
    """A volume (z, y, x) of the family ``family_of(seed)``.

    Two in five look as a micro-CT scanner would show them; three in ten are cut out of something larger.
    """

    def whole(shape: Sequence[int]) -> Array:
        volume = FAMILIES[family_of(seed)](shape, seed)
        return as_imaged(volume, seed) if np.random.default_rng([seed, 2]).random() < 0.4 else volume

    return cut_out(whole, shape, seed) if np.random.default_rng([seed, 4]).random() < 0.3 else whole(shape)


def cut_out(whole: Callable[[Sequence[int]], Array], shape: Sequence[int], seed: int = 0) -> Array:
    """A part (z, y, x) of ``whole``, which is 1.2 to 1.8 times as long: what a cropped reconstruction holds.

    The cylinder of radius 0.95 cuts it sharply, and so do the first and the last plane.
    """
    rng = np.random.default_rng([seed, 6])
    longer = rng.uniform(1.2, 1.8)
    place = rng.uniform(0.25, 0.75, 3)
    volume = whole([round(longer * n) for n in shape])
    starts = [round(p * (m - n)) for p, m, n in zip(place, volume.shape, shape, strict=True)]
    part = volume[tuple(slice(a, a + n) for a, n in zip(starts, shape, strict=True))]
    space = Space(shape)
    return (part * space.soft(space.cylinder())).astype(np.float32)


def as_imaged(volume: Array, seed: int = 0) -> Array:
    """``volume`` as reconstructions of real specimens look: softer, fringed at its edges, in a grainy mounting medium.

    Widths are shares of the field of view, so the same seed gives the same object at every resolution.
    """
    space = Space(volume.shape, seed + 1)
    sigma = 0.008 * 6 ** space.rng.uniform()
    fringe, medium, grain = space.rng.uniform([0.0, 0.0, 0.0], [1.5, 0.4, 0.03])
    soft = smoothed(volume, sigma / space.voxel)
    edged = soft + fringe * (soft - smoothed(volume, 2.5 * sigma / space.voxel))
    surrounding = medium * (1 + 0.15 * space.noise(3)) * np.clip(1 - soft, 0, 1)
    return finished(space, edged + surrounding + grain * space.fractal(20, 2))

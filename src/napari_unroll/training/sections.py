"""Images of single planes to simulate scans of: heads, still lives, textures, and sections of the volumes in a folder.

An image is an array (1, y, x), real or complex, mostly dark outside of what it shows, shaded as by coils that are close to it;
contrasts and phases are the scanner's matter. Every number is another image and takes well under a second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_unroll.errors import ParameterError
from napari_unroll.io.any_volume import volume_files
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.phantoms import HELD_OUT_SEED, brain, leaves
from napari_unroll.scan.phantoms_ct import outline
from napari_unroll.scan.phantoms_wide import WIDE_FAMILIES
from napari_unroll.scan.random_fields import Space, one_plane
from napari_unroll.training.objects import FIRST_HELD_OUT, Objects, normalised

OF_VOLUMES = 0.35
"""Share of the images that are sections of volumes, where there are some."""
CENTRAL = (0.15, 0.85)
"""Where generated volumes are cut, in shares of their height."""
LEAST_SHOWN = 0.05
"""Share of a plane that is not dark, without which another plane is taken."""
FINEST = 0.6
"""Voxels of a volume that one of its section is wide at least."""
MOST_BENT, MOST_SHARPENED, MOST_GRAIN = 0.04, 2.0, 0.08
"""How far sections are displaced over their longer edge (RMS), how much of their detail is added again, how strong their grain."""
MOST_SHADED, MOST_RIM = 0.5, 3.0
"""Deviation of the logarithm of a smooth shade, and how much brighter than the middle the rim is."""


def sections(folder: str | None = None) -> Objects:
    """(grid, number) → image; numbers from ``FIRST_HELD_OUT`` on show none of the folder's volumes.

    Raises ParameterError for numbers that are kept for evaluation.
    """
    files = volume_files(folder) if folder else []

    def make(grid: VolumeGrid, number: int) -> np.ndarray:
        if number >= HELD_OUT_SEED:
            raise ParameterError(f"Training seeds must be below {HELD_OUT_SEED}; the rest is held out for evaluation.")
        rng = np.random.default_rng([number, 13])
        is_of_volume = rng.random() < OF_VOLUMES
        if files and number < FIRST_HELD_OUT and is_of_volume:
            image = _of_volume(files[int(rng.integers(len(files)))], grid, number, rng)
        else:
            image = GENERATED[int(rng.integers(len(GENERATED)))](grid, number, rng)
        return _shaded(image, number, rng)

    return make


def _shaded(image: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """``image`` seen by coils near its rim, brightest at 1."""
    space = Space(image.shape, number)
    shade = np.exp(rng.uniform(0, MOST_SHADED) * space.noise(2))
    rim = 1 + rng.choice([0.0, rng.uniform(0, MOST_RIM)]) * (space.y**2 + space.x**2) ** 2
    seen = image * (shade * rim).astype(np.float32)
    return np.asarray(seen / max(float(np.abs(seen).max()), 1e-6))


def _head(grid: VolumeGrid, number: int, rng: np.random.Generator) -> np.ndarray:
    return _plane_of(brain, grid, number, rng)


def _still_life(grid: VolumeGrid, number: int, rng: np.random.Generator) -> np.ndarray:
    """Leaves, most of them within an outline."""
    image, space = _plane_of(leaves, grid, number, rng), Space(grid.shape, number)
    return image * space.soft(outline(space)) if rng.random() < 0.7 else image


def _texture(grid: VolumeGrid, number: int, rng: np.random.Generator) -> np.ndarray:
    return _plane_of(WIDE_FAMILIES[str(rng.choice(list(WIDE_FAMILIES)))], grid, number, rng)


GENERATED = (_head, _still_life, _texture)
"""All alike often."""


def _plane_of(make: Callable[..., np.ndarray], grid: VolumeGrid, number: int, rng: np.random.Generator) -> np.ndarray:
    """A random plane of a generated volume that is as high as it is long."""
    _, y, x = grid.shape
    n = max(y, x)
    for height in rng.uniform(*CENTRAL, 5):
        image = one_plane(make, (n, y, x), number, int(n * height))
        if np.mean(np.abs(image) > LEAST_SHOWN) > LEAST_SHOWN:
            break
    return image


def _of_volume(path: Path, grid: VolumeGrid, number: int, rng: np.random.Generator) -> np.ndarray:
    """A plane of a volume along any axis, turned, scaled, bent, sharpened and with grain."""
    plane, space = _some_plane(np.abs(normalised(path)), rng), Space(grid.shape, number)
    plane = plane + rng.uniform(0, MOST_SHARPENED) * (plane - gaussian_filter(plane, 1.0))
    longest, (_, y, x) = max(plane.shape), grid.shape
    voxel = float(np.exp(rng.uniform(np.log(FINEST), np.log(max(FINEST, 1.1 * longest / min(y, x))))))
    turn = rng.uniform(0, 2 * np.pi)
    v, u = 0.5 * y * voxel * space.y[0], 0.5 * x * voxel * space.x[0]
    bent = rng.uniform(0, MOST_BENT) * longest
    at = [
        (np.cos(turn) * v - np.sin(turn) * u + bent * space.noise(3)[0] + plane.shape[0] / 2),
        (np.sin(turn) * v + np.cos(turn) * u + bent * space.noise(3)[0] + plane.shape[1] / 2),
    ]
    image = map_coordinates(plane, np.stack(at), order=1)
    grain = 1 + rng.uniform(0, MOST_GRAIN) * space.fractal(16, 4, 0.9)[0]
    return np.asarray(np.maximum(image * grain, 0), np.float32)[None]


def _some_plane(volume: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A plane along any axis that shows at least half as much as the one that shows the most."""
    axis = int(rng.integers(3))
    shown = volume.sum(tuple({0, 1, 2} - {axis}), dtype=np.float64)
    return np.asarray(volume.take(int(rng.choice(np.flatnonzero(shown >= shown.max() / 2))), axis), np.float32)

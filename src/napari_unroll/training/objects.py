"""Objects to simulate scans of: generated ones, or crops of the volumes in a folder.

An object is a function of a grid and its number: array (z, y, x) on that grid, attenuation with 1 the densest (CT), or a
complex image with largest magnitude near 1 (MRI), or an image between 0 and 1. Training and held-out numbers never share a volume.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from napari_unroll.errors import ParameterError
from napari_unroll.io.any_volume import read_any_volume, volume_files
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.phantoms import HELD_OUT_SEED, brain, leaves, random_volume
from napari_unroll.scan.phantoms_wide import wide_volume
from napari_unroll.scan.random_fields import Space
from napari_unroll.scan.resample import resized
from napari_unroll.scan.scan import Modality

Objects = Callable[[VolumeGrid, int], np.ndarray]
"""(grid, number) → volume on the grid."""
GENERATORS: dict[Modality, Callable[..., np.ndarray]] = {"ct": random_volume, "mri": brain, "image": leaves}
"""(shape, seed) → object."""
FIRST_HELD_OUT = 9_000
"""Numbers from here on are for validation; they stay below ``HELD_OUT_SEED``, which final evaluations use."""


def generated(modality: Modality, variety: bool = False) -> Objects:
    """Random objects whose seed is their number, of more kinds with ``variety`` (X-rays).

    Raises ParameterError for numbers that are kept for evaluation.
    """
    source = wide_volume if variety and modality == "ct" else GENERATORS[modality]

    def make(grid: VolumeGrid, number: int) -> np.ndarray:
        if number >= HELD_OUT_SEED:
            raise ParameterError(f"Training seeds must be below {HELD_OUT_SEED}; the rest is held out for evaluation.")
        return source(grid.shape, number)

    return make


def from_folder(folder: str, modality: Modality, n_held_out: int) -> Objects:
    """Crops of the volumes in a folder; the last ``n_held_out`` by name are for numbers from ``FIRST_HELD_OUT`` on.

    Raises ParameterError where nothing would be left to train on.
    """
    files = volume_files(folder)
    if len(files) <= n_held_out:
        raise ParameterError(
            f"The folder {folder} holds {len(files)} volumes, of which {n_held_out} are kept for validation; "
            "add volumes, or hold out fewer (n_held_out)."
        )
    training, held_out = files[: len(files) - n_held_out], files[len(files) - n_held_out :]

    def make(grid: VolumeGrid, number: int) -> np.ndarray:
        is_held_out = number >= FIRST_HELD_OUT
        own: Sequence[Path] = held_out if is_held_out else training
        volume = normalised(own[(number - FIRST_HELD_OUT if is_held_out else number) % len(own)])
        placed = place(volume, grid, number)
        if modality == "image":
            return np.asarray(np.abs(placed), np.float32)
        if modality == "ct":
            return np.asarray(np.abs(placed) * Space(grid.shape, number).field_of_view(1.0), np.float32)
        return placed.astype(np.complex64) if placed.dtype.kind == "c" else _with_phase(placed, number)

    return make


@lru_cache(maxsize=4)
def normalised(path: Path) -> np.ndarray:
    """The volume with its 0.1 % and 99.9 % quantiles at 0 and 1 (complex: magnitudes near 1 at most)."""
    volume = read_any_volume(path)
    some = volume.ravel()[:: max(1, volume.size // 1_000_000)]
    if volume.dtype.kind == "c":
        return np.asarray(volume / np.float32(max(np.quantile(np.abs(some), 0.999), 1e-30)))
    low, high = np.quantile(some, (0.001, 0.999)).astype(np.float32)
    if high <= low:
        raise ParameterError(f"{path.name} is constant; take it out of the folder of volumes.")
    return np.asarray(np.clip((volume - low) / (high - low), 0, 1.5), np.float32)


def place(volume: np.ndarray, grid: VolumeGrid, seed: int) -> np.ndarray:
    """``volume`` (z, y, x, cubic voxels) on ``grid``: at a random size between wholly inside and its own resolution.

    What is too long is cropped at a random place, what is too short is centred in zeros.
    """
    rng = np.random.default_rng([seed, 3])
    fit = min(extent / n for extent, n in zip(grid.size_mm, volume.shape, strict=True))
    own = max(fit, min(grid.spacing_mm))
    voxel = float(np.exp(rng.uniform(np.log(fit), np.log(own))))
    cut = volume
    for axis, extent in enumerate(grid.size_mm):
        n = min(volume.shape[axis], round(extent / voxel))
        start = int(rng.integers(0, volume.shape[axis] - n + 1))
        cut = cut[(slice(None),) * axis + (slice(start, start + n),)]
    sizes = [
        min(m, max(1, round(n * voxel / s))) for n, m, s in zip(cut.shape, grid.shape, grid.spacing_mm, strict=True)
    ]
    scaled = resized(cut, sizes)
    out = np.zeros(grid.shape, volume.dtype)
    corner = [(m - n) // 2 for m, n in zip(grid.shape, sizes, strict=True)]
    out[tuple(slice(c, c + n) for c, n in zip(corner, sizes, strict=True))] = scaled
    return out


def _with_phase(magnitude: np.ndarray, seed: int) -> np.ndarray:
    """A complex image with a smooth random phase."""
    return (magnitude * np.exp(1j * 0.7 * Space(magnitude.shape, seed).noise(2))).astype(np.complex64)

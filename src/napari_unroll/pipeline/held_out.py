"""Scans with a known truth that no training has seen: generated ones, simulated scans of measured volumes, scan files.

A case says what its scan is and makes it when asked. Nothing is reconstructed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from napari_unroll.errors import ScanError
from napari_unroll.io.any_volume import read_any_volume, volume_files
from napari_unroll.physics.samples import cone_beam_setup, multicoil_setup, sample_cone_beam, sample_multicoil
from napari_unroll.physics.simulate import simulate_ct, simulate_mri
from napari_unroll.pipeline.sources import PREFIX, open_scan
from napari_unroll.scan.blurring import BlurredSampling
from napari_unroll.scan.geometry import ConeBeam
from napari_unroll.scan.left_out import Parts
from napari_unroll.scan.phantoms import HELD_OUT_SEED
from napari_unroll.scan.resample import resized, shrunk
from napari_unroll.scan.scan import Scan

Task = Literal["cone-beam", "parallel-beam", "multi-coil", "image"]
LEVEL_NAMES = {"cone-beam": "views", "parallel-beam": "views", "multi-coil": "acceleration", "image": "factor"}
"""What the level of a task counts."""

PARTS = {
    "generated": "Generated scans, like those of the training",
    "simulated": "Simulated scans of measured volumes",
    "measured": "Measured scans",
    "files": "Scan files",
}
"""Where scans come from; what holds for one part need not hold for another, so they are never averaged together."""

FIRST_SEED = HELD_OUT_SEED + 500
"""Seeds of generated objects count from here."""
FAMILIES = ("walnut", "foam", "fibres")
N_COILS = 8
OVERSAMPLE = 2
"""How much finer volumes are projected than they are reconstructed."""
MRI_SUFFIXES = (".nii", ".nii.gz", ".npz")
"""Volumes that are images of a scanner for MRI where the task does not say otherwise; all others are attenuation."""


@dataclass(frozen=True)
class Case:
    """One scan: its task and level (views, acceleration or factor), what it shows, which one it is, and how it is made.

    Without a truth it is made as Parts, of which methods see one and are judged by the other. ``folder`` is where the volume or
    scan file lies, empty for generated scans; ``part`` one of PARTS.
    """

    task: Task
    level: float
    data: str
    scan: str
    make: Callable[[], Scan | Parts]
    folder: str = ""
    part: str = "generated"

    @property
    def level_name(self) -> str:
        """What the level counts."""
        return LEVEL_NAMES[self.task]

    @property
    def title(self) -> str:
        """For progress."""
        return f"{self.task}, {self.level:g} {self.level_name}, {self.scan}"


def generated(
    tasks: Sequence[str], views: Sequence[int], accelerations: Sequence[float], size: int, n: int
) -> list[Case]:
    """``n`` generated scans per task and level, on size³ voxels (MRI: half as many planes)."""
    cases = []
    for i in range(n):
        seed = FIRST_SEED + i
        family = FAMILIES[i % len(FAMILIES)]
        cones = [(v, partial(sample_cone_beam, size, v, seed, family=family)) for v in views]
        shape = (size // 2, size, size)
        coils = [(r, partial(sample_multicoil, shape, N_COILS, r, seed)) for r in accelerations]
        if "cone-beam" in tasks:
            cases += [Case("cone-beam", v, "generated", f"{family} {seed}", make) for v, make in cones]
        if "multi-coil" in tasks:
            cases += [Case("multi-coil", r, "generated", f"brain {seed}", make) for r, make in coils]
    return cases


def of_volumes(
    folder: Path, tasks: Sequence[str], views: Sequence[int], accelerations: Sequence[float], sizes: Sequence[int]
) -> Iterator[Case]:
    """Simulated scans of the volumes in a folder: all of them for one task, else each for what its format suggests.

    Of several ``sizes`` a volume gets those that are no finer than it is, or the smallest.
    """
    several = len(sizes) > 1
    for path in volume_files(folder):
        task = tasks[0] if len(tasks) == 1 else "multi-coil" if path.name.endswith(MRI_SUFFIXES) else "cone-beam"
        for size in _no_finer(path, sizes) if several else sizes:
            name = path.name.split(".")[0] + (f" at {size} voxels" if several else "")
            if task == "cone-beam":
                for v in views:
                    yield Case("cone-beam", v, name, name, partial(cone_of, path, size, v), str(folder), "simulated")
            else:
                for r in accelerations:
                    make = partial(coils_of, path, size, r)
                    yield Case("multi-coil", r, name, name, make, str(folder), "simulated")


def _no_finer(path: Path, sizes: Sequence[int]) -> list[int]:
    longest = max(read_any_volume(path).shape)
    return [size for size in sizes if size <= longest] or [min(sizes)]


def of_file(source: str) -> Case:
    """A scan file, or ``sample:NAME``, that holds its truth. Raises ScanError where it does not."""
    scan = open_scan(source)
    if scan.truth is None:
        raise ScanError(
            f"{source} does not hold the true volume, so nothing can be compared with it; simulate a scan of it."
        )
    task: Task
    if isinstance(scan.geometry, BlurredSampling):
        task, level = "image", float(max(scan.geometry.factor))
    elif scan.modality == "mri":
        sampled = int((np.abs(scan.measurements).sum(0) > 0).sum())
        level = round(float(math.prod(scan.grid.shape)) / max(sampled, 1), 1)
        task = "multi-coil"
    else:
        level = float(scan.measurements.shape[0])
        task = "cone-beam" if isinstance(scan.geometry, ConeBeam) else "parallel-beam"
    if source.startswith(PREFIX):
        return Case(task, level, "generated", source, partial(open_scan, source))
    path = Path(source)
    return Case(task, level, path.stem, source, partial(open_scan, source), str(path.parent), "files")


def cone_of(path: Path, size: int, views: int) -> Scan:
    """The volume inside the field of view, projected on a grid twice as fine, 10⁵ photons per pixel."""
    edge = OVERSAMPLE * size
    volume = fitted(np.abs(read_any_volume(path)), edge)
    axis = np.linspace(-1, 1, edge)
    volume *= (np.hypot(axis[:, None], axis) < 0.95).astype(np.float32)
    geometry, grid = cone_beam_setup(size, views)
    return simulate_ct(volume / max(float(volume.max()), 1e-30), geometry, grid, seed=FIRST_SEED, name=path.stem)


def fitted(volume: np.ndarray, edge: int) -> np.ndarray:
    """``volume`` (z, y, x) in its proportions as large as fits a cube of ``edge`` voxels, centred in zeros, float32."""
    scale = edge / max(volume.shape)
    scaled = resized(volume, [min(edge, max(1, round(n * scale))) for n in volume.shape])
    out = np.zeros((edge,) * 3, np.float32)
    out[tuple(slice((edge - n) // 2, (edge - n) // 2 + n) for n in scaled.shape)] = scaled
    return out


def coils_of(path: Path, size: int, acceleration: float) -> Scan:
    """The image, with a smooth phase where it is real, averaged to about ``size`` voxels, seen by generated coils."""
    volume = read_any_volume(path)
    factor = max(1, max(volume.shape) // size)
    image = shrunk(volume, (factor,) * 3)
    image = np.moveaxis(image, int(np.argmin(image.shape)), 0)
    if image.dtype.kind != "c":
        axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
        image = image * np.exp(1j * (0.8 * axes[0] + 0.5 * axes[1] ** 2 - 0.6 * axes[2] * axes[1]))
    image = (image / max(float(np.abs(image).max()), 1e-30)).astype(np.complex64)
    mask, maps, _ = multicoil_setup(image.shape, N_COILS, acceleration, FIRST_SEED)
    return simulate_mri(image, maps, mask, seed=FIRST_SEED, name=path.stem)

"""Scan scanners to train for: one scanner setting each, whose scans share a normal operator.

A scanner says on which grid objects are given, and scans them. Knows nothing of networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil

from napari_unroll.errors import ParameterError
from napari_unroll.io.npy_header import load_npy
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.coil_physics import csm_of
from napari_unroll.physics.samples import cone_beam_setup, multicoil_setup
from napari_unroll.physics.simulate import Exposure, simulate_ct, simulate_image, simulate_mri
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.blurring import Blur, BlurredSampling
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.scan import Modality, Scan
from napari_unroll.training.objects import generated
from napari_unroll.training.plan import Noise

ANY_NOISE = Noise()
"""The noise of a plan that says nothing about it."""
OVERSAMPLE = 2
"""How much finer X-ray objects are than the grid. With 1 the projector of the reconstruction has made the data, and a
network learns to trust them far more than any measured scan allows."""

OBJECT_ARRAYS = 6
"""Float32 arrays of the object's grid that are held while an object is generated and projected."""


class Scanner(Protocol):
    """One scanner setting."""

    @property
    def name(self) -> str:
        """For cards and logs."""

    @property
    def modality(self) -> Modality:
        """That of its scans."""

    @property
    def grid(self) -> VolumeGrid:
        """What is reconstructed."""

    @property
    def object_grid(self) -> VolumeGrid:
        """Where objects are given: the grid to be reconstructed, or one that is a whole number of times finer."""

    def simulate(self, volume: np.ndarray, seed: int) -> Scan:
        """A noisy scan, with truth, of ``volume`` (z, y, x) on ``object_grid``."""


@dataclass(frozen=True)
class XRayScanner:
    """Projections of objects on a grid ``OVERSAMPLE`` times finer; ``thickest`` is their largest line integral.

    Objects reach beyond the grid by ``around`` (z, y, x) voxels on either side: what the field of view cuts off.
    """

    name: str
    geometry: ConeBeam | ParallelBeam
    grid: VolumeGrid
    noise: Noise = ANY_NOISE
    thickest: float = 2.5
    device: str = "cpu"
    modality: Modality = "ct"
    around: tuple[int, int, int] = (0, 0, 0)

    @property
    def object_grid(self) -> VolumeGrid:
        """The extent of objects in voxels ``OVERSAMPLE`` times smaller."""
        z, y, x = self._whole.shape
        return self._whole.resample((OVERSAMPLE * z, OVERSAMPLE * y, OVERSAMPLE * x))

    @property
    def _whole(self) -> VolumeGrid:
        """The grid with what objects reach beyond it."""
        z, y, x = (n + 2 * a for n, a in zip(self.grid.shape, self.around, strict=True))
        return replace(self.grid, shape=(z, y, x))

    def simulate(self, volume: np.ndarray, seed: int) -> Scan:
        """Project ``volume`` (z, y, x) on ``object_grid`` and add noise; the truth is its mean over blocks, within the grid."""
        rng = np.random.default_rng(seed)
        if self.noise.kind == "gaussian":
            exposure = Exposure(photons=0, sigma=_level(self.noise.sigma, rng), thickest=self.thickest)
        else:
            exposure = Exposure(photons=_level(self.noise.photons, rng), thickest=self.thickest)
        scan = simulate_ct(volume, self.geometry, self._whole, exposure, seed, self.name, self._projector)
        assert scan.truth is not None
        inside = tuple(slice(a, a + n) for a, n in zip(self.around, self.grid.shape, strict=True))
        return replace(scan, grid=self.grid, truth=np.ascontiguousarray(scan.truth[inside]))

    @cached_property
    def _projector(self) -> VolumePhysics:
        empty = np.zeros(self.geometry.measurement_shape, np.float32)
        return build_physics(Scan(measurements=empty, geometry=self.geometry, grid=self.object_grid), self.device)


@dataclass(frozen=True)
class CoilScanner:
    """Cartesian multi-coil MRI with one sampling ``mask`` (z, y, x) and one set of coil maps ``csm`` (coil, z, y, x)."""

    name: str
    mask: np.ndarray
    csm: np.ndarray
    grid: VolumeGrid
    noise: Noise = ANY_NOISE
    modality: Modality = "mri"

    @property
    def object_grid(self) -> VolumeGrid:
        """The grid to be reconstructed."""
        return self.grid

    def simulate(self, volume: np.ndarray, seed: int) -> Scan:
        """Sample the k-space of ``volume`` (z, y, x) by the mask and add noise."""
        level = _level(self.noise.sigma, np.random.default_rng(seed))
        return simulate_mri(
            volume, self.csm, self.mask, level, seed, self.name, self.grid, coil_covariance(self.noise, len(self.csm))
        )


@dataclass(frozen=True)
class ImageScanner:
    """Images that are blurred, and perhaps downsampled, as ``sampling`` says."""

    name: str
    sampling: BlurredSampling
    grid: VolumeGrid
    noise: Noise = ANY_NOISE
    modality: Modality = "image"

    @property
    def object_grid(self) -> VolumeGrid:
        """The grid to be reconstructed."""
        return self.grid

    def simulate(self, volume: np.ndarray, seed: int) -> Scan:
        """Blur and downsample ``volume`` (z, y, x) and add noise."""
        level = _level(self.noise.sigma, np.random.default_rng(seed))
        return simulate_image(volume, self.sampling, level, seed, self.name, self.grid)


def coil_covariance(noise: Noise, n_coils: int) -> np.ndarray | None:
    """The plan's noise covariance (coil, coil), or None for uncorrelated coils of equal noise."""
    if noise.coil_covariance is not None:
        return load_npy(Path(noise.coil_covariance).expanduser())
    if noise.coil_correlation == 0:
        return None
    steps = np.abs(np.subtract.outer(np.arange(n_coils), np.arange(n_coils)))
    return np.asarray(noise.coil_correlation**steps)


def cone_beam_scanner(n: int = 96, n_views: int = 50, noise: Noise | None = None, device: str = "cpu") -> XRayScanner:
    """The built-in cone-beam orbit with ``n_views`` views on n³ voxels."""
    geometry, grid = cone_beam_setup(n, n_views)
    return XRayScanner(f"cone beam, {n_views} views, {n} voxels cubed", geometry, grid, noise or Noise(), device=device)


def multi_coil_scanner(
    shape: tuple[int, int, int] = (48, 96, 96),
    acceleration: float = 5,
    n_coils: int = 8,
    noise: Noise | None = None,
    setup_seed: int = 0,
) -> CoilScanner:
    """Coil maps and a Poisson-disc mask in (y, x) from ``setup_seed``; z is the fully sampled readout."""
    mask, csm, grid = multicoil_setup(shape, n_coils, acceleration, setup_seed)
    name = f"{n_coils} coils, R = {acceleration:g}, {'×'.join(map(str, shape))}"
    return CoilScanner(name, np.broadcast_to(mask, shape), csm, grid, noise or Noise())


def image_scanner(n: int = 64, factor: int = 1, noise: Noise | None = None) -> ImageScanner:
    """Images of about n × n pixels: blurred (factor 1), or downsampled so many times."""
    n -= n % factor
    sampling = Blur(factor=factor).sampling((1, n, n))
    name = f"deblurring, {n} × {n}" if factor == 1 else f"{factor} times super-resolution, {n} × {n}"
    return ImageScanner(name, sampling, VolumeGrid(shape=sampling.shape), noise or Noise())


def measured_scanner(scan: Scan, noise: Noise, device: str = "cpu", n_views: int | None = None) -> Scanner:
    """The scanner that took ``scan``: its geometry (``n_views`` evenly spaced views), mask and coil maps, or blur.

    Simulated X-ray objects are as thick as what was scanned. Raises ParameterError for scanners that cannot be simulated,
    here or at all.
    """
    if isinstance(scan.geometry, (ConeBeam, ParallelBeam)):
        geometry = scan.geometry if n_views is None else scan.geometry.subset(_spread(scan.geometry.n_views, n_views))
        thickest = max(0.1, float(np.quantile(scan.measurements, 0.999)))
        name = f"scanner of {scan.name}, {geometry.n_views} views"
        scanner = XRayScanner(name, geometry, scan.grid, noise, thickest, device)
        _check_memory(scanner.object_grid)
        return scanner
    if isinstance(scan.geometry, BlurredSampling):
        return ImageScanner(f"blur of {scan.name}", scan.geometry, scan.grid, noise)
    if not isinstance(scan.geometry, CartesianSampling):
        raise ParameterError(
            f"Training simulates X-ray and Cartesian MRI scanners and blurred images; {scan.name} is neither."
        )
    csm = scan.csm if scan.csm is not None else csm_of(build_physics(scan, "cpu")).cpu().numpy()
    name = f"scanner of {scan.name}, R = {scan.geometry.acceleration:.3g}"
    return CoilScanner(name, np.array(scan.geometry.mask), csm, scan.grid, noise)


def _check_memory(grid: VolumeGrid) -> None:
    needed, free = 4 * OBJECT_ARRAYS * math.prod(grid.shape), psutil.virtual_memory().available
    if needed > free:
        raise ParameterError(
            f"Objects for this scanner are simulated on {'×'.join(map(str, grid.shape))} voxels, which needs about "
            f"{needed / 2**30:.1f} GiB of memory; {free / 2**30:.1f} GiB are free. Give the scan with larger voxels (a coarser "
            "grid), or train on scans of your own (--scans)."
        )


def generated_scan(scanner: Scanner, seed: int, variety: bool = False) -> Scan:
    """A scan of generated object ``seed``. Raises ParameterError for seeds that are kept for evaluation."""
    make = generated(scanner.modality, variety)
    return scanner.simulate(make(scanner.object_grid, seed), seed)


def _level(limits: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = np.log(limits)
    return float(np.exp(rng.uniform(low, high)))


def _spread(n: int, wanted: int) -> np.ndarray:
    return np.unique(np.round(np.arange(min(wanted, n)) * n / min(wanted, n)).astype(int))

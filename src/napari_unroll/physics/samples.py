"""The built-in sample scans, generated with their truth: cone beam, multi-coil MRI, a blurred and a downsampled image.

Their seeds start at ``HELD_OUT_SEED``; networks are trained on seeds below it, so the samples are always unseen.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from napari_unroll.errors import ParameterError
from napari_unroll.physics.memory import require
from napari_unroll.physics.simulate import Exposure, simulate_ct, simulate_image, simulate_mri, simulation_bytes
from napari_unroll.record import LARGEST_SEED, checked
from napari_unroll.scan.blurring import Blur
from napari_unroll.scan.geometry import ConeBeam, VolumeGrid
from napari_unroll.scan.phantoms import FAMILIES, HELD_OUT_SEED, brain, coil_maps, leaves, poisson_disc_mask
from napari_unroll.scan.scan import Scan

SIZE_MM = 48.0
SOURCE_ORIGIN_MM = 150.0
SOURCE_DETECTOR_MM = 450.0
OBJECT_BYTES = 24
"""Per voxel of a generated object or coil, at least, while it is made."""

Edge = Annotated[int, Field(ge=1, le=4096)]
Noise = Annotated[float, Field(ge=0, le=10)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


def cone_beam_setup(n: int = 96, n_views: int = 50, first_angle_rad: float = 0.0) -> tuple[ConeBeam, VolumeGrid]:
    """A circular orbit around a cube of n³ voxels, 48 mm wide, and its grid.

    Magnification 3 with pixels of three voxels, so a pixel at the axis is a voxel. The half-angles, 9° in the fan and
    11° along z, and the detector are such that the cylinder inscribed in the cube is never truncated.
    """
    grid = VolumeGrid(shape=(n, n, n), spacing_mm=(SIZE_MM / n,) * 3)
    pixel = SIZE_MM / n * SOURCE_DETECTOR_MM / SOURCE_ORIGIN_MM
    radius = 0.5 * SIZE_MM
    across = SOURCE_DETECTOR_MM * radius / np.sqrt(SOURCE_ORIGIN_MM**2 - radius**2)
    along = SOURCE_DETECTOR_MM * radius / (SOURCE_ORIGIN_MM - radius)
    geometry = ConeBeam.circular(
        angles_rad=first_angle_rad + 2 * np.pi * np.arange(n_views) / n_views,
        source_origin_mm=SOURCE_ORIGIN_MM,
        source_detector_mm=SOURCE_DETECTOR_MM,
        detector_shape=(_even_pixels(along, pixel), _even_pixels(across, pixel)),
        pixel_mm=(pixel, pixel),
    )
    return geometry, grid


def _even_pixels(half_width: float, pixel: float) -> int:
    return 2 * int(np.ceil(half_width / pixel + 1))


@checked
def sample_cone_beam(
    n: Edge = 96,
    n_views: Annotated[int, Field(ge=1, le=100_000)] = 50,
    seed: Seed = HELD_OUT_SEED,
    photons: Annotated[float, Field(ge=0, le=1e15)] = 1e5,
    oversample: Annotated[int, Field(ge=1, le=8)] = 2,
    family: str = "walnut",
) -> Scan:
    """A noisy cone-beam scan of a generated object on n³ voxels, with its truth.

    The object is projected on a grid ``oversample`` times finer than the one to be reconstructed.

    Raises ParameterError for options out of their limits, MemoryExceeded where the object does not fit.
    """
    if family not in FAMILIES:
        raise ParameterError(f"Expected a kind of object of {', '.join(FAMILIES)}; got {family!r}.")
    geometry, grid = cone_beam_setup(n, n_views)
    n_bytes = OBJECT_BYTES * (oversample * n) ** 3 + simulation_bytes(geometry)
    require(n_bytes, f"An object of {oversample * n}³ voxels with {n_views} views")
    volume = FAMILIES[family]((oversample * n,) * 3, seed)
    name = f"{family}, cone beam, {n_views} views"
    return simulate_ct(volume, geometry, grid, Exposure(photons=photons), seed, name)


def multicoil_setup(
    shape: tuple[int, int, int], n_coils: int, acceleration: float, seed: int
) -> tuple[np.ndarray, np.ndarray, VolumeGrid]:
    """A Poisson-disc mask (y, x) with its middle fully sampled, coil maps (coil, z, y, x), and a grid 180 mm wide."""
    calibration = max(2, round(0.1 * min(shape[1:])))
    mask = poisson_disc_mask(shape[1:], acceleration, calibration, seed)
    grid = VolumeGrid(shape=shape, spacing_mm=(180.0 / shape[0], 180.0 / shape[1], 180.0 / shape[2]))
    return mask, coil_maps(shape, n_coils, seed), grid


@checked
def sample_multicoil(
    shape: tuple[Edge, Edge, Edge] = (48, 96, 96),
    n_coils: Annotated[int, Field(ge=1, le=256)] = 8,
    acceleration: Annotated[float, Field(ge=1, le=100_000)] = 5,
    seed: Seed = HELD_OUT_SEED,
    noise: Annotated[float, Field(ge=0, le=10)] = 0.01,
) -> Scan:
    """Undersampled multi-coil k-space of a generated brain, with its coil maps and truth.

    As in three-dimensional brain protocols, the readout z is fully sampled and a Poisson-disc mask undersamples the
    two phase-encoding axes (y, x).

    Raises ParameterError for options out of their limits, MemoryExceeded where the coils' images do not fit.
    """
    require(OBJECT_BYTES * n_coils * math.prod(shape), f"{n_coils} coils of {' × '.join(map(str, shape))} voxels")
    mask, maps, grid = multicoil_setup(shape, n_coils, acceleration, seed)
    name = f"brain, {n_coils} coils, R = {acceleration:g}"
    return simulate_mri(brain(shape, seed), maps, mask, noise, seed, name, grid)


@checked
def sample_deblur(
    shape: tuple[Edge, Edge, Edge] = (1, 192, 192),
    size: Annotated[int, Field(ge=1, le=255)] = 9,
    variance: Annotated[float, Field(gt=0, le=10_000)] = 5.0,
    noise: Annotated[float, Field(ge=0, le=10)] = 0.01,
    along_z: bool = False,
    seed: Seed = HELD_OUT_SEED,
) -> Scan:
    """A generated image, blurred by a Gaussian of ``size`` voxels and ``variance``, with noise and its truth.

    The task of LUSER (sec. 4.1): 9 × 9, variance 5, σ = 0.01.

    Raises ParameterError for options out of their limits, ScanError where the kernel is larger than the image,
    MemoryExceeded where the image does not fit.
    """
    blur = Blur(size=size, variance=variance, along_z=along_z)
    return _sample_image(shape, blur, noise, seed, f"leaves, blurred by {size} voxels")


@checked
def sample_super_resolution(
    shape: tuple[Edge, Edge, Edge] = (1, 192, 192),
    factor: Annotated[int, Field(ge=2, le=16)] = 3,
    noise: Annotated[float, Field(ge=0, le=10)] = 0.01,
    along_z: bool = False,
    seed: Seed = HELD_OUT_SEED,
) -> Scan:
    """A generated image, downsampled ``factor`` times by the bicubic kernel, with noise and its truth of ``shape``.

    The task of MOL (supplement, sec. III): three-fold super-resolution.

    Raises ParameterError for options out of their limits, ScanError where an edge is no multiple of the factor, or smaller
    than the kernel, MemoryExceeded where the image does not fit.
    """
    blur = Blur(factor=factor, along_z=along_z)
    return _sample_image(shape, blur, noise, seed, f"leaves, downsampled {factor} times")


def _sample_image(shape: tuple[int, int, int], blur: Blur, noise: float, seed: int, name: str) -> Scan:
    sampling = blur.sampling(shape)
    require(OBJECT_BYTES * math.prod(shape), f"An image of {' × '.join(map(str, shape))} voxels")
    return simulate_image(leaves(shape, seed), sampling, noise, seed, name)

"""Measurements made from volumes: X-rays with Poisson or Gaussian noise, MRI with complex coil noise, blurred images.

The volume of an X-ray scan may be finer than the grid that will be reconstructed, so that the projector of the
reconstruction is not the one that made the data. Knows no files and no methods.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.interrupt import check
from napari_unroll.physics.fourier import CartesianMRI
from napari_unroll.physics.imaging import DownsampledBlur
from napari_unroll.physics.memory import require
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.blurring import BlurredSampling
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.resample import block_mean
from napari_unroll.scan.scan import Provenance, Scan


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How an X-ray scan is taken.

    ``photons`` per pixel without an object; 0 means no counting noise. ``sigma`` is the standard deviation of Gaussian
    noise over the largest line integral. ``thickest`` is that integral: the volume is scaled to reach it (None keeps
    the volume as attenuation in 1/mm).
    """

    photons: float = 1e5
    sigma: float = 0.0
    thickest: float | None = 2.5


def simulate_ct(
    volume: np.ndarray,
    geometry: ConeBeam | ParallelBeam,
    grid: VolumeGrid,
    exposure: Exposure | None = None,
    seed: int = 0,
    name: str = "simulated X-ray scan",
    projector: VolumePhysics | None = None,
) -> Scan:
    """Scan ``volume`` (z, y, x), whose shape is that of ``grid`` or a whole multiple of it.

    ``truth`` of the scan is the volume averaged over the voxels of ``grid``, in 1/mm. ``projector`` is a physics for
    ``grid.resample(volume.shape)``; by default the CPU projector is made.
    """
    exposure = exposure or Exposure()
    require(simulation_bytes(geometry), f"Simulating {geometry.n_views} views of {geometry.detector_shape} pixels")
    truth = block_mean(volume, grid.shape)
    integrals = _project(volume, projector or _default_projector(geometry, grid.resample(volume.shape)))
    scale = exposure.thickest / max(float(integrals.max()), 1e-12) if exposure.thickest else 1.0
    rng = np.random.default_rng(seed)
    scaled = integrals * np.float32(scale)
    measured = count_photons(scaled, exposure.photons, rng)
    if exposure.sigma:
        spread = np.float32(exposure.sigma * float(scaled.max()))
        for view in measured:
            check()
            view += spread * rng.standard_normal(view.shape, dtype=np.float32)
    return Scan(
        measurements=measured,
        geometry=geometry,
        grid=grid,
        truth=truth * np.float32(scale),
        name=name,
        provenance=Provenance(source="generated", format="simulation", seed=seed),
        notes=(_exposure_note(exposure),),
    )


def simulation_bytes(geometry: ConeBeam | ParallelBeam) -> int:
    """What the measurements of a simulated scan take at least while their photons are counted in double precision."""
    return 24 * math.prod(geometry.measurement_shape)


def _exposure_note(exposure: Exposure) -> str:
    if exposure.sigma:
        return f"Simulated with Gaussian noise of {100 * exposure.sigma:.3g} % of the largest line integral."
    if not exposure.photons:
        return "Simulated without noise."
    return f"Simulated with {exposure.photons:.3g} photons per pixel and Poisson noise."


def _default_projector(geometry: ConeBeam | ParallelBeam, grid: VolumeGrid) -> VolumePhysics:
    from napari_unroll.physics.xray import XRay

    return XRay(geometry, grid)


def _project(volume: np.ndarray, projector: VolumePhysics) -> np.ndarray:
    x = torch.as_tensor(np.ascontiguousarray(volume, dtype=np.float32))[None, None].to(projector.device)
    return np.asarray(projector.A(x)[0, 0].cpu().numpy())


def count_photons(integrals: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    """−log of Poisson counts, float32; pixels that saw no photon count as one. ``photons`` of 0: no noise."""
    if photons <= 0:
        return integrals.astype(np.float32)
    measured = np.empty(integrals.shape, np.float32)
    for view, out in zip(integrals, measured, strict=True):
        check()
        counts = rng.poisson(photons * np.exp(-view.astype(np.float64)))
        out[...] = -np.log(np.maximum(counts, 1) / photons)
    return measured


def simulate_mri(
    image: np.ndarray,
    csm: np.ndarray,
    mask: np.ndarray,
    noise: float = 0.01,
    seed: int = 0,
    name: str = "simulated multi-coil scan",
    grid: VolumeGrid | None = None,
    covariance: np.ndarray | None = None,
) -> Scan:
    """Undersampled k-space of ``image`` (z, y, x) seen by coils ``csm`` (coil, z, y, x).

    ``mask`` (y, x) or (z, y, x) is broadcast to the image. ``noise`` is the standard deviation of the complex
    Gaussian noise of every sample over the largest magnitude of the image (the FFT is orthonormal, so it is also
    the noise of a fully sampled coil image). ``covariance`` (coil, coil), Hermitian and positive definite, correlates
    the coils' noise; only its shape counts, its mean variance is set to one.
    """
    if noise < 0:
        raise ParameterError(f"The noise level cannot be negative; got {noise}.")
    samples = np.broadcast_to(np.asarray(mask, bool), image.shape)
    physics = CartesianMRI(samples, csm)
    x = torch.from_numpy(np.ascontiguousarray(image, dtype=np.complex64))[None, None]
    clean = physics.A(x)[0].numpy()
    sigma = noise * float(np.abs(image).max())
    return Scan(
        measurements=(clean + samples * _coil_noise(clean.shape, sigma, seed, covariance)).astype(np.complex64),
        geometry=CartesianSampling(mask=samples, n_coils=len(csm)),
        grid=grid or VolumeGrid(shape=image.shape),
        csm=np.asarray(csm, np.complex64),
        truth=np.asarray(image, np.complex64),
        name=name,
        provenance=Provenance(source="generated", format="simulation", seed=seed),
        notes=(f"Simulated with complex Gaussian noise of {100 * noise:.3g} % of the brightest voxel.",),
    )


def _coil_noise(shape: tuple[int, ...], sigma: float, seed: int, covariance: np.ndarray | None) -> np.ndarray:
    white = _complex_noise(shape, sigma, seed)
    return white if covariance is None else np.tensordot(coil_factor(covariance, shape[0]), white, axes=1)


def coil_factor(covariance: np.ndarray, n_coils: int) -> np.ndarray:
    """Cholesky factor L (coil, coil) with L Lᴴ = ``covariance`` / its mean variance; ParameterError where there is none."""
    c = np.asarray(covariance, np.complex128)
    if c.shape != (n_coils, n_coils) or not np.allclose(c, c.conj().T):
        raise ParameterError(
            f"A noise covariance must be Hermitian of shape {(n_coils, n_coils)}; got shape {c.shape}."
        )
    try:
        return np.asarray(np.linalg.cholesky(c / max(np.trace(c).real / n_coils, 1e-30)))
    except np.linalg.LinAlgError:
        raise ParameterError("A noise covariance must be positive definite; measure it from more samples.") from None


def _complex_noise(shape: tuple[int, ...], sigma: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = np.empty((*shape, 2), np.float32)
    for coil in noise:
        check()
        rng.standard_normal(out=coil, dtype=np.float32)
        coil *= np.float32(sigma / np.sqrt(2))
    return noise.view(np.complex64)[..., 0]


def simulate_image(
    image: np.ndarray,
    sampling: BlurredSampling,
    noise: float = 0.01,
    seed: int = 0,
    name: str = "simulated image",
    grid: VolumeGrid | None = None,
) -> Scan:
    """Blur and downsample ``image`` (z, y, x) and add Gaussian noise.

    ``noise`` is its standard deviation over the largest magnitude of the image.
    """
    if noise < 0:
        raise ParameterError(f"The noise level cannot be negative; got {noise}.")
    truth = np.ascontiguousarray(image, dtype=np.float32)
    grid = grid or VolumeGrid(shape=sampling.shape)
    clean = DownsampledBlur(sampling, grid).A(torch.from_numpy(truth)[None, None])[0, 0].numpy()
    sigma = np.float32(noise * float(np.abs(truth).max()))
    white = np.random.default_rng(seed).standard_normal(clean.shape, dtype=np.float32)
    return Scan(
        measurements=clean + sigma * white,
        geometry=sampling,
        grid=grid,
        truth=truth,
        name=name,
        provenance=Provenance(source="generated", format="simulation", seed=seed),
        notes=(f"Simulated with Gaussian noise of {100 * noise:.3g} % of the brightest voxel.",),
    )

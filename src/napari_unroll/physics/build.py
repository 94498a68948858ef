"""From a scan and a wished device to the physics that computes its A and Aᴴ: picks the back end, says which and why."""

from __future__ import annotations

import importlib.util
import math

import torch

from napari_unroll.errors import DeviceError, ParameterError
from napari_unroll.physics.fourier import CartesianMRI
from napari_unroll.physics.imaging import DownsampledBlur
from napari_unroll.physics.memory import require
from napari_unroll.physics.nufft import NonCartesianMRI, estimate_csm_along
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.physics.xray import XRay
from napari_unroll.physics.xray_astra import AstraXRay, Cards, XRayThroughCards, is_usable
from napari_unroll.scan.blurring import BlurredSampling
from napari_unroll.scan.geometry import CartesianSampling
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling

BACKENDS = ("auto", "cpu", "astra")


def choose_device(device: str = "auto") -> torch.device:
    """``auto`` is the first CUDA device where there is one, else the CPU; DeviceError for a device that is not here."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"Expected a device such as 'auto', 'cpu' or 'cuda:0'; got {device!r}.") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"There is no device {device!r} here ({torch.cuda.device_count()} CUDA devices); choose 'auto' or 'cpu'."
        )
    return chosen


def build_physics(scan: Scan, device: str = "auto", backend: str = "auto", cards: Cards | None = None) -> VolumePhysics:
    """The physics of ``scan``; its ``reason`` says which back end was picked, and why.

    ``backend`` chooses the X-ray projector: "auto" takes ASTRA on a CUDA device where it works, else the CPU
    projector, which has a matched adjoint. Where volumes are in the computer's memory, rays may go through ``cards``.
    Coil maps that a scan lacks are estimated from its calibration centre.

    Raises MemoryExceeded where not even a volume, its adjoint, coil maps and the measurements fit the device.
    """
    if backend not in BACKENDS:
        raise ParameterError(f"Expected a back end of {', '.join(BACKENDS)}; got {backend!r}.")
    chosen = choose_device(device)
    is_mri = scan.modality == "mri"
    n_volumes = 2 + (len(scan.measurements) if is_mri else 0)
    n_bytes = (8 if is_mri else 4) * (n_volumes * math.prod(scan.grid.shape) + scan.measurements.size)
    require(n_bytes, f"A volume of {' × '.join(map(str, scan.grid.shape))} voxels with its measurements", chosen)
    if isinstance(scan.geometry, CartesianSampling):
        return _cartesian(scan, chosen)
    if isinstance(scan.geometry, NonCartesianSampling):
        return _along_trajectory(scan, scan.geometry, chosen)
    if isinstance(scan.geometry, BlurredSampling):
        return DownsampledBlur(scan.geometry, scan.grid, chosen)
    return _xray(scan, chosen, backend, cards)


def _cartesian(scan: Scan, device: torch.device) -> CartesianMRI:
    reason = f"centred FFT (torch on {device.type}), coil maps given"
    csm = scan.csm
    if csm is None:
        from napari_unroll.scan.preprocess_mri import estimate_csm

        csm = estimate_csm(scan.measurements, scan.geometry.mask)  # type: ignore[union-attr]
        reason = f"centred FFT (torch on {device.type}), coil maps estimated from the calibration centre"
    return CartesianMRI(scan.geometry.mask, csm, scan.grid, device, reason)  # type: ignore[union-attr]


def _along_trajectory(scan: Scan, sampling: NonCartesianSampling, device: torch.device) -> NonCartesianMRI:
    csm, maps = scan.csm, "given"
    if csm is None:
        csm, maps = estimate_csm_along(sampling, scan.measurements), "estimated from the middle of k-space"
    reason = f"{NonCartesianMRI.reason}, on {device.type}, coil maps {maps}"
    return NonCartesianMRI(sampling, csm, scan.grid, device, reason)


def _xray(scan: Scan, device: torch.device, backend: str, cards: Cards | None) -> VolumePhysics:
    obstacle = "it was asked for" if backend == "cpu" else astra_obstacle(device, cards)
    geometry, grid = scan.geometry, scan.grid
    if not obstacle and cards is None:
        return AstraXRay(geometry, grid, device=device)  # type: ignore[arg-type]
    if not obstacle and cards is not None:
        return XRayThroughCards(geometry, grid, cards)  # type: ignore[arg-type]
    if backend == "astra":
        raise DeviceError(f"ASTRA cannot be used because {obstacle}; choose the back end 'auto' or 'cpu'.")
    physics = XRay(geometry, grid)  # type: ignore[arg-type]
    physics.reason = f"{XRay.reason}, because {obstacle}"
    return physics


def astra_obstacle(device: torch.device, cards: Cards | None = None) -> str:
    """Why ASTRA cannot serve ``device``, or volumes in memory by ``cards``, in words; empty where it can. Makes no CUDA call."""
    if device.type != "cuda" and cards is None:
        return "there is no CUDA device" if not torch.cuda.is_available() else "volumes lie in the computer's memory"
    if importlib.util.find_spec("astra") is None:
        return "the package astra-toolbox is not installed"
    return "" if is_usable() else "ASTRA finds no usable CUDA device"

"""The rows of half-quadratic splitting: with a DRUNet denoiser that is trained here, or with deepinv's foundation model."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

import torch
from pydantic import Field

from napari_unroll.events import Event
from napari_unroll.methods.algorithms.half_quadratic import HalfQuadraticParams, half_quadratic
from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.algorithms.reconstruct import network_bytes, network_config
from napari_unroll.methods.memory import Sizes, with_network
from napari_unroll.methods.networks import ram
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.problem import Learning, Method, Problem
from napari_unroll.methods.steps.final import with_final_step, with_memory_of_step
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.methods.weights import Weights, load, select_weights, shipped_for
from napari_unroll.record import FileName
from napari_unroll.scan.scan import Modality, Scan

SOURCE = "Zhang et al. 2021, doi:10.1109/TPAMI.2021.3088914"


class RAMParams(HalfQuadraticParams):
    """Choices of half-quadratic splitting with the foundation model."""

    weights: FileName = Field(
        "auto",
        description=f"File of the weights ({ram.FILE}, or .safetensors), or auto: the hub's cache on this machine.",
    )


def _network(modality: Modality) -> NetworkConfig:
    dim: Literal[2, 3] = 2 if modality == "image" else 3
    return NetworkConfig(iteration="one-pass", prior=DRUNetConfig(dim=dim, complex_valued=modality == "mri"))


def _training(modality: Modality) -> dict[str, Any]:
    """Denoisers see little at a time, so patches are small."""
    patch = (1, 64, 64) if modality == "image" else (32, 32, 32)
    return {
        "patch_size": patch,
        "batch_size": 2 if modality != "image" else 16,
        "learning_rate": 2e-3,
        "warmup": 50,
        "ema": 0.99,
    }


def find_denoiser(scan: Scan, params: HalfQuadraticParams) -> Weights:
    """The weights that were asked for. Denoisers know nothing of scanners, so that of CT slices serves images too.

    Raises WeightsError where there are none.
    """
    if scan.modality == "image" and params.weights == "auto":
        flat = [w for w in shipped_for("dpir", "ct") if w.config.prior.dim == 2]
        return (shipped_for("dpir", "image") or flat or [select_weights("dpir", scan, "auto")])[0]
    return select_weights("dpir", scan, params.weights)


def solve(problem: Problem, params: HalfQuadraticParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x), from FDK or the zero-filled image."""
    weights = find_denoiser(problem.scan, params)
    network = load(weights, ("dpir",), problem.y.is_complex(), problem.network_device)
    start = yield from first_estimate(problem, network.config.start_iterations, network.config.follows_noise)
    return (yield from half_quadratic(problem, params, network.prior(0), start))


def solve_ram(problem: Problem, params: RAMParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x), from FDK or the zero-filled image; the denoiser works slice by slice."""
    denoiser = ram.load(ram.find(params.weights), problem.network_device)
    start = yield from first_estimate(problem, 0)
    return (yield from half_quadratic(problem, params, denoiser, start))


def _memory(sizes: Sizes, params: HalfQuadraticParams) -> int:
    """The estimate, Aᴴy, what conjugate gradients need, and their sums in double precision; one patch's activations."""
    return network_bytes(sizes, params, _config(params), volumes=14, measurements=1)


def _config(params: HalfQuadraticParams) -> NetworkConfig:
    return network_config(params, _network("ct"))


def _memory_ram(sizes: Sizes, params: RAMParams) -> int:
    return ram.N_BYTES + with_network(sizes, ram.activation_bytes(sizes.patch), volumes=14, measurements=2)


DPIR = Method(
    name="dpir",
    title="Plug-and-play with a denoiser (DPIR)",
    summary="Data steps and a DRUNet denoiser in turn while the noise level falls; the denoiser knows nothing of the scanner.",
    source=SOURCE,
    params=HalfQuadraticParams,
    solve=with_final_step(solve),
    needs_weights=True,
    patchwise=True,
    memory=with_memory_of_step(_memory, lambda params: _config(params).prior.complex_valued),
    find_weights=find_denoiser,
    learning=Learning(network=_network, options=_training, task="denoise"),
)

DPIR_RAM = Method(
    name="dpir-ram",
    title="Plug-and-play with the foundation model RAM",
    summary="DPIR with deepinv's Reconstruct Anything Model as denoiser, slice by slice; you bring its weights.",
    source=f"{SOURCE}; Terris et al., Reconstruct Anything Model (2025), arXiv 2503.08915",
    params=RAMParams,
    solve=with_final_step(solve_ram),
    needs_weights=True,
    patchwise=True,
    memory=with_memory_of_step(_memory_ram),
    find_weights=lambda scan, params: ram.find(params.weights),
)

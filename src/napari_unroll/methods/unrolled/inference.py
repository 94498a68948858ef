"""What every reconstruction with a trained network shares: weights, passes over patches, their blend."""

from __future__ import annotations

import torch
from pydantic import Field

from napari_unroll.errors import WeightsError
from napari_unroll.methods.networks.prior import PriorConfig, activation_bytes
from napari_unroll.methods.problem import MethodParams, Problem
from napari_unroll.methods.unrolled.checkpoint import Weights, default_for, find, load_network
from napari_unroll.methods.unrolled.network import UnrolledPGD
from napari_unroll.patches.blend import Blender

MIRRORS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-3,))
"""Axes that are reversed in each pass of the self-ensemble; the first is the patch as it is."""


class NetworkParams(MethodParams):
    """Choices of every reconstruction with a trained network."""

    weights: str = Field("auto", description="Name of shipped weights, a .safetensors file, or auto for this modality.")
    self_ensemble: bool = Field(
        True,
        description="Every pass of the network is the mean over the patch and its three mirror images: better, but each "
        "takes as long as four.",
    )


@torch.no_grad()
def denoise(problem: Problem, network: UnrolledPGD, patch: torch.Tensor, k: int, ensemble: bool) -> torch.Tensor:
    """D_θ on a batch of patches in the plan's precision, or the mean of what it makes of their mirror images.

    The self-ensemble of Timofte et al. 2016, doi:10.1109/CVPR.2016.206, with mirrors only.
    """
    low = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(problem.precision)
    total = torch.zeros_like(patch)
    mirrors = MIRRORS if ensemble else MIRRORS[:1]
    with torch.autocast(patch.device.type, low, enabled=low is not None):
        for axes in mirrors:
            total += network.denoise(patch.flip(axes), k).flip(axes)
    return total / len(mirrors)


def batch_size(problem: Problem) -> int:
    """Patches per pass of the network: torch takes slow convolutions for one small volume on the CPU, not for two."""
    return 2 if problem.device.type == "cpu" else 1


def over(blender: Blender, x: torch.Tensor) -> torch.Tensor:
    """The blended patches over ``x`` (1, 1, z, y, x) where none has arrived."""
    return torch.where(blender.covered, blender.values(), x[0, 0])[None, None]


def chosen(modality: str, weights: str, task: str) -> Weights:
    """The weights of that name or file; auto: those shipped for modality and task. Raises WeightsError."""
    return default_for(modality, task) if weights == "auto" else find(weights)


def load(problem: Problem, weights: str, task: str) -> UnrolledPGD:
    """The network that was asked for. Raises WeightsError where it is for other scans, or for another task."""
    found = chosen(problem.scan.modality, weights, task)
    network = load_network(found.path, problem.device)
    if network.config.prior.complex_valued != problem.y.is_complex():
        kind = "complex (MRI)" if network.config.prior.complex_valued else "real (CT)"
        raise WeightsError(
            f"{found.name} is for {kind} volumes, this scan is {problem.scan.modality.upper()}; choose other weights."
        )
    if network.config.data_step != (task == "unrolled"):
        raise WeightsError(f"{found.name} is no network for {task}; choose other weights or another method.")
    return network


def memory(shape: tuple[int, int, int], patch_size: tuple[int, int, int], params: MethodParams) -> int:
    """Blending and iterates of the whole volume, the padded transform of the preconditioner, one patch's activations."""
    voxels = shape[0] * shape[1] * shape[2]
    return 8 * 4 * voxels + 4 * 4 * 8 * voxels + activation_bytes(PriorConfig(), patch_size)

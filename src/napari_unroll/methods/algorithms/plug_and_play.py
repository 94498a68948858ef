"""Plug-and-play: accelerated proximal gradient descent with a post-processing network as relaxed prior.

    v = z_k − τ Aᴴ(A z_k − y),    x_{k+1} = α D(v) + (1 − α) v,    α = τ λ μ / (1 + τ λ μ)

and z_{k+1} from x_{k+1} by momentum; τ = 1 / ‖AᴴA‖ and μ the mean eigenvalue of AᴴA, so that λ has no unit. The
relaxed network is the proximal map of (λ μ/2) ‖x − D(v)‖². Efficient Unrolled Networks, arXiv 2601.02141, appendix A.1, which
takes the relaxation from Vo et al., "Plug-and-Play Learned Proximal Trajectory for 3D Sparse-View X-Ray Computed Tomography"
(2024); Hurault et al., "Relaxed proximal gradient" (2023), arXiv 2301.13731.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field

from napari_unroll.events import Event, IterationDone
from napari_unroll.methods.algorithms.network import noise_told
from napari_unroll.methods.algorithms.passes import Clean, clean, prior_pass, relative_size
from napari_unroll.methods.algorithms.post_processing import drunet
from napari_unroll.methods.algorithms.reconstruct import NetworkParams, network_bytes, network_config
from napari_unroll.methods.classical.momentum import Momentum
from napari_unroll.methods.classical.strength import mean_eigenvalue
from napari_unroll.methods.memory import Sizes
from napari_unroll.methods.patchwise import Stage, grid_of
from napari_unroll.methods.problem import Method, Problem, as_values
from napari_unroll.methods.steps.final import with_final_step, with_memory_of_step
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.methods.weights import load, select_weights
from napari_unroll.scan.scan import Modality

NETWORKS = ("drunet", "unet")
"""Methods whose networks serve as prior; the first one's are the default."""
DEFAULT_STRENGTH = {"ct": 1.0, "mri": 0.1, "image": 10.0}
DEFAULT_ITERATIONS = {"ct": 12, "mri": 30, "image": 30}
MARGIN = 1.05
"""The power iteration approaches ‖AᴴA‖ from below."""


class PnPParams(NetworkParams):
    """Choices of plug-and-play proximal gradient descent."""

    self_ensemble: bool = Field(
        False,
        description="Every pass of the network is the mean over the patch and its three mirror images, in four times its time.",
    )
    strength: Annotated[float, Field(gt=0, le=1e6)] | Literal["auto"] = Field(
        "auto", description="λ, the weight of the network against the data; no unit. More trusts the network more."
    )
    n_iterations: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field(
        "auto", description="Largest number of steps; auto: 12 for CT, 30 for MRI and images."
    )
    stop_at_rise: bool = Field(
        True,
        description="End where the residual of the measurements begins to rise: from there on the network leads away from them.",
    )
    positivity: bool = Field(True, description="Keep real values at or above zero; has no effect on complex images.")
    tolerance: float = Field(
        1e-3, ge=0, le=1, description="Stop when a step changes the volume by less than this part."
    )

    def iterations_for(self, modality: Modality) -> int:
        """The largest number of steps for a scan of ``modality``."""
        return DEFAULT_ITERATIONS[modality] if self.n_iterations == "auto" else self.n_iterations


def solve(problem: Problem, params: PnPParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x), from the start that the network was trained for."""
    weights = select_weights(NETWORKS[0], problem.scan, params.weights)
    network = load(weights, NETWORKS, problem.y.is_complex(), problem.network_device)
    start = yield from first_estimate(problem, network.config.start_iterations, network.config.follows_noise)
    noise = noise_told(network.config, problem.scan, intensity_scale(start))
    prior = partial(network.denoise, k=0, noise=noise)
    return (yield from accelerated(problem, params, prior, start))


@dataclass(frozen=True)
class _Steps:
    """One run's prior and the numbers of its steps: τ, α, how many, and the scale that makes volumes dimensionless."""

    problem: Problem
    params: PnPParams
    prior: Clean
    stepsize: float
    relaxation: float
    n: int
    scale: float

    def relaxed(self, v: torch.Tensor) -> torch.Tensor:
        """α D(v) + (1 − α) v on patches, at or above zero where that is asked for."""
        cleaned = clean(self.prior, v, self.problem.precision, self.params.self_ensemble)
        x = torch.lerp(v, cleaned, self.relaxation)
        return x.clamp(min=0) if self.params.positivity and not x.is_complex() else x

    def step(self, it: Momentum, descent: torch.Tensor, k: int) -> Generator[Event, None, torch.Tensor]:
        """x_{k+1} from Aᴴ(y − A z_k)."""
        v, n_patches = it.z + self.stepsize * descent, len(grid_of(self.problem))
        stage = Stage(f"iteration {k + 1} of {self.n}", k * n_patches, self.n * n_patches)
        distance = partial(relative_size, descent, self.problem.adjoint)
        work = prior_pass(self.problem, v / self.scale, self.relaxed, stage, self.scale, distance)
        return (yield from work) * self.scale


def accelerated(
    problem: Problem, params: PnPParams, prior: Clean, start: torch.Tensor
) -> Generator[Event, None, torch.Tensor]:
    """The iterations with a given ``prior`` from ``start`` (1, 1, z, y, x); returns the volume (z, y, x).

    ``residual`` is ‖A z − y‖ / ‖y‖ at the extrapolated point, which costs nothing extra.
    """
    steps, kept = (yield from _steps(problem, params, prior, start)), problem.state
    size = max(problem.size, 1e-300)
    it: Momentum = kept.setdefault("momentum", Momentum(start, start))
    for k in range(kept.get("iteration", 0), steps.n):
        left = problem.residual_at(it.z)
        residual = left.norm() / size
        if params.stop_at_rise and k > 1 and residual > kept["residual"]:
            break
        x = yield from steps.step(it, left.image(), k)
        change = it.move(x)
        kept.update(x=it.x, iteration=k + 1, residual=residual)
        yield IterationDone(k + 1, steps.n, residual, as_values(it.x), {"change": change})
        if change < params.tolerance:
            break
    return it.x[0, 0]


def _steps(problem: Problem, params: PnPParams, prior: Clean, start: torch.Tensor) -> Generator[Event, None, _Steps]:
    modality = problem.scan.modality
    stepsize = 1.0 / (MARGIN * (yield from problem.find_norm()))
    strength = DEFAULT_STRENGTH[modality] if params.strength == "auto" else params.strength
    weight = stepsize * strength * mean_eigenvalue(problem.physics)
    n = params.iterations_for(modality)
    return _Steps(problem, params, prior, stepsize, weight / (1 + weight), n, intensity_scale(start))


def _memory(sizes: Sizes, params: PnPParams) -> int:
    """Iterates, extrapolated point, Aᴴy, gradient, step, the blended volume and its weights; one patch's activations."""
    config = network_config(params, drunet("ct"))
    return network_bytes(sizes, params, config, volumes=15, measurements=2)


PNP_PGD = Method(
    name="pnp-pgd",
    title="Plug-and-play proximal gradient",
    summary="Gradient steps on the data with the post-processing network as relaxed prior: keeps to the measurements, "
    "needs no training of its own.",
    source="Efficient Unrolled Networks, arXiv 2601.02141, appendix A.1; Hurault et al. 2023, arXiv 2301.13731",
    params=PnPParams,
    solve=with_final_step(solve),
    needs_weights=True,
    patchwise=True,
    memory=with_memory_of_step(_memory),
    find_weights=lambda scan, params: select_weights(NETWORKS[0], scan, params.weights),
    network_of=NETWORKS,
)

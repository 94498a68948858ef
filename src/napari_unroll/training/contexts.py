"""What a local problem is told of everything around it: estimates x̂ with their residual images r̂ = Aᴴ(y − A x̂).

Inside a patch the data gradient is (P Ñ Pᵀ)(u − P x̂) − P r̂ (Efficient Unrolled Networks, sec. 4.1). Where Ñ = N it is
the same for every x̂. Where Ñ only resembles N, x̂ = x* hands the network what no scan holds: Ñ(u − x*) also points at
the truth in the null space of A. Iterates of the network itself hold nothing but the scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from napari_unroll.events import Box, result_of
from napari_unroll.methods.algorithms.iterations import State
from napari_unroll.methods.algorithms.network import USUAL_NOISE, Network, NetworkConfig
from napari_unroll.methods.equilibrium.layer import solve
from napari_unroll.methods.equilibrium.report import hearing
from napari_unroll.methods.journal import Patch
from napari_unroll.methods.patchwise import Stage, sliding_window
from napari_unroll.methods.steps.data import Data
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.patches.context import cut
from napari_unroll.patches.grid import PatchGrid
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.team import in_turn
from napari_unroll.training.options import TrainOptions

Volumes = dict[str, np.ndarray]
"""The volumes (z, y, x) of a sample by name."""
MakeContexts = Callable[[Volumes, int], tuple[np.ndarray, np.ndarray]]
"""(volumes, scanner) → x̂_k and r̂_k, (k, z, y, x) each; the last one stands for all later iterations."""
PATCH, OVERLAP = 96, 8
"""Of the network's passes over whole volumes: up to this edge in one piece."""


def noise_of(volumes: Volumes) -> float:
    """The noise that the scan of a sample is told to have; samples without one have the usual."""
    return float(volumes.get("noise", USUAL_NOISE))


def follows_trajectory(config: NetworkConfig, options: TrainOptions) -> bool:
    """Whether a training needs trajectories, and so the exact operators: a network without data steps has no context."""
    return config.has_data_steps and options.context == "trajectory"


def true_context(volumes: Volumes, scanner: int) -> tuple[np.ndarray, np.ndarray]:
    """The truth for all iterations, as in the paper."""
    return volumes["truth"][None], volumes["residual_truth"][None]


def start_context(volumes: Volumes, scanner: int) -> tuple[np.ndarray, np.ndarray]:
    """The start for all iterations: nothing that only the truth could tell, and nothing to be made."""
    return volumes["start"][None], volumes["residual_start"][None]


def no_context(volumes: Volumes, scanner: int) -> tuple[np.ndarray, np.ndarray]:
    """None at all, for networks that never look at the measurements."""
    return volumes["truth"][None][:0], volumes["truth"][None][:0]


@dataclass(frozen=True)
class Contexts:
    """How contexts are made, and how often those that are costly to make are used again.

    Per scanner ``n_open`` samples are held with their contexts, each until ``uses`` patches of it were drawn.
    """

    make: MakeContexts
    n_open: int = 1
    uses: int = 1


TRUE_CONTEXTS = Contexts(true_context)
START_CONTEXTS = Contexts(start_context)
NO_CONTEXTS = Contexts(no_context)


class Trajectory:
    """The iterates x_k that the network makes of the whole volume with the exact operator, and their residual images.

    So iteration k of a local problem sees what it will see in a reconstruction. ``operators`` (exact) and
    ``scanners`` (its factors) are one per scanner; ``low_precision`` is the type of autocast. One call costs K − 1
    exact applications of AᴴA and passes of the network, without gradients.
    """

    def __init__(
        self,
        network: Network,
        operators: Sequence[VolumePhysics],
        scanners: Sequence[NormalFactors],
        low_precision: torch.dtype | None = None,
    ) -> None:
        self.network, self.operators, self.scanners, self.low_precision = network, operators, scanners, low_precision

    @torch.no_grad()
    def __call__(self, volumes: Volumes, scanner: int) -> tuple[np.ndarray, np.ndarray]:
        """x_k and r_k = Aᴴ(y − A x_k), k = 0 … K − 1, (k, z, y, x) each; of y it needs the sample's residual image only.

        Of an equilibrium its fixed point alone, which is that of every local problem whatever Ñ is: what Ñ makes of u − P x̂ is
        nothing where u is P x̂.
        """
        physics, factors = self.operators[scanner], self.scanners[scanner]
        start, first = (
            torch.from_numpy(volumes[name])[None, None].to(factors.device) for name in ("start", "residual_start")
        )

        def residual(x: torch.Tensor) -> torch.Tensor:
            return first - physics.normal(x - start)

        noise = noise_of(volumes)
        equilibrium = self.network.config.equilibrium
        if equilibrium is not None:
            with hearing():  # no step of the training
                found = solve(lambda x: self._iterate(State(x), residual(x), 0, scanner, noise).x, start, equilibrium)
            return _stacked([found]), _stacked([residual(found)])
        contexts, residuals, state = [start], [first], State(start)
        for k in range(self.network.n_iterations - 1):
            state = self._iterate(state, residuals[-1], k, scanner, noise)
            contexts.append(state.x)
            residuals.append(residual(state.x))
        return _stacked(contexts), _stacked(residuals)

    def _iterate(self, state: State, residual: torch.Tensor, k: int, scanner: int, noise: float) -> State:
        """The state after iteration k, with the prior in patches where the volume is large."""
        x, network, factors = state.x, self.network, self.scanners[scanner]
        data = Data.whole(factors, x, residual, self.operators[scanner].normal)
        given = network.before(state, k, data)

        def apply(boxes: list[Box]) -> list[Patch]:
            with torch.autocast(x.device.type, self.low_precision, enabled=self.low_precision is not None):
                cleaned = network.denoise(cut(given, boxes), k, noise)
            return [Patch(box, values) for box, values in zip(boxes, cleaned, strict=True)]

        grid = PatchGrid((x.shape[-3], x.shape[-2], x.shape[-1]), PATCH, OVERLAP)
        cleaned = result_of(sliding_window(grid, x, partial(in_turn, apply=apply), Stage("trajectory"), n_batch=1))
        return network.after(state, cleaned, k, data)


def _stacked(volumes: Sequence[torch.Tensor]) -> np.ndarray:
    """(k, z, y, x) from volumes (1, 1, z, y, x)."""
    return np.asarray(torch.cat([v[0] for v in volumes]).cpu().numpy())

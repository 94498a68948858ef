"""Local problems in their context: the task of every network that looks at the measurements or begins with their estimate.

∇f(u) = (P Ñ Pᵀ)(u − P x̂) − P r̂ (Efficient Unrolled Networks, arXiv 2601.02141, sec. 4.1): no projector runs in a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from napari_unroll.errors import ParameterError
from napari_unroll.methods.algorithms.network import Network
from napari_unroll.methods.steps.data import Data
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.patches.context import ExactNormal, LocalNormal, LocalProblem, Restrictable, WholeNormal
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.training.contexts import START_CONTEXTS, TRUE_CONTEXTS, Contexts, Trajectory, follows_trajectory
from napari_unroll.training.options import TrainOptions
from napari_unroll.training.precision import low_precision
from napari_unroll.training.sampler import Batch, PatchSampler

N_OPEN = 4
"""Samples per scanner whose trajectories are held at a time."""


def operators_for(
    partition: str, factors: Sequence[NormalFactors], physics: Sequence[VolumePhysics]
) -> Sequence[Restrictable]:
    """The normal operators of local problems, one per scanner.

    Raises ParameterError where exact operators are asked for and there are none.
    """
    if partition == "approximated":
        return factors
    if len(physics) != len(factors):
        raise ParameterError(f"Training with partition={partition} needs the exact operator of every scanner.")
    return [WholeNormal(p) if partition == "global" else ExactNormal(p) for p in physics]


class PatchTask:
    """Reconstruct patches whose surroundings are known.

    ``factors`` are the fitted normal operators and ``physics`` the exact ones, one per scanner of the samples; the latter are
    needed where contexts are trajectories, or where ``options.partition`` asks for exact operators in the loop.
    """

    def __init__(
        self,
        sampler: PatchSampler,
        factors: Sequence[NormalFactors],
        options: TrainOptions,
        physics: Sequence[VolumePhysics] = (),
        device: str = "cpu",
    ) -> None:
        self.sampler, self.options, self.physics, self.device = sampler, options, physics, device
        self.factors = [f.to(device) for f in factors]
        self.operators = operators_for(options.partition, self.factors, physics)
        self.low_precision = low_precision(options.precision, device)
        self._contexts = START_CONTEXTS if options.context == "start" else TRUE_CONTEXTS

    def begin(self, average: Network) -> None:
        """Contexts may be what the averaged network makes. Raises ParameterError where they need operators that are missing."""
        if not follows_trajectory(average.config, self.options):
            return
        if len(self.physics) != len(self.factors):
            raise ParameterError("Contexts from trajectories need the exact operator of every scanner.")
        trajectory = Trajectory(average, self.physics, self.factors, self.low_precision)
        self._contexts = Contexts(trajectory, N_OPEN, self.options.context_uses)

    def loss(self, network: Network, is_early: bool) -> torch.Tensor:
        """Of a batch with the contexts that are due: trajectories are no use before the network is."""
        contexts = TRUE_CONTEXTS if is_early and self.options.context == "trajectory" else self._contexts
        batch = self.sampler.draw(self.options.batch_size, self.device, contexts)
        source = self.in_context(batch) if network.config.has_data_steps else None
        low = self.low_precision
        with torch.autocast(torch.device(self.device).type, low, enabled=low is not None):
            trace = network(self._start(network, batch, contexts), source, self.options.recompute, batch.noise)
        return loss(trace.iterates, batch, self.options.auxiliary) + network.penalty(trace.iterates[-1])

    def in_context(self, batch: Batch) -> InContext:
        """The data term of a batch."""
        return InContext(batch, self.factors[batch.scanner], self.operators[batch.scanner])

    def _start(self, network: Network, batch: Batch, contexts: Contexts) -> torch.Tensor:
        """Where iterations begin; the search for a fixed point near the one that it had when the context was made."""
        is_near = network.config.equilibrium is not None and contexts is not TRUE_CONTEXTS
        return batch.contexts[-1] if is_near else batch.start


@dataclass(frozen=True)
class InContext:
    """The data term of a batch: iteration k sees context k."""

    batch: Batch
    factors: NormalFactors
    operator: Restrictable

    def at(self, x: torch.Tensor, k: int) -> Data:
        """Around the context of iteration k, whatever x is."""
        k = min(k, len(self.batch.contexts) - 1)
        local = LocalProblem(self._restricted, self.batch.contexts[k], self.batch.residuals[k])
        return Data(local, self.factors, self.batch.boxes)

    @cached_property
    def _restricted(self) -> LocalNormal:
        return self.operator.restrict(self.batch.boxes)


def loss(iterates: Sequence[torch.Tensor], batch: Batch, auxiliary: float) -> torch.Tensor:
    """Mean squared error of the last iterate plus ``auxiliary`` times that of the others.

    Per patch divided by the start's error, so that easy and hard scanners weigh the same.
    """
    start = _errors(batch.start, batch) + 1e-4
    losses = [(_errors(x, batch) / start).mean() for x in iterates]
    return losses[-1] + auxiliary * sum(losses[:-1], torch.zeros((), device=start.device))


def _errors(x: torch.Tensor, batch: Batch) -> torch.Tensor:
    return (x - batch.truth).abs().square().mean((1, 2, 3, 4))

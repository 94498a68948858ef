"""One iteration of each algorithm: what the prior is given, and what becomes of its answer.

Every iteration calls the prior once, so it is written in two halves, ``before`` and ``after``: between them training passes
the patches of a batch through the prior, reconstruction slides a window over the volume.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

DataStep = Callable[[torch.Tensor], torch.Tensor]
"""The data step of the present iteration, from any point."""


@dataclass(frozen=True)
class State:
    """The iterate x (batch, 1, z, y, x), and what splitting methods carry beside it: z and the scaled dual variable."""

    x: torch.Tensor
    z: torch.Tensor | None = None
    dual: torch.Tensor | None = None


class Iteration(ABC):
    """One iteration; ``data_step`` is the kind of data step that it takes, None where it takes none."""

    data_step: ClassVar[str | None] = None

    @abstractmethod
    def before(self, state: State, step: DataStep) -> torch.Tensor:
        """What the prior is given."""

    @abstractmethod
    def after(self, state: State, cleaned: torch.Tensor, step: DataStep) -> State:
        """The next state."""


class OnePass(Iteration):
    """Post-processing: x = D(x_0)."""

    def before(self, state: State, step: DataStep) -> torch.Tensor:
        """The start."""
        return state.x

    def after(self, state: State, cleaned: torch.Tensor, step: DataStep) -> State:
        """The answer."""
        return State(cleaned)


class ProximalGradient(Iteration):
    """x_{k+1} = D(x_k − η_k M ∇f(x_k)) (Efficient Unrolled Networks, arXiv 2601.02141, eq. 4)."""

    data_step = "gradient"

    def before(self, state: State, step: DataStep) -> torch.Tensor:
        """The data step."""
        return step(state.x)

    def after(self, state: State, cleaned: torch.Tensor, step: DataStep) -> State:
        """The answer."""
        return State(cleaned)


class HalfQuadratic(Iteration):
    """x_{k+1} = (I + τ_k N)⁻¹(D(x_k) + τ_k Aᴴy): half-quadratic splitting, as MoDL unrolls it (doi:10.1109/TMI.2018.2865356)."""

    data_step = "resolvent"

    def before(self, state: State, step: DataStep) -> torch.Tensor:
        """The iterate."""
        return state.x

    def after(self, state: State, cleaned: torch.Tensor, step: DataStep) -> State:
        """The data step."""
        return State(step(cleaned))


ITERATIONS: dict[str, Iteration] = {
    "one-pass": OnePass(),
    "proximal-gradient": ProximalGradient(),
    "half-quadratic": HalfQuadratic(),
}

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

    def rate(self, prior: float) -> float | None:
        """What an iteration contracts by where Lip(D) ≤ ``prior`` and its data step takes no two points apart, if anything."""
        return None


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

    def rate(self, prior: float) -> float:
        """That of the prior."""
        return prior


class GradientDescent(Iteration):
    """x_{k+1} = ½(x_k − η M ∇f(x_k)) + ½ D(x_k): a step along the gradient of data and regulariser, R(x) = x − D(x).

    DE-GRAD of Gilton, Ongie, Willett, "Deep Equilibrium Architectures for Inverse Problems in Imaging" (2021),
    doi:10.1109/TCI.2021.3118944, eq. 12, with a step of ½; where Lip(D) ≤ L and η ≤ 1 it takes no two points further apart than
    (1 + L)/2 times.
    """

    data_step = "gradient"

    def before(self, state: State, step: DataStep) -> torch.Tensor:
        """The iterate."""
        return state.x

    def after(self, state: State, cleaned: torch.Tensor, step: DataStep) -> State:
        """The mean of data step and answer."""
        return State((step(state.x) + cleaned) / 2)

    def rate(self, prior: float) -> float:
        """The mean of both."""
        return (1 + prior) / 2


class HalfQuadratic(Iteration):
    """x_{k+1} = (I + τ_k N)⁻¹(D(x_k) + τ_k Aᴴy): half-quadratic splitting, as MoDL unrolls it (doi:10.1109/TMI.2018.2865356)."""

    data_step = "resolvent"

    def before(self, state: State, step: DataStep) -> torch.Tensor:
        """The iterate."""
        return state.x

    def after(self, state: State, cleaned: torch.Tensor, step: DataStep) -> State:
        """The data step."""
        return State(step(cleaned))

    def rate(self, prior: float) -> float:
        """That of the prior."""
        return prior


class ADMM(Iteration):
    """z = D(x_k + w), x_{k+1} = (I + τN)⁻¹(z − w + τAᴴy), w ← w + x_{k+1} − z, as ADMM-Net unrolls it.

    Yang, Sun, Li, Xu, "ADMM-CSNet" (2020), doi:10.1109/TPAMI.2018.2883941, with one network for the proximal map.
    """

    data_step = "resolvent"

    def before(self, state: State, step: DataStep) -> torch.Tensor:
        """The iterate and the scaled dual variable."""
        return state.x if state.dual is None else state.x + state.dual

    def after(self, state: State, cleaned: torch.Tensor, step: DataStep) -> State:
        """The data step, and the dual step."""
        dual = torch.zeros_like(cleaned) if state.dual is None else state.dual
        x = step(cleaned - dual)
        return State(x, cleaned, dual + x - cleaned)


@dataclass(frozen=True)
class AveragedResolvent(Iteration):
    """x_{k+1} = (I + τN)⁻¹((1 − α)x_k + α H(x_k) + τAᴴy), τ = αλ: MOL, doi:10.1109/TCI.2023.3252268, eq. 14.

    Where Lip(H) ≤ L < 1 it contracts by 1 − α(1 − L) at least, and x + λ(N x − Aᴴy) = H(x) at its one fixed point.
    """

    data_step: ClassVar[str | None] = "resolvent"
    averaging: float = 0.5

    def before(self, state: State, step: DataStep) -> torch.Tensor:
        """The iterate."""
        return state.x

    def after(self, state: State, cleaned: torch.Tensor, step: DataStep) -> State:
        """The data step from the mean of iterate and answer."""
        return State(step((1 - self.averaging) * state.x + self.averaging * cleaned))

    def rate(self, prior: float) -> float:
        """1 − α(1 − L)."""
        return 1 - self.averaging * (1 - prior)


ITERATIONS: dict[str, Iteration] = {
    "one-pass": OnePass(),
    "proximal-gradient": ProximalGradient(),
    "half-quadratic": HalfQuadratic(),
    "gradient": GradientDescent(),
    "admm": ADMM(),
    "averaged-resolvent": AveragedResolvent(),
}

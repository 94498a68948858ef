"""The network of every learned method: a prior and a data step in an iteration, as one record and one module.

Training sees ``forward``; reconstruction steps through ``before``, its own passes of the prior, and ``after``. Knows tensors
and the data term only: no files, no loops over patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch.utils.checkpoint import checkpoint

from napari_unroll.methods.algorithms.iterations import ITERATIONS, AveragedResolvent, DataStep, State
from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.equilibrium.layer import fixed_point
from napari_unroll.methods.equilibrium.lipschitz import LipschitzConfig, barrier, lipschitz_at
from napari_unroll.methods.networks.convolution import refresh
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.networks.kinds import AnyPriorConfig
from napari_unroll.methods.networks.prior import Prior
from napari_unroll.methods.problem import MethodParams
from napari_unroll.methods.steps.data import Data, DataSource
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.methods.steps.resolvent import ResolventStepConfig
from napari_unroll.scan.noise import relative_noise
from napari_unroll.scan.scan import Scan

WITHOUT_FIXED_POINT = ("one-pass", "admm")
"""Iterations without one: nothing is repeated, or more than the iterate is."""
USUAL_NOISE = 0.01
"""Relative to the intensity scale: where σ_k alone is told to priors that follow the noise."""
MOST_NOISE = 0.1
"""More than that is not told."""
AnyDataStep = Annotated[GradientStepConfig | ResolventStepConfig, Field(discriminator="kind")]


class NetworkConfig(MethodParams):
    """Architecture of a learned method; stored with its weights."""

    iteration: Literal["proximal-gradient", "half-quadratic", "one-pass", "gradient", "admm", "averaged-resolvent"] = (
        Field("proximal-gradient", description="The algorithm that is unrolled; one-pass: the prior alone, once.")
    )
    data_step: AnyDataStep | None = Field(None, description="How an iteration looks at the measurements.")
    prior: AnyPriorConfig = Field(DRUNetConfig(), description="The network between data steps.")
    n_iterations: int = Field(4, ge=1, le=50, description="Unrolled iterations K.")
    n_priors: int = Field(
        1,
        ge=1,
        le=50,
        description="Priors with weights of their own, each for an equal run of iterations; 1: all iterations share one.",
    )
    final_step: bool = Field(False, description="Whether one more data step follows the last pass of the prior.")
    averaging: float = Field(
        0.5, gt=0, le=1, description="Of averaged-resolvent: α, the part that the prior's answer has in an iteration."
    )
    equilibrium: EquilibriumConfig | None = Field(
        None, description="How iterations are repeated to a fixed point; none: K of them."
    )
    lipschitz: LipschitzConfig = Field(
        LipschitzConfig(), description="What keeps the prior's Lipschitz constant small."
    )
    start_iterations: int = Field(
        0,
        ge=0,
        le=1000,
        description="FISTA steps of total variation for x_0; 0 starts from FDK or the zero-filled image.",
    )
    follows_noise: bool = Field(
        False,
        description="Whether the strength of the start and the σ that priors are told follow the noise measured in the scan "
        "(X-rays, k-space).",
    )

    @model_validator(mode="before")
    @classmethod
    def _suited_step(cls, values: object) -> object:
        """Data steps are of the kind that the iteration takes unless told; one pass is one iteration."""
        if not isinstance(values, dict):
            return values
        known = ITERATIONS.get(values.get("iteration", "proximal-gradient"))
        if known is None:
            return values
        if known.data_step is None:
            return {"n_iterations": 1, **values}
        if values.get("equilibrium") is not None:
            values = {"n_iterations": 1, **values}
        step = values.get("data_step") or {}
        return {**values, "data_step": {"kind": known.data_step, **step} if isinstance(step, dict) else step}

    @model_validator(mode="after")
    def _parts_fit(self) -> NetworkConfig:
        wanted, given = ITERATIONS[self.iteration].data_step, self.data_step.kind if self.data_step else None
        if wanted != given:
            raise ValueError(f"the iteration {self.iteration} takes {wanted or 'no'} data steps; got {given or 'none'}")
        if self.final_step and not self.has_data_steps:
            raise ValueError("a network without data steps cannot end with one; leave out final_step")
        if not self.has_data_steps and self.n_iterations != 1:
            raise ValueError("a network without data steps is one pass of its prior; n_iterations must be 1")
        if self.follows_noise and not self.prior.is_conditioned:
            raise ValueError(f"a {self.prior.name} is not told the noise; leave out follows_noise, or take a drunet")
        if self.n_priors > self.n_iterations:
            raise ValueError("there are more priors (n_priors) than iterations to use them (n_iterations)")
        return self

    @model_validator(mode="after")
    def _has_a_fixed_point(self) -> NetworkConfig:
        if self.lipschitz.kind == "layers" and not self.prior.can_be_normalised:
            raise ValueError(
                f"the layers of a {self.prior.name} cannot be normalised; choose a dncnn (no batch_norm) or cnn"
            )
        if self.equilibrium is None:
            return self
        if self.iteration in WITHOUT_FIXED_POINT:
            raise ValueError(f"the iteration {self.iteration} is not repeated to a fixed point; leave out equilibrium")
        if self.n_iterations != 1 or self.final_step:
            raise ValueError("one iteration is repeated to its fixed point: n_iterations must be 1, without final_step")
        if self.prior.kind == "shallow":
            raise ValueError("the shallow prior is an equilibrium itself; give another prior, or leave out equilibrium")
        return self

    @property
    def seeks_fixed_points(self) -> bool:
        """Whether an equilibrium is looked for, of the whole iteration or inside the prior; bfloat16 ends at 10⁻³ of it."""
        return self.equilibrium is not None or self.prior.kind == "shallow"

    @property
    def has_data_steps(self) -> bool:
        """Whether the network looks at the measurements again after its start."""
        return ITERATIONS[self.iteration].data_step is not None

    @property
    def title(self) -> str:
        """In words."""
        start = "the quick reconstruction"
        if self.start_iterations:
            start = f"{self.start_iterations} FISTA steps of total variation"
        if self.data_step is None:
            return f"one pass of a {self.prior.title}, from {start}"
        parts = [self._repeated, self.data_step.title]
        parts += [self.lipschitz.title] * (self.lipschitz.kind != "free")
        parts += ["one more data step at the end"] * self.final_step
        return ", ".join([*parts, f"from {start}"])

    @property
    def _repeated(self) -> str:
        """How often, with which prior."""
        if self.equilibrium is not None:
            return f"{self.iteration} with a {self.prior.title} {self.equilibrium.title}"
        owned = {self.n_iterations: ", each with its own", 1: " that share one"}
        shared = owned.get(self.n_priors, f" with {self.n_priors} times a")
        return f"K = {self.n_iterations} iterations{shared} {self.prior.title}"


def noise_told(config: NetworkConfig, scan: Scan, scale: float) -> float:
    """The noise of a scan for networks that follow it; the usual one otherwise or unknown.

    Of k-space relative to the intensity ``scale`` that the network divides by, of X-rays ‖noise‖ / ‖measurements‖: about a
    hundredth of usual scans both.
    """
    found = relative_noise(scan, scale) if config.follows_noise else None
    return USUAL_NOISE if found is None else min(found, MOST_NOISE)


@dataclass(frozen=True)
class Trace:
    """What training sees of a network: all iterates x_1 … x_K, (batch, 1, z, y, x) each."""

    iterates: list[torch.Tensor]


class Network(torch.nn.Module):
    """K iterations that share ``n_priors`` priors; step sizes and the noise level σ_k that priors are told are learned.

    With an ``equilibrium`` the one iteration is repeated to its fixed point.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        is_averaged = config.iteration == "averaged-resolvent"
        self.iteration = AveragedResolvent(config.averaging) if is_averaged else ITERATIONS[config.iteration]
        n = config.n_iterations
        self.priors = torch.nn.ModuleList(Prior(config.prior, config.lipschitz) for _ in range(config.n_priors))
        self.data_step = config.data_step.build(n) if config.data_step else None
        self.final_step = config.data_step.build(1, 0.0) if config.data_step and config.final_step else None
        self.sigma = torch.nn.Parameter(torch.linspace(0.2, 0.05, n)) if config.prior.is_conditioned else None
        self.noise_slope = torch.nn.Parameter(torch.zeros(n)) if config.follows_noise else None

    @property
    def n_iterations(self) -> int:
        """K."""
        return self.config.n_iterations

    def split_to(self, device: torch.device) -> Network:
        """The same network with its priors, and the noise that they are told, on ``device``; data steps stay where they are."""
        self.priors.to(device)
        for name in ("sigma", "noise_slope"):
            told = getattr(self, name)
            if told is not None:
                setattr(self, name, torch.nn.Parameter(told.detach().to(device), told.requires_grad))
        return self

    def before(self, state: State, k: int, data: Data | None) -> torch.Tensor:
        """What the prior of iteration k is given; ``data`` is None for a network without data steps."""
        return self.iteration.before(state, self._step(k, data))

    def denoise(self, x: torch.Tensor, k: int, noise: torch.Tensor | float = USUAL_NOISE) -> torch.Tensor:
        """D_θ of iteration k, told σ_k and, where it follows the ``noise`` of the scans, by how much they leave the usual.

        ``noise`` is that of ``noise_told``, one number or one per volume (batch, 1, 1, 1, 1).
        """
        if self.sigma is None:
            return self.prior(k)(x, 0.0)
        level = self.sigma[self._index(k)]
        if self.noise_slope is not None:
            level = level + self.noise_slope[self._index(k)] * (noise / USUAL_NOISE - 1)
        return self.prior(k)(x, level)

    def after(self, state: State, cleaned: torch.Tensor, k: int, data: Data | None) -> State:
        """The state after iteration k."""
        return self.iteration.after(state, cleaned, self._step(k, data))

    def step(self, state: State, k: int, data: Data | None, noise: torch.Tensor | float = USUAL_NOISE) -> State:
        """One whole iteration on patches, or on volumes that the prior takes in one piece."""
        return self.after(state, self.denoise(self.before(state, k, data), k, noise), k, data)

    def finish(self, x: torch.Tensor, data: Data | None) -> torch.Tensor:
        """The data step after the last prior, where the network has one: measured detail that the prior took for noise."""
        return x if self.final_step is None else self.final_step(x, 0, data)

    def forward(
        self,
        x: torch.Tensor,
        source: DataSource | None,
        recompute: bool = False,
        noise: torch.Tensor | float = USUAL_NOISE,
    ) -> Trace:
        """All iterates from the start x (batch, 1, z, y, x), or the fixed point alone; ``noise`` as for ``denoise``.

        With ``recompute`` the backward pass computes every iteration again instead of keeping its activations: the
        memory of one iteration for about a third more time. A fixed point keeps those of one iteration anyway, and none then.
        """
        if self.training:
            refresh(self)
        if self.config.equilibrium is not None:
            assert source is not None
            return Trace([self._fixed_point(x, source, self.config.equilibrium, recompute, noise)])
        state, iterates = State(x), []
        for k in range(self.n_iterations):
            data = None if source is None else source.at(state.x, k)
            step = partial(checkpoint, self.step, use_reentrant=False) if recompute else self.step
            state = step(state, k, data, noise)
            iterates.append(state.x)
        if source is not None:
            iterates[-1] = self.finish(state.x, source.at(state.x, self.n_iterations - 1))
        return Trace(iterates)

    def _fixed_point(
        self,
        x: torch.Tensor,
        source: DataSource,
        equilibrium: EquilibriumConfig,
        recompute: bool,
        noise: torch.Tensor | float,
    ) -> torch.Tensor:
        def evaluate(z: torch.Tensor) -> torch.Tensor:
            return self.step(State(z), 0, source.at(z, 0), noise).x

        return fixed_point(evaluate, x, equilibrium, recompute)

    @property
    def promised_rate(self) -> float | None:
        """A bound on ‖f(z) − f(z')‖ / ‖z − z'‖ of an iteration that its layers guarantee, None where nothing does."""
        if self.config.lipschitz.kind != "layers" or self.data_step is None or not self.data_step.is_nonexpansive:
            return None
        return self.iteration.rate(self.config.lipschitz.bound)

    def penalty(self, x: torch.Tensor) -> torch.Tensor:
        """What the Lipschitz constant of the first prior near x (batch, 1, z, y, x) adds to the loss; 0 without a penalty."""
        chosen = self.config.lipschitz
        if chosen.kind != "penalty":
            return torch.zeros((), device=x.device)
        found = lipschitz_at(lambda u: self.denoise(u, 0), x, chosen.ascent_steps)
        return chosen.weight * barrier(found, chosen.bound).mean()

    def prior(self, k: int) -> Prior:
        """The prior of iteration k: the first K / n_priors iterations share one, the next the second, and so on."""
        prior = self.priors[self._index(k) * len(self.priors) // self.n_iterations]
        assert isinstance(prior, Prior)
        return prior

    def activation_bytes(self, patch: Sequence[int]) -> int:
        """Peak bytes of one pass of the prior over a patch (z, y, x), without gradients."""
        z, y, x = patch
        return self.config.prior.activation_bytes((z, y, x))

    def _step(self, k: int, data: Data | None) -> DataStep:
        """The data step of iteration k."""

        def step(x: torch.Tensor) -> torch.Tensor:
            assert self.data_step is not None
            assert data is not None
            return self.data_step(x, k, data)

        return step

    def _index(self, k: int) -> int:
        """Iterations beyond the trained ones repeat the last."""
        return min(k, self.n_iterations - 1)

"""Unrolled proximal gradient: the module that is trained and the module that reconstructs.

METHOD: x_{k+1} = D_θ(x_k − η_k M ∇f(x_k)), k = 0 … K−1 (Efficient Unrolled Networks, eq. 4), where ∇f is whatever data
gradient the caller has: the whole volume's, exact or approximated, or a patch's with its context. M is the identity as in the
paper, or the regularised inverse of the approximated normal operator, which makes the step dimensionless and lets few
iterations reach all frequencies; a step of length 1 is then the proximal map of the data term, as nearly as M is that inverse.
Knows tensors and callables only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field, model_validator
from torch.utils.checkpoint import checkpoint

from napari_unroll.methods.networks.prior import Prior, PriorConfig
from napari_unroll.methods.problem import MethodParams
from napari_unroll.normal.precondition import Apply

Gradient = Callable[[torch.Tensor, int], torch.Tensor]


class UnrolledConfig(MethodParams):
    """Architecture of an unrolled network; stored with its weights."""

    prior: PriorConfig = PriorConfig()
    n_iterations: int = Field(4, ge=1, le=50, description="Unrolled iterations K.")
    n_priors: int = Field(
        1,
        ge=1,
        le=50,
        description="Priors with weights of their own, each for an equal run of iterations; 1: all iterations share one.",
    )
    preconditioner: float | None = Field(
        0.05,
        gt=0,
        le=1000,
        description="Relative α of M = (Ñ + α‖Ñ‖)⁻¹; None for the paper's gradient step, M = 1/‖N‖.",
    )
    degree: int = Field(
        0,
        ge=0,
        le=30,
        description="0: M is one convolution, which suits Ñ = D·C. Above: M is the Chebyshev polynomial of this degree in Ñ, "
        "for multi-coil MRI.",
    )
    substeps: int = Field(
        1,
        ge=1,
        le=8,
        description="Equal parts of a data step, with the gradient carried on by Ñ between them, so that long steps do not "
        "overshoot where M N is large.",
    )
    final_step: bool = Field(False, description="Whether one more data step follows the last pass of the prior.")
    start_iterations: int = Field(
        0,
        ge=0,
        le=1000,
        description="FISTA steps of total variation for x_0; 0 starts from FDK or the zero-filled image.",
    )
    data_step: bool = Field(True, description="False: a post-processing network, D_θ applied once.")

    @model_validator(mode="after")
    def _parts_of_what(self) -> UnrolledConfig:
        if self.degree and self.preconditioner is None:
            raise ValueError("degree is that of the preconditioner; give its α too (preconditioner=0.2), or degree=0")
        if self.final_step and not self.data_step:
            raise ValueError("a network without data steps cannot end with one; leave out final_step")
        if self.n_priors > (self.n_iterations if self.data_step else 1):
            raise ValueError("there are more priors (n_priors) than iterations to use them (n_iterations)")
        return self

    @property
    def title(self) -> str:
        """In words."""
        start = "the quick reconstruction"
        if self.start_iterations:
            start = f"{self.start_iterations} FISTA steps of total variation"
        if not self.data_step:
            return f"one pass of a {self.prior.title}, from {start}"
        owned = {self.n_iterations: ", each with its own", 1: " that share one"}
        shared = owned.get(self.n_priors, f" with {self.n_priors} times a")
        polynomial = f" by a polynomial of degree {self.degree}" if self.degree else ""
        parts = [f"K = {self.n_iterations} iterations{shared} {self.prior.title}"]
        parts += [f"preconditioner {self.preconditioner or 'none'}{polynomial}"]
        parts += [f"data steps in {self.substeps} parts"] * (self.substeps > 1)
        parts += ["one more data step at the end"] * self.final_step
        return ", ".join([*parts, f"from {start}"])


class UnrolledPGD(torch.nn.Module):
    """K proximal-gradient iterations that share ``n_priors`` priors; η_k and the conditioning σ_k are learned per iteration.

    Without ``data_step`` it is the post-processing baseline: one pass of D_θ.
    """

    def __init__(self, config: UnrolledConfig) -> None:
        super().__init__()
        self.config = config
        self.priors = torch.nn.ModuleList(Prior(config.prior) for _ in range(config.n_priors))
        n = config.n_iterations if config.data_step else 1
        self.stepsize = torch.nn.Parameter(torch.full((n,), 1.0))
        self.sigma = torch.nn.Parameter(torch.linspace(0.2, 0.05, n))
        self.final_stepsize = torch.nn.Parameter(torch.zeros(())) if config.final_step else None

    @property
    def n_iterations(self) -> int:
        """K."""
        return len(self.sigma)

    def step(self, x: torch.Tensor, k: int, gradient: Gradient, precondition: Apply) -> torch.Tensor:
        """x − η_k M ∇f(x): the data step, ahead of the prior.

        In n parts it is η_k/n, n times: errors of eigenvalue λ of M N shrink by (1 − η_k λ/n)ⁿ instead of 1 − η_k λ. Where
        ∇f is costly it may be that of a ``LocalProblem`` whose context is x.
        """
        if not self.config.data_step:
            return x
        return self._descend(x, self.stepsize[self._index(k)], lambda u: gradient(u, k), precondition)

    def final_step(self, x: torch.Tensor, gradient: Apply, precondition: Apply) -> torch.Tensor:
        """The data step after the last prior, where the network has one: measured detail that the prior took for noise."""
        return x if self.final_stepsize is None else self._descend(x, self.final_stepsize, gradient, precondition)

    def _descend(self, x: torch.Tensor, length: torch.Tensor, gradient: Apply, precondition: Apply) -> torch.Tensor:
        part = length / self.config.substeps
        for _ in range(self.config.substeps):
            x = x - part * precondition(gradient(x))
        return x

    def denoise(self, x: torch.Tensor, k: int) -> torch.Tensor:
        """D_θ of iteration k."""
        return self.prior(k)(x, self.sigma[self._index(k)])

    def prior(self, k: int) -> Prior:
        """The prior of iteration k: the first K / n_priors iterations share one, the next the second, and so on."""
        prior = self.priors[self._index(k) * len(self.priors) // self.n_iterations]
        assert isinstance(prior, Prior)
        return prior

    def _index(self, k: int) -> int:
        """Iterations beyond the trained ones repeat the last."""
        return min(k, self.n_iterations - 1)

    def forward(
        self, x: torch.Tensor, gradient: Gradient, precondition: Apply, recompute: bool = False
    ) -> list[torch.Tensor]:
        """All iterates x_1 … x_K from the start x (batch, 1, z, y, x).

        With ``recompute`` the backward pass computes every iteration again instead of keeping its activations: the
        memory of one iteration for about a third more time.
        """
        iterates = []
        for k in range(self.n_iterations):
            if recompute:
                x = checkpoint(self._iterate, x, k, gradient, precondition, use_reentrant=False)
            else:
                x = self._iterate(x, k, gradient, precondition)
            iterates.append(x)
        last = self.n_iterations - 1
        return [*iterates[:-1], self.final_step(x, lambda u: gradient(u, last), precondition)]

    def _iterate(self, x: torch.Tensor, k: int, gradient: Gradient, precondition: Apply) -> torch.Tensor:
        return self.denoise(self.step(x, k, gradient, precondition), k)

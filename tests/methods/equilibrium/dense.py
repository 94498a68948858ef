"""A data term given by a matrix, and tiny networks in double precision: what equations of equilibria are tested on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from napari_unroll.methods.algorithms.iterations import ITERATIONS
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.networks.convolution import refresh
from napari_unroll.methods.networks.dncnn import CNNConfig

SHAPE = (2, 4, 5)
N = 40
EXACT = EquilibriumConfig(tolerance=1e-13, max_evaluations=400)


@dataclass(frozen=True)
class Dense:
    """f(u) = ½⟨u − x̂, N (u − x̂)⟩ − ⟨u − x̂, r⟩ for one estimate x̂: with x̂ = 0 the whole volume's, else a patch's in context."""

    matrix: torch.Tensor
    residual: torch.Tensor
    context: torch.Tensor | float = 0.0
    norm: float = 1.0

    def at(self, x, k):
        return self

    def normal(self, u):
        return (u.flatten(1) @ self.matrix.T).reshape(u.shape)

    def gradient(self, u):
        return self.normal(u - self.context) - self.residual

    def preconditioner(self, alpha, degree=0):
        assert alpha is None
        return lambda g: g / self.norm

    def resolve(self, v, strength, tolerance, max_steps):
        tau = strength / self.norm
        system = torch.eye(len(self.matrix), dtype=v.dtype) + tau * self.matrix
        right = (v - self.context + tau * self.residual).flatten(1)
        return self.context + torch.linalg.solve(system, right.T).T.reshape(v.shape)


def volume(seed, is_complex=False, shape=(1, 1, *SHAPE)):
    dtype = torch.complex128 if is_complex else torch.float64
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def positive(seed, is_complex=False, n=N, rank=N):
    """A Hermitian matrix with eigenvalues from 0 (where ``rank`` is less than n) to 1."""
    half = volume(seed, is_complex, (n, rank))
    matrix = half @ half.mH
    return matrix / torch.linalg.matrix_norm(matrix, ord=2)


def whole(is_complex=False, rank=N):
    """The data term of a volume."""
    matrix = positive(0, is_complex, rank=rank)
    return Dense(matrix, (matrix @ volume(1, is_complex).flatten()).reshape(1, 1, *SHAPE))


def network(iteration, is_complex=False, equilibrium=EXACT, kind="layers", bound=0.8, **prior):
    """A random network in double precision, its convolutions not small."""
    torch.manual_seed(0)
    step = {"preconditioner": None} if ITERATIONS[iteration].data_step == "gradient" else {"strength": 2.0}
    config = NetworkConfig(
        iteration=iteration,
        data_step=step,
        prior=CNNConfig(**{"width": 4, "layers": 3, "complex_valued": is_complex} | prior),
        equilibrium=equilibrium,
        lipschitz={"kind": kind, "bound": bound},
    )
    found = Network(config).double()
    if found.prior(0).share is not None:
        with torch.no_grad():
            found.prior(0).share.fill_(1.0)
    return found.eval()


def silenced(net):
    """The network with all convolutions zero."""
    with torch.no_grad():
        for parameter in net.priors[0].backbone.parameters():
            parameter.zero_()
    return net


def pointwise(net):
    """The network with all but the central weight of every kernel zero: what it makes of a cut is the cut of what it makes."""
    with torch.no_grad():
        for parameter in net.priors[0].backbone.parameters():
            if parameter.ndim > 2:
                centre = parameter[..., *([1] * (parameter.ndim - 2))].clone()
                parameter.zero_()
                parameter[..., *([1] * (parameter.ndim - 2))] = centre
    refresh(net, 30)
    return net


def gap(a, b):
    """‖a − b‖ / ‖b‖."""
    return float((torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b)).detach())

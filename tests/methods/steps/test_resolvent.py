"""The resolvent step: dense solutions on volumes and patches, gradients, refusal where Ñ is not positive."""

from __future__ import annotations

import itertools

import pytest
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.methods.algorithms.iterations import State
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.networks.unet import UNetConfig
from napari_unroll.methods.steps.data import Data
from napari_unroll.methods.steps.resolvent import ResolventStepConfig
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.patches.context import LocalProblem, local_problem
from tests.methods import tiny
from tests.normal.toys import coils, dense, gap

SHAPE = (6, 8, 10)
BOX = (slice(1, 5), slice(2, 8), slice(0, 6))


def noise(seed, shape=SHAPE):
    return torch.randn((1, 1, *shape), dtype=torch.complex64, generator=torch.manual_seed(seed))


def dense_step(factors, v, context, residual, tau, boxes=None):
    """P x̂ + (I + τN_p)⁻¹[(v − P x̂) + τ P r] by a dense solve."""
    apply = factors.apply if boxes is None else factors.restrict(boxes).apply
    shape = v.shape[-3:]
    matrix = torch.eye(v.numel()) + tau * dense(apply, shape, v.dtype)
    return context.flatten() + torch.linalg.solve(matrix, ((v - context) + tau * residual).flatten())


@pytest.mark.parametrize("boxes", [None, [BOX]])
@pytest.mark.parametrize("strength", [0.5, 30.0])
def test_the_step_is_the_dense_solution_on_volumes_and_patches(boxes, strength):
    factors, (x, r) = fit_now(coils(SHAPE)), (noise(0), noise(1))
    local = LocalProblem(factors, x, r) if boxes is None else local_problem(factors, x, r, boxes)
    v = noise(2, tuple(local.context.shape[-3:]))
    step = ResolventStepConfig(strength=strength, tolerance=1e-6, max_steps=300).build(1)
    tau = strength / factors.norm_squared
    found = step(v, 0, Data(local, factors, boxes)).detach()
    assert gap(dense_step(factors, v, local.context, local.residual, tau, boxes), found.flatten()) < 1e-4


def test_a_network_of_zeros_is_the_proximal_point_method():
    """D = identity: every iteration is the proximal map of the data term, and they approach least squares."""
    config = NetworkConfig(
        iteration="half-quadratic", prior=UNetConfig(channels=(4, 4), complex_valued=True), n_iterations=3
    )
    network = Network(config)
    with torch.no_grad():
        for parameter in network.priors.parameters():
            parameter.zero_()
    physics = coils(SHAPE)
    factors, truth = fit_now(physics), noise(4)
    b = physics.A_adjoint(physics.A(truth))

    class Whole:
        def at(self, x, k):
            return Data(LocalProblem(factors, x, b - factors.apply(x)), factors)

    start = noise(5)
    with torch.no_grad():
        iterates = [start, *network(start, Whole()).iterates]
    tau = config.data_step.strength / factors.norm_squared
    matrix = torch.eye(480) + tau * dense(factors.apply, SHAPE, torch.complex64)
    for before, after in itertools.pairwise(iterates):
        assert gap(torch.linalg.solve(matrix, (before + tau * b).flatten()), after.flatten()) < 1e-3
    misfits = [float(torch.linalg.vector_norm(physics.A(x - truth))) for x in iterates]
    assert misfits == sorted(misfits, reverse=True)


def test_the_strength_of_the_data_learns():
    factors, x = fit_now(coils(SHAPE)), noise(0)
    step = ResolventStepConfig(is_shared=False).build(2)
    step(noise(2), 1, Data(LocalProblem(factors, x, noise(1)), factors)).abs().square().sum().backward()
    slope = step.log_strength.grad
    assert slope[0] == 0
    assert torch.isfinite(slope).all()
    assert slope[1] != 0


def test_an_approximation_that_is_not_positive_is_refused_in_words():
    scan = tiny.cone()
    physics = tiny.problem(scan).physics
    factors = fit_now(physics, FitOptions(form="dc", n_probes=4, n_test=0))
    x = torch.zeros(1, 1, *scan.grid.shape)
    data = Data(LocalProblem(factors, x, x), factors)
    with pytest.raises(ParameterError, match="A resolvent step needs a self-adjoint, positive approximation"):
        Network(NetworkConfig(iteration="half-quadratic")).after(State(x), x, 0, data)

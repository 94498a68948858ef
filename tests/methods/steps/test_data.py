"""M of the data step: the plain gradient step's, one convolution's, a polynomial's."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.methods.algorithms.iterations import State
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.steps.data import Data
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.normal.fit import fit_now
from napari_unroll.patches.context import LocalProblem
from tests.normal.toys import coils, dense, gap

SHAPE = (6, 8, 10)
EVERYTHING = tuple(slice(0, n) for n in SHAPE)


def noise(seed):
    return torch.randn((1, 1, *SHAPE), dtype=torch.complex64, generator=torch.manual_seed(seed))


def test_a_step_of_length_one_with_a_polynomial_is_the_proximal_map():
    """argmin_z ½‖A z − y‖² + ½ μ ‖z − x‖² = (N + μ)⁻¹ (Aᴴy + μ x), μ = α‖N‖, against a dense solve."""
    physics = coils(SHAPE)
    factors = fit_now(physics)
    config = NetworkConfig(n_iterations=1, data_step=GradientStepConfig(preconditioner=0.2, degree=12))
    x, back_projected = noise(0), physics.A_adjoint(physics.A(noise(1)))
    residual = back_projected - physics.A_adjoint(physics.A(x))
    with torch.no_grad():
        stepped = Network(config).before(State(x), 0, Data(LocalProblem(factors, x, residual), factors))
    mu = 0.2 * factors.norm_squared
    matrix = dense(factors.apply, SHAPE, torch.complex64) + mu * torch.eye(480)
    expected = torch.linalg.solve(matrix, (back_projected + mu * x).flatten())
    assert gap(expected, stepped.flatten()) < 1e-3


def preconditioner(factors, settings, boxes=None):
    nowhere = LocalProblem(factors, noise(0), noise(0))
    return Data(nowhere, factors, boxes).preconditioner(*settings)


@pytest.mark.parametrize("settings", [(None, 0), (0.05, 0), (0.2, 3)])
def test_the_whole_volume_is_a_patch_too(settings):
    factors = fit_now(coils(SHAPE))
    whole, patch = (preconditioner(factors, settings, boxes) for boxes in (None, [EVERYTHING]))
    assert gap(whole(noise(0)), patch(noise(0))) < 1e-5


def test_slabs_of_fully_sampled_slices_have_the_polynomial_of_the_whole():
    """Where k-space falls apart into slices P p(Ñ) Pᵀ = p(P Ñ Pᵀ)."""
    factors = fit_now(coils(SHAPE, readout=True))
    slab = (*EVERYTHING[:2], slice(3, 7))
    alone = preconditioner(factors, (0.2, 3), [slab])(noise(0)[(..., *slab)])
    assert gap(preconditioner(factors, (0.2, 3))(noise(0))[(..., *slab)], alone) < 1e-5


def test_a_degree_needs_a_preconditioner():
    with pytest.raises(ValueError, match="give its α too"):
        GradientStepConfig(preconditioner=None, degree=3)

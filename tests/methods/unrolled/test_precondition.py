"""M of the data step: the plain gradient step's, one convolution's, a polynomial's."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.methods.unrolled.network import UnrolledConfig, UnrolledPGD
from napari_unroll.methods.unrolled.precondition import preconditioner
from napari_unroll.normal.fit import fit_now
from tests.normal.toys import coils, dense, gap

SHAPE = (6, 8, 10)
EVERYTHING = tuple(slice(0, n) for n in SHAPE)


def noise(seed):
    return torch.randn((1, 1, *SHAPE), dtype=torch.complex64, generator=torch.manual_seed(seed))


def test_a_step_of_length_one_with_a_polynomial_is_the_proximal_map():
    """argmin_z ½‖A z − y‖² + ½ μ ‖z − x‖² = (N + μ)⁻¹ (Aᴴy + μ x), μ = α‖N‖, against a dense solve."""
    physics = coils(SHAPE)
    factors = fit_now(physics)
    net = UnrolledPGD(UnrolledConfig(n_iterations=1, preconditioner=0.2, degree=12))
    x, back_projected = noise(0), physics.A_adjoint(physics.A(noise(1)))
    m = preconditioner(net.config, factors)
    with torch.no_grad():
        stepped = net.step(x, 0, lambda u, _: physics.A_adjoint(physics.A(u)) - back_projected, m)
    mu = 0.2 * factors.norm_squared
    matrix = dense(factors.apply, SHAPE, torch.complex64) + mu * torch.eye(480)
    expected = torch.linalg.solve(matrix, (back_projected + mu * x).flatten())
    assert gap(expected, stepped.flatten()) < 1e-3


@pytest.mark.parametrize("settings", [{"preconditioner": None}, {}, {"preconditioner": 0.2, "degree": 3}])
def test_the_whole_volume_is_a_patch_too(settings):
    config, factors = UnrolledConfig(**settings), fit_now(coils(SHAPE))
    whole, patch = (preconditioner(config, factors, boxes) for boxes in (None, [EVERYTHING]))
    assert gap(whole(noise(0)), patch(noise(0))) < 1e-5


def test_slabs_of_fully_sampled_slices_have_the_polynomial_of_the_whole():
    """Where k-space falls apart into slices P p(Ñ) Pᵀ = p(P Ñ Pᵀ)."""
    config, factors = UnrolledConfig(preconditioner=0.2, degree=3), fit_now(coils(SHAPE, readout=True))
    slab = (*EVERYTHING[:2], slice(3, 7))
    alone = preconditioner(config, factors, [slab])(noise(0)[(..., *slab)])
    assert gap(preconditioner(config, factors)(noise(0))[(..., *slab)], alone) < 1e-5


def test_a_degree_needs_a_preconditioner():
    with pytest.raises(ValueError, match="give its α too"):
        UnrolledConfig(preconditioner=None, degree=3)

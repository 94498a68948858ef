"""Whole volumes of more lags than their kernel holds."""

import pytest
import torch

from napari_unroll.normal.far import WholeNormal, far_weight, is_short, whole_normal
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.normal.precondition import regularised_inverse, regularised_preconditioner, tapered
from napari_unroll.normal.sampling import default_support
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import sample_cone_beam

SIZE, ALPHA = 24, 0.2


@pytest.fixture(scope="module")
def physics():
    return build_physics(sample_cone_beam(SIZE, 20, oversample=1), "cpu")


@pytest.fixture(scope="module")
def short(physics):
    return fit_now(physics, FitOptions(n_test=0, support=6))


def largest(precondition, physics) -> float:
    """λ_max of M N by power iteration."""
    x = 1 + 0.3 * torch.randn(1, 1, *(SIZE,) * 3, generator=torch.Generator().manual_seed(0))
    for _ in range(12):
        x = precondition(physics.normal(x))
        value = float(torch.linalg.vector_norm(x))
        x = x / value
    return value


def test_the_far_lags_give_back_what_the_short_kernel_makes_of_a_constant(physics, short):
    ones = torch.ones(1, 1, *(SIZE,) * 3)
    exact = physics.normal(ones)
    near, far = (float((f.apply(ones) - exact).norm() / exact.norm()) for f in (short, whole_normal(short)))
    assert near > 0.3
    assert far < 0.5 * near


def test_with_the_far_lags_it_is_self_adjoint_linear_and_has_a_gradient(short):
    normal, generator = whole_normal(short), torch.Generator().manual_seed(1)
    u, v = torch.randn(2, 1, 1, *(SIZE,) * 3, generator=generator)
    assert isinstance(normal, WholeNormal)
    torch.testing.assert_close((v * normal.apply(u)).sum(), (normal.apply(v) * u).sum(), rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(normal.apply(u + 2 * v), normal.apply(u) + 2 * normal.apply(v), rtol=1e-4, atol=1e-2)
    u.requires_grad_()
    (v * normal.apply(u)).sum().backward()
    torch.testing.assert_close(u.grad, normal.apply(v), rtol=1e-4, atol=1e-2)


def test_a_preconditioned_step_of_a_large_volume_is_as_long_as_that_of_a_small_one(physics, short):
    """Else the steps that a network has learned on small volumes blow up the low frequencies of large ones."""
    whole = largest(regularised_preconditioner(fit_now(physics, FitOptions(n_test=0)), ALPHA), physics)
    cut = largest(tapered(regularised_inverse(short, ALPHA), short.shape).apply, physics)
    mended = largest(regularised_preconditioner(short, ALPHA), physics)
    assert cut > 3 * whole
    assert mended < 0.5 * cut


def test_the_inverse_with_the_far_lags_is_positive(short):
    precondition, generator = regularised_preconditioner(short, ALPHA), torch.Generator().manual_seed(2)
    for x in torch.randn(5, 1, 1, *(SIZE,) * 3, generator=generator):
        assert float((x * precondition(x)).sum()) > 0


def test_kernels_of_all_lags_are_left_alone(physics):
    factors = fit_now(physics, FitOptions(n_test=0))
    assert not is_short(factors)
    assert whole_normal(factors) is factors


def test_a_constant_that_is_explained_already_needs_no_far_lags(short):
    ones = torch.ones(1, 1, *(SIZE,) * 3)
    assert far_weight(short, short.apply(ones)) == pytest.approx(0, abs=1e-6 * short.norm_squared / SIZE**3)


def test_a_sum_of_convolutions_has_no_far_lags(physics):
    factors = fit_now(physics, FitOptions(n_test=0, form="sum", support=6, n_probes=4))
    assert is_short(factors)
    assert whole_normal(factors) is factors


def test_thin_volumes_hold_all_lags_where_thick_ones_do_not():
    assert default_support((1, 560, 560), "dcd", None) == (1, 560, 560)
    assert default_support((40, 256, 256), "dcd", None) == (40, 256, 256)
    assert default_support((192, 192, 192), "dcd", None) == (96, 96, 96)
    assert default_support((64, 560, 560), "dcd", None) == (64, 96, 96)

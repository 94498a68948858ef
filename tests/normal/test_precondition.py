"""M ≈ (Ñ + α λ_max)⁻¹: exact where Ñ is a circular convolution, positive definite always, and it saves iterations."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.normal.precondition import polynomial_inverse, regularised_inverse, resolvent_preconditioner, tapered
from napari_unroll.normal.probes import ellipsoids, gaussian
from napari_unroll.physics.laws import normal_norm
from napari_unroll.physics.solvers import conjugate_gradients
from tests.normal.toys import circular_blur, coils, cone, dense, gap, inpainting


def test_inverse_of_a_circular_convolution_is_exact():
    f = fit_now(circular_blur((6, 8, 10)), FitOptions(kernel="circular", n_probes=1, n_test=0))
    matrix = dense(f.apply, (6, 8, 10)).double()
    shifted = matrix + 0.1 * torch.linalg.matrix_norm(matrix, 2) * torch.eye(480, dtype=torch.float64)
    assert gap(torch.linalg.inv(shifted), dense(regularised_inverse(f, 0.1).apply, (6, 8, 10)).double()) < 1e-4


@pytest.mark.parametrize("make", [lambda: cone(10), lambda: coils((6, 8, 10))])
def test_inverse_is_positive_definite_whole_and_on_patches(make):
    physics = make()
    m = regularised_inverse(fit_now(physics), 0.05)
    shape = physics.x_shape[-3:]
    whole = dense(m.apply, shape, physics.dtype)
    assert gap(whole, whole.conj().T) < 1e-5
    assert float(torch.linalg.eigvalsh(whole)[0]) > 0
    box = (slice(1, 5), slice(2, 7), slice(0, 6))
    block = whole.reshape(*shape, *shape)[box + box].reshape(120, 120)
    assert gap(block, dense(m.restrict(box).apply, (4, 5, 6), physics.dtype)) < 1e-5


@pytest.mark.parametrize(("make", "n"), [(lambda: cone(20, 24), 5), (lambda: coils((12, 14, 16)), 8)])
def test_preconditioning_saves_iterations(make, n):
    physics = make()
    truth = ellipsoids(tuple(physics.x_shape[-3:]), physics.dtype, 0)
    b = physics.normal(truth)
    m = regularised_inverse(fit_now(physics), 0.05).apply
    plain = conjugate_gradients(physics.normal, b, tolerance=0, max_steps=8)
    fast = conjugate_gradients(physics.normal, b, precondition=m, tolerance=0, max_steps=n)
    assert gap(truth, fast.x) < gap(truth, plain.x)


@pytest.mark.parametrize("alpha", [0.1, 0.2])
@pytest.mark.parametrize("degree", [2, 6])
def test_polynomial_inverse_is_as_near_as_chebyshev_says(alpha, degree):
    """‖1 − (Ñ + α λ_max) M‖ ≤ 1/T_{n+1}, T the Chebyshev polynomial on [α, 1 + α]; M is Hermitian and positive definite."""
    f = fit_now(coils((6, 8, 10)))
    matrix = dense(f.apply, (6, 8, 10), torch.complex64).to(torch.complex128)
    largest = float(torch.linalg.eigvalsh(matrix)[-1])
    m = dense(polynomial_inverse(f.apply, largest, alpha, degree), (6, 8, 10), torch.complex64).to(torch.complex128)
    left = torch.eye(480) - (matrix + alpha * largest * torch.eye(480)) @ m
    assert float(torch.linalg.matrix_norm(left, 2)) <= 1.001 / math.cosh((degree + 1) * math.acosh(1 + 2 * alpha))
    assert gap(m, m.conj().T) < 1e-5
    assert float(torch.linalg.eigvalsh(m)[0]) > 0


def test_polynomial_inverse_is_its_own_gradient():
    f = fit_now(coils((6, 8, 10)))
    m = polynomial_inverse(f.apply, f.norm_squared, 0.2, 6)
    x, y = (torch.randn((1, 1, 6, 8, 10), dtype=torch.complex64, generator=torch.manual_seed(i)) for i in range(2))
    x.requires_grad_()
    (m(x).conj() * y).sum().real.backward()
    assert gap(m(y), x.grad) < 1e-6


@pytest.mark.parametrize("form", ["dcd", "sum"])
@pytest.mark.parametrize("support", [None, 4])
@pytest.mark.parametrize("tau", [0.0, 1e-2, 10.0])
def test_the_resolvent_preconditioner_is_positive_definite_whole_and_on_patches(form, support, tau):
    f = fit_now(cone(8, 6), FitOptions(form=form, support=support, n_test=0))
    boxes = [(slice(0, 5), slice(2, 7), slice(1, 6)), (slice(3, 8), slice(0, 5), slice(2, 7))]
    maps = [(resolvent_preconditioner(f, tau), (8, 8, 8))]
    maps += [(resolvent_preconditioner(f, tau, [box]), (5, 5, 5)) for box in boxes]
    for m, shape in maps:
        matrix = dense(m, shape)
        assert gap(matrix, matrix.T) < 1e-5
        assert float(torch.linalg.eigvalsh(matrix)[0]) > 0
    together, u = resolvent_preconditioner(f, tau, boxes), torch.randn(2, 1, 5, 5, 5)
    apart = [m(u[[i]]) for i, (m, _) in enumerate(maps[1:])]
    torch.testing.assert_close(together(u), torch.cat(apart))


@pytest.mark.parametrize("weight", [1.0, 7.0])
def test_the_resolvent_of_a_weighted_circular_convolution_is_exact(weight):
    f = fit_now(circular_blur((6, 8, 10)), FitOptions(kernel="circular", n_probes=1, n_test=0))
    root = torch.full((1, 6, 8, 10), weight**0.5)
    f = replace(f, left=root, right=root, _cache={})
    matrix = torch.eye(480, dtype=torch.float64) + 20 * dense(f.apply, f.shape).double()
    assert gap(torch.linalg.inv(matrix), dense(resolvent_preconditioner(f, 20.0), f.shape).double()) < 1e-4


def test_an_inverse_of_few_lags_is_positive_on_the_whole_volume_once_it_is_tapered():
    inverse = regularised_inverse(fit_now(cone(8, 6), FitOptions(support=4, n_test=0)), 0.05)
    cut, soft = (torch.linalg.eigvalsh(dense(m.apply, (8, 8, 8)))[0] for m in (inverse, tapered(inverse, (8, 8, 8))))
    assert float(cut) < 0 < float(soft)
    assert tapered(inverse, (4, 4, 4)) is inverse
    assert tapered(inverse, (8, 8, 8)) is tapered(inverse, (5, 6, 7))


def test_where_the_scan_sees_nothing_the_resolvent_preconditioner_leaves_the_image_alone():
    f = fit_now(inpainting((6, 8, 10)), FitOptions(n_test=0))
    x, seen = torch.ones(1, 1, 6, 8, 10), f.left[None] > 0.5
    out = resolvent_preconditioner(f, 50.0)(x)
    torch.testing.assert_close(out[seen], torch.full_like(out[seen], 1 / 51), rtol=1e-3, atol=0)
    assert float(out[~seen].min()) > 0.2


@pytest.mark.parametrize(
    ("make", "counts"),
    [
        (lambda: cone(16, 50), {1: (6, 6), 10: (16, 10), 100: (45, 22)}),
        (lambda: coils((8, 16, 16), 6, readout=True), {1: (7, 6), 10: (16, 14), 100: (50, 28)}),
    ],
)
def test_preconditioning_the_resolvent_saves_steps(make, counts):
    """τ‖N‖ → steps to a relative residual of 1e-4, at most: plain, preconditioned."""
    physics = make()
    f, norm = fit_now(physics, FitOptions(n_test=0)), normal_norm(physics)
    g = ellipsoids(physics.grid.shape, physics.dtype, 0) + 0.3 * gaussian(physics.grid.shape, physics.dtype, 1)
    for relative, most in counts.items():
        tau = relative / norm
        shifted = partial(_shifted, physics, tau)
        plain = conjugate_gradients(shifted, g)
        fast = conjugate_gradients(shifted, g, precondition=resolvent_preconditioner(f, tau))
        assert plain.converged
        assert fast.converged
        assert (plain.steps, fast.steps) <= most
        assert fast.steps <= most[1]
        assert gap(g, shifted(fast.x)) < 2e-4


def _shifted(physics, tau, u):
    return u + tau * physics.normal(u)

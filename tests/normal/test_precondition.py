"""M ≈ (Ñ + α λ_max)⁻¹: exact where Ñ is a circular convolution, positive definite always, and it saves iterations."""

from __future__ import annotations

import math

import pytest
import torch

from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.normal.precondition import polynomial_inverse, regularised_inverse
from napari_unroll.normal.probes import ellipsoids
from tests.normal.toys import circular_blur, coils, cone, dense, gap


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


def conjugate_gradients(normal, b, precondition, n):
    x, r = torch.zeros_like(b), b
    z = p = precondition(r)
    for _ in range(n):
        Np = normal(p)
        step = (r.conj() * z).sum().real / (p.conj() * Np).sum().real
        x, r, last = x + step * p, r - step * Np, (r.conj() * z).sum().real
        z = precondition(r)
        p = z + (r.conj() * z).sum().real / last * p
    return x


@pytest.mark.parametrize(("make", "n"), [(lambda: cone(20, 24), 5), (lambda: coils((12, 14, 16)), 8)])
def test_preconditioning_saves_iterations(make, n):
    physics = make()
    truth = ellipsoids(tuple(physics.x_shape[-3:]), physics.dtype, 0)
    normal = lambda x: physics.A_adjoint(physics.A(x))  # noqa: E731
    b = normal(truth)
    plain = gap(truth, conjugate_gradients(normal, b, lambda r: r, 8))
    fast = gap(truth, conjugate_gradients(normal, b, regularised_inverse(fit_now(physics), 0.05).apply, n))
    assert fast < plain


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

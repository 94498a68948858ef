"""Conjugate gradients against dense solutions, item by item, and at the edges: exact, zero, indefinite, not a number."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from napari_unroll.physics.solvers import conjugate_gradient_steps, conjugate_gradients, lanczos

SHAPE = (1, 2, 3, 4)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])


def problem(dtype, conditions, shape=SHAPE):
    """A positive operator per item with that condition number: the matrices, N on (batch, 1, z, y, x), and a right side."""
    g, n = torch.Generator().manual_seed(0), math.prod(shape)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    matrices = []
    for condition in conditions:
        q, _ = torch.linalg.qr(torch.randn(n, n, dtype=wide, generator=g))
        matrices.append((q * torch.logspace(0, torch.log10(torch.tensor(condition)), n)) @ q.conj().T)
    stacked = torch.stack(matrices)

    def apply(u):
        return torch.einsum("bij,bj->bi", stacked.to(dtype), u.flatten(1)).reshape(u.shape)

    return stacked, apply, torch.randn(len(conditions), *shape, dtype=wide, generator=g).to(dtype)


def solved(matrices, b):
    return torch.linalg.solve(matrices, b.flatten(1).to(matrices.dtype)).reshape(b.shape)


@every_dtype
def test_solves_what_a_dense_solver_solves(dtype):
    matrices, apply, b = problem(dtype, (1.0, 5.0, 40.0))
    tight = torch.finfo(dtype).eps < 1e-10
    found = conjugate_gradients(apply, b, tolerance=1e-11 if tight else 1e-5)
    assert found.converged
    assert found.x.dtype == dtype
    torch.testing.assert_close(found.x, solved(matrices, b).to(dtype), rtol=0, atol=1e-8 if tight else 1e-3)
    torch.testing.assert_close(found.residual, b - apply(found.x), rtol=0, atol=1e-9 if tight else 1e-4)


def test_an_item_of_a_batch_goes_as_it_would_alone_and_rests_when_it_is_done():
    matrices, apply, b = problem(torch.float64, (1.5, 300.0))
    steps = list(conjugate_gradient_steps(apply, b, tolerance=1e-8))
    easy = next(s.steps for s in steps if float(s.relative[0]) <= 1e-8)
    assert easy < steps[-1].steps
    assert torch.equal(steps[easy].x[0], steps[-1].x[0])
    alone = conjugate_gradients(lambda u: (matrices[0] @ u.flatten()).reshape(u.shape), b[:1], tolerance=1e-8)
    assert alone.steps == easy
    torch.testing.assert_close(alone.x, steps[-1].x[:1])


def test_as_many_steps_as_there_are_eigenvalues():
    d = torch.tensor([1.0, 2.0, 7.0], dtype=torch.float64).repeat(8).reshape(1, *SHAPE)
    assert conjugate_gradients(lambda u: d * u, torch.ones_like(d), tolerance=1e-12).steps == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("mu", [0.0, 1.0, 1e8])
def test_more_steps_than_needed_are_never_not_a_number(dtype, mu):
    """At large μ the identity is all of N: one step is exact, and a fixed number of steps divided zero by zero."""
    _, apply, b = problem(dtype, (30.0, 2.0))
    found = conjugate_gradients(lambda u: apply(u) + mu * u, b, tolerance=0, max_steps=200)
    assert torch.isfinite(torch.view_as_real(found.x) if dtype.is_complex else found.x).all()
    gap = torch.linalg.vector_norm(apply(found.x) + mu * found.x - b) / torch.linalg.vector_norm(b)
    assert float(gap) < 1e-5
    assert not found.is_indefinite


def test_zero_is_solved_by_zero_wherever_it_starts():
    _, apply, b = problem(torch.float64, (3.0, 4.0))
    b[0] = 0
    found = conjugate_gradients(apply, b, x0=torch.ones_like(b), tolerance=1e-10)
    assert not found.x[0].any()
    assert found.converged
    assert conjugate_gradients(apply, torch.zeros_like(b)).steps == 0


def test_starting_at_the_solution_takes_no_step_and_near_it_few():
    matrices, apply, b = problem(torch.float64, (50.0,))
    x = solved(matrices, b)
    assert conjugate_gradients(apply, b, x0=x).steps == 0
    near = conjugate_gradients(apply, b, x0=x + 1e-4 * torch.ones_like(x)).steps
    assert near < conjugate_gradients(apply, b).steps


def test_the_inverse_as_preconditioner_takes_one_step_and_a_diagonal_one_fewer():
    matrices, apply, b = problem(torch.complex128, (1e4,))
    exact = conjugate_gradients(apply, b, precondition=lambda r: solved(matrices, r), tolerance=1e-8)
    assert exact.steps == 1
    scale = torch.logspace(0, 3, 24, dtype=torch.float64).reshape(1, *SHAPE)
    skewed = lambda u: scale * apply(scale * u)  # noqa: E731
    plain = conjugate_gradients(skewed, b, tolerance=1e-6, max_steps=500)
    fast = conjugate_gradients(skewed, b, precondition=lambda r: r / scale**2, tolerance=1e-6, max_steps=500)
    assert fast.steps < plain.steps
    assert fast.converged


def test_what_is_not_positive_is_said_and_ends_the_item_alone():
    d = torch.ones(2, *SHAPE, dtype=torch.float64)
    d[1, 0, 0, 0] = -30.0
    b = torch.ones_like(d)
    found = conjugate_gradients(lambda u: d * u, b)
    assert found.is_indefinite
    assert not found.converged
    torch.testing.assert_close(found.x[0], b[0])
    assert torch.isfinite(found.x).all()
    assert "not positive" in found.advice


def test_not_a_number_ends_the_item_alone():
    def apply(u):
        return torch.stack([2 * u[0], u[1] * float("nan")])

    found = conjugate_gradients(apply, torch.ones(2, *SHAPE))
    torch.testing.assert_close(found.x[0], torch.full(SHAPE, 0.5))
    assert torch.isfinite(found.x).all()
    assert not found.converged


def test_the_report_says_how_it_ended():
    _, apply, b = problem(torch.float64, (1e5,))
    steps = list(itertools.islice(conjugate_gradient_steps(apply, b), 4))
    assert [s.steps for s in steps] == [0, 1, 2, 3]
    assert float(steps[0].relative[0]) == pytest.approx(1)
    short = conjugate_gradients(apply, b, max_steps=3)
    assert (short.steps, short.converged) == (3, False)
    assert "Allow more steps" in short.advice
    assert conjugate_gradients(apply, b, max_steps=200).advice.endswith("e-05.")


@every_dtype
def test_one_krylov_space_makes_the_steps_of_conjugate_gradients_for_every_shift(dtype):
    _, apply, b = problem(dtype, (40.0,))
    vectors, T = lanczos(apply, b, 6)
    gram = torch.stack([v.flatten() for v in vectors])
    torch.testing.assert_close(gram.conj() @ gram.T, torch.eye(6, dtype=dtype), rtol=0, atol=1e-5)
    for shift in (0.1, 3.0, 100.0):
        start = torch.zeros(6, dtype=torch.float64)
        start[0] = float(b.norm())
        parts = torch.linalg.solve(T + shift * torch.eye(6, dtype=torch.float64), start).to(b.real.dtype)
        x = sum(c * v for c, v in zip(parts, vectors, strict=True))
        steps = conjugate_gradients(lambda u, s=shift: apply(u) + s * u, b, tolerance=0.0, max_steps=6)
        torch.testing.assert_close(x, steps.x, rtol=1e-3, atol=1e-4)


def test_a_krylov_space_ends_where_it_is_exhausted():
    b = torch.ones(1, 1, 1, 2, 2)
    vectors, T = lanczos(lambda u: 3 * u, b, 5)
    assert len(vectors) == 1
    torch.testing.assert_close(T, torch.tensor([[3.0]], dtype=torch.float64))
    assert lanczos(lambda u: u, torch.zeros_like(b), 5)[0] == []

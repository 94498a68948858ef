"""(I + τN)⁻¹ and its gradients against dense inverses, finite differences, and gradients through unrolled steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unroll.physics.fourier import CartesianMRI
from napari_unroll.physics.resolvent import Resolvent
from napari_unroll.scan.phantoms import coil_maps
from tests.physics.test_solvers import problem

every_kind = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
TIGHT = {"tolerance": 1e-13, "max_steps": 200}


@every_kind
@pytest.mark.parametrize("tau", [0.0, 0.3, 40.0])
def test_is_the_dense_resolvent(dtype, tau):
    matrices, apply, g = problem(dtype, (5.0, 20.0))
    u = Resolvent(apply, **TIGHT)(g, tau)
    shifted = torch.eye(g[0].numel()) + tau * matrices
    torch.testing.assert_close(u.flatten(1), torch.linalg.solve(shifted, g.flatten(1)))


@every_kind
@pytest.mark.parametrize("tau", [torch.tensor(0.7), torch.tensor([0.7]), torch.tensor([0.2, 3.0])])
def test_gradients_are_those_of_finite_differences(dtype, tau):
    _, apply, g = problem(dtype, (5.0, 20.0), (1, 1, 2, 2))
    resolvent = Resolvent(apply, **TIGHT)
    inputs = (g.requires_grad_(), tau.double().requires_grad_())
    assert torch.autograd.gradcheck(resolvent, inputs)


def test_gradients_on_a_multi_coil_scan_are_those_of_finite_differences():
    shape = (1, 2, 3)
    physics = CartesianMRI(np.random.default_rng(0).random(shape) < 0.6, coil_maps(shape, 2)).double()
    g = torch.randn(1, 1, *shape, dtype=torch.complex128, requires_grad=True)
    tau = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Resolvent(physics.normal, **TIGHT), (g, tau))


@every_kind
def test_gradients_are_those_through_the_steps_of_a_plain_iteration(dtype):
    _, apply, g = problem(dtype, (4.0,))
    target = torch.ones_like(g)

    def gradients(solve):
        a, t = g.clone().requires_grad_(), torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad((solve(a, t) - target).abs().square().sum(), (a, t))

    def unrolled(a, t):
        u = torch.zeros_like(a)
        for _ in range(400):
            u = u - 0.4 * (u + t * apply(u) - a)
        return u

    for implicit, explicit in zip(gradients(Resolvent(apply, **TIGHT)), gradients(unrolled), strict=True):
        torch.testing.assert_close(implicit, explicit, rtol=1e-8, atol=1e-10)


def test_loose_tolerances_give_gradients_as_loose():
    _, apply, g = problem(torch.float64, (30.0,))

    def gradient(tolerance):
        a = g.clone().requires_grad_()
        Resolvent(apply, tolerance=tolerance)(a, 5.0).square().sum().backward()
        return a.grad

    exact = gradient(1e-13)
    error = torch.linalg.vector_norm(gradient(1e-4) - exact) / torch.linalg.vector_norm(exact)
    assert 0 < float(error) < 1e-3


def test_every_solve_is_told_and_a_good_start_spares_steps():
    _, apply, g = problem(torch.float64, (50.0,))
    heard = []
    resolvent = Resolvent(apply, tolerance=1e-6, told=heard.append)
    u = resolvent(g.requires_grad_(), 1.0)
    u.sum().backward()
    assert len(heard) == 2
    assert all(solution.converged for solution in heard)
    resolvent(g, 1.0, u.detach())
    assert heard[-1].steps == 0
    assert heard[0].steps > 0


def test_preconditioned_it_is_the_same_in_fewer_steps():
    matrices, apply, g = problem(torch.float64, (200.0,))
    near = torch.linalg.inv(torch.eye(g.numel()) + 0.9 * matrices[0])
    heard = []
    plain = Resolvent(apply, tolerance=1e-10, told=heard.append)
    fast = Resolvent(apply, lambda r: (near @ r.flatten()).reshape(r.shape), 1e-10, told=heard.append)
    torch.testing.assert_close(plain(g, 1.0), fast(g, 1.0))
    assert heard[1].steps < heard[0].steps


def test_nothing_of_the_iterations_is_kept():
    _, apply, g = problem(torch.float64, (200.0,))
    u = Resolvent(apply)(g.requires_grad_(), 1.0)
    assert len(u.grad_fn.saved_tensors) == 2

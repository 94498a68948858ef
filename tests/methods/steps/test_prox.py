"""The proximal map of the data term against a dense solve."""

import itertools

import pytest
import torch

from napari_unroll.methods.steps.prox import proximal_steps


def small(dtype, seed=0):
    """A wide A as a matrix, its N on volumes (1, 1, 2, 3, 4), Aᴴy and z; N is singular."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(15, 24, generator=generator, dtype=dtype)
    y, z = torch.randn(15, generator=generator, dtype=dtype), torch.randn(24, generator=generator, dtype=dtype)
    n = a.mH @ a
    shape = (1, 1, 2, 3, 4)
    return n, lambda x: (n @ x.flatten()).reshape(shape), (a.mH @ y).reshape(shape), z.reshape(shape)


def last(*given):
    *_, x = proximal_steps(*given)
    return x


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("weight", [0.03, 1.0, 300.0])
def test_the_map_is_the_dense_solution(dtype, weight):
    n, normal, adjoint, z = small(dtype)
    expected = torch.linalg.solve(n + weight * torch.eye(24, dtype=dtype), (adjoint + weight * z).flatten())
    x = last(normal, adjoint, z, weight, 1e-12, 200)
    torch.testing.assert_close(x.flatten(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_every_step_lowers_the_objective(dtype):
    n, normal, adjoint, z = small(dtype, 1)

    def objective(x):
        u, b, d = x.flatten(), adjoint.flatten(), (x - z).flatten()
        return float((0.5 * torch.vdot(u, n @ u) - torch.vdot(b, u)).real + 0.1 * torch.vdot(d, d).real)

    values = [objective(x) for x in proximal_steps(normal, adjoint, z, 0.2, 1e-8, 12)]
    assert len(values) == 13
    assert all(b < a for a, b in itertools.pairwise(values))


def test_nothing_is_done_where_the_point_fits_the_data():
    _, normal, _, z = small(torch.float64)
    fitting = normal(z)
    assert torch.equal(last(normal, fitting, z, 0.5, 1e-3, 50), z)
    assert len(list(proximal_steps(normal, fitting, z, 0.5, 1e-3, 50))) == 1


def test_it_ends_at_the_tolerance_or_the_largest_number_of_steps():
    _, normal, adjoint, z = small(torch.float64)
    start = adjoint - normal(z)
    for tolerance in (0.3, 1e-2, 1e-4):
        x = last(normal, adjoint, z, 0.5, tolerance, 100)
        left = adjoint - normal(x) - 0.5 * (x - z)
        assert float(left.norm()) <= 1.01 * tolerance * float(start.norm())
    assert len(list(proximal_steps(normal, adjoint, z, 0.5, 1e-12, 3))) == 4

"""The partitioning identity: with Ñ = N the local gradient is the dense one, for every patch size."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.normal.fit import fit_now
from napari_unroll.patches.context import ExactNormal, cut, exact_local_problem, local_problem, residual_image
from napari_unroll.patches.grid import PatchGrid
from tests.normal.toys import coils, cone, gap


def global_gradient(physics, y, x, u, box):
    """P Aᴴ(A x' − y) where x' is x with the patch replaced by u: the definition."""
    inside = x.clone()
    inside[(0, 0, *box)] = u[0, 0]
    return (physics.A_adjoint(physics.A(inside) - y))[(slice(None), slice(None), *box)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, (6, 2, 7), 20])
def test_gradient_with_context_is_the_dense_gradient_mri(size):
    physics = coils((6, 8, 10))
    g = torch.Generator().manual_seed(0)
    x, truth = (torch.randn(1, 1, 6, 8, 10, dtype=torch.complex64, generator=g) for _ in range(2))
    y = physics.A(truth)
    r, factors = residual_image(physics, y, x), fit_now(physics)
    grid = PatchGrid((6, 8, 10), size, 1 if size == 20 else 0)
    boxes = grid.boxes[:6]
    u = torch.randn(len(boxes), 1, *grid.patch_shape, dtype=torch.complex64, generator=g)
    local = local_problem(factors, x, r, boxes).gradient(u)
    for i, box in enumerate(boxes):
        assert gap(global_gradient(physics, y, x, u[i : i + 1], box), local[i : i + 1]) < 2e-6


@pytest.mark.parametrize("size", [3, (5, 9, 2), 16])
def test_gradient_with_context_is_the_dense_gradient_ct(size):
    physics = cone(12)
    g = torch.Generator().manual_seed(0)
    x, truth = (torch.randn(1, 1, 12, 12, 12, generator=g) for _ in range(2))
    y = physics.A(truth)
    r = residual_image(physics, y, x)
    grid = PatchGrid((12, 12, 12), size, 1)
    box = grid.boxes[-1]
    u = torch.randn(1, 1, *grid.patch_shape, generator=g)
    local = exact_local_problem(physics, x, r, box)
    assert gap(global_gradient(physics, y, x, u, box), local.gradient(u)) < 1e-5
    assert torch.allclose(local.step(u, 0.1), u - 0.1 * local.gradient(u))


def test_at_the_context_the_gradient_is_minus_the_residual():
    physics = cone(12)
    x, y = torch.rand(1, 1, 12, 12, 12), torch.rand(physics.y_shape)
    r, boxes = residual_image(physics, y, x), PatchGrid((12, 12, 12), 6, 2).boxes
    problem = local_problem(fit_now(physics), x, r, boxes)
    assert torch.equal(problem.gradient(cut(x, boxes)), -cut(r, boxes))


def test_gradient_reaches_the_network():
    physics = coils((6, 8, 10))
    x = torch.randn(1, 1, 6, 8, 10, dtype=torch.complex64)
    box = (slice(0, 4),) * 3
    u = torch.randn(1, 1, 4, 4, 4, dtype=torch.complex64, requires_grad=True)
    local_problem(fit_now(physics), x, x, [box]).step(u, 0.5).abs().sum().backward()
    assert u.grad is not None
    assert bool(u.grad.abs().max() > 0)


def test_the_exact_normal_operator_cuts_every_box_of_a_batch():
    physics = cone(12)
    boxes = PatchGrid((12, 12, 12), 6, 2).boxes[:3]
    x = torch.randn(3, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    together = ExactNormal(physics).restrict(boxes).apply(x)
    for i, box in enumerate(boxes):
        one = exact_local_problem(physics, torch.zeros(1, 1, 12, 12, 12), torch.zeros(1, 1, 12, 12, 12), box)
        assert torch.equal(one.gradient(x[i : i + 1]), together[i : i + 1])

import pytest
import torch

from napari_unroll.events import IterationDone, result_of
from napari_unroll.methods.classical.tv_fista import TV_FISTA, TVParams
from napari_unroll.methods.classical.tv_objective import objective
from napari_unroll.methods.subsets import LEAST_VIEWS, groups, n_subsets, subsets
from tests.methods import tiny


def test_groups_make_up_the_operator():
    """Σ A_mᴴ(A_m x − y_m) over the groups is Aᴴ(A x − y)."""
    problem = tiny.problem(tiny.cone(16, 23))
    x = torch.rand(problem.physics.x_shape)
    parts = groups(problem.physics, problem.y, 4)
    total = sum(A.A_adjoint(A.A(x) - y) for A, y in parts)
    whole = problem.physics.A_adjoint(problem.physics.A(x) - problem.y)
    assert len(parts) == 4
    assert torch.linalg.vector_norm(total - whole) < 1e-5 * torch.linalg.vector_norm(whole)


def test_neighbouring_steps_see_views_far_apart():
    problem = tiny.problem(tiny.cone(16, 30))
    angles = [float(p.physics.geometry.angles_rad[0]) for p in subsets(problem, 10)]
    steps = [abs(a - b) for a, b in zip(angles[1:], angles[:-1], strict=True)]
    assert sorted(angles) != angles
    assert min(steps) > 1.5 * 2 * torch.pi / 30


@pytest.mark.parametrize(("n_views", "n"), [(1, 1), (2 * LEAST_VIEWS - 1, 1), (5 * LEAST_VIEWS, 5), (1000, 10)])
def test_auto_leaves_enough_views_to_a_group(n_views, n):
    assert n_subsets(tiny.cone(8, n_views)) == n


def test_operators_without_views_have_one_group():
    problem = tiny.problem(tiny.multicoil())
    assert n_subsets(problem.scan, 5) == 1
    assert subsets(problem, 1) == [problem]


def test_total_variation_comes_to_the_same_volume_in_a_fifth_of_the_projections():
    scan = tiny.cone(32, 50)
    goal = result_of(objective(tiny.problem(scan), TVParams()))
    _, whole = tiny.drain(TV_FISTA, tiny.problem(scan), tolerance=0, n_iterations=60, subsets=1)
    _, grouped = tiny.drain(TV_FISTA, tiny.problem(scan), tolerance=0, n_iterations=60)
    assert torch.linalg.vector_norm(grouped - whole) < 0.01 * torch.linalg.vector_norm(whole)
    assert goal.value(grouped) < 1.005 * goal.value(whole)


def test_total_variation_stops_where_it_would_with_all_views():
    scan = tiny.cone(32, 100)
    steps = [
        max(e.iteration for e in tiny.drain(TV_FISTA, tiny.problem(scan), subsets=n)[0] if isinstance(e, IterationDone))
        for n in (1, 10)
    ]
    assert steps[0] < 60
    assert steps[0] <= steps[1] <= steps[0] + 2

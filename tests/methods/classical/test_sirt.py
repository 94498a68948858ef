import itertools

import numpy as np
import pytest
import torch

from napari_unroll.events import IterationDone
from napari_unroll.methods.classical.sirt import SIRT, sums
from tests.methods import tiny


def weighted_gradient(problem, x):
    """Aᴴ R (A x − y), with R of one for MRI."""
    rows = sums(problem).rows if problem.scan.modality == "ct" else 1.0
    return problem.physics.A_adjoint(rows * (problem.physics.A(x[None, None]) - problem.y))[0, 0]


def test_the_weights_are_the_row_and_column_sums():
    problem = tiny.problem(tiny.parallel((3, 7, 5), 15))
    matrix, weights = tiny.dense(problem), sums(problem)
    rows, columns = matrix.sum(1), matrix.sum(0)
    np.testing.assert_allclose(weights.rows.flatten().numpy()[rows > 1e-3], 1 / rows[rows > 1e-3], rtol=1e-4)
    np.testing.assert_allclose(weights.columns.flatten().numpy(), 1 / columns, rtol=1e-4)
    assert (weights.rows.flatten().numpy()[rows == 0] == 0).all()


@pytest.mark.parametrize("scan", [tiny.cone(), tiny.odd_parallel()], ids=["cone", "parallel"])
def test_the_weighted_residual_never_grows(scan):
    problem = tiny.problem(scan)
    rows, size = sums(problem).rows, []
    for event in SIRT.solve(problem, SIRT.params(n_iterations=30)):
        assert isinstance(event, IterationDone)
        r = problem.y - problem.physics.A(problem.state["x"])
        size.append(float((rows * r * r).sum(dtype=torch.float64)))
    assert all(b < a for a, b in itertools.pairwise(size))


@pytest.mark.parametrize("scan", [tiny.odd_multicoil(), tiny.radial()], ids=["multi-coil", "radial"])
def test_the_residual_of_complex_images_never_grows(scan):
    events, _ = tiny.drain(SIRT, tiny.problem(scan), n_iterations=30)
    residuals = [e.residual for e in events if isinstance(e, IterationDone)]
    assert all(b < a for a, b in itertools.pairwise(residuals))


@pytest.mark.parametrize("scan", [tiny.parallel((3, 7, 5), 15), tiny.multicoil((2, 7, 9))], ids=["ct", "mri"])
def test_its_fixed_point_solves_the_normal_equations(scan):
    problem = tiny.problem(scan)
    _, x = tiny.drain(SIRT, problem, n_iterations=2000, positivity=False, show_every=2000)
    start = torch.linalg.vector_norm(weighted_gradient(problem, torch.zeros_like(x)))
    assert torch.linalg.vector_norm(weighted_gradient(problem, x)) < 1e-4 * start


def test_with_positivity_its_fixed_point_satisfies_the_kkt_conditions():
    problem = tiny.problem(tiny.parallel((3, 7, 5), 15))
    _, x = tiny.drain(SIRT, problem, n_iterations=2000, show_every=2000)
    gradient = weighted_gradient(problem, x)
    scale = weighted_gradient(problem, torch.zeros_like(x)).abs().max()
    assert x.min() == 0
    assert gradient[x == 0].min() > -1e-3 * scale
    assert gradient[x > 0].abs().max() < 1e-3 * scale


def test_it_stops_when_nothing_changes():
    events, _ = tiny.drain(SIRT, tiny.problem(tiny.cone()), n_iterations=2000, tolerance=1e-2)
    assert len(events) < 100
    assert events[-1].metrics["change"] < 1e-2
    assert events[-1].values is not None

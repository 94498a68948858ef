"""What an estimate leaves of the measurements: the same by A and Aᴴ as by AᴴA, at every point of a way."""

import pytest
import torch

from napari_unroll.events import IterationDone
from napari_unroll.methods.registry import get
from napari_unroll.methods.residual import MeasuredResidual, NormalResidual
from napari_unroll.physics.laws import norm, random_like
from tests.methods import tiny


@pytest.fixture(params=["radial", "parallel"])
def given(request):
    return tiny.problem(tiny.radial() if request.param == "radial" else tiny.odd_parallel())


def test_operators_with_a_direct_normal_are_asked_for_it(given):
    kind = NormalResidual if given.scan.modality == "mri" else MeasuredResidual
    assert isinstance(given.residual_at(), kind)


def test_it_stays_true_along_a_way(given):
    x, p = (0.1 * random_like(given.physics.x_shape, given.physics.dtype, "cpu", seed) for seed in (0, 1))
    for start in (None, x):
        residual = given.residual_at(start)
        seen, square = residual.along(p)
        assert square == pytest.approx(norm(given.physics.A(p)) ** 2, rel=1e-4)
        residual.move(p, seen, 0.3)
        r = given.y - given.physics.A(residual.x)
        descent = given.physics.A_adjoint(r)
        torch.testing.assert_close(residual.x, (given.zeros() if start is None else x) + 0.3 * p)
        assert norm(residual.image() - descent) < 1e-5 * norm(given.adjoint)
        assert residual.norm() == pytest.approx(norm(r), rel=1e-4, abs=1e-3 * given.size)


@pytest.mark.parametrize("method", ["cgls", "cg-sense"])
def test_solvers_report_the_residual_of_what_they_found(method):
    given = tiny.problem(tiny.radial())
    events, x = tiny.drain(get(method), given, n_iterations=5)
    *_, last = (event for event in events if isinstance(event, IterationDone))
    assert last.residual == pytest.approx(given.residual(x[None, None]), abs=1e-3)

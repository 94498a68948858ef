import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.methods.classical.cgls import CGLS
from napari_unroll.normal.fit import FitOptions, fit_now
from tests.methods import tiny


@pytest.mark.parametrize("scan", [tiny.parallel((3, 7, 7), 15), tiny.multicoil((2, 8, 8))], ids=["ct", "mri"])
def test_it_reaches_the_dense_least_squares_solution(scan):
    problem = tiny.problem(scan)
    _, x = tiny.drain(CGLS, problem, n_iterations=300, tolerance=1e-6)
    expected = np.linalg.lstsq(tiny.dense(problem), tiny.data(problem), rcond=1e-6)[0].reshape(problem.shape)
    assert np.linalg.norm(x.numpy() - expected) < 2e-3 * np.linalg.norm(expected)


def test_the_residual_falls_and_is_the_true_one():
    problem = tiny.problem(tiny.cone())
    events, x = tiny.drain(CGLS, problem, n_iterations=12, tolerance=0)
    residuals = [e.residual for e in events]
    assert residuals == sorted(residuals, reverse=True)
    assert residuals[-1] == pytest.approx(problem.residual(x[None, None]), rel=1e-4)


def test_values_are_shown_every_few_steps_and_at_the_end():
    events, _ = tiny.drain(CGLS, tiny.problem(tiny.cone()), n_iterations=7, show_every=3, tolerance=0)
    assert [e.iteration for e in events if e.values is not None] == [3, 6, 7]


def test_it_stops_at_the_tolerance():
    events, _ = tiny.drain(CGLS, tiny.problem(tiny.multicoil()), n_iterations=500, tolerance=1e-2)
    assert len(events) < 60


@pytest.mark.parametrize("support", [None, 8], ids=["all lags", "lags of patches"])
def test_preconditioning_by_the_fitted_normal_operator_is_faster_for_cone_beams(support):
    plain = tiny.problem(tiny.cone())
    options = FitOptions(n_probes=8, n_test=0, support=support)
    fitted = tiny.problem(tiny.cone(), normal=fit_now(plain.physics, options))
    slow, _ = tiny.drain(CGLS, plain, n_iterations=4, tolerance=0)
    fast, _ = tiny.drain(CGLS, fitted, n_iterations=4, tolerance=0, precondition=True)
    assert fast[-1].residual < slow[-1].residual


def test_preconditioning_without_a_fit_says_what_to_do():
    with pytest.raises(ParameterError, match="fit it first"):
        tiny.drain(CGLS, tiny.problem(tiny.cone()), precondition=True)


def test_zero_data_give_zero():
    problem = tiny.problem(tiny.cone())
    problem.y.zero_()
    events, x = tiny.drain(CGLS, problem)
    assert events == []
    assert x.abs().max() == 0

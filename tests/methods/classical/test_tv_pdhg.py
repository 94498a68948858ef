import pytest
import torch

from napari_unroll.events import result_of
from napari_unroll.methods.classical.tv_fista import TV_FISTA
from napari_unroll.methods.classical.tv_objective import TVObjectiveParams, objective
from napari_unroll.methods.classical.tv_pdhg import TV_PDHG
from tests.methods import tiny

CASES = {
    "cone": (tiny.cone(16, 10), True),
    "parallel": (tiny.odd_parallel(), True),
    "no constraint": (tiny.odd_parallel(), False),
    "multi-coil": (tiny.multicoil((5, 15, 13)), True),
    "radial": (tiny.radial(15, 10), True),
}


@pytest.mark.parametrize(("scan", "positivity"), CASES.values(), ids=CASES)
def test_it_reaches_the_minimum_of_fista(scan, positivity):
    """Objectives agree to 2·10⁻⁴, volumes to 2 %."""
    goal = result_of(objective(tiny.problem(scan), TVObjectiveParams(positivity=positivity)))
    both = {"positivity": positivity, "tolerance": 0, "show_every": 1000}
    _, x = tiny.drain(TV_PDHG, tiny.problem(scan), n_iterations=250, **both)
    _, other = tiny.drain(TV_FISTA, tiny.problem(scan), n_iterations=120, n_inner=15, **both)
    assert goal.value(x) == pytest.approx(goal.value(other), rel=2e-4)
    assert torch.linalg.vector_norm(x - other) < 0.02 * torch.linalg.vector_norm(other)
    if positivity and not x.is_complex():
        assert x.min() >= 0


@pytest.mark.parametrize("make", [tiny.odd_parallel, tiny.odd_multicoil])
def test_a_second_attempt_repeats_nothing_and_loses_nothing(make):
    """Volume and duals are kept, so both attempts together are one run."""
    given = tiny.problem(make())
    tiny.drain(TV_PDHG, given, n_iterations=5, tolerance=0)
    _, resumed = tiny.drain(TV_PDHG, given, n_iterations=12, tolerance=0)
    _, straight = tiny.drain(TV_PDHG, tiny.problem(make()), n_iterations=12, tolerance=0)
    torch.testing.assert_close(resumed, straight, rtol=1e-4, atol=1e-6)


def test_the_residual_is_that_of_the_volume():
    problem = tiny.problem(tiny.odd_multicoil())
    events, x = tiny.drain(TV_PDHG, problem, n_iterations=7, tolerance=0)
    assert events[-1].residual == pytest.approx(problem.residual(x[None, None]), rel=1e-5)


@pytest.mark.parametrize("make", [tiny.cone, tiny.odd_multicoil])
def test_with_default_parameters_it_stops_near_the_minimum(make):
    goal = result_of(objective(tiny.problem(make()), TVObjectiveParams()))
    events, x = tiny.drain(TV_PDHG, tiny.problem(make()), n_iterations=2000)
    _, best = tiny.drain(TV_FISTA, tiny.problem(make()), n_iterations=100, n_inner=15, tolerance=0)
    assert goal.value(x) == pytest.approx(goal.value(best), rel=2e-3)
    assert 20 < events[-1].iteration < 500
    assert events[-1].metrics["change"] < 1e-3
    assert events[-1].values is not None

"""The fixed-point layer: its point, its gradients, its memory, its reports, and how it is stopped."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.errors import Cancelled
from napari_unroll.events import Stop
from napari_unroll.interrupt import listening
from napari_unroll.methods.algorithms.iterations import State
from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.equilibrium.layer import fixed_point, solve
from napari_unroll.methods.equilibrium.report import hearing, metrics
from tests.methods.equilibrium.dense import EXACT, gap, network, volume, whole

ITERATIONS = ("proximal-gradient", "gradient", "half-quadratic", "averaged-resolvent")


def gradients(net, iterate, target):
    """d‖x − x̂‖²/dθ of every parameter, as one vector."""
    net.zero_grad()
    (iterate - target).abs().square().sum().backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()])


@pytest.mark.parametrize("solver", ["anderson", "damped", "plain"])
@pytest.mark.parametrize("iteration", ITERATIONS)
def test_the_measured_rate_is_at_most_the_promised_one(iteration, solver):
    net, data = network(iteration, bound=0.8), whole(rank=20)
    settings = EXACT.model_copy(update={"solver": solver, "tolerance": 1e-8})
    with hearing() as reports, torch.no_grad():
        solve(lambda z: net.step(State(z), 0, data).x, volume(3), settings)
    assert 0 < reports[0].rate <= net.promised_rate < 1


@pytest.mark.parametrize("solver", ["anderson", "damped", "plain"])
def test_the_measured_rate_of_a_plain_contraction_is_its_rate(solver):
    with hearing() as reports:
        solve(lambda z: 0.7 * z + 1, volume(3), EXACT.model_copy(update={"solver": solver, "tolerance": 1e-8}))
    assert reports[0].rate == pytest.approx(0.7)


def test_long_or_preconditioned_steps_and_free_networks_promise_nothing():
    assert network("gradient", kind="penalty").promised_rate is None
    net = network("gradient")
    with torch.no_grad():
        net.data_step.stepsize.fill_(1.5)
    assert net.promised_rate is None


def unrolled(net, x, data, n=400):
    for _ in range(n):
        x = net.step(State(x), 0, data).x
    return x


@pytest.mark.parametrize("iteration", ITERATIONS)
@pytest.mark.parametrize("is_complex", [False, True])
def test_the_implicit_gradient_is_that_of_400_unrolled_steps(iteration, is_complex):
    net, data, target = network(iteration, is_complex), whole(is_complex), volume(2, is_complex)
    start = volume(3, is_complex)
    expected_point = unrolled(net, start, data)
    expected = gradients(net, expected_point, target)
    (found_point,) = net(start, data).iterates
    assert gap(found_point, expected_point) < 1e-11
    assert gap(gradients(net, found_point, target), expected) < 1e-9
    (again,) = net(start, data, recompute=True).iterates
    assert gap(gradients(net, again, target), expected) < 1e-9


def test_other_gradients_point_the_same_way():
    data, target, start = whole(), volume(2), volume(3)
    found = {}
    for kind in ("implicit", "jacobian-free", "phantom"):
        settings = EXACT.model_copy(update={"gradient": kind})
        net = network("averaged-resolvent", equilibrium=settings)
        found[kind] = gradients(net, net(start, data).iterates[-1], target)
    for kind in ("jacobian-free", "phantom"):
        assert torch.nn.functional.cosine_similarity(found[kind], found["implicit"], dim=0) > 0.9
    more = EXACT.model_copy(update={"gradient": "phantom", "phantom_steps": 50, "damping": 1.0})
    net = network("averaged-resolvent", equilibrium=more)
    assert gap(gradients(net, net(start, data).iterates[-1], target), found["implicit"]) < 1e-4


def saved_bytes(net, data, recompute=False):
    kept = []

    def pack(tensor):
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(volume(3), data, recompute)
    return sum(kept)


def test_saved_tensors_are_those_of_one_step_however_many_evaluations_there_were():
    def after(n, **more):
        settings = EquilibriumConfig(tolerance=1e-15, max_evaluations=n)
        return saved_bytes(network("proximal-gradient", equilibrium=settings), whole(), **more)

    net, data = network("proximal-gradient"), whole()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        net.step(State(volume(3).requires_grad_()), 0, data)
    assert after(1) == after(40) <= 1.01 * sum(kept) + volume(3).nbytes
    assert after(40, recompute=True) < 0.5 * after(40)


@pytest.mark.parametrize("is_complex", [False, True])
def test_anderson_damped_and_plain_iteration_reach_the_same_point(is_complex):
    points, evaluations = {}, {}
    for solver in ("anderson", "damped", "plain"):
        settings = EXACT.model_copy(update={"solver": solver, "tolerance": 1e-11})
        net = network("averaged-resolvent", is_complex, settings)
        with hearing() as reports, torch.no_grad():
            (points[solver],) = net(volume(3, is_complex), whole(is_complex)).iterates
        assert reports[0].converged
        evaluations[solver] = reports[0].evaluations
    assert gap(points["anderson"], points["plain"]) < 1e-9
    assert gap(points["damped"], points["plain"]) < 1e-9
    assert evaluations["anderson"] < evaluations["plain"] < evaluations["damped"]


def test_maps_need_not_be_holomorphic():
    """z = ½ z̄ + c has the solution (4c + 2c̄)/3."""
    c = volume(0, True)
    found = solve(lambda z: z.conj() / 2 + c, torch.zeros_like(c), EXACT)
    assert gap(found, (4 * c + 2 * c.conj()) / 3) < 1e-12


def test_items_of_a_batch_are_mixed_by_themselves():
    matrix = whole().matrix
    both = torch.cat((volume(4), 100 * volume(5)))
    maps = [lambda z, c=c: 0.9 * (z.flatten(1) @ matrix.T).reshape(z.shape) + c for c in (both, both[:1], both[1:])]
    settings = EquilibriumConfig(tolerance=1e-15, max_evaluations=8)
    together, one, two = (solve(f, torch.zeros_like(f(0 * both[:1])), settings) for f in maps)
    assert gap(together, torch.cat((one, two))) < 1e-8


def test_a_map_without_fixed_point_is_reported_and_leaves_the_best_that_was_seen():
    with hearing() as reports:
        found = solve(lambda z: z + 1 + 0.1 * z.abs(), torch.zeros(1, 3), EquilibriumConfig(max_evaluations=7))
    (report,) = reports
    assert torch.isfinite(found).all()
    assert (report.evaluations, report.converged) == (7, False)
    assert "not converged" in report.advice
    with hearing() as reports:
        solve(lambda z: z / 0, torch.ones(1, 3), EquilibriumConfig())
    assert reports[0].evaluations == 1


def test_reports_of_forward_and_backward_become_figures():
    net = network("averaged-resolvent")
    with hearing() as reports:
        net(volume(3), whole()).iterates[-1].sum().backward()
    assert [report.is_backward for report in reports] == [False, True]
    figures = metrics(reports)
    assert figures["evaluations"] == reports[0].evaluations
    assert figures["solve_residual"] < EXACT.tolerance
    assert figures["backward_evaluations"] == reports[1].evaluations
    assert metrics([]) == {}


def test_every_evaluation_looks_for_a_wish_to_stop():
    stop, n = Stop(), 0

    def f(z):
        nonlocal n
        n += 1
        stop.cancel()
        return z + 1

    with pytest.raises(Cancelled), listening(stop):
        fixed_point(f, torch.zeros(1, 3), EquilibriumConfig())
    assert n <= 1

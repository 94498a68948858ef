"""Reconstructions that are a fixed point: of the whole volume, told evaluation by evaluation, and honest where it was not found."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.events import FixedPoint, IterationDone, PatchDone
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.algorithms.reconstruct import EquilibriumParams, UnrolledParams, reconstruct
from napari_unroll.methods.networks.convolution import refresh
from napari_unroll.methods.networks.dncnn import CNNConfig
from napari_unroll.methods.networks.shallow import ShallowConfig
from napari_unroll.methods.steps.data import Data
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.patches.context import LocalProblem
from tests.methods import tiny

STEPS = {"proximal-gradient": {"preconditioner": None}, "averaged-resolvent": {"strength": 3.0, "tolerance": 1e-5}}


def problem(scan, form="auto", **more):
    given = tiny.problem(scan)
    options = FitOptions(n_test=0) if form == "auto" else FitOptions(n_test=0, form=form)
    return tiny.problem(scan, normal=fit_now(given.physics, options), **more)


def network(iteration, is_complex=False, **equilibrium):
    torch.manual_seed(0)
    config = NetworkConfig(
        iteration=iteration,
        data_step=STEPS[iteration],
        prior=CNNConfig(width=4, layers=3, complex_valued=is_complex),
        equilibrium={"tolerance": 1e-3, "max_evaluations": 100, **equilibrium},
        lipschitz={"kind": "layers", "bound": 0.9},
    )
    found = Network(config).eval().requires_grad_(False)
    refresh(found, 30)
    return found


class Whole:
    """The exact data term of the whole volume around every iterate."""

    def __init__(self, given, scale):
        self.given, self.adjoint = given, given.adjoint / scale

    def at(self, x, k):
        normal = self.given.physics.normal
        return Data(LocalProblem(self.given.normal, x, self.adjoint - normal(x)), self.given.normal, operator=normal)


def run(given, net, **params):
    given.state.clear()
    start = given.physics.A_dagger(given.y)
    work, events = reconstruct(given, EquilibriumParams(**params), net, start), []
    try:
        while True:
            events.append(next(work))
    except StopIteration as end:
        return events, end.value, start


def last(events):
    """What is told of the search at its end."""
    return [e for e in events if isinstance(e, FixedPoint)][-1]


@pytest.mark.parametrize("iteration", STEPS)
@pytest.mark.parametrize("make", [tiny.cone, tiny.multicoil])
def test_a_reconstruction_is_the_fixed_point_of_the_whole_volume_with_the_exact_operator(iteration, make):
    scan = make()
    given, net = problem(scan), network(iteration, scan.modality == "mri")
    events, volume, start = run(given, net)
    scale = intensity_scale(start)
    (expected,) = net(start / scale, Whole(given, scale)).iterates
    assert torch.linalg.vector_norm(volume - expected[0, 0] * scale) < 0.02 * torch.linalg.vector_norm(volume)
    told = [e for e in events if isinstance(e, IterationDone)]
    assert [e.iteration for e in told] == list(range(1, len(told) + 1))
    assert told[0].n_iterations == 100
    residuals = [e.metrics["solve_residual"] for e in told]
    assert residuals == sorted(residuals, reverse=True)
    assert residuals[-1] < 1e-3 <= residuals[-2]
    assert told[-1].metrics["evaluations"] == len(told)
    assert last(events).converged
    assert any(isinstance(e, PatchDone) for e in events)


@pytest.mark.parametrize(("overlap", "most", "promise"), [(6, 1e-5, " 0.90."), (5, 2e-2, " 0.90 for volumes in one")])
def test_patches_that_share_twice_what_the_prior_sees_have_the_fixed_point_of_the_whole_volume(overlap, most, promise):
    """Three layers see three voxels: what is nearer than that to a face is left to the neighbour, and the bound holds."""
    whole, cut = (problem(tiny.cone(), patch_size=(p,) * 3, overlap=overlap) for p in (20, 9))
    net = network("proximal-gradient")
    _, a, _ = run(whole, net)
    events, b, _ = run(cut, net)
    assert torch.linalg.vector_norm(a - b) < most * torch.linalg.vector_norm(a)
    assert f"the network guarantees{promise}" in last(events).text


def test_what_is_not_found_is_told_in_words_and_the_best_is_returned():
    events, volume, _ = run(problem(tiny.cone()), network("proximal-gradient"), n_iterations=2, tolerance=1e-6)
    assert not last(events).converged
    assert "not converged" in last(events).text
    assert "2 evaluations" in last(events).text
    assert last(events).figures["residual"] > 1e-6
    shown = [e.values for e in events if isinstance(e, IterationDone)]
    torch.testing.assert_close(torch.from_numpy(shown[-1]), volume)


CUT = {"patch_size": (10,) * 3, "overlap": 2}


@pytest.mark.parametrize("solver", ["anderson", "damped"])
@pytest.mark.parametrize("iteration", STEPS)
def test_leaving_settled_patches_out_finds_the_same_fixed_point(iteration, solver, monkeypatch):
    """The residual of all patches afresh is below κ, so the point is as near as any that is found: κ / (1 − rate) at most."""
    monkeypatch.setattr(
        "napari_unroll.methods.algorithms.reconstruct.SLACK", 1.0
    )  # leaves out more than the product does
    given, net = problem(tiny.cone(), **CUT), network(iteration, solver=solver)
    everything, expected, _ = run(given, net)
    some, found, _ = run(given, net, skip_settled=True)
    assert last(some).converged
    assert last(some).maps["evaluations"].min() < last(some).figures["evaluations"]
    assert (last(everything).maps["evaluations"] == last(everything).figures["evaluations"]).all()
    _, exact, _ = run(given, net, tolerance=1e-5)
    size = torch.linalg.vector_norm(exact)
    for volume in (found, expected):
        assert torch.linalg.vector_norm(volume - exact) < 1e-3 * size / (1 - last(some).figures["promised_rate"])


def test_what_is_told_patch_by_patch_has_the_shape_of_the_grid_and_covers_the_volume():
    given, net = problem(tiny.cone(), **CUT), network("averaged-resolvent")
    events, _, _ = run(given, net)
    told, n = last(events), last(events).figures["evaluations"]
    assert {name: values.shape for name, values in told.maps.items()} == {
        "evaluations": (3, 3, 3),
        "residual": (3, 3, 3),
    }
    assert (told.maps["evaluations"] == n).all()
    assert told.figures["patch_evaluations"] == 27 * n
    assert told.spread("residual").shape == given.shape
    mean = float((told.spread("residual") ** 2).mean()) ** 0.5
    assert mean == pytest.approx(told.figures["residual"], rel=1e-3)
    assert "each of 27 patches" in told.text


@pytest.mark.parametrize("kind", ["layers", "penalty"])
def test_the_measured_contraction_is_told_beside_what_the_network_promises(kind):
    net = network("averaged-resolvent")
    object.__setattr__(net.config, "lipschitz", net.config.lipschitz.model_copy(update={"kind": kind}))
    events, _, _ = run(problem(tiny.cone()), net)
    figures = last(events).figures
    assert 0 < figures["measured_rate"] < 1
    if kind == "layers":
        assert figures["measured_rate"] <= figures["promised_rate"] == pytest.approx(0.95)
        assert (
            f"contracted to {figures['measured_rate']:.2f} or less; the network guarantees 0.95." in last(events).text
        )
    else:
        assert figures["promised_rate"] is None
        assert "no guarantee by the network" in last(events).text


def test_an_attempt_goes_on_from_the_search_that_was_left():
    given, net = problem(tiny.cone()), network("proximal-gradient")
    _, volume, start = run(given, net)
    given.state.clear()
    for event in reconstruct(given, EquilibriumParams(), net, start):
        if isinstance(event, IterationDone) and event.iteration == 3:
            break
    again = [e for e in reconstruct(given, EquilibriumParams(), net, start) if isinstance(e, IterationDone)]
    assert again[0].iteration == 4
    torch.testing.assert_close(torch.from_numpy(again[-1].values), volume)


def test_smaller_patches_go_on_with_the_search_and_count_anew():
    given, net = problem(tiny.cone(), **CUT), network("proximal-gradient")
    run(given, net, n_iterations=2, tolerance=1e-6, skip_settled=True)
    given.state["search"].config = net.config.equilibrium
    smaller = problem(tiny.cone(), patch_size=(8,) * 3, overlap=2, state=given.state)
    work = reconstruct(smaller, EquilibriumParams(skip_settled=True), net, given.physics.A_dagger(given.y))
    told = last(list(work))
    assert told.converged
    assert told.maps["evaluations"].shape == (3, 3, 3)
    assert told.maps["evaluations"].max() == told.figures["evaluations"] - 2


def test_the_approximation_can_take_the_place_of_the_operator():
    given, net = problem(tiny.multicoil()), network("proximal-gradient", True)
    (_, exact, _), (_, near, _) = (run(given, net, data_step=step) for step in ("exact", "approximated"))
    assert torch.linalg.vector_norm(exact - near) < 0.01 * torch.linalg.vector_norm(exact)


def test_an_approximation_that_is_not_positive_is_refused_in_words():
    with pytest.raises(ParameterError, match="needs a self-adjoint, positive approximation"):
        run(problem(tiny.cone(), "dc"), network("averaged-resolvent"), data_step="approximated")


def test_fixed_points_inside_of_priors_are_told_too():
    torch.manual_seed(0)
    config = NetworkConfig(prior=ShallowConfig(width=16, groups=2), data_step={"preconditioner": None}, n_iterations=2)
    given, start = problem(tiny.cone()), None
    net = Network(config).eval().requires_grad_(False)
    start = given.physics.A_dagger(given.y)
    events = list(reconstruct(given, UnrolledParams(self_ensemble=False), net, start))
    assert all(e.metrics["evaluations"] > 1 for e in events if isinstance(e, IterationDone))
    assert not [e for e in events if isinstance(e, FixedPoint)]
    net.prior(0).backbone.gain.fill_(3.0)
    given.state.clear()
    events = list(reconstruct(given, UnrolledParams(self_ensemble=False), net, start))
    assert "not converged" in last(events).text
    assert not last(events).converged

"""The last data step: its equations, how its weight is found, and that every learned method has it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unroll.events import IterationDone, Measured, Outcome, Warned, result_of
from napari_unroll.methods.classical.strength import mean_eigenvalue
from napari_unroll.methods.left_out import split
from napari_unroll.methods.problem import MethodParams
from napari_unroll.methods.registry import METHODS, get
from napari_unroll.methods.steps import final
from napari_unroll.methods.steps.final import best_share, data_step, left_out_errors, with_final_step
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.provenance import record
from napari_unroll.pipeline.run import run
from tests.methods import tiny

SCANS = {"cone": lambda: tiny.cone(12, 20), "one slice": tiny.slice_mri, "radial": tiny.radial}


class Params(MethodParams):
    """What the wrapper looks for."""

    final_data_step: final.FinalStep = "auto"


def smoothing(problem, params):
    """A method that halves the quick reconstruction: wrong by a factor that the data know."""
    x = yield from problem.find_quick()
    problem.state["calls"] = problem.state.get("calls", 0) + 1
    return 0.5 * x[0, 0]


@pytest.mark.parametrize("name", SCANS)
def test_the_step_minimises_its_objective(name):
    given = tiny.problem(SCANS[name]())
    z = given.physics.A_dagger(given.y)[0, 0]
    x, weight = result_of(data_step(given, z, 30.0)), 30.0 * mean_eigenvalue(given.physics)
    gradient = given.physics.normal(x[None, None]) - given.adjoint + weight * (x - z)
    assert float(gradient.norm()) < 1e-3 * float(given.adjoint.norm())


@pytest.mark.parametrize("name", SCANS)
def test_errors_by_one_krylov_space_are_those_of_the_steps_themselves(name):
    kept, left = split(tiny.problem(SCANS[name]()))
    z = kept.physics.A_dagger(kept.y)[0, 0]
    errors = left_out_errors(kept, left, z)
    assert errors["none"] == pytest.approx(left.error(z[None, None]))
    for weight in (0.3, 10.0, 300.0):
        x = result_of(data_step(kept, z, weight))
        assert errors[weight] == pytest.approx(left.error(x[None, None]), rel=2e-3)


@pytest.mark.parametrize("name", ["one slice", "radial"])
def test_auto_takes_a_small_error_and_mends_a_biased_method(name):
    scan = SCANS[name]()
    given = tiny.problem(scan)
    work, events = with_final_step(smoothing)(given, Params()), []
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            x = end.value
            break
    (found,) = [e.row for e in events if isinstance(e, Measured)]
    assert found["final_data_step"] in final.WEIGHTS or found["share_of_network"] < 1
    assert found["left_out_error"] <= found["left_out_error_without"]
    kept, left = split(tiny.problem(scan))
    assert found["left_out_error"] < left.error(result_of(smoothing(kept, None))[None, None])
    assert given.residual(x[None, None]) < given.residual(result_of(smoothing(given, None))[None, None])
    shown = [e for e in events if isinstance(e, IterationDone)]
    assert shown[-1].residual == pytest.approx(given.residual(x[None, None]), rel=1e-4)


def test_of_weights_that_hardly_differ_the_gentlest_is_taken():
    errors = {"none": 1.0, 0.1: 2.0, 1.0: 0.9, 3.0: 0.901, 10.0: 0.95}
    assert final.gentlest(errors) == 3.0
    assert final.gentlest(errors | {"none": 0.902}) == "none"
    assert final.gentlest({"none": 0.0}) == "none"


@pytest.mark.parametrize("name", ["one slice", "radial"])
def test_total_variation_has_the_share_that_left_out_measurements_want(name):
    kept, left = split(tiny.problem(SCANS[name]()))
    good = kept.physics.A_dagger(kept.y)[0, 0]
    wrong = good + 3 * good.roll(3, -1)
    share = best_share(left, wrong, good)
    errors = [left.error((good + a * (wrong - good))[None, None]) for a in np.linspace(0, 1, 201)]
    least = min(errors)
    assert 0 <= share < 1
    assert left.error((good + share * (wrong - good))[None, None]) <= (1 + 1.01 * final.MARGIN) * least
    nearer = [e for a, e in zip(np.linspace(0, 1, 201), errors, strict=True) if a < share - 0.005]
    assert all(e > (1 + final.MARGIN) * least for e in nearer)


@pytest.mark.parametrize("name", ["one slice", "radial"])
def test_a_method_that_foretells_best_stays_alone(name):
    kept, left = split(tiny.problem(SCANS[name]()))
    good = kept.physics.A_dagger(kept.y)[0, 0]
    assert best_share(left, good, 3 * good.roll(3, -1)) == 1
    assert best_share(left, good, good) == 1


def test_a_mixture_is_that_of_both_volumes(monkeypatch):
    given = tiny.problem(tiny.slice_mri())
    monkeypatch.setattr(final, "_found", lambda *_: iter_and_return((0.25, "none")))
    x = result_of(with_final_step(smoothing)(given, Params()))
    z = result_of(smoothing(given, None))
    classical = result_of(final.first_estimate(tiny.problem(tiny.slice_mri()), final.N_CLASSICAL, True))[0, 0]
    torch.testing.assert_close(x, classical + 0.25 * (z - classical))


def iter_and_return(value):
    """A generator without events."""
    yield from ()
    return value


def test_a_method_that_is_resumed_keeps_its_weight():
    given = tiny.problem(tiny.slice_mri())
    method = with_final_step(smoothing)
    first = result_of(method(given, Params()))
    again = tiny.problem(tiny.slice_mri(), state=given.state)
    events = list(method(again, Params()))
    assert not [e for e in events if isinstance(e, Measured)]
    torch.testing.assert_close(first, result_of(method(again, Params())))
    assert "kept" not in given.state


def test_without_the_step_nothing_is_left_out():
    given = tiny.problem(tiny.slice_mri())
    x = result_of(with_final_step(smoothing)(given, Params(final_data_step="none")))
    assert torch.equal(x, 0.5 * given.physics.A_dagger(given.y)[0, 0])
    assert given.state["calls"] == 1


def test_where_nothing_can_be_left_out_there_is_no_step():
    for scan in (tiny.blurred(), tiny.cone(12, 8)):
        events = with_final_step(smoothing)(tiny.problem(scan), Params())
        assert not [e for e in events if isinstance(e, Measured | Warned)]
    radial = tiny.radial()
    single = replace(radial, geometry=radial.geometry.subset(slice(1)), measurements=radial.measurements[:, :1])
    events = with_final_step(smoothing)(tiny.problem(single), Params())
    assert [e for e in events if isinstance(e, Warned)]


LEARNED = [m.name for m in METHODS.values() if final.NAME in m.params.model_fields]


def test_every_patchwise_method_with_weights_has_it():
    assert [m.name for m in METHODS.values() if m.patchwise and m.needs_weights] == LEARNED


@pytest.mark.parametrize("name", ["unrolled-pgd", "drunet", "pnp-pgd", "dpir", "mol-sn"])
def test_the_ordinary_run_tells_the_weight_in_its_record(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
    scan, method = tiny.slice_mri(), get(name)
    params = {**tiny.quick_params(method, scan, tmp_path), "final_data_step": "auto"}
    plan = resolve(Choices(method=name, params=params, device="cpu", patch_size=24), scan)
    *_, finished = run(plan, scan)
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    assert np.isfinite(finished.result).all()
    told = record(plan, scan, finished)["found"]
    assert told["final_data_step"] in (*final.WEIGHTS, "none")
    assert 0 <= told["share_of_network"] <= 1
    assert told["left_out_error"] <= 1.01 * told["left_out_error_without"]


def test_memory_counts_the_step():
    scan = tiny.slice_mri()
    plans = [
        resolve(Choices(method="drunet", params={"final_data_step": step}, device="cpu", patch_size=16), scan)
        for step in ("none", "auto")
    ]
    assert plans[0].memory_bytes < plans[1].memory_bytes

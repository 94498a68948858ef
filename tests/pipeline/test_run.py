import dataclasses
import time

import numpy as np
import pytest
import torch

from napari_unroll.errors import ParameterError, UnrollError, is_out_of_memory
from napari_unroll.events import Finished, IterationDone, Outcome, PatchDone, Progress, Started, Stop, Warned
from napari_unroll.interrupt import interruptible
from napari_unroll.methods import registry
from napari_unroll.methods.problem import Method, MethodParams, as_values
from napari_unroll.pipeline import run as run_module
from napari_unroll.pipeline.fit_verdict import grid_share
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.noise import measured_noise
from tests.methods import tiny

EVERY = tiny.applicable()


def allocate_too_much():
    """What torch really raises on this machine when memory is exhausted."""
    torch.empty(2**55, dtype=torch.uint8)


class Params(MethodParams):
    """No choices."""


def invented(name, solve, **more):
    return Method(name=name, title=name, summary="", source="", params=Params, solve=solve, **more)


@pytest.fixture
def offered(monkeypatch):
    """Register a method for one test."""

    def offer(solve, **more):
        method = invented("invented", solve, **more)
        monkeypatch.setitem(registry.METHODS, "invented", method)
        return method

    return offer


def plan_for(scan, **choices):
    return resolve(Choices(device="cpu", **choices), scan)


def outcome_of(solve, offered, **more):
    offered(solve, **more)
    scan = tiny.cone()
    return list(run(plan_for(scan, method="invented"), scan))


@pytest.mark.parametrize(("method", "make"), EVERY)
def test_a_run_starts_and_finishes_with_a_volume(method, make, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
    scan = make()
    params = tiny.quick_params(method, scan, tmp_path)
    events = list(run(plan_for(scan, method=method.name, params=params, patch_size=16), scan))
    assert isinstance(events[0], Started)
    assert events[0].shape == scan.grid.shape
    assert [type(e) for e in events].count(Finished) == 1
    last = events[-1]
    assert last.outcome is Outcome.COMPLETED, last.advice
    assert last.result.shape == scan.grid.shape
    assert last.result.dtype == (np.complex64 if scan.modality == "mri" else np.float32)
    assert last.seconds > 0
    assert last.history == tuple(e.residual for e in events if isinstance(e, IterationDone) and e.residual is not None)


def test_a_method_that_needs_the_normal_operator_gets_it(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
    scan = tiny.cone()
    plan = plan_for(scan, method="cgls", params={"precondition": True, "n_iterations": 2})
    events = list(run(plan, scan))
    assert events[-1].outcome is Outcome.COMPLETED, events[-1].advice
    assert any(isinstance(e, Progress) and "normal operator" in e.text for e in events)


def test_warnings_of_the_fit_reach_the_user(monkeypatch):
    from napari_unroll.normal.fit import FitOptions, fit

    def warned(scan, physics, options):
        yield Warned("The operator does not fit.")
        yield from fit(physics, FitOptions(n_probes=2, n_test=0))

    monkeypatch.setattr(run_module, "cached_fit", warned)
    scan = tiny.cone()
    events = list(run(plan_for(scan, method="cgls", params={"precondition": True, "n_iterations": 2}), scan))
    assert [e.text for e in events if isinstance(e, Warned)] == ["The operator does not fit."]
    assert events[-1].outcome is Outcome.COMPLETED, events[-1].advice


def test_given_factors_are_used_without_a_fit(monkeypatch):
    from napari_unroll.normal.fit import FitOptions, fit_now
    from napari_unroll.physics.build import build_physics

    scan = tiny.cone()
    factors = fit_now(build_physics(scan, "cpu"), FitOptions(n_probes=2, n_test=0))
    monkeypatch.setattr(run_module, "cached_fit", None)
    plan = plan_for(scan, method="cgls", params={"precondition": True, "n_iterations": 2})
    assert list(run(plan, scan, factors=factors))[-1].outcome is Outcome.COMPLETED


def test_cancel_ends_without_a_result():
    scan, stop = tiny.cone(), Stop()
    events = []
    for event in run(plan_for(scan, method="tv-fista"), scan, stop):
        events.append(event)
        if isinstance(event, IterationDone) and event.iteration == 2:
            stop.cancel()
    assert events[-1].outcome is Outcome.CANCELLED
    assert events[-1].result is None
    assert max(e.iteration for e in events if isinstance(e, IterationDone)) == 2


def test_finish_now_keeps_what_there_is():
    scan, stop = tiny.cone(), Stop()
    for event in run(plan_for(scan, method="tv-fista"), scan, stop):
        if isinstance(event, IterationDone) and event.iteration == 3:
            stop.finish()
    assert event.outcome is Outcome.FINISHED_EARLY
    assert np.isfinite(event.result).all()
    assert len(event.history) == 3


def test_a_search_that_is_asked_to_finish_says_how_far_it_came(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
    scan, stop, finished = tiny.cone(), Stop(), None
    params = {"weights": tiny.weights(tmp_path, scan, "mol-sn"), "tolerance": 1e-6}
    for event in run(plan_for(scan, method="mol-sn", params=params), scan, stop):
        if isinstance(event, IterationDone) and event.metrics.get("evaluations") == 2:
            stop.finish()
        finished = event
    assert finished.outcome is Outcome.FINISHED_EARLY
    assert "not converged): 2 evaluations" in finished.advice
    assert not finished.fixed_point.converged


def test_torch_really_says_out_of_memory():
    with pytest.raises(RuntimeError) as error:
        allocate_too_much()
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_out_of_memory_halves_the_patch_and_goes_on_from_the_finished_ones(offered):
    done, sizes = [], []

    def solve(problem, params):
        sizes.append((problem.patch_size, problem.overlap))
        for k in range(len(problem.state.setdefault("finished", [])), 4):
            if k == 2 and problem.patch_size[0] > 16:
                allocate_too_much()
            problem.state["finished"].append(k)
            done.append(k)
            yield PatchDone((slice(k, k + 1), slice(0, 2), slice(0, 2)), np.ones((1, 2, 2), np.float32))
        return torch.ones(problem.shape)

    offered(solve, patchwise=True)
    scan = tiny.cone(40, 4)
    events = list(run(plan_for(scan, method="invented", patch_size=32, overlap=10), scan))
    assert events[-1].outcome is Outcome.COMPLETED, events[-1].advice
    assert done == [0, 1, 2, 3]
    assert sizes == [((32,) * 3, 10), ((16,) * 3, 8)]
    assert [e.text for e in events if isinstance(e, Warned)] == [
        "cpu ran out of memory; going on with patches of (16, 16, 16)."
    ]


def test_an_unrolled_network_goes_on_after_out_of_memory(monkeypatch, tmp_path):
    """The second iteration does not fit in patches of 24: it is repeated in smaller ones, the first one is not."""
    from napari_unroll.methods.algorithms.network import Network

    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
    denoise = Network.denoise

    def short_of_memory(self, x, k, noise):
        if k == 1 and x.shape[-1] > 16:
            allocate_too_much()
        return denoise(self, x, k, noise)

    monkeypatch.setattr(Network, "denoise", short_of_memory)
    scan = tiny.cone(24, 8)
    params = {"weights": tiny.weights(tmp_path, scan), "final_data_step": "none"}
    events = list(run(plan_for(scan, method="unrolled-pgd", params=params, patch_size=24), scan))
    assert events[-1].outcome is Outcome.COMPLETED, events[-1].advice
    assert [e.iteration for e in events if isinstance(e, IterationDone)] == [1, 2]
    assert sum(isinstance(e, Warned) for e in events) == 1


def test_out_of_memory_in_the_smallest_patches_is_an_outcome(offered):
    def solve(problem, params):
        allocate_too_much()
        yield

    last = outcome_of(solve, offered)[-1]
    assert last.outcome is Outcome.FAILED
    assert "needs more memory than cpu has free" in last.advice


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ParameterError("Expected less."), "Expected less."),
        (RuntimeError("size mismatch\nlong trace"), "unexpected RuntimeError: size mismatch."),
        (ZeroDivisionError(), "unexpected ZeroDivisionError: no message."),
    ],
)
def test_errors_become_outcomes(error, advice, offered):
    def solve(problem, params):
        raise error
        yield

    last = outcome_of(solve, offered)[-1]
    assert last.outcome is Outcome.FAILED
    assert advice in last.advice


def test_no_error_of_the_project_is_a_runtime_error():
    assert not issubclass(UnrollError, RuntimeError)


def test_a_diverged_volume_is_a_failure(offered):
    def solve(problem, params):
        yield IterationDone(1, 1)
        return torch.full(problem.shape, torch.nan)

    last = outcome_of(solve, offered)[-1]
    assert last.outcome is Outcome.FAILED
    assert "diverged" in last.advice


def test_a_damaged_scan_fails_in_words():
    scan = tiny.cone()
    plan = plan_for(scan, method="cgls")
    broken = dataclasses.replace(scan)
    object.__setattr__(broken, "measurements", np.zeros((3, 3, 3), np.float32))
    assert list(run(plan, broken))[-1].outcome is Outcome.FAILED


def test_values_of_events_are_copies():
    x = torch.zeros(1, 1, 2, 2, 2)
    values = as_values(x)
    x += 1
    assert values.max() == 0


def test_a_run_that_nobody_drains_costs_nothing():
    begun = time.perf_counter()
    run(plan_for(tiny.cone(), method="tv-fista"), tiny.cone())
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    ("fit", "words"), [(0.3, "holds some of the noise"), (1.1, "fits the data"), (4, "too smooth")]
)
def test_the_residual_is_told_in_the_noise_of_the_scan(offered, fit, words):
    scan = tiny.cone()
    share = np.hypot(measured_noise(scan).share, grid_share(scan, np.ones(scan.grid.shape, np.float32)))

    def solve(problem, params):
        x = torch.ones(problem.shape)
        yield IterationDone(1, 1, residual=fit * share, values=x.numpy())
        return x

    last = outcome_of(solve, offered)[-1]
    assert f"{fit:.2g} times what the true volume would leave" in last.advice
    assert words in last.advice


def test_libraries_on_the_card_say_out_of_memory_in_their_own_way():
    for text in ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"):
        assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("size mismatch"))


def test_finished_iterations_survive_out_of_memory(offered):
    def solve(problem, params):
        yield IterationDone(1, 2, values=np.ones(problem.shape, np.float32))
        allocate_too_much()

    events = outcome_of(solve, offered)
    assert events[-1].outcome is Outcome.FINISHED_EARLY
    assert (events[-1].result == 1).all()
    assert "best estimate" in events[-1].advice
    assert any(isinstance(e, Warned) and "needs more memory" in e.text for e in events)


def test_zeros_from_measurements_that_are_not_zero_are_no_result(offered):
    def solve(problem, params):
        yield IterationDone(1, 1)
        return torch.zeros(problem.shape)

    last = outcome_of(solve, offered)[-1]
    assert last.outcome is Outcome.FAILED
    assert "zeros only" in last.advice


@pytest.mark.parametrize("how", ["finish", "cancel"])
def test_a_wish_while_the_residual_is_judged_loses_no_finished_volume(how):
    scan, stop = tiny.cone(), Stop()
    events = []
    for event in interruptible(run(plan_for(scan, method="cgls", params={"n_iterations": 2}), scan, stop), stop):
        events.append(event)
        if isinstance(event, Progress) and "with the noise" in event.text:
            getattr(stop, how)()
    end = events[-1]
    if how == "cancel":
        assert end.outcome is Outcome.CANCELLED
    else:
        assert end.outcome is Outcome.FINISHED_EARLY
        assert end.result.any()
        assert "would leave" not in end.advice


def test_who_finishes_early_is_told_the_residual_and_waits_for_no_verdict():
    scan, stop = tiny.cone(), Stop()
    events = []
    for event in interruptible(run(plan_for(scan, method="cgls", params={"n_iterations": 9}), scan, stop), stop):
        events.append(event)
        if isinstance(event, IterationDone) and event.iteration == 2:
            stop.finish()
    assert events[-1].result.any()
    assert "The residual is" in events[-1].advice
    assert not any(isinstance(e, Progress) and "with the noise" in e.text for e in events)

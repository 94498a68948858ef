"""Adapting a network to one scan by its own measurements."""

from copy import deepcopy
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch

from napari_unroll.errors import Cancelled, ParameterError
from napari_unroll.events import Finished, IterationDone, Measured, Outcome, Progress, QuickLook, Stop, result_of
from napari_unroll.interrupt import interruptible
from napari_unroll.methods.algorithms import adaptation
from napari_unroll.methods.algorithms.adaptation import adapt
from napari_unroll.methods.algorithms.reconstruct import UnrolledParams
from napari_unroll.methods.left_out import split
from napari_unroll.methods.registry import METHODS
from napari_unroll.methods.weights import load_network
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.provenance import record
from napari_unroll.pipeline.run import run
from tests.methods import tiny

SCANS = {"one slice": tiny.slice_mri, "multi-coil": tiny.odd_multicoil, "radial": tiny.radial}
every_scan = pytest.mark.parametrize("make", SCANS.values(), ids=SCANS)
ADAPTABLE = [name for name, method in METHODS.items() if issubclass(method.params, UnrolledParams)]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(adaptation, "_found", WeakKeyDictionary())


def given(make, folder, method="unrolled-pgd"):
    """A problem with its fitted operator, and a small network without training."""
    scan = make()
    physics = tiny.problem(scan).physics
    network = load_network(Path(tiny.weights(folder, scan, method)))
    return tiny.problem(scan, normal=fit_now(physics, FitOptions(n_test=0))), network


def drain(problem, network, n_steps):
    return list(adapt(problem, network, n_steps))


@every_scan
def test_what_the_network_is_given_and_what_it_must_foretell_are_apart(make, tmp_path):
    """The samples that choose the weights are in no draw, neither given nor to be foretold."""
    problem, network = given(make, tmp_path)
    unseen, *draws = result_of(adaptation._drawn(problem, network))
    assert len(draws) == len(adaptation.DRAWS)
    rest, _ = split(problem)
    for draw in draws:
        kept, left = draw._source.problem, draw.left
        if left.sampled is None:
            assert kept.y.numel() + left.y.numel() == rest.y.numel()
            continue
        seen = torch.tensor(kept.scan.geometry.mask)
        assert not (seen & left.sampled).any()
        assert not ((seen | left.sampled) & unseen.left.sampled).any()
        assert ((seen | left.sampled) == torch.tensor(rest.scan.geometry.mask)).all()
    assert len({float(d.left.y.abs().sum()) for d in draws}) == len(draws)


@every_scan
@pytest.mark.parametrize("name", ["unrolled-pgd", "modl"])
def test_the_gradient_in_the_weights_is_that_of_finite_differences(make, name, tmp_path):
    problem, network = given(make, tmp_path, name)
    _, draw, *_ = result_of(adaptation._drawn(problem, network))
    network.requires_grad_(True)
    draw.loss(network).backward()
    generator = torch.Generator().manual_seed(1)
    way = [torch.randn(p.shape, generator=generator) for p in network.parameters()]
    along = sum(float((p.grad * d).sum()) for p, d in zip(network.parameters(), way, strict=True) if p.grad is not None)
    losses = []
    for sign in (1, -1):
        moved = deepcopy(network)
        with torch.no_grad():
            for p, d in zip(moved.parameters(), way, strict=True):
                p.add_(sign * 2e-3 * d)
            losses.append(float(draw.loss(moved)))
    assert along == pytest.approx((losses[0] - losses[1]) / 4e-3, rel=0.05, abs=2e-3)


def test_the_middle_of_k_space_is_given_and_must_be_kept(tmp_path, monkeypatch):
    """So a brightness that wrong coil maps would have changed stays."""
    problem, network = given(tiny.odd_multicoil, tmp_path)
    _, draw, *_ = result_of(adaptation._drawn(problem, network))
    mask = torch.tensor(draw.problem.scan.geometry.mask)
    assert not (draw._middle & ~mask).any()
    far = [i**2 for i in torch.meshgrid(*(torch.arange(n) - n // 2 for n in mask.shape), indexing="ij")]
    assert ((mask & (sum(far) <= adaptation.MIDDLE**2)) == draw._middle).all()
    x = draw.volume(network).detach()
    monkeypatch.setattr(draw, "volume", lambda network: x)
    y = draw.problem.y
    wrong = torch.linalg.vector_norm((draw.problem.physics.A(x) - y)[..., draw._middle])
    whole = float(draw.loss(network))
    expected = float(wrong / torch.linalg.vector_norm(y[..., draw._middle]))
    monkeypatch.setattr(draw, "_middle", None)
    assert whole - float(draw.loss(network)) == pytest.approx(expected, rel=1e-3)
    assert expected > 0.01
    radial, other = given(tiny.radial, tmp_path)
    assert result_of(adaptation._drawn(radial, other))[1]._middle is None


@every_scan
def test_samples_that_nothing_saw_are_foretold_better(make, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "LEARNING_RATE", 3e-3)  # the network has no training
    problem, network = given(make, tmp_path)
    before = deepcopy(network)
    events = drain(problem, network, 20)
    (told,) = [e.row for e in events if isinstance(e, Measured)]
    unseen, *_ = result_of(adaptation._drawn(problem, network))
    with torch.no_grad():
        errors = [unseen.left.error(unseen.volume(n)) for n in (before, network)]
    assert told["error_before"] == pytest.approx(errors[0], rel=1e-4)
    assert told["adapted_error"] == pytest.approx(errors[1], rel=1e-4)
    assert errors[1] < errors[0]
    assert any(isinstance(e, QuickLook) for e in events)
    assert [e for e in events if isinstance(e, IterationDone)]
    assert not any(p.requires_grad for p in network.parameters())


def test_steps_that_only_harm_leave_the_weights_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "LEARNING_RATE", 10.0)
    problem, network = given(tiny.slice_mri, tmp_path)
    before = deepcopy(network.state_dict())
    events = drain(problem, network, 100)
    (told,) = [e.row for e in events if isinstance(e, Measured)]
    assert told["adaptation_steps"] == 0
    assert len([e for e in events if isinstance(e, IterationDone)]) <= adaptation.PATIENCE
    for name, values in network.state_dict().items():
        assert torch.equal(values, before[name])


def test_a_second_attempt_goes_on_with_what_the_first_one_found(tmp_path):
    problem, network = given(tiny.slice_mri, tmp_path)
    fresh = deepcopy(network)
    drain(problem, network, 3)
    assert not [e for e in adapt(problem, fresh, 3) if isinstance(e, IterationDone | Measured)]
    for a, b in zip(network.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_with_other_choices_need_not_search_again(tmp_path, monkeypatch):
    """It gives the values of one that did, tells the same, and its plan does not count the search."""
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
    scan = tiny.slice_mri()
    common = {"weights": tiny.weights(tmp_path, scan), "adaptation_steps": 3, "self_ensemble": False}

    def made(**more):
        plan = resolve(Choices(method="unrolled-pgd", params=common | more, device="cpu", precision="float32"), scan)
        events = list(run(plan, scan))
        told = [e.row for e in events if isinstance(e, Measured) and "adapted_error" in e.row]
        searched = any(isinstance(e, Progress) and e.text == adaptation.ADAPTING for e in events)
        return plan, events[-1].result, told, searched

    first = made(n_iterations=1)
    again = made(final_data_step="none")
    assert (first[3], again[3]) == (True, False)
    assert first[2] == again[2]
    assert again[0].work.once_s < first[0].work.once_s
    assert again[0].timed_as != first[0].timed_as
    adaptation._found.clear()
    np.testing.assert_array_equal(made(final_data_step="none")[1], again[1])
    assert made(adaptation_steps=4)[3]


@pytest.mark.parametrize("name", ADAPTABLE)
def test_the_ordinary_run_adapts_and_repeats_its_values(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
    scan = tiny.slice_mri()
    params = {"weights": tiny.weights(tmp_path, scan, name), "adaptation_steps": 3, "self_ensemble": False}
    plan = resolve(Choices(method=name, params=params, device="cpu"), scan)
    ends = []
    for _ in range(2):
        adaptation._found.clear()
        ends.append(list(run(plan, scan))[-1])
    for finished in ends:
        assert isinstance(finished, Finished)
        assert finished.outcome is Outcome.COMPLETED, finished.advice
    np.testing.assert_array_equal(ends[0].result, ends[1].result)
    told = record(plan, scan, ends[0])["found"]
    assert told["adaptation_steps"] in (0, 3)
    assert told["adapted_error"] <= told["error_before"]


def test_it_is_for_k_space(tmp_path):
    problem, network = given(tiny.cone, tmp_path)
    with pytest.raises(ParameterError, match="k-space only"):
        drain(problem, network, 3)


def test_it_can_be_stopped_at_any_event(tmp_path):
    problem, network = given(tiny.slice_mri, tmp_path)
    n = len(drain(problem, deepcopy(network), 4))
    before = deepcopy(network.state_dict())
    for k in range(1, n):
        problem.state.clear()
        adaptation._found.clear()
        stop = Stop()
        work = interruptible(adapt(problem, network, 4), stop)
        for _ in range(k):
            next(work)
        stop.cancel()
        with pytest.raises(Cancelled):
            list(work)
        assert all(torch.equal(v, before[name]) for name, v in network.state_dict().items())


def test_plans_count_its_memory_and_its_time(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
    scan = tiny.slice_mri()
    weights = tiny.weights(tmp_path, scan)
    plain, adapted = (
        resolve(Choices(method="unrolled-pgd", params={"weights": weights, "adaptation_steps": n}, device="cpu"), scan)
        for n in (0, 40)
    )
    assert plain.memory_bytes < adapted.memory_bytes
    assert plain.expected.seconds < adapted.expected.seconds
    *_, finished = run(plain, scan)
    again = resolve(
        Choices(method="unrolled-pgd", params={"weights": weights, "adaptation_steps": 40}, device="cpu"), scan
    )
    assert finished.result is not None
    assert not again.expected.stages, "what a run without adaptation took says nothing of its stages"

"""Patches to a device and back: order, what is on its way meanwhile, and the values of a run through a card."""

from dataclasses import replace

import pytest
import torch

from napari_unroll.events import Finished, Outcome
from napari_unroll.methods.algorithms import passes
from napari_unroll.methods.streaming import N_IN_FLIGHT, lane_between, through
from napari_unroll.pipeline.devices import Device
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from tests.methods import tiny


class Copies:
    """A lane to nowhere else, which writes down what is asked of it."""

    def __init__(self):
        self.said = []
        self.n_waiting = self.most_waiting = 0

    def up(self, x):
        self.said.append("up")
        return x.clone()

    def down(self, x):
        self.said.append("down")
        self.n_waiting += 1
        self.most_waiting = max(self.most_waiting, self.n_waiting)

        def wait():
            self.n_waiting -= 1
            self.said.append("here")
            return x.clone()

        return wait


def cut(batch):
    return torch.full((2, 3), float(batch))


def test_nothing_is_moved_on_one_device():
    assert lane_between(torch.device("cpu"), torch.device("cpu")) is None
    seen = []
    for batch, made in through(None, [1, 2], cut, lambda x: seen.append(x) or 2 * x):
        assert len(seen) == batch
        assert torch.equal(made, torch.full((2, 3), 2.0 * batch))


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_batches_come_back_in_order(n):
    found = list(through(Copies(), range(n), cut, lambda x: x + 1))
    assert [batch for batch, _ in found] == list(range(n))
    assert all(torch.equal(made, cut(batch) + 1) for batch, made in found)


def test_the_next_batch_is_under_way_before_the_last_is_waited_for():
    lane = Copies()
    assert len(list(through(lane, range(3), cut, lambda x: x))) == 3
    assert lane.said == ["up", "down", "up", "down", "here", "up", "down", "here", "here"]
    assert lane.most_waiting == N_IN_FLIGHT


def test_what_was_finished_is_given_before_a_failure():
    def work(x):
        if x[0, 0] == 2:
            raise MemoryError
        return x

    work, found = through(Copies(), range(4), cut, work), []
    with pytest.raises(MemoryError):
        found.extend(iter(lambda: next(work)[0], None))
    assert found == [0, 1]


METHODS = ["unrolled-pgd", "drunet", "modl", "mol-lr", "pnp-pgd", "dpir"]


def finished(plan, scan):
    *_, last = run(plan, scan)
    assert isinstance(last, Finished)
    assert last.outcome is Outcome.COMPLETED, last.advice
    return torch.from_numpy(last.result)


@pytest.mark.parametrize("make", [tiny.cone, tiny.multicoil])
@pytest.mark.parametrize("name", METHODS)
def test_a_run_through_a_lane_has_the_values_of_one_without(name, make, tmp_path, monkeypatch):
    """To the bit: the same batches meet the same network."""
    scan, lanes = make(), []
    params = tiny.quick_params(tiny.get(name), scan, tmp_path)
    plan = resolve(Choices(method=name, params=params, patch_size=12, overlap=4, device="cpu"), scan)
    wanted = finished(plan, scan)
    monkeypatch.setattr(passes, "lane_between", lambda here, there: lanes.append(Copies()) or lanes[-1])
    assert torch.equal(finished(replace(plan, card="cpu"), scan), wanted)
    assert lanes
    assert all(lane.said for lane in lanes)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_memory_of_the_card_that_runs_out_loses_no_patch(at, tmp_path, monkeypatch):
    """The patch before goes into the volume; smaller ones fill the rest."""
    scan, calls, real = tiny.cone(40), [], passes.clean
    params = {"weights": tiny.weights(tmp_path, scan, "drunet")}
    plan = resolve(Choices(method="drunet", params=params, patch_size=32, overlap=4, device="cpu"), scan)

    def clean(prior, patch, *more):
        calls.append(tuple(patch.shape[-3:]))
        if len(calls) == at:
            raise MemoryError
        return real(prior, patch, *more)

    monkeypatch.setattr("napari_unroll.methods.algorithms.reconstruct.clean", clean)
    monkeypatch.setattr(passes, "lane_between", lambda here, there: Copies())
    assert torch.isfinite(finished(plan, scan)).all()
    assert calls.count((32, 32, 32)) == at
    assert set(calls[at:]) == {(16, 16, 16)}


CARD = pytest.mark.cuda


@CARD
def test_a_batch_goes_to_a_card_and_back():
    lane = lane_between(torch.device("cpu"), torch.device("cuda:0"))
    batches = [torch.randn(2, 1, 32, 32, 32) for _ in range(7)]
    for given, made in through(lane, batches, lambda x: x, lambda x: (2 * x).flip(-1)):
        assert made.device.type == "cpu"
        assert torch.equal(made, (2 * given).flip(-1))


@CARD
@pytest.mark.parametrize("make", [tiny.cone, tiny.multicoil])
@pytest.mark.parametrize("name", METHODS)
def test_a_run_through_a_card_has_the_values_of_the_cpu(name, make, tmp_path):
    scan = make()
    params = tiny.quick_params(tiny.get(name), scan, tmp_path)
    small, cpu = Device("cuda:0", "a small card", 2**22), Device("cpu", "CPU", 2**33)
    chosen = Choices(method=name, params=params, patch_size=12, overlap=4, precision="float32")
    plan = resolve(chosen.model_copy(update={"device": "cuda"}), scan, (replace(small, free_bytes=0), cpu))
    assert (plan.card, plan.device) == ("cuda:0", "cpu")
    wanted = finished(resolve(chosen.model_copy(update={"device": "cpu"}), scan, (cpu,)), scan)
    assert (finished(plan, scan) - wanted).abs().max() < 1e-3 * wanted.abs().max()

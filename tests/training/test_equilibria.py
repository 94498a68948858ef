"""Equilibria are trained by the ordinary loop: own fixed points as contexts, reports in the log, bounds in the loss."""

from __future__ import annotations

import json

import pytest
import torch

from napari_unroll.events import Finished, IterationDone
from napari_unroll.methods.algorithms.iterations import State
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.networks.convolution import refresh
from napari_unroll.methods.networks.dncnn import CNNConfig, DnCNNConfig
from napari_unroll.methods.steps.data import Data
from napari_unroll.methods.weights import load_network
from napari_unroll.patches.context import LocalProblem
from napari_unroll.training.building import Operators, build, local_problems
from napari_unroll.training.contexts import Contexts, Trajectory
from napari_unroll.training.dataset import split_dataset
from napari_unroll.training.options import TrainOptions
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.sampler import PatchSampler
from napari_unroll.training.samples import SampleStore
from napari_unroll.training.session import train
from napari_unroll.training.tasks.patch import PatchTask
from napari_unroll.training.trainer import Trainer

CONFIG = NetworkConfig(
    iteration="averaged-resolvent",
    prior=CNNConfig(width=4, layers=3),
    equilibrium={"tolerance": 1e-5, "max_evaluations": 200},
    lipschitz={"kind": "layers", "bound": 0.9},
    data_step={"strength": 3.0, "tolerance": 1e-6, "max_steps": 200},
)
OPTIONS = TrainOptions(n_steps=2, patch_size=(8, 8, 8), log_every=1, context="trajectory", precision="float32")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Two samples of one scanner, its operator and factors."""
    store = SampleStore(tmp_path_factory.mktemp("samples"))
    plan = TrainingPlan(size=16, levels=(12,), n_objects=2, network={"start_iterations": 3})
    split, scanners = split_dataset(plan), Operators(store, "cpu")
    list(build(store, split.training, local_problems(scanners, plan.network)))
    return store, scanners.all_physics(split.training)


def network(config=CONFIG):
    torch.manual_seed(0)
    found = Network(config)
    refresh(found, 30)
    return found


def test_the_context_of_an_equilibrium_is_its_fixed_point_with_the_exact_operator(samples):
    store, physics = samples
    volumes, _ = store.load(0)
    net = network().eval()
    contexts, residuals = Trajectory(net, physics, store.scanners())(volumes, 0)
    assert contexts.shape == residuals.shape == (1, 16, 16, 16)
    x, r = (torch.from_numpy(v)[None] for v in (contexts, residuals))
    data = Data(LocalProblem(store.scanner(0), x, r), store.scanner(0), operator=physics[0].normal)
    with torch.no_grad():
        again = net.step(State(x), 0, data).x
    assert torch.linalg.vector_norm(again - x) < 3e-5 * torch.linalg.vector_norm(x)


def test_the_cut_of_the_fixed_point_is_nearly_that_of_the_local_problem_with_the_approximation(samples):
    """Up to what the prior misses beyond the faces of the patch; the truth as context would not do."""
    store, physics = samples
    sampler = PatchSampler([store.load(i) for i in range(2)], (16, 16, 16), 0)
    net = network().eval()
    work = PatchTask(sampler, store.scanners(), OPTIONS, physics)
    batch = sampler.draw(1, "cpu", Contexts(Trajectory(net, physics, store.scanners())))
    source = work.in_context(batch)
    with torch.no_grad():
        (found,) = net(batch.start, source).iterates
    assert torch.linalg.vector_norm(found - batch.contexts[0]) < 1e-3 * torch.linalg.vector_norm(found)


def test_the_average_of_batch_normalisation_follows_its_statistics(samples):
    store, physics = samples
    prior = DnCNNConfig(width=4, layers=3, batch_norm=True)
    config = NetworkConfig(prior=prior, data_step={"preconditioner": None}, n_iterations=2)
    options = OPTIONS.model_copy(update={"n_steps": 3, "ema": 0.5})
    sampler = PatchSampler([store.load(0)], (8, 8, 8), 0)
    spec = Trainer(network(config), PatchTask(sampler, store.scanners(), options, physics), options)
    means = []
    for event in spec.run():
        if isinstance(event, IterationDone):
            now, mean = (n.prior(0).backbone[3].running_mean.clone() for n in (spec.network, spec.average))
            means.append((now, mean))
    (_, first), (now, second) = means[0], means[1]
    decay = min(0.5, 2 / 12)
    torch.testing.assert_close(second, first.lerp(now, 1 - decay))
    assert not torch.equal(means[-1][0], means[-1][1])


METHODS = ("deq4ip", "de-grad", "mol-lr", "mol-sn", "luser-dw")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("modality", "partition"), [("ct", "approximated"), ("mri", "approximated"), ("ct", "global"), ("ct", "exact")]
)
def test_an_equilibrium_is_trained_and_its_solves_are_logged(method, modality, partition, tmp_path):
    if partition != "approximated" and method not in ("deq4ip", "mol-sn"):
        pytest.skip("the same code as for those")
    prior = {"width": 4, "dim": 3} | ({"groups": 2} if method == "luser-dw" else {"layers": 3})
    few = {"n_iterations": 2, "n_priors": 2} if method == "luser-dw" else {"equilibrium": {"max_evaluations": 15}}
    options = {"n_steps": 2, "patch_size": (6, 8, 8), "log_every": 1, "partition": partition, "truth_share": 0.5}
    plan = TrainingPlan(
        method=method, modality=modality, size=12, levels=(6,) if modality == "ct" else (2,), n_objects=1, n_held_out=1,
        network={"prior": prior, "start_iterations": 2, **few}, options=options,
    )  # fmt: skip
    *events, last = train(plan, tmp_path, "cpu")
    assert isinstance(last, Finished)
    assert last.result is not None, last.advice
    steps = [e.metrics for e in events if isinstance(e, IterationDone) and "loss" in e.metrics]
    assert len(steps) == 2
    assert all({"evaluations", "solve_residual", "backward_evaluations"} <= set(step) for step in steps)
    logged = [json.loads(line) for line in (tmp_path / "training.log.jsonl").read_text().splitlines()]
    assert any("evaluations" in line for line in logged)
    assert load_network(last.result).config == plan.network

"""Volumes that serve for several patches: kept in files, so that a killed training goes on with the same ones."""

import itertools

import pytest
import torch

from napari_unroll.errors import WeightsError
from napari_unroll.events import IterationDone, Warned
from napari_unroll.io.sealed import read_sealed, write_sealed
from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.physics.build import build_physics
from napari_unroll.training.building import Operators, build, local_problems
from napari_unroll.training.checkpoint import MARK
from napari_unroll.training.dataset import split_dataset
from napari_unroll.training.options import TrainOptions
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.sampler import PatchSampler, VisitFiles
from napari_unroll.training.samples import SampleStore
from napari_unroll.training.scanners import cone_beam_scanner, generated_scan
from napari_unroll.training.tasks.patch import PatchTask
from napari_unroll.training.trainer import Trainer, new_network

STEP = GradientStepConfig(preconditioner=0.2, substeps=1)
CONFIG = NetworkConfig(prior=DRUNetConfig(channels=(4, 4, 8, 8)), data_step=STEP, n_iterations=2, start_iterations=2)
OPTIONS = TrainOptions(
    n_steps=8, batch_size=1, patch_size=(8, 8, 8), log_every=1, validate_every=2, warmup=1, precision="float32",
    context="trajectory", truth_share=0, context_uses=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = SampleStore(tmp_path_factory.mktemp("samples"))
    split = split_dataset(TrainingPlan(size=16, levels=(8,), n_objects=6, network=CONFIG))
    list(build(store, split.training, local_problems(Operators(store, "cpu"), CONFIG)))
    return store


@pytest.fixture(scope="module")
def physics():
    return [build_physics(generated_scan(cone_beam_scanner(16, 8), 0), "cpu")]


def trainer(store, physics, folder):
    samples = [store.load(i) for i in range(len(store))]
    sampler = PatchSampler(samples, OPTIONS.patch_size, OPTIONS.seed, files=VisitFiles(folder / "visits"))
    task = PatchTask(sampler, store.scanners(), OPTIONS, physics)
    return Trainer(new_network(CONFIG, OPTIONS.seed), task, OPTIONS, state_file=folder / "training.state")


def killed_after(spec, step):
    """Run up to a step, then leave everything as it is."""
    list(itertools.takewhile(lambda e: not (isinstance(e, IterationDone) and e.iteration == step), spec.run()))


def weights(spec):
    return torch.cat([p.detach().flatten() for p in spec.network.parameters()])


@pytest.mark.parametrize("step", [3, 4, 5, 7])
def test_a_killed_training_goes_on_with_the_volumes_that_were_in_use(store, physics, tmp_path, step):
    """Whether it was killed at a checkpoint or between two; to the same bits."""
    whole = trainer(store, physics, tmp_path / "whole")
    list(whole.run())
    killed_after(trainer(store, physics, tmp_path / "killed"), step)
    going_on = trainer(store, physics, tmp_path / "killed")
    list(going_on.run())
    assert torch.equal(weights(going_on), weights(whole))


def test_files_of_volumes_that_no_state_names_are_removed(store, physics, tmp_path):
    spec = trainer(store, physics, tmp_path)
    list(spec.run())
    kept = {int(path.stem) for path in (tmp_path / "visits").iterdir()}
    assert kept
    assert len(kept) < spec.task.sampler.state_dict()["n_visits"]


def test_for_damaged_volumes_others_are_drawn(store, physics, tmp_path):
    killed_after(trainer(store, physics, tmp_path), 5)
    files = list((tmp_path / "visits").iterdir())
    for path in files:
        path.write_bytes(path.read_bytes()[:-1])
    spec = trainer(store, physics, tmp_path)
    texts = [event.text for event in spec.run() if isinstance(event, Warned)]
    assert len(texts) == 1
    assert texts[0].endswith("of the volumes in use are damaged; others are drawn.")
    assert spec.step == OPTIONS.n_steps


def test_a_state_that_names_no_numbers_is_refused(store, physics, tmp_path):
    spec = trainer(store, physics, tmp_path)
    list(spec.run())
    path = tmp_path / "training.state"
    state = read_sealed(path, MARK)
    state["sampler"]["open"] = [(0, 0, "../other", 1)]
    write_sealed(path, MARK, state)
    with pytest.raises(WeightsError, match="no training state"):
        list(trainer(store, physics, tmp_path).run())

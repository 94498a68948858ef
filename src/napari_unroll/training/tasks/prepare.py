"""From a plan to what a training loop is given: samples, the task on them, and the validation; one way per task."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from napari_unroll.events import Progress, Warned
from napari_unroll.training.building import Operators, build, clean_volumes, load_samples, local_problems
from napari_unroll.training.contexts import follows_trajectory
from napari_unroll.training.dataset import DatasetSplit
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.samples import PatchSampler, SampleStore
from napari_unroll.training.symmetries import CUBE, Symmetry
from napari_unroll.training.tasks.denoise import DenoiseTask
from napari_unroll.training.tasks.patch import PatchTask
from napari_unroll.training.tasks.task import Task
from napari_unroll.training.trainer import Validate
from napari_unroll.training.validation import HeldOut, HeldOutScan, NoisyVolumes, prepare

WHOLE = (2**20, 2**20, 2**20)
"""A patch that no volume exceeds."""


@dataclass(frozen=True)
class Prepared:
    """A task and how networks are judged by held-out data."""

    task: Task
    validate: Validate


Prepare = Callable[[TrainingPlan, DatasetSplit, SampleStore, str], Generator[Progress | Warned, None, Prepared]]


def _patches(
    plan: TrainingPlan, split: DatasetSplit, store: SampleStore, device: str
) -> Generator[Progress | Warned, None, Prepared]:
    """Local problems."""
    operators, start, options = Operators(store, device), plan.network.start_iterations, plan.options
    yield from build(store, split.training, local_problems(operators, start))
    held_out: list[HeldOutScan] = []
    yield from prepare(split.held_out, start, operators, held_out)
    is_damaged = not all(store.has_scanner(i) for i in {spec.scanner for spec in split.training})
    is_needed = follows_trajectory(plan.network, options) or options.partition != "approximated" or is_damaged
    physics = operators.all_physics((*split.training, *split.held_out)) if is_needed else ()
    sampler = _sampler(plan, store, len(split.training), store.symmetries())
    return Prepared(PatchTask(sampler, store.scanners(), options, physics, device), HeldOut(held_out))


def _volumes(
    plan: TrainingPlan, split: DatasetSplit, store: SampleStore, device: str
) -> Generator[Progress | Warned, None, Prepared]:
    """Volumes with noise."""
    yield from build(store, split.training, clean_volumes)
    flips = [s for s in CUBE if s.axes == (0, 1, 2)]
    sampler = _sampler(plan, store, len(split.training), [flips] * len(split.scanners))
    held_out = []
    for i, spec in enumerate(split.held_out):
        held_out.append(clean_volumes(spec)["truth"])
        yield Progress(i + 1, len(split.held_out), "preparing held-out volumes")
    return Prepared(DenoiseTask(sampler, plan.options, device), NoisyVolumes(held_out, device))


def _sampler(
    plan: TrainingPlan,
    store: SampleStore,
    n_samples: int,
    symmetries: list[list[Symmetry]] | list[tuple[Symmetry, ...]],
) -> PatchSampler:
    options = plan.options
    size = WHOLE if options.partition == "global" else options.patch_size
    return PatchSampler(load_samples(store, n_samples), size, options.seed, symmetries if options.augment else None)


PREPARE: dict[str, Prepare] = {"patch": _patches, "denoise": _volumes}

"""From a plan to what a training loop is given: samples, the task on them, and the validation; one way per task."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from napari_unroll.events import Progress, Warned
from napari_unroll.training.building import Operators, SamplePool, build, clean_volumes, local_problems
from napari_unroll.training.contexts import follows_trajectory
from napari_unroll.training.dataset import DatasetSplit
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.sampler import PatchSampler, VisitFiles
from napari_unroll.training.samples import SampleStore
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
    """A task, how networks are judged by held-out data, and what makes the samples that are still missing."""

    task: Task
    validate: Validate
    more: Iterator[Progress | Warned]


Prepare = Callable[[TrainingPlan, DatasetSplit, SampleStore, str], Generator[Progress | Warned, None, Prepared]]


def _patches(
    plan: TrainingPlan, split: DatasetSplit, store: SampleStore, device: str
) -> Generator[Progress | Warned, None, Prepared]:
    """Local problems."""
    operators, options = Operators(store, device), plan.options
    pool = SamplePool(store, len(split.training))
    making = build(store, split.training, local_problems(operators, plan.network), pool)
    yield from _one_of_each(making, split)
    held_out: list[HeldOutScan] = []
    yield from prepare(split.held_out, plan.network, operators, held_out)
    used = (*split.training, *split.held_out)
    scanners = sorted({spec.scanner for spec in used})
    is_damaged = not all(operators.is_known(i) for i in scanners)
    is_needed = follows_trajectory(plan.network, options) or options.partition != "approximated" or is_damaged
    physics = operators.all_physics(used) if is_needed else ()
    sampler = _sampler(plan, store, pool, [operators.symmetries(i) for i in scanners])
    task = PatchTask(sampler, [operators.factors(i) for i in scanners], options, physics, device)
    return Prepared(task, HeldOut(held_out), making)


def _volumes(
    plan: TrainingPlan, split: DatasetSplit, store: SampleStore, device: str
) -> Generator[Progress | Warned, None, Prepared]:
    """Volumes with noise."""
    pool = SamplePool(store, len(split.training))
    making = build(store, split.training, clean_volumes, pool)
    yield from _one_of_each(making, split)
    flips = tuple(s for s in CUBE if s.axes == (0, 1, 2))
    sampler = _sampler(plan, store, pool, [flips] * len(split.scanners))
    held_out = []
    for i, spec in enumerate(split.held_out):
        held_out.append(clean_volumes(spec)["truth"])
        yield Progress(i + 1, len(split.held_out), "preparing held-out volumes")
    return Prepared(DenoiseTask(sampler, plan.options, device), NoisyVolumes(held_out, device), making)


def _one_of_each(making: Iterator[Progress | Warned], split: DatasetSplit) -> Iterator[Progress | Warned]:
    """Make a sample of every scanner, with which training can begin."""
    n = len({spec.scanner for spec in split.training})
    for event in making:
        yield event
        if isinstance(event, Progress) and event.step >= n:
            return


def _sampler(
    plan: TrainingPlan, store: SampleStore, samples: SamplePool, symmetries: Sequence[tuple[Symmetry, ...]]
) -> PatchSampler:
    options = plan.options
    size = WHOLE if options.partition == "global" else options.patch_size
    turns, files = symmetries if options.augment else None, VisitFiles(store.folder / "visits")
    return PatchSampler(samples, size, options.seed, turns, files)


PREPARE: dict[str, Prepare] = {"patch": _patches, "denoise": _volumes}

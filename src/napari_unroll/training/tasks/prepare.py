"""From a plan to what a training loop is given: samples, the task on them, and the validation; one way per task."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from napari_unroll.errors import Cancelled
from napari_unroll.events import Progress, Stop
from napari_unroll.training.building import Scanners, build, clean_volumes, load_samples, local_problems
from napari_unroll.training.contexts import follows_trajectory
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.recipe import Recipe
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


Prepare = Callable[[TrainingPlan, Recipe, SampleStore, str, Stop], Generator[Progress, None, Prepared | None]]


def _patches(
    plan: TrainingPlan, recipe: Recipe, store: SampleStore, device: str, stop: Stop
) -> Generator[Progress, None, Prepared | None]:
    """Local problems; None where the listener asked to finish before there were enough."""
    scanners, start, options = Scanners(store, device), plan.network.start_iterations, plan.options
    yield from build(store, recipe.training, local_problems(scanners, start), stop)
    if stop.finish_now:
        return None
    held_out: list[HeldOutScan] = []
    yield from prepare(recipe.held_out, start, scanners, held_out, stop)
    is_needed = follows_trajectory(plan.network, options) or options.partition != "approximated"
    physics = scanners.all_physics((*recipe.training, *recipe.held_out)) if is_needed else ()
    sampler = _sampler(plan, store, len(recipe.training), store.symmetries())
    return Prepared(PatchTask(sampler, store.protocols(), options, physics, device), HeldOut(held_out, stop))


def _volumes(
    plan: TrainingPlan, recipe: Recipe, store: SampleStore, device: str, stop: Stop
) -> Generator[Progress, None, Prepared | None]:
    """Volumes with noise; None where the listener asked to finish before there were enough."""
    yield from build(store, recipe.training, clean_volumes, stop)
    if stop.finish_now:
        return None
    flips = [s for s in CUBE if s.axes == (0, 1, 2)]
    sampler = _sampler(plan, store, len(recipe.training), [flips] * len(recipe.protocols))
    held_out = []
    for i, job in enumerate(recipe.held_out):
        if stop.cancelled:
            raise Cancelled("Cancelled while preparing the held-out volumes; training samples are kept.")
        held_out.append(clean_volumes(job)["truth"])
        yield Progress(i + 1, len(recipe.held_out), "preparing held-out volumes")
    return Prepared(DenoiseTask(sampler, plan.options, device), NoisyVolumes(held_out, device, stop))


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

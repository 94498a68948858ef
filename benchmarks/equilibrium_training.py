"""The small trainings that ``benchmarks/equilibrium.py`` compares: one plan per method and scanner, budgets in processor seconds.

Processor seconds rather than wall-clock ones, so that trainings on a shared machine stay comparable; validations are not counted.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from napari_unroll.events import Finished, IterationDone
from napari_unroll.pipeline.params import build
from napari_unroll.training import session, trainer
from napari_unroll.training.dataset import split_dataset
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.sampler import PatchSampler
from napari_unroll.training.samples import SampleStore
from napari_unroll.training.tasks.patch import PatchTask
from napari_unroll.training.tasks.task import Task

SIZE = 48
LEVELS: dict[str, tuple[float, ...]] = {"ct": (30, 50, 100), "mri": (5, 10)}
N_OBJECTS = {"ct": 32, "mri": 64}
PATCH = {"ct": (8, 32, 32), "mri": (2, 48, 48)}
"""Whole planes for MRI, whose undersampling couples (y, x): an equilibrium on part of a plane, with the truth around it, is far
from that of the whole plane."""
FLAT = {"dim": 2, "neighbours": 2}
"""2.5-D priors: a pass over a volume costs little more than in 2-D, and both scanners can be compared."""
CNN = {"prior": {**FLAT, "width": 32}, "data_step": {"tolerance": 1e-3, "max_steps": 8, "strength": 3}}
NETWORKS: dict[str, dict[str, Any]] = {
    "unrolled-pgd": {"prior": {**FLAT, "channels": [16, 32, 64, 64]}},
    "modl": {**CNN, "n_iterations": 5},
    "mol-lr": {**CNN, "equilibrium": {"max_evaluations": 12, "tolerance": 1e-3}},
    "luser-dw": {
        "prior": {**FLAT, "width": 16, "equilibrium": {"max_evaluations": 8, "tolerance": 1e-2}},
        "n_iterations": 4,
        "n_priors": 4,
    },
    "unet": {"prior": {**FLAT, "channels": [16, 32, 64, 128]}},
}
"""What differs from the methods' own architectures: less of everything, so that minutes of one core train it."""
OPTIONS = {
    "batch_size": 1,
    "learning_rate": 2e-3,
    "warmup": 10,
    "ema": 0.95,
    "validate_every": 1_000_000,
    "validation_share": 1,
    "log_every": 10,
}
CONTEXT = {"ct": "start", "mri": "truth"}
"""Coils are exact on patches; what approximates a cone beam would learn from the truth what only the truth can tell."""
N_VALIDATIONS = 3


class Clock:
    """Processor seconds of this process, without those that were ``spent`` on something else."""

    spent = 0.0

    def monotonic(self) -> float:
        """In place of ``time.monotonic``."""
        return time.process_time() - self.spent


def plan_of(modality: str, method: str, seconds: float) -> TrainingPlan:
    """The training of one method."""
    options = {**OPTIONS, "context": CONTEXT[modality], "patch_size": PATCH[modality], "max_seconds": seconds}
    return build(TrainingPlan, {
        "name": f"{method}-{modality}", "modality": modality, "method": method, "levels": LEVELS[modality],
        "size": SIZE, "n_objects": N_OBJECTS[modality], "network": NETWORKS[method], "options": options,
        "stored": "float16", "licence": "BSD-3-Clause",
    })  # fmt: skip


def task_of(plan: TrainingPlan, folder: Path) -> Task:
    """The task of a training whose samples lie in ``folder``."""
    store = SampleStore(folder / "samples" / split_dataset(plan).key)
    sampler = PatchSampler(
        [store.load(i) for i in range(N_OBJECTS[plan.modality])],
        plan.options.patch_size,
        plan.options.seed,
        store.symmetries(),
    )
    return PatchTask(sampler, store.scanners(), plan.options)


def trained(modality: str, method: str, seconds: float, folder: Path) -> Path:
    """Weights that lie in ``folder``, or are trained there for so many processor seconds."""
    path = folder / f"{method}-{modality}.safetensors"
    if path.is_file():
        return path
    clock = Clock()
    trainer.time = session.time = clock  # type: ignore[assignment]
    trainer.VALIDATIONS = N_VALIDATIONS
    measure = trainer.Trainer._validation

    def uncounted(self: trainer.Trainer) -> Any:
        begun = time.process_time()
        yield from measure(self)
        clock.spent += time.process_time() - begun
        self.elapsed = clock.monotonic() - self._begin
        self._validated_at = self.elapsed

    trainer.Trainer._validation = uncounted
    try:
        for event in session.train(plan_of(modality, method, seconds), folder, "cpu"):
            if isinstance(event, IterationDone):
                print(modality, method, event.iteration, dict(event.metrics or {}), flush=True)
            elif isinstance(event, Finished):
                print(event.advice, flush=True)
    finally:
        trainer.Trainer._validation, trainer.time, session.time = measure, time, time
    return path

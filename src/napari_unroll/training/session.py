"""A training from plan to weights: samples, network, validation, model card. A plain generator of events.

Everything lives in one folder, so that the same call goes on after a kill: ``samples/``, ``training.state``,
``log.jsonl``, and the best network as ``<name>.safetensors`` with its card ``<name>.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from napari_unroll.events import Event, Finished, IterationDone, Outcome, Progress, Started, Stop
from napari_unroll.physics.build import choose_device
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.protocols import ConeBeamProtocol, MultiCoilProtocol, ScanProtocol, build
from napari_unroll.training.samples import PatchSampler, SampleStore
from napari_unroll.training.trainer import Trainer


def train(plan: TrainingPlan, out: Path, device: str = "auto", stop: Stop | None = None) -> Iterator[Event]:
    """Train; the last event is Finished with the path of the best weights, or None where there are none."""
    stop = stop or Stop()
    chosen = str(choose_device(device))
    yield Started(f"training {plan.name}", 1000)
    store = SampleStore(out / "samples")
    if not len(store):
        for event in build(store, _protocols(plan), range(plan.n_objects), plan.network, stop):
            if isinstance(event, Progress):
                yield Progress(event.step, event.n_steps, f"building training samples: {event.text}")
    samples = [store.load(i) for i in range(len(store))]
    sampler = PatchSampler(samples, plan.options.patch_size, plan.options.seed)
    trainer = Trainer(
        plan.network, sampler, store.protocols(), plan.options, state_file=out / "training.state", device=chosen
    )
    for event in trainer.run(stop):
        if isinstance(event, Progress | IterationDone):
            yield event
        elif isinstance(event, Finished):
            outcome = Outcome.FINISHED_EARLY if stop.finish_now else Outcome.COMPLETED
            yield Finished(outcome, out / "training.best.safetensors", event.advice, event.seconds, event.history)


def _protocols(plan: TrainingPlan) -> list[ScanProtocol]:
    if plan.modality == "ct":
        return [ConeBeamProtocol(n=plan.size, n_views=int(level)) for level in plan.chosen_levels]
    shape = (max(8, plan.size // 2), plan.size, plan.size)
    return [MultiCoilProtocol(shape=shape, acceleration=level) for level in plan.chosen_levels]

"""A training from plan to weights: samples, network, validation, model card. A plain generator of events.

Everything lives in one folder, so that the same call goes on after a kill: ``samples/``, ``training.state`` and its log,
``plan.json``, and the best network as ``<name>.safetensors`` with its card ``<name>.json``.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from napari_unroll.errors import Cancelled, FinishNow, ParameterError, UnrollError, is_out_of_memory
from napari_unroll.events import Event, Finished, IterationDone, Outcome, Pictures, Progress, Started, Stop, Warned
from napari_unroll.interrupt import interruptible, stepwise
from napari_unroll.io.atomic import locked, write_text
from napari_unroll.methods.algorithms.network import Network
from napari_unroll.methods.weights import find, save_network
from napari_unroll.physics.build import choose_device
from napari_unroll.training.card import model_card
from napari_unroll.training.dataset import DatasetSplit, split_dataset
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.samples import SampleStore
from napari_unroll.training.start_from import with_initial
from napari_unroll.training.tasks.prepare import PREPARE
from napari_unroll.training.trainer import Trainer, new_network

log = logging.getLogger(__name__)
PLAN = "plan.json"
"""The plan, in the folder of its training."""
MAY_CHANGE = {"options", "licence", "n_objects"}
"""Parts of a plan that may differ when a training goes on."""


def train(
    plan: TrainingPlan, out: Path, device: str = "auto", stop: Stop | None = None, split: DatasetSplit | None = None
) -> Iterator[Event]:
    """Train; the last event is Finished with the path of the best weights, or None where there are none.

    ``split`` is ``split_dataset(plan)`` for who has it already: making it reads every scan file.
    The plan's seconds are those of all of it, making samples included: training begins with one sample of every scanner.
    What goes wrong is not raised but an outcome with advice. Call again with the same folder to go on.
    """
    stop, begun = stop or Stop(), time.monotonic()
    yield Started(f"training {plan.name}", 1000)
    try:
        with locked(Path(out) / "lock", f"The training in {out}"):
            finished = yield from interruptible(_work(plan, Path(out), device, split, begun), stop)
    except (Cancelled, FinishNow) as wish:
        if not stop.asked:
            raise
        finished = _ended(wish)
    except Exception as error:
        if not isinstance(error, UnrollError):
            log.exception("training %s failed", plan.name)
        finished = Finished(Outcome.FAILED, advice=_advice(error))
    yield replace(finished, seconds=time.monotonic() - begun)


def _ended(wish: Cancelled | FinishNow) -> Finished:
    if isinstance(wish, Cancelled):
        advice = "Training was cancelled; samples and the last checkpoint are kept, the same call goes on from them."
        return Finished(Outcome.CANCELLED, advice=advice)
    return Finished(Outcome.FINISHED_EARLY, advice="No network was trained yet; the samples made so far are kept.")


def _work(plan: TrainingPlan, out: Path, device: str, split: DatasetSplit | None, begun: float) -> Any:
    """The stages one after the other; returns Finished."""
    chosen = str(choose_device(device))
    plan, initial = with_initial(plan)
    split = split or (yield from stepwise(lambda: split_dataset(plan, chosen), "looking at the data"))
    if damage := _claim(plan, out):
        yield Warned(damage)
    store = SampleStore(out / "samples" / split.key)
    prepared = yield from PREPARE[plan.task](plan, split, store, chosen)
    keeper = _Keeper(plan, split, out)
    network = initial or new_network(plan.network, plan.options.seed)
    keeper.trainer = trainer = Trainer(
        network,
        prepared.task,
        plan.options,
        prepared.validate,
        out / "training.state",
        keeper.keep,
        initial is None,
        chosen,
        prepared.more,
        begun,
    )
    for event in trainer.run():
        if isinstance(event, Progress | IterationDone | Pictures):
            keeper.see(event)
            yield event
        elif isinstance(event, Warned):
            yield event
        elif isinstance(event, Finished):
            return keeper.finished(event)


@dataclass
class _Keeper:
    """Writes the best network with its card, and tells how the training ended."""

    plan: TrainingPlan
    split: DatasetSplit
    out: Path
    trainer: Trainer | None = None
    first: dict[str, float] = field(default_factory=dict)

    @property
    def weights(self) -> Path:
        """Where the best network is."""
        return self.out / f"{self.plan.name}.safetensors"

    def see(self, event: Event) -> None:
        """Remember the figures of the network that the training began with."""
        if isinstance(event, IterationDone) and event.iteration == 0:
            self.first = dict(event.metrics)

    def keep(self, network: Network, metrics: dict[str, float]) -> None:
        """Write ``network``, the best so far."""
        assert self.trainer is not None
        before = {"start": metrics.get("psnr_start")}
        if self.plan.initial and self.first:
            before["initial weights"] = self.first.get("psnr")
        facts = {
            "steps": self.trainer.step,
            "seconds": round(self.trainer.elapsed, 1),
            "psnr_before": before,
            "psnr_after": metrics.get("psnr"),
        }
        card = model_card(self.plan, self.split, network, **facts)
        save_network(network, self.weights, self.plan.method, card, getattr(torch, self.plan.stored))

    def finished(self, event: Finished) -> Finished:
        """How the training ended, with the weights where there are any."""
        assert self.trainer is not None
        if not self.weights.is_file():
            return Finished(event.outcome, None, "No network was trained yet; the same call goes on.")
        card = find(str(self.weights)).card
        if card.get("psnr_after") is None:
            return replace(event, result=self.weights, advice=f"{event.advice} The network was not measured yet.")
        advice = (
            f"{event.advice} The best network reaches {card['psnr_after']:.2f} dB on held-out scans, "
            f"its start {card['psnr_before']['start']:.2f} dB."
        )
        return Finished(event.outcome, self.weights, advice, event.seconds, event.history)


def _claim(plan: TrainingPlan, out: Path) -> str:
    """Remember the plan beside the state; refuse a folder in which another one is being trained.

    Returns what was damaged, in words, or "".
    """
    damage = ""
    try:
        out.mkdir(parents=True, exist_ok=True)
        kept, path = plan.model_dump(mode="json"), out / PLAN
        if path.is_file() and (out / "training.state").is_file():
            before = _plan_before(path)
            if before is None:
                before, damage = {}, f"{path} is damaged; it is written anew, for the training that goes on here."
            other = sorted(k for k in kept.keys() - MAY_CHANGE if before.get(k, kept[k]) != kept[k])
            if other:
                raise ParameterError(
                    f"{out} holds a training with another {', '.join(other)}; choose another folder, or remove "
                    f"{out / 'training.state'} to start anew."
                )
        write_text(path, json.dumps(kept, indent=2) + "\n")
        return damage
    except (OSError, ValueError) as error:
        raise ParameterError(f"The folder {out} cannot be used for training ({error}); choose another.") from error


def _plan_before(path: Path) -> dict[str, Any] | None:
    """The plan of the training in this folder, or None where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _advice(error: Exception) -> str:
    if isinstance(error, UnrollError):
        return str(error)
    if is_out_of_memory(error):
        return "Training ran out of memory; lower options.patch_size or options.batch_size, or set options.recompute."
    return f"Training failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}."

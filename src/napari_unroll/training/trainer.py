"""The training loop as a generator of events: a network and a task in, a better network out.

Our own loop rather than deepinv's Trainer, which trains maps from measurements to volumes: here a step sees only what its
task draws (see docs/decisions/training_loop.md). Knows nothing of who listens, nor what the task is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch

from napari_unroll.errors import Cancelled, FinishNow
from napari_unroll.events import Event, Finished, IterationDone, Outcome, Pictures, Progress, Started, Stop, Warned
from napari_unroll.interrupt import interruptible, shielded, stepwise
from napari_unroll.methods.algorithms.descent import cosine, follow, look_in_every_layer
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.equilibrium.report import hearing, metrics
from napari_unroll.training.checkpoint import TrainingState
from napari_unroll.training.meter import Meter
from napari_unroll.training.options import TrainOptions
from napari_unroll.training.tasks.task import Task
from napari_unroll.training.validation import Validation

Validate = Callable[[Network], Validation]
Keep = Callable[[Network, dict[str, float]], None]
SAVE_SECONDS = 60.0
"""Checkpoints are at most this far apart."""
SAMPLE_SHARE = 0.5
"""Of the time that training takes: so much of it may go into making further samples."""
LAST_SHARE = 0.25
"""Of the time: at most so much of it is kept for measuring the network at the end."""
VALIDATIONS = 10
"""Where seconds are limited, this many validations are made in them, as far as ``validation_share`` allows."""


def new_network(config: NetworkConfig, seed: int) -> Network:
    """A network with random weights that the seed determines."""
    torch.manual_seed(seed)
    return Network(config)


class Trainer:
    """Trains one network; ``run`` yields events and may be stopped at any step, and resumed from its state file.

    ``network`` is trained in place on ``device``; ``is_new`` says that its weights are random. ``keep`` is given the averaged
    network and its figures whenever it is the best so far. ``more`` makes further samples between the steps; where seconds
    are limited it is given part of them, else it ends before the first step. The seconds count from ``begun`` (of
    ``time.monotonic``), by default from the start of ``run``.
    """

    def __init__(
        self,
        network: Network,
        task: Task,
        options: TrainOptions,
        validate: Validate | None = None,
        state_file: Path | None = None,
        keep: Keep | None = None,
        is_new: bool = True,
        device: str = "cpu",
        more: Iterator[Progress | Warned] | None = None,
        begun: float | None = None,
    ) -> None:
        torch.manual_seed(options.seed)
        self.options, self.task, self.device, self.is_new = options, task, device, is_new
        self.network = network.to(device)
        self.average = deepcopy(self.network).eval().requires_grad_(False)
        task.begin(self.average)
        if options.compile:
            for prior in self.network.priors:
                prior.compile()
        else:
            look_in_every_layer(self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=options.learning_rate)
        self.scaler = torch.amp.GradScaler(torch.device(device).type, enabled=options.precision == "float16")
        self.validate, self.keep, self.best, self.step, self.elapsed = validate, keep, -math.inf, 0, 0.0
        self.stale = 0
        self.state = TrainingState(state_file) if state_file else None
        self._begin = self._saved_at = self._validated_at = 0.0
        self._validated_step, self._validation_seconds = -1, 0.0
        self._more = more
        self._begun, self._ready_at, self._making_seconds, self._made = begun, 0.0, 0.0, ""

    def run(self, stop: Stop | None = None) -> Iterator[Event]:
        """Train until the budget is spent or the listener asks to stop; the result is the averaged network.

        Asked to finish, the best network stays; before any was measured, the present one is kept. Raises Cancelled.
        """
        if self.state is not None:
            with shielded():
                trouble = self.state.restore(self)
            if trouble:
                yield Warned(trouble)
        yield Started("training", self.options.n_steps)
        history: list[float] = []
        outcome = Outcome.COMPLETED
        try:
            yield from interruptible(self._train(history), stop or Stop())
        except Cancelled:
            self._save()
            raise
        except FinishNow:
            outcome = Outcome.FINISHED_EARLY
            with shielded():
                self._keep_unmeasured()
        self._save()
        yield Finished(outcome, self.average, f"Trained {self.step} steps.", self.elapsed, tuple(history))

    def _train(self, history: list[float]) -> Generator[Event, None, None]:
        self._begin = (time.monotonic() if self._begun is None else self._begun) - self.elapsed
        self._saved_at = self._validated_at = self.elapsed = time.monotonic() - self._begin
        if self.step == 0:
            yield from self._validation()
        self._ready_at = time.monotonic()
        with Meter(self.device, self.step, self.elapsed) as meter:
            while not self.done:
                yield from self._more_samples()
                yield from self._one_step(meter, history)
        if self._validated_step != self.step:
            yield from self._validation()

    def _more_samples(self) -> Iterator[Event]:
        """Make the samples that are due: all of them at once where no seconds are counted."""
        while self._more is not None and self._sample_is_due():
            begun = time.monotonic()
            event = next(self._more, None)
            self._making_seconds += time.monotonic() - begun
            if event is None:
                self._more, self._made = None, ""
            elif isinstance(event, Warned) or not self.options.max_seconds:
                yield event
            else:
                some = event.step < event.n_steps
                self._made = f", {event.step} of {event.n_steps} samples made" if some else ""

    def _sample_is_due(self) -> bool:
        """Whether making samples has taken less than its share of the time since the first step could be made."""
        since = time.monotonic() - self._ready_at
        return not self.options.max_seconds or self._making_seconds <= SAMPLE_SHARE * since

    def _one_step(self, meter: Meter, history: list[float]) -> Iterator[Event]:
        """One optimiser step, and what is due after it: report, validation, checkpoint."""
        with hearing() as solves:
            value = self._optimise()
        self.elapsed = time.monotonic() - self._begin
        if self.step % self.options.log_every == 0:
            history.append(value)
            yield Progress(int(1000 * self.progress), 1000, f"training{self._made}")
            yield self._report({"loss": value, **meter.read(self.step, self.elapsed), **metrics(solves)})
        if self._validation_is_due():
            yield from self._validation()
        if self.step % self.options.validate_every == 0 or self.elapsed - self._saved_at > SAVE_SECONDS:
            self._save()

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 … 1."""
        limit = self.options.max_seconds
        last = min(self._validation_seconds, LAST_SHARE * limit) if limit else 0.0  # kept for the last validation
        by_time = self.elapsed / (limit - last) if limit else 0.0
        return min(1.0, max(self.step / self.options.n_steps, by_time))

    @property
    def done(self) -> bool:
        """Whether the budget is spent, or the patience."""
        return self.progress >= 1.0 or (self.options.patience is not None and self.stale >= self.options.patience)

    @property
    def _is_early(self) -> bool:
        """Whether the network is still of little use."""
        return self.is_new and self.progress < self.options.truth_share

    def _report(self, metrics: dict[str, float]) -> IterationDone:
        if self.state is not None:
            self.state.log(self.step, metrics)
        return IterationDone(self.step, self.options.n_steps, metrics=metrics)

    def _optimise(self) -> float:
        rate = self.options.learning_rate * schedule(self.step, self.progress, self.options.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for _ in range(self.options.accumulate):
            part = self.task.loss(self.network, self._is_early) / self.options.accumulate
            self.scaler.scale(part).backward()
            total += float(part.detach())
        with shielded():  # weights, moments and their count belong together
            self._step()
        return total

    def _step(self) -> None:
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip)
        if self.scaler.is_enabled() or torch.isfinite(norm):  # low precision overflows now and then: skip that step
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        follow(self.average, self.network, min(self.options.ema, self.step / (self.step + 10)))

    def _validation_is_due(self) -> bool:
        since = self.elapsed - self._validated_at
        seconds = self.options.max_seconds
        is_time = self.step % self.options.validate_every == 0 or (seconds and since > seconds / VALIDATIONS)
        is_cheap = self._validation_seconds <= self.options.validation_share * (since + self._validation_seconds)
        return self.validate is not None and bool(is_time) and is_cheap

    def _validation(self) -> Generator[Event, None, None]:
        """Figures of the averaged network; the best so far is kept. Without held-out scans the latest is the best."""
        metrics: dict[str, float] = {}
        if self.validate is not None:
            begun = time.monotonic()
            found = yield from stepwise(partial(self.validate, self.average), "measuring on held-out scans")
            metrics = found.metrics
            yield self._report(metrics)
            yield Pictures(self.step, found.images)
            self._validation_seconds = time.monotonic() - begun
        self.elapsed = time.monotonic() - self._begin
        self._validated_at, self._validated_step = self.elapsed, self.step
        if self.step or not self.is_new:  # random weights are no result
            with shielded():
                self._keep_if_best(metrics)

    def _keep_if_best(self, metrics: dict[str, float]) -> None:
        score = metrics.get("psnr", -math.inf)
        is_best = score > self.best or self.validate is None
        self.stale = 0 if is_best else self.stale + 1
        self.best = max(self.best, score)
        if is_best and self.keep is not None:
            self.keep(self.average, metrics)
            self._save()

    def _keep_unmeasured(self) -> None:
        if self.keep is not None and self.best == -math.inf and self.step:
            self.keep(self.average, {})

    def _save(self) -> None:
        if self.state is not None:
            with shielded():
                self.state.save(self)
        self._saved_at = self.elapsed


def schedule(step: int, progress: float, warmup: int) -> float:
    """Factor of the learning rate: linear warm-up, then cosine from 1 to 0.01 over the budget."""
    rise = min(1.0, (step + 1) / (warmup + 1))
    return rise * cosine(min(1.0, progress), 0.01)

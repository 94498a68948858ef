"""The training loop as a generator of events: local problems in, a network out.

Our own loop rather than deepinv's Trainer, which trains maps from measurements to volumes: here a step sees only patches and
factors (see DECISIONS). Knows nothing of who listens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from pydantic import Field

from napari_unroll.errors import Cancelled
from napari_unroll.events import Event, Finished, IterationDone, Outcome, Progress, Started, Stop
from napari_unroll.methods.problem import MethodParams
from napari_unroll.methods.unrolled.network import Apply, Gradient, UnrolledConfig, UnrolledPGD
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.patches.context import Restrictable
from napari_unroll.training.checkpoint import TrainingState
from napari_unroll.training.samples import Batch, PatchSampler

Validate = Callable[[UnrolledPGD], dict[str, float]]


class TrainOptions(MethodParams):
    """How long and how to train."""

    n_steps: int = Field(4000, ge=1, description="Optimiser steps.")
    max_seconds: float | None = Field(None, gt=0, description="Wall-clock budget in seconds; the schedule follows it.")
    batch_size: int = Field(2, ge=1, description="Patches per pass.")
    accumulate: int = Field(1, ge=1, description="Passes per optimiser step.")
    patch_size: tuple[int, int, int] = Field((48, 48, 48), description="Patch (z, y, x) in voxels.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak rate of Adam; linear warm-up, then cosine to 1 %.")
    warmup: int = Field(100, ge=0, description="Steps of linear warm-up.")
    ema: float = Field(0.995, ge=0, lt=1, description="Decay of the exponential moving average of the weights.")
    truth_context: float = Field(0.25, ge=0, le=1, description="Share of samples whose context is the truth (paper).")
    auxiliary: float = Field(0.1, ge=0, description="Weight of the loss on intermediate iterates.")
    clip: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="Arithmetic of the network.")
    log_every: int = Field(10, ge=1, description="Steps between reports of the loss.")
    validate_every: int = Field(500, ge=1, description="Steps between validations and checkpoints.")
    seed: int = Field(0, description="Seed of weights, patches and contexts.")


class Trainer:
    """Trains one network; ``run`` yields events and may be stopped at any step, and resumed from its state file.

    ``protocols`` are the fitted normal operators, one per protocol of the samples. Local problems use them too, or
    ``operators`` in their place (``ExactNormal``: the projector in the loop, to measure what the approximation costs).
    """

    def __init__(
        self,
        config: UnrolledConfig,
        sampler: PatchSampler,
        protocols: Sequence[NormalFactors],
        options: TrainOptions,
        validate: Validate | None = None,
        state_file: Any = None,
        device: str = "cpu",
        initial: UnrolledPGD | None = None,
        operators: Sequence[Restrictable] | None = None,
    ) -> None:
        torch.manual_seed(options.seed)
        self.options, self.sampler, self.device = options, sampler, device
        self.network = UnrolledPGD(config).to(device)
        if initial is not None:
            self.network.load_state_dict(initial.state_dict())
        self.average = UnrolledPGD(config).to(device).eval().requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=options.learning_rate)
        self.protocols = [p.to(device) for p in protocols]
        self.operators: Sequence[Restrictable] = self.protocols if operators is None else operators
        self.preconditioners = [preconditioner(p, config) for p in self.protocols]
        self.validate, self.best, self.step, self.elapsed = validate, -math.inf, 0, 0.0
        self.state = TrainingState(state_file) if state_file else None

    def run(self, stop: Stop | None = None) -> Iterator[Event]:
        """Train until the budget is spent or the listener asks to stop; the result is the averaged network."""
        stop = stop or Stop()
        if self.state is not None:
            self.state.restore(self)
        yield Started("training", self.options.n_steps)
        begin = time.monotonic() - self.elapsed
        history: list[float] = []
        while not self._done() and not stop.finish_now:
            if stop.cancelled:
                raise Cancelled("Training was cancelled; the last checkpoint is kept.")
            loss = self._optimise()
            self.elapsed = time.monotonic() - begin
            if self.step % self.options.log_every == 0:
                history.append(loss)
                yield Progress(int(1000 * self.progress), 1000, f"step {self.step}, loss {loss:.3g}")
                yield IterationDone(self.step, self.options.n_steps, metrics={"loss": loss, "seconds": self.elapsed})
            if self.step % self.options.validate_every == 0:
                yield from self._checkpoint()
        yield from self._checkpoint()
        outcome = Outcome.COMPLETED if self._done() else Outcome.FINISHED_EARLY
        yield Finished(outcome, self.average, f"Trained {self.step} steps.", self.elapsed, tuple(history))

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 … 1."""
        by_time = self.elapsed / self.options.max_seconds if self.options.max_seconds else 0.0
        return min(1.0, max(self.step / self.options.n_steps, by_time))

    def _done(self) -> bool:
        return self.progress >= 1.0

    def _optimise(self) -> float:
        rate = self.options.learning_rate * schedule(self.step, self.progress, self.options.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for _ in range(self.options.accumulate):
            loss = self._loss(self.sampler.draw(self.options.batch_size, self.device)) / self.options.accumulate
            loss.backward()
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip)
        if torch.isfinite(norm):  # low precision overflows now and then; such a step teaches nothing
            self.optimizer.step()
        self.step += 1
        self._update_average()
        return total

    def _loss(self, batch: Batch) -> torch.Tensor:
        gradient = context_gradient(batch, self.operators[batch.protocol], self._context_weights(batch))
        precondition = self.preconditioners[batch.protocol](batch.boxes)
        with self._autocast():
            iterates = self.network(batch.start, gradient, precondition)
        start_error = _errors(batch.start, batch) + 1e-4
        losses = [(_errors(x, batch) / start_error).mean() for x in iterates]
        return losses[-1] + self.options.auxiliary * sum(losses[:-1], torch.zeros((), device=self.device))

    def _context_weights(self, batch: Batch) -> list[torch.Tensor]:
        """β_k per iteration and patch: the context improves by a random rate, as a whole volume does; 0 is the truth."""
        n, rng = len(batch.boxes), self.sampler.rng
        first = (rng.random(n) >= self.options.truth_context).astype("float32")
        rate = rng.uniform(0.3, 1.0, n).astype("float32")
        shape = (n, 1, 1, 1, 1)
        return [
            torch.from_numpy(first * rate**k).reshape(shape).to(self.device) for k in range(self.network.n_iterations)
        ]

    def _autocast(self) -> Any:
        if self.options.precision == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, torch.bfloat16)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.options.ema, self.step / (self.step + 10))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def _checkpoint(self) -> Iterator[Event]:
        metrics: dict[str, float] = {}
        if self.validate is not None:
            metrics = self.validate(self.average)
            yield IterationDone(self.step, self.options.n_steps, metrics=metrics)
        score = metrics.get("psnr", -math.inf)
        if self.state is not None:
            self.state.save(self, is_best=score >= self.best, metrics=metrics)
        self.best = max(self.best, score)


def _errors(x: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean squared error per patch; divided by the start's so that easy and hard protocols weigh the same."""
    return (x - batch.truth).abs().square().mean((1, 2, 3, 4))


def schedule(step: int, progress: float, warmup: int) -> float:
    """Factor of the learning rate: linear warm-up, then cosine from 1 to 0.01 over the budget."""
    rise = min(1.0, (step + 1) / (warmup + 1))
    return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def context_gradient(batch: Batch, operator: Restrictable, betas: Sequence[torch.Tensor]) -> Gradient:
    """∇(u) = (P Ñ Pᵀ)(u − P x̂) − P r̂ with the context of iteration k (METHOD: Efficient Unrolled Networks, sec. 4.1)."""
    patch = operator.restrict(batch.boxes)

    def gradient(u: torch.Tensor, k: int) -> torch.Tensor:
        context = torch.lerp(batch.truth, batch.start, betas[k].to(batch.truth.dtype))
        residual = torch.lerp(batch.residual_truth, batch.residual_start, betas[k].to(batch.truth.dtype))
        with torch.autocast(u.device.type, enabled=False):
            return patch.apply(u - context) - residual

    return gradient


def preconditioner(factors: NormalFactors, config: UnrolledConfig) -> Callable[[Any], Apply]:
    """How a network's data step is preconditioned on boxes: P M Pᵀ, or 1/‖N‖ for the plain gradient step."""
    if config.preconditioner is None:
        norm = factors.norm_squared
        return lambda boxes: lambda g: g / norm
    inverse = factors.inverse(config.preconditioner)
    return lambda boxes: inverse.restrict(boxes).apply

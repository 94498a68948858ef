"""Which method for this scan? The one that best foretells measurements which no method saw, as a generator of events.

Every method that applies runs quickly on what is kept, then the best two of those that have quicker settings than their
defaults run with these. No truth is needed; the ordinary ``resolve`` and ``run`` do the work. The verdict on an MRI scan
is remembered, so that ``auto`` takes it; of X-rays the left-out error may rank wrongly, and the verdict says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field

from napari_unroll.environment import PeakMemory
from napari_unroll.errors import Cancelled, FinishNow, ParameterError, UnrollError
from napari_unroll.events import Event, Finished, Measured, Outcome, Progress, Started, Stop, Warned
from napari_unroll.interrupt import interruptible, stepwise
from napari_unroll.methods.left_out import LeftOut, of_scan, with_coil_maps
from napari_unroll.methods.problem import Method, MethodParams, as_tensor
from napari_unroll.methods.registry import for_scan, get, has_weights
from napari_unroll.methods.steps.final import FORETOLD, QUICK
from napari_unroll.physics.build import build_physics
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.verdicts import remember
from napari_unroll.scan.left_out import FRACTION, leave_out
from napari_unroll.scan.scan import Scan

N_FULL = 2
"""Of the methods that ran quickly, those that then run with their defaults."""
QUICK_ITERATIONS = 50
N_BOOTSTRAP = 500
DOUBT = "Of X-rays with few views this error can prefer the worse volume; compare by eye before you believe it."


class ChoosePlan(MethodParams):
    """How methods are compared."""

    fraction: float = Field(FRACTION, gt=0, le=0.5, description="Part of the measurements that no method sees.")
    seed: int = Field(0, ge=0, le=1_000_000, description="Of the draw.")
    methods: tuple[str, ...] = Field((), description="Methods; empty: all that apply and have weights.")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:1.")


@dataclass(frozen=True)
class Row:
    """What one run came to: ``error`` is ‖A x − y‖² / ‖y‖² over what was left out, ``spread`` its standard error."""

    method: str
    settings: str
    error: float
    spread: float
    seconds: float
    memory_mib: float


@dataclass(frozen=True)
class Verdict:
    """The rows, best first, the best method's name, and what to think of it in words."""

    rows: tuple[Row, ...]
    method: str
    text: str

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Tried:
    """A row with the energies (view or coil) of what its volume got wrong, and of the measurements."""

    row: Row
    wrong: np.ndarray
    size: np.ndarray


def choose(scan: Scan, plan: ChoosePlan | None = None, stop: Stop | None = None) -> Iterator[Event]:
    """A Measured event per run; the last event is Finished with a :class:`Verdict`, also of what was done before a stop.

    A cancelled comparison has no verdict, and neither has one of a scan of which nothing can be left out.
    """
    stop, plan, tried = stop or Stop(), plan or ChoosePlan(), list[_Tried]()
    outcome = Outcome.COMPLETED
    try:
        yield from interruptible(_try_all(scan, plan, tried), stop)
    except Cancelled:
        if not stop.asked:
            raise
        yield Finished(Outcome.CANCELLED, advice="The comparison was cancelled.")
        return
    except FinishNow:
        if not stop.asked:
            raise
        outcome = Outcome.FINISHED_EARLY
    except UnrollError as error:
        yield Finished(Outcome.FAILED, advice=str(error))
        return
    if not tried:
        yield Finished(
            Outcome.FAILED if outcome is Outcome.COMPLETED else outcome, advice="No method ended with a volume."
        )
        return
    verdict = _verdict(tried)
    if scan.modality not in FORETOLD:
        verdict = replace(verdict, text=f"{verdict.text} {DOUBT}")
    elif outcome is Outcome.COMPLETED:
        remember(scan, verdict.as_values())
    yield Finished(outcome, verdict, verdict.text)


def _try_all(scan: Scan, plan: ChoosePlan, tried: list[_Tried]) -> Iterator[Event]:
    for name in plan.methods:
        get(name)
    methods = [m for m in for_scan(scan) if (not plan.methods or m.name in plan.methods) and has_weights(m, scan)]
    if not methods:
        raise ParameterError("None of these methods applies to the scan and has weights for it.")
    yield Started("comparison of methods", len(methods) + N_FULL)
    kept, left = yield from stepwise(lambda: _split(scan, plan), "leaving out some measurements")
    for i, method in enumerate(methods):
        quick = quick_params(method)
        yield from _try(method, quick, "quick" if quick else "full", kept, left, plan, tried, (i, len(methods)))
    quick_ones = sorted((t for t in tried if t.row.settings == "quick"), key=lambda t: t.row.error)
    for i, found in enumerate(quick_ones[:N_FULL]):
        yield from _try(get(found.row.method), {}, "full", kept, left, plan, tried, (i, N_FULL))


def _split(scan: Scan, plan: ChoosePlan) -> tuple[Scan, LeftOut]:
    whole = with_coil_maps(scan, build_physics(scan, plan.device))
    parts = leave_out(whole, plan.fraction, plan.seed)
    return parts.kept, of_scan(parts.left_out, plan.device)


def quick_params(method: Method) -> dict[str, Any]:
    """What makes a method faster than its defaults do, and not much worse; empty where nothing does."""
    fields, quick = method.params.model_fields, dict[str, Any]()
    for name, value in QUICK.items():
        if name in fields and fields[name].default != value:
            quick[name] = value
    most = fields["n_iterations"].default if "n_iterations" in fields else 0
    if isinstance(most, int) and most > QUICK_ITERATIONS:
        quick["n_iterations"] = QUICK_ITERATIONS
    return quick


def _try(
    method: Method, params: dict[str, Any], settings: str, kept: Scan, left: LeftOut, plan: ChoosePlan,
    tried: list[_Tried], step: tuple[int, int],
) -> Iterator[Event]:  # fmt: skip
    """One run, appended to ``tried``; one that fails is a warning."""
    title = f"{method.name}, {settings}"
    yield Progress(*step, title)
    chosen = resolve(Choices(method=method.name, params=params, device=plan.device), kept)
    with PeakMemory(chosen.device) as peak:
        for event in run(chosen, kept):
            if isinstance(event, Progress):
                yield replace(event, text=f"{title}: {event.text}")
            elif isinstance(event, Warned):
                yield event
    assert isinstance(event, Finished)
    if event.result is None:
        yield Warned(f"{title}: {event.advice}")
        return
    wrong, size = (e.cpu().numpy() for e in left.energies(as_tensor(event.result, left.physics)))
    row = Row(method.name, settings, float(wrong.sum() / size.sum()), _spread(wrong, size), event.seconds,
              peak.n_bytes / 2**20)  # fmt: skip
    tried.append(_Tried(row, wrong, size))
    yield Measured(asdict(row), f"{title}: left-out error {row.error:.2%}, {row.seconds:.1f} s")


def _resampled(*energies: np.ndarray) -> list[np.ndarray]:
    """Sums of energies over views or coils that are drawn with replacement, the same for all, N_BOOTSTRAP times."""
    n = len(energies[0])
    drawn = np.random.default_rng(0).integers(0, n, (N_BOOTSTRAP, n))
    return [e[drawn].sum(1) for e in energies]


def _spread(wrong: np.ndarray, size: np.ndarray) -> float:
    """Standard error of the relative error by the bootstrap over views or coils; 0 for one of them."""
    a, b = _resampled(wrong, size)
    return float(np.std(a / np.maximum(b, 1e-300)))


def _verdict(tried: list[_Tried]) -> Verdict:
    """Of every method the best run; whether the first is better than the second beyond chance is asked of the same views."""
    ranked = sorted(tried, key=lambda t: t.row.error)
    rows = tuple(t.row for t in ranked)
    best = ranked[0]
    other = next((t for t in ranked if t.row.method != best.row.method), None)
    text = f"{best.row.method} foretells left-out measurements best: error {best.row.error:.2%} ± {best.row.spread:.2%}"
    if other is None:
        return Verdict(rows, best.row.method, f"{text}.")
    a, b, size = _resampled(best.wrong, other.wrong, best.size)
    lead, doubt = other.row.error - best.row.error, float(np.std((b - a) / np.maximum(size, 1e-300)))
    sure = "clearly behind" if lead > 2 * doubt else "not clearly behind; compare both by eye"
    return Verdict(rows, best.row.method, f"{text}; {other.row.method} follows with {other.row.error:.2%}, {sure}.")

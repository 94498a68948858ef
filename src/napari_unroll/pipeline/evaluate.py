"""Every method on scans whose truth is known: one row of numbers per scan and method, as a generator of events.

Reconstructions go the ordinary way (``resolve``, ``run``). The normal operator is fitted once per scanner and not counted in the
seconds. What the rows say together is in ``summary``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from napari_unroll.environment import PeakMemory
from napari_unroll.errors import Cancelled, FinishNow, ParameterError, ScanError, WeightsError
from napari_unroll.events import Event, Finished, Measured, Outcome, Progress, Started, Stop, Warned
from napari_unroll.interrupt import interruptible, stepwise
from napari_unroll.methods.algorithms.adaptation import n_adaptation
from napari_unroll.methods.domain import outside
from napari_unroll.methods.left_out import LeftOut, of_scan
from napari_unroll.methods.problem import Method, MethodParams, Problem, as_tensor, measured
from napari_unroll.methods.registry import for_scan, get, has_weights
from napari_unroll.methods.weights import find
from napari_unroll.normal.cache import cached_fit
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.pipeline.held_out import Case, generated, of_file, of_volumes
from napari_unroll.pipeline.measured import data_folder, measured_cases
from napari_unroll.pipeline.metrics import nrmse, psnr, ssim
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.record import FileName, FolderName
from napari_unroll.scan.left_out import Parts
from napari_unroll.scan.noise import measured_noise
from napari_unroll.scan.scan import Scan

Row = dict[str, Any]
Edge = Annotated[int, Field(ge=12, le=1024)]
Views = Annotated[int, Field(ge=1, le=100_000)]
Acceleration = Annotated[float, Field(ge=1, le=100_000)]


class EvaluationPlan(MethodParams):
    """What to evaluate, on what."""

    suite: Literal["generated", "real", "all"] = Field(
        "generated",
        description="generated: held-out scans as below; real: measured scans in the folder NAPARI_UNROLL_DATA; all: both.",
    )
    task: Literal["cone-beam", "multi-coil", "all"] = Field("all", description="Kind of generated or simulated scans.")
    views: tuple[Views, ...] = Field((30, 50, 100), description="Views of cone-beam scans.")
    acceleration: tuple[Acceleration, ...] = Field((5, 10), description="Accelerations of multi-coil scans.")
    n: int = Field(3, ge=0, le=1000, description="Generated scans per task and level.")
    size: Edge = Field(64, description="Voxels along an edge.")
    volumes: FolderName | None = Field(None, description="Folder of measured volumes to simulate scans of as well.")
    volume_sizes: tuple[Edge, ...] = Field((), description="Voxels along an edge of their scans; empty: size.")
    files: tuple[FileName, ...] = Field((), description="Scan files with their truth; nothing is generated then.")
    methods: tuple[str, ...] = Field((), description="Methods; empty: all that apply and have weights.")
    weights: FileName = Field(
        "auto", description="Weights for the networks: shipped ones by name, a .safetensors file, or auto."
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:1.")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The kinds of scans."""
        return ("cone-beam", "multi-coil") if self.task == "all" else (self.task,)


def cases(plan: EvaluationPlan) -> list[Case]:
    """The scans of a plan. Raises UnrollError where a file is missing or has no truth, or nothing is left."""
    measured_ones = [] if plan.suite == "generated" else measured_cases(data_folder())
    if plan.suite == "real":
        return measured_ones
    found = [of_file(f) for f in plan.files]
    if not plan.files:
        found += generated(plan.tasks, plan.views, plan.acceleration, plan.size, plan.n)
    if plan.volumes:
        sizes = plan.volume_sizes or (plan.size,)
        found += of_volumes(Path(plan.volumes).expanduser(), plan.tasks, plan.views, plan.acceleration, sizes)
    found += measured_ones
    if not found:
        raise ParameterError("There is nothing to evaluate on; give files, a folder of volumes, or n of at least 1.")
    return found


def evaluate(plan: EvaluationPlan, stop: Stop | None = None) -> Iterator[Event]:
    """Reconstruct and measure: a Measured event per row; the last event is Finished with all, also those before a stop.

    A row: part, task, views or acceleration, data, scan, noise (in words), method, weights, ood, domain, then where there is a
    truth psnr (dB), ssim and nrmse, and of measured scans left_out = ‖A x − y‖² / ‖y‖² of measurements that the method did not see
    with left_out_noise, the part of it that is noise, where that is known; adapted, whether the network was to the scan; residual
    ‖A x − y‖ / ‖y‖, converged (fixed points only), seconds, peak_memory_mib. A cancelled evaluation keeps its rows too. Raises
    UnrollError before anything runs where the plan cannot work.
    """
    stop = stop or Stop()
    for name in plan.methods:
        get(name)
    scans: list[Case] = []
    rows: list[Row] = []
    outcome = Outcome.COMPLETED
    try:
        yield from interruptible(_rows(plan, scans, rows), stop)
    except (Cancelled, FinishNow) as wish:
        if not stop.asked:
            raise
        outcome = Outcome.CANCELLED if isinstance(wish, Cancelled) else Outcome.FINISHED_EARLY
    yield _finished(rows, outcome, len(scans))


def _finished(rows: list[Row], outcome: Outcome, n: int) -> Finished:
    if not rows and outcome is Outcome.COMPLETED:
        return Finished(Outcome.FAILED, None, "No method ended with a volume; the warnings above say why.")
    if not rows:
        return Finished(outcome, None, "The evaluation ended before its first reconstruction.")
    return Finished(outcome, rows, f"{len(rows)} reconstructions of {n} scans, {outcome}.")


def _rows(plan: EvaluationPlan, scans: list[Case], rows: list[Row]) -> Iterator[Event]:
    """Finds the scans and measures them; both lists are filled as it goes."""
    scans += yield from stepwise(lambda: cases(plan), "looking at the scans")
    yield Started("evaluation", len(scans))
    for i, case in enumerate(scans):
        yield Progress(i, len(scans), case.title)
        yield from _case(case, plan, rows, (i, len(scans)))


def _case(case: Case, plan: EvaluationPlan, rows: list[Row], step: tuple[int, int]) -> Iterator[Event]:
    """One scan with every method; rows are appended as they come."""
    try:
        made = case.make()
        scan, unseen = (made, None) if isinstance(made, Scan) else (made.kept, _unseen(made, plan.device))
        physics = build_physics(scan, plan.device)
    except ScanError as error:
        yield Warned(f"{case.title}: {error}")
        return
    *_, fitted = cached_fit(scan, physics, FitOptions(n_test=0))
    assert isinstance(fitted, Finished)
    if fitted.result is None:
        yield Warned(f"{case.title}: {fitted.advice}")
        return
    for method in _methods(scan, plan):
        yield Progress(*step, f"{case.title}: {method.name}")
        row = _measure(method, scan, unseen, physics, fitted.result, plan)
        if isinstance(row, str):
            yield Warned(f"{case.title}, {method.name}: {row}")
        else:
            about = _about(method, scan, plan, case)
            level = int(case.level) if case.level == int(case.level) else case.level
            noise = measured_noise(scan)
            rows.append({"part": case.part, "task": case.task, case.level_name: level, "method": method.name,
                         "data": case.data, "scan": case.scan, "noise": noise.text if noise else None,
                         **about, **row})  # fmt: skip
            yield Measured(rows[-1], f"{case.title}, {method.name}: {quality(rows[-1])}")


def quality(row: Row) -> str:
    """The row's figures of merit in words."""
    against_truth = [f"{row['psnr']:.2f} dB"] if "psnr" in row else []
    return ", ".join([*against_truth, *([f"{row['left_out']:.3%} of what was left out"] if "left_out" in row else [])])


def _methods(scan: Scan, plan: EvaluationPlan) -> list[Method]:
    """The asked methods that apply to the scan and have weights for it, simplest first."""
    asked = [m for m in for_scan(scan) if not plan.methods or m.name in plan.methods]
    return [m for m in asked if _ready(m, scan, plan.weights)]


def _ready(method: Method, scan: Scan, weights: str) -> bool:
    if not method.needs_weights or weights == "auto":
        return has_weights(method, scan)
    given = find(weights)
    return given.method in method.networks and given.modality == scan.modality


def _measure(
    method: Method,
    scan: Scan,
    unseen: LeftOut | None,
    physics: VolumePhysics,
    factors: NormalFactors,
    plan: EvaluationPlan,
) -> Row | str:
    """The numbers of one reconstruction, or why there is none; one that was stopped has none."""
    chosen = resolve(Choices(method=method.name, weights=plan.weights, device=plan.device), scan)
    with PeakMemory(chosen.device) as peak:
        *_, finished = run(chosen, scan, None, factors)
    assert isinstance(finished, Finished)
    if finished.result is None:
        return finished.advice
    volume = finished.result
    return {
        **({} if scan.truth is None else _against_truth(volume, np.asarray(scan.truth))),
        **({} if unseen is None else _against_unseen(volume, unseen)),
        "adapted": n_adaptation(chosen.params) > 0,
        "residual": residual(physics, scan, volume),
        "converged": finished.fixed_point.converged if finished.fixed_point else None,
        "seconds": finished.seconds,
        "peak_memory_mib": peak.n_bytes / 2**20,
    }


def _against_truth(volume: np.ndarray, truth: np.ndarray) -> Row:
    return {"psnr": psnr(volume, truth), "ssim": ssim(volume, truth), "nrmse": nrmse(volume, truth)}


def _unseen(parts: Parts, device: str) -> LeftOut:
    return replace(of_scan(parts.left_out, device), noise=parts.noise)


def _against_unseen(volume: np.ndarray, unseen: LeftOut) -> Row:
    error = {"left_out": unseen.error(as_tensor(volume, unseen.physics))}
    return error if unseen.noise is None else error | {"left_out_noise": unseen.noise}


def residual(physics: VolumePhysics, scan: Scan, volume: np.ndarray) -> float:
    """‖A x − y‖ / ‖y‖ of a volume (z, y, x): how far the reconstruction is from what was measured."""
    problem = Problem(scan=scan, physics=physics, y=measured(scan, physics.device))
    with torch.no_grad():
        return problem.residual(as_tensor(volume, physics))


def _about(method: Method, scan: Scan, plan: EvaluationPlan, case: Case) -> Row:
    """The weights' name, whether the data are of another kind than theirs, and whether the scan's numbers are in their domain."""
    if not method.needs_weights or method.find_weights is None:
        return {"weights": None, "ood": False, "domain": None}
    values = {} if plan.weights == "auto" else {"weights": plan.weights}
    try:
        weights = method.find_weights(scan, method.params(**values))
    except WeightsError:
        return {"weights": None, "ood": True, "domain": None}
    domain = "out" if outside(weights.card, scan) else "in"
    return {"weights": str(weights.name), "ood": out_of_distribution(weights.card, case), "domain": domain}


def out_of_distribution(card: dict[str, Any], case: Case) -> bool:
    """Whether the card does not say that the network was trained on this kind of data.

    Cards name it in ``trained_on``: generated objects, or the folder of volumes or scans; and parallel beams where they were.
    Without a card nothing is known of the network, so everything counts as out of distribution.
    """
    trained_on = str(card.get("trained_on", "")).lower()
    wanted = [f"in {case.folder.lower()}" if case.folder else "generated"]
    wanted += ["parallel"] if case.task == "parallel-beam" else []
    return any(word not in trained_on for word in wanted)

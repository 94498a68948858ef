"""How long a run will take: what earlier runs on this machine took, stage by stage, carried over by a count of the work.

A run that was completed calibrates its method: the seconds of its stages are kept in the user's cache folder. The next
run takes those of the run with the most similar amount of work. Where the method never ran here, the seconds are the
counted work over rates of one processor core, corrected by what other methods took; such a time is a guess and says so.
Arithmetic on shapes only, and one small file.
"""

from __future__ import annotations

import itertools
import math
import platform
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter

from napari_unroll.events import duration
from napari_unroll.io.atomic import write_bytes
from napari_unroll.methods.memory import Shape
from napari_unroll.methods.problem import Method
from napari_unroll.methods.steps.start import start_subsets
from napari_unroll.methods.subsets import n_subsets
from napari_unroll.normal.cache import cache_folder
from napari_unroll.patches.grid import PatchGrid
from napari_unroll.pipeline.memory import voxels
from napari_unroll.pipeline.patching import RATE, network_of, work
from napari_unroll.record import Record
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling

FIT = "fitting the normal operator"
"""The stage that is left out where the operator is kept."""
ITERATIONS = "iterations"
"""The stage of iterations that tell no steps of their own; it begins when the first one is done."""
MOST_RUNS = 16
"""Kept of every method, the newest."""
RAY_STEPS_S, TRANSFORM_S, VOXEL_S = 1e-8, 4e-8, 1e-7
"""Seconds on one core, roughly: a voxel seen by a view, a voxel of a coil image there and back, a voxel in a step's other work."""
LAYERS = 6
"""How many times its heaviest layer a network takes, roughly."""
OVERHEAD_S, N_ONCE, N_FIT = 0.3, 8, 40
"""Of every run; applications of A and Aᴴ before and after the iterations, and in a fit."""
ENSEMBLE = 4
"""Passes of the self-ensemble."""
TRAINING = 4
"""How many times longer than a network's answer a step of its adaptation takes: the answer twice, and gradients."""
SIMILAR = 0.05
"""Runs whose amounts of work differ by less than this part are of one size."""
N_PARTS = 8
"""Equal parts of a stage's steps of which is kept when they were taken: steps need not take equally long."""
MANY = 2 * N_PARTS
"""Steps after which they tell how others are spread over the time, and the change of the volume how near their end is."""
STEEPEST = 1.5
"""Power of the work with which the time of a stage grows at most; 0 at least, and 1 where one size is known only."""
SETTLED = 0.4
"""Part of the steps after which the change alone tells how many are left; it jumps at first."""
Part = Annotated[float, Field(ge=0, le=1)]
Change = Annotated[float, Field(gt=0, le=1e30)]


class StageTime(Record):
    """A stage of a run. After its last step comes what tells no steps, such as the first pass of the stage that follows."""

    name: str = Field(description="As its events name it, numbers left out.")
    seconds: float = Field(ge=0, le=1e9, description="From its begin to that of the next.")
    share: float = Field(default=1.0, ge=0, le=1, description="Of the announced steps, those that were taken.")
    passed: tuple[Part, ...] = Field(
        default=(),
        description="Part of the time that had passed after equal parts of the steps taken; empty: as much of it.",
    )

    changes: tuple[Change, ...] = Field(
        default=(),
        description="Smallest change of the volume in a step, after the first one and after equal parts of the steps taken, where "
        "it was what ended them; empty elsewhere.",
    )

    def steps_after(self, share: float, change: float | None) -> float:
        """Part of the steps that are expected, after a share of those announced or where the change is what ends them, by that."""
        by_count = share / max(self.share, 1e-6)
        if not self.changes or not change:
            return by_count
        so_far = -np.log(self.changes)
        by_change = float(np.interp(-math.log(change), so_far, np.linspace(0, 1, len(so_far))))
        trust = min(1.0, by_count / SETTLED)
        return (1 - trust) * by_count + trust * by_change

    def time_after(self, steps: float) -> float:
        """Part of the time that has passed after a part of the steps that are expected."""
        times = (0.0, *(self.passed or (1.0,)))
        return float(np.interp(steps, np.linspace(0, 1, len(times)), times))

    def with_iterations(self, n: int, wanted: int) -> StageTime:
        """A stage of ``n`` iterations for ``wanted`` ones: what follows the last one is as long; less than ``n`` may end both."""
        if n == wanted:
            return self
        looped = self.seconds * (self.passed[-1] if self.passed else 1.0)
        timed = self.share - (1 / n if self.name == ITERATIONS else 0.0)
        taken = min(wanted / n, self.share) if self.share < 1 else wanted / n
        further = looped * (taken - self.share) / timed if timed > 0 else 0.0
        seconds, last = self.seconds + further, looped + further
        shape = tuple(p / self.passed[-1] for p in self.passed) if self.passed and self.passed[-1] else (1.0,)
        spread = shape if n * self.share >= MANY else (1.0,)
        return self.model_copy(
            update={
                "seconds": seconds,
                "share": min(1.0, taken * n / wanted),
                "passed": tuple(min(1.0, p * last / max(seconds, 1e-9)) for p in spread),
            }
        )


@dataclass(frozen=True)
class Counted:
    """Seconds of the work on one core, roughly: of what a method does once, of a fit of Ñ where needed, of each iteration."""

    once_s: float
    fit_s: float = 0.0
    each_s: float = 0.0
    n_iterations: int = 0

    @property
    def own_s(self) -> float:
        """Of all but the fit."""
        return self.once_s + self.n_iterations * self.each_s


class Run(Record):
    """What a completed run took: its counted work, the stages, and the scan whose operator it fitted, by its fingerprint."""

    once: float = Field(gt=0, le=1e12, description="Seconds of the work that was counted outside iterations.")
    each: float = Field(ge=0, le=1e12, description="Seconds of the work that was counted of an iteration.")
    n_iterations: int = Field(ge=0, le=10**12, description="The most that were to be taken.")
    stages: tuple[StageTime, ...] = Field(description="In their order.")
    fitted: str = Field(default="", description="Fingerprint of the scan whose normal operator was fitted.")

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def counted(self) -> float:
        """Seconds of all the counted work."""
        return self.once + self.n_iterations * self.each

    def repeats(self, stage: StageTime) -> bool:
        """Whether a stage is one of iterations."""
        return self.each > 0 and stage.name.startswith("iteration")

    def apart(self, work: Counted) -> float:
        """How far the amounts of work are apart; 0 where they are equal."""
        pairs = ((self.once, work.once_s), (self.each, work.each_s), (self.n_iterations, work.n_iterations))
        return sum(abs(math.log(a / b)) for a, b in pairs if a and b)


Runs = dict[str, list[Run]]
_RUNS = TypeAdapter(Runs)


@dataclass(frozen=True)
class Expected:
    """What a run is expected to take, ``fit_s`` of it for a fit. ``stages`` are empty where the method never ran here."""

    seconds: float
    stages: tuple[StageTime, ...] = ()
    fit_s: float = 0.0

    def without_fit(self) -> Expected:
        """The same where the normal operator is there already."""
        kept = tuple(stage for stage in self.stages if not stage.name.startswith(FIT))
        return Expected(self.seconds - self.fit_s, kept)

    @property
    def text(self) -> str:
        """In words."""
        return (
            f"about {duration(self.seconds)}" if self.stages else f"perhaps {duration(self.seconds)} (never run here)"
        )


def counted(
    method: Method, params: Any, scan: Scan, grid: VolumeGrid, patch: Shape, overlap: int, n_adaptation: int = 0
) -> Counted:
    """The work of a run with so many steps of adaptation; what matters is how it grows with scan, volume and choices."""
    config = network_of(method, params, scan)
    n = voxels(grid.shape)
    pair = 2 * _operator_s(scan, n)
    start = int(getattr(config, "start_iterations", 0) or 0)
    prior = getattr(config, "prior", None)
    network = adaptation = 0.0
    if prior is not None:
        per_voxel = LAYERS * prior.multiplications / RATE["cpu"]
        adaptation = n_adaptation * TRAINING * config.n_iterations * (per_voxel * n + pair)
        network = per_voxel * work(PatchGrid(grid.shape, patch, overlap), prior.multiple)
        network *= ENSEMBLE if getattr(params, "self_ensemble", False) else 1
    once = OVERHEAD_S + (N_ONCE + start / start_subsets(scan)) * pair + start * VOXEL_S * n + adaptation
    fit = N_FIT * pair if method.needs_normal and method.needs_normal(params) else 0.0
    if not method.iterative:
        return Counted(once + network, fit)
    each = pair / n_subsets(scan, getattr(params, "subsets", 1)) + VOXEL_S * n + network
    return Counted(once, fit, each, _iterations(params, config, scan))


def _iterations(params: Any, config: Any, scan: Scan) -> int:
    """The largest number of them."""
    if hasattr(params, "iterations_for"):
        return int(params.iterations_for(scan.modality))
    asked = getattr(params, "n_iterations", 1)
    if isinstance(asked, int):
        return asked
    equilibrium = getattr(config, "equilibrium", None)
    return int(equilibrium.max_evaluations if equilibrium is not None else getattr(config, "n_iterations", 1))


def _operator_s(scan: Scan, n: int) -> float:
    """Of one application of A to ``n`` voxels."""
    if scan.modality == "ct":
        return RAY_STEPS_S * len(scan.measurements) * n
    n_coils = len(scan.measurements) if scan.modality == "mri" else 1
    doubled = 8 if isinstance(scan.geometry, NonCartesianSampling) else 1
    return TRANSFORM_S * doubled * n_coils * n


def _key(method: str, scan: Scan, device: str, is_region: bool) -> str:
    return "|".join([platform.node(), device, method, type(scan.geometry).__name__, "region" if is_region else "whole"])


def _path() -> Path:
    return cache_folder() / "times.json"


def _known() -> Runs:
    """Runs by key; none where the file is damaged."""
    with suppress(OSError, ValueError, RecursionError):
        return _RUNS.validate_json(_path().read_text(encoding="utf-8"))
    return {}


def expected(method: str, scan: Scan, device: str, is_region: bool, work: Counted) -> Expected:
    """What a run with so much work will take."""
    known = _known()
    own = _scaled(known, _key(method, scan, device, is_region), work)
    if not work.fit_s or _is_fitted(known, scan):
        return own
    fit = _scaled(known, _key(FIT, scan, device, is_region), Counted(work.fit_s))
    return Expected(own.seconds + fit.seconds, (*fit.stages, *own.stages) if own.stages else (), fit.seconds)


def _scaled(known: Runs, key: str, work: Counted) -> Expected:
    """The run of that key with the most similar amount of work, its stages as long as so much work takes.

    Of one iteration nothing is known of others.
    """
    runs = [r for r in known.get(key, []) if r.n_iterations > 1 or work.n_iterations <= 1]
    if not runs:
        return Expected(work.own_s * _pace(known, key))
    nearest, *others = sorted(runs, key=lambda r: r.apart(work))
    usual = _usual_power(known, key)
    stages = tuple(_grown(stage, nearest, others, work, usual) for stage in nearest.stages)
    return Expected(sum(stage.seconds for stage in stages), stages)


def _grown(stage: StageTime, run: Run, others: list[Run], work: Counted, power: float) -> StageTime:
    """A stage of ``run`` with so much work instead: it grows as the same stage of another run says, else with ``power``."""
    repeats = run.repeats(stage)
    here, wanted = (run.each, work.each_s) if repeats else (run.once, work.once_s)
    if repeats:
        stage = stage.with_iterations(run.n_iterations, work.n_iterations)
    for other in others:
        there = other.each if repeats else other.once
        same = [s for s in other.stages if s.name == stage.name and s.seconds > 0]
        if not same or stage.seconds <= 0 or not there or abs(math.log(there / here)) <= SIMILAR:
            continue
        alike = same[0].with_iterations(other.n_iterations, work.n_iterations) if repeats else same[0]
        power = _power(stage.seconds / alike.seconds, here / there)
        break
    return stage.model_copy(update={"seconds": (wanted / here) ** power * stage.seconds})


def _power(of_seconds: float, of_work: float) -> float:
    """With which the time grows with the work, both as ratios of two runs."""
    return min(max(math.log(of_seconds) / math.log(of_work), 0.0), STEEPEST)


def _usual_power(known: Runs, key: str) -> float:
    """The one of other methods that ran at two sizes on this machine and device; 1 where none did.

    Small runs take longer than their work says, so that their time alone foretells too much of a larger one.
    """
    powers = []
    for runs in _of_machine(known, key):
        for a, b in itertools.pairwise(sorted(runs, key=lambda r: (r.n_iterations, r.counted))):
            is_larger = a.n_iterations == b.n_iterations and b.counted > (1 + SIMILAR) * a.counted
            if is_larger and a.seconds > 0 and b.seconds > 0:
                powers.append(_power(b.seconds / a.seconds, b.counted / a.counted))
    return statistics.median(powers) if powers else 1.0


def _is_fitted(known: Runs, scan: Scan) -> bool:
    """Whether a run fitted the operator of this scan, which has been kept since."""
    return any(scan.fingerprint() == r.fitted for runs in known.values() for r in runs)


def _pace(known: Runs, key: str) -> float:
    """How many times longer than counted other methods took on this machine and device; 1 where nothing ran yet."""
    ratios = [r.seconds / r.counted for runs in _of_machine(known, key) for r in runs]
    return statistics.median(ratios) if ratios else 1.0


def _of_machine(known: Runs, key: str) -> list[list[Run]]:
    """The runs of every method on the machine and device of a key."""
    here = "|".join([*key.split("|")[:2], ""])
    return [runs for k, runs in known.items() if k.startswith(here)]


def remember(method: str, scan: Scan, device: str, is_region: bool, work: Counted, stages: Sequence[StageTime]) -> None:
    """Keep what a completed run took, and its fit apart. A file that cannot be written is no reason to fail."""
    known = _known()
    fit = [stage for stage in stages if stage.name.startswith(FIT)]
    _keep(known, _key(method, scan, device, is_region), work, [s for s in stages if s not in fit])
    if fit and not _is_fitted(known, scan):
        _keep(known, _key(FIT, scan, device, is_region), Counted(work.fit_s), fit, scan.fingerprint())
    with suppress(OSError):
        _path().parent.mkdir(parents=True, exist_ok=True)
        write_bytes(_path(), _RUNS.dump_json(known, indent=1))


def _keep(known: Runs, key: str, work: Counted, stages: Sequence[StageTime], fitted: str = "") -> None:
    """Add a run to those of its key; it takes the place of one with as much work."""
    others = [r for r in known.get(key, []) if fitted or r.apart(work) > SIMILAR]
    run = Run(once=work.once_s, each=work.each_s, n_iterations=work.n_iterations, stages=tuple(stages), fitted=fitted)
    known[key] = [*others, run][-MOST_RUNS:]

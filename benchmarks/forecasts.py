"""The time that a run is foretold to take beside what it takes, for every method at two sizes, and how far off the time left is.

Each method runs on the cone beam of 50 views and on eight coils (half as many planes), on one thread and without a window; the
clock is that of this process's processor seconds, since others may use the machine. The sizes before the last two only
calibrate. ``off`` is the median error of the time left between a tenth and nine tenths of the run, as a part of what was
left then; ``within`` the part of that time in which it was below 30 %.

    python benchmarks/forecasts.py [--sizes 32 48 64] [--samples cone-beam multi-coil] [--only METHOD] [--keep FILE] [--json FILE]
    python benchmarks/forecasts.py --played FILE

``--keep`` keeps the events and their times; ``--played`` plays kept ones to the forecast instead of running, so that a change
of it is measured in seconds and on the same runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch

from napari_unroll.environment import machine
from napari_unroll.events import Event, Forecast, IterationDone, Outcome, Progress
from napari_unroll.methods.registry import for_scan, has_weights
from napari_unroll.pipeline import sources
from napari_unroll.pipeline.forecast import Forecaster
from napari_unroll.pipeline.plan import Choices, Plan, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.scan import Scan

WITHIN = 0.3
SAMPLES = {
    "cone-beam": lambda n: {"n": n, "n_views": 50},
    "multi-coil": lambda n: {"shape": (n // 2, n, n)},
}
Told = list[list[Any]]
"""Seconds after the start, then what a Progress or IterationDone says: its text ("" for the latter), step, steps and change."""


def record(plan: Plan, scan: Scan) -> Told:
    """The times at which a run tells how far it is; the last entry is its end. Raises RuntimeError where it fails."""
    begun, told = time.process_time(), []
    for event in run(plan, scan):
        now = time.process_time() - begun
        if isinstance(event, Progress):
            told.append([now, event.text, event.step, event.n_steps, None])
        elif isinstance(event, IterationDone):
            told.append([now, "", event.iteration, event.n_iterations, event.metrics.get("change")])
    if event.outcome is not Outcome.COMPLETED:
        raise RuntimeError(f"{plan.title}: {event.advice}")
    return [*told, [time.process_time() - begun, "end", 0, 0, None]]


def retold(told: Told) -> Iterator[tuple[float, Event]]:
    """The events and their times."""
    for now, text, step, n_steps, change in told[:-1]:
        metrics = {} if change is None else {"change": change}
        yield now, Progress(step, n_steps, text) if text else IterationDone(step, n_steps, metrics=metrics)


def play(plan: Plan, scan: Scan, told: Told) -> dict[str, Any]:
    """What the forecast would have said, which then learns from the run."""
    now, took = 0.0, told[-1][0]
    expected = plan.expected_with(None)
    forecaster, said = Forecaster(expected, clock=lambda: now), []
    for now, event in retold(told):
        forecast = forecaster.see(event)
        if forecast is not None:
            said.append((now, forecast))
    now = took
    plan.remember(scan, forecaster.took())
    return {"foretold_s": expected.seconds, "taken_s": took, **errors(said, took), "calibrated": bool(expected.stages)}


def errors(said: Iterable[tuple[float, Forecast]], took: float) -> dict[str, float | None]:
    """How far off the time left was; a forecast holds until the next one, less the time that has passed."""
    at = [0.1 + 0.01 * k for k in range(81)]
    known = [(now, told.left_s) for now, told in said if told.left_s is not None]
    off = []
    for share in at:
        earlier = [(now, left) for now, left in known if now <= share * took]
        left = max(0.0, earlier[-1][1] - (share * took - earlier[-1][0])) if earlier else math.inf
        off.append(abs(left / took - (1 - share)) / (1 - share))
    median = statistics.median(off)
    return {
        "off": median if math.isfinite(median) else None,
        "at_a_tenth": off[0] if math.isfinite(off[0]) else None,
        "within": sum(o <= WITHIN for o in off) / len(off),
    }


def plans(sample: str, n: int, only: str) -> Iterator[tuple[Plan, Scan]]:
    """Every method that can run on a sample."""
    scan = sources.sample(sample, SAMPLES[sample](n))
    for method in for_scan(scan):
        if has_weights(method, scan) and only in ("", method.name):
            yield resolve(Choices(method=method.name, device="cpu"), scan), scan


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for every method at every size."""
    with tempfile.TemporaryDirectory() as of_runs, tempfile.TemporaryDirectory() as of_plays:
        return list(_measured(given, of_runs, of_plays))


def _measured(given: argparse.Namespace, of_runs: str, of_plays: str) -> Iterator[dict[str, Any]]:
    """Runs keep their fits and times, by the wall's clock, apart from what a play learns."""
    kept = json.loads(given.played.read_text()) if given.played else {}
    for sample, n in product(given.samples, given.sizes):
        os.environ["NAPARI_UNROLL_CACHE"] = of_plays
        for plan, scan in plans(sample, n, given.only):
            name = f"{sample} {n} {plan.method}"
            if given.played and name not in kept:
                continue
            os.environ["NAPARI_UNROLL_CACHE"] = of_runs
            kept[name] = kept[name] if given.played else record(plan, scan)
            os.environ["NAPARI_UNROLL_CACHE"] = of_plays
            row = {"sample": sample, "size": n, "method": plan.method, **play(plan, scan, kept[name])}
            print(line(row), flush=True)
            yield row
            if given.keep:
                given.keep.write_text(json.dumps(kept))


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    return "  ".join(f"{v:.2f}" if isinstance(v, float) else f"{v!s:12}" for v in row.values())


def summary(rows: list[dict[str, Any]], sizes: list[int]) -> dict[str, Any]:
    """Of the last two sizes, by sample: for how many methods the time left was within 30 %, and which ones not."""
    found = {}
    for sample in dict.fromkeys(row["sample"] for row in rows):
        for n in sizes[-2:]:
            those = [r for r in rows if (r["sample"], r["size"]) == (sample, n)]
            bad = [r["method"] for r in those if r["off"] is None or r["off"] > WITHIN]
            late = [r["method"] for r in those if r["at_a_tenth"] is None or r["at_a_tenth"] > WITHIN]
            share = statistics.mean(r["within"] for r in those) if those else None
            found[f"{sample} {n}"] = {
                "methods": len(those), "within": share, "off_by_median": bad, "off_at_a_tenth": late,
            }  # fmt: skip
    return found


def main(words: list[str] | None = None) -> None:
    """Measure or play, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[32, 48, 64])
    parser.add_argument("--samples", nargs="*", default=list(SAMPLES), choices=SAMPLES)
    parser.add_argument("--only", default="", help="one method")
    parser.add_argument("--keep", type=Path, help="keep events and times here")
    parser.add_argument("--played", type=Path, help="play the events of this file")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    rows = measure(given)
    found = summary(rows, given.sizes)
    print(json.dumps(found, indent=1))
    if given.json:
        kept = {"command": " ".join(["python benchmarks/forecasts.py", *(words or sys.argv[1:])]), "machine": machine()}
        given.json.write_text(json.dumps({**kept, "summary": found, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""A comparison of small networks over several seeds: equal CPU time for each, then the same held-out scans for all.

What is finished is kept in the folder of work, and the page is written again after every network, so a run may be cut.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from equilibrium_untrained import kept_bytes, wide_network
from paper_pages import page
from paper_studies import Comparison, Make, Study
from paper_training import Figures, in_own_process
from perturbations import lost_psnr

from napari_unroll.environment import machine, software
from napari_unroll.events import Finished
from napari_unroll.io.atomic import write_text
from napari_unroll.io.scan_file import write_scan
from napari_unroll.methods.registry import get
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.pipeline.held_out import FIRST_SEED
from napari_unroll.pipeline.metrics import psnr, ssim
from napari_unroll.pipeline.params import build
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.scan import Scan
from napari_unroll.training.plan import TrainingPlan

OPTIONS = {
    "batch_size": 2, "context": "truth", "precision": "float32", "log_every": 1,
    "validate_every": 10**6, "validation_share": 0.1,
}  # fmt: skip
"""Of every training, whatever its method prefers: patches are whole slices, so there is no context to look up."""
N_SCANS = 33
"""Scans that are written to train on where a plan has some of its own."""
UNTRAINED = -1
"""The seed of classical methods."""


def plan_of(study: Study, shared: str, method: str, seed: int, given: argparse.Namespace) -> TrainingPlan:
    """The training of one network."""
    own = next(c.networks[method] for c in study.comparisons if c.shared == shared and method in c.networks)
    plan = dict(study.plans[shared])
    options = {
        **OPTIONS,
        **study.options,
        "patch_size": plan.pop("patch"),
        "max_seconds": 60.0 * given.minutes * plan.pop("share", 1.0),
        "seed": seed,
    }
    if "scans" in plan:
        plan["scans"] = str(written(plan["scans"], given.work / given.paper / f"scans-{shared}"))
    network = {**own, "start_iterations": 0}
    return build(TrainingPlan, {**plan, "name": method, "method": method, "network": network, "options": options})


def written(make: Make, folder: Path) -> Path:
    """The folder with the scans to train on, whose last one validates."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(N_SCANS):
        path = folder / f"{seed:02}.h5"
        if not path.is_file():
            write_scan(path, make(seed))
    return folder


def folder_of(study: Study, shared: str, method: str, seed: int, given: argparse.Namespace) -> Path:
    """Where a training lives; all of them share one folder of samples."""
    folder: Path = given.work / given.paper / f"{shared}-{method}-{seed}"
    samples = given.work / given.paper / f"samples-{shared}"
    for path in (folder, samples):
        path.mkdir(parents=True, exist_ok=True)
    if not (folder / "samples").exists():
        (folder / "samples").symlink_to(samples.resolve(), target_is_directory=True)
    return folder


def held_out(table: Comparison, n: int) -> list[tuple[Scan, NormalFactors]]:
    """The scans that no training has seen, each with its normal operator."""
    scans = [table.make(FIRST_SEED + i) for i in range(n)]
    return [(scan, fit_now(build_physics(scan, "cpu"), FitOptions(n_test=0))) for scan in scans]


def quality(scans: list[tuple[Scan, NormalFactors]], method: str, weights: str) -> Figures:
    """Mean PSNR (dB), SSIM and CPU seconds of a slice over the scans."""
    params = {"self_ensemble": False} if get(method).needs_weights else {}
    rows = []
    for scan, factors in scans:
        chosen = resolve(Choices(method=method, params=params, weights=weights, device="cpu"), scan)
        begun = time.process_time()
        *_, last = run(chosen, scan, None, factors)
        seconds = time.process_time() - begun
        assert isinstance(last, Finished)
        if last.result is None:
            raise SystemExit(f"{method}: {last.advice}")
        rows.append((psnr(last.result, scan.truth), ssim(last.result, scan.truth), seconds / scan.grid.shape[0]))
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return dict(zip(("psnr", "ssim", "seconds"), means, strict=True))


def measured(table: Comparison, scans: Any, method: str, seed: int, costs: Figures, n_perturbed: int) -> Figures:
    """A row of a table."""
    weights = costs.get("weights", "auto")
    row = {"table": table.name, "method": method, "seed": seed, **quality(scans, method, weights)}
    if table.perturbed and costs:
        row |= lost_psnr(Path(weights), [table.perturbed(FIRST_SEED + i) for i in range(n_perturbed)])
    kept = ("seconds", "steps", "seconds_per_step", "memory_mib", "psnr_untrained", "psnr")
    return {**row, **{f"trained_{name}": costs[name] for name in kept if name in costs}}


def jobs(study: Study, given: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """(plan, method, seed) of one plan after the other: classical methods, then all networks of a seed before the next seed."""
    for shared in study.plans:
        tables = [table for table in study.comparisons if table.shared == shared]
        yield from ((shared, method, UNTRAINED) for method in dict.fromkeys(m for t in tables for m in t.classical))
        networks = list(dict.fromkeys(method for table in tables for method in table.networks))
        yield from ((shared, method, seed) for seed in range(given.seeds) for method in networks)


def memory(study: Study, path: Path) -> list[Figures]:
    """What a training step of each method keeps, and how many weights it has, with the paper's widths; from ``path`` if there."""
    if path.is_file():
        return list(json.loads(path.read_text()))
    rows = []
    for method in study.memory:
        network = wide_network(method)
        n_parameters = sum(p.numel() for p in network.parameters())
        rows.append({"method": method, "bytes": kept_bytes(network), "n_parameters": n_parameters})
    write_text(path, json.dumps(rows))
    return rows


def compare(study: Study, given: argparse.Namespace) -> None:
    """Train, measure and write, one network after the other, until all are done or the time is spent."""
    torch.set_num_threads(given.threads)
    begun, path = time.monotonic(), given.work / given.paper / "rows.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Figures] = json.loads(path.read_text()) if path.is_file() else []
    scans = {table.name: held_out(table, given.n) for table in study.comparisons}
    costs = memory(study, path.with_name("memory.json"))
    for shared, method, seed in jobs(study, given):
        if given.deadline and time.monotonic() - begun > 60 * given.deadline:
            print("The time is spent; the page has what is finished. Call again to go on.")
            break
        tables = [t for t in study.comparisons if t.shared == shared and method in (*t.networks, *t.classical)]
        left = [t for t in tables if (t.name, method, seed) not in {(r["table"], r["method"], r["seed"]) for r in rows}]
        if not left:
            continue
        trained: Figures = {}
        if seed != UNTRAINED:
            plan = plan_of(study, shared, method, seed, given)
            trained = in_own_process(plan, folder_of(study, shared, method, seed, given), given.threads)
        for table in left:
            rows.append(measured(table, scans[table.name], method, seed, trained, given.perturbed))
            print(json.dumps(rows[-1]), flush=True)
        write_text(path, json.dumps(rows))
        write(study, given, rows, costs)
    write(study, given, rows, costs)


def write(study: Study, given: argparse.Namespace, rows: list[Figures], costs: list[Figures]) -> None:
    """The page and its figures."""
    settings = {name: getattr(given, name) for name in ("minutes", "seeds", "n", "perturbed")}
    report = {"machine": machine(), "software": software(), "settings": settings, "rows": rows, "memory": costs}
    write_text(given.out / f"{given.paper}.json", json.dumps(report, indent=2) + "\n")
    write_text(given.out / f"{given.paper}.md", page(given.paper, study, settings, rows, costs))

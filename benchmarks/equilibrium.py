"""Equilibria beside unrolled networks, trained for the same processor seconds: the figures of docs/methods/equilibria.md.

    python benchmarks/equilibrium.py [--minutes 1] [--work FOLDER] [--out benchmarks/results] [--untrained]

One generated cone beam and one generated coil scanner. Networks are trained by ``training.session.train`` unless they lie in
``--work`` already, MODALITY/METHOD each. Then every network reconstructs the same held-out scans by the code that reconstructs
everywhere: scans like those of its training, and scans that are unlike them (other numbers of views or accelerations, more
noise). Also: PSNR after every iteration, well beyond those of the training, and what a training step keeps for its backward
pass. Writes equilibrium.json and equilibrium.md. ``--untrained`` prints what was found before any training instead.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equilibrium_untrained
import numpy as np
import torch
from equilibrium_training import SIZE, plan_of, task_of, trained
from equilibrium_untrained import kept_bytes

from napari_unroll.environment import machine, software
from napari_unroll.events import IterationDone, result_of
from napari_unroll.io.atomic import write_text
from napari_unroll.methods.algorithms.network import Network
from napari_unroll.methods.algorithms.reconstruct import EquilibriumParams, NetworkParams, UnrolledParams, reconstruct
from napari_unroll.methods.problem import Problem, as_values, measured
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.methods.weights import find, load_network
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.scan.quality import psnr
from napari_unroll.training.objects import FIRST_HELD_OUT, generated
from napari_unroll.training.plan import Noise
from napari_unroll.training.scanners import Scanner, cone_beam_scanner, multi_coil_scanner
from napari_unroll.training.trainer import new_network

METHODS = ("unrolled-pgd", "modl", "luser-dw", "mol-lr")
OBJECT = FIRST_HELD_OUT + 7
"""An object that is in neither training nor validation."""
SETUP = 11
"""Coils and masks that are in no training."""
START = 60
"""FISTA steps of total variation before the first iteration, for all."""


@dataclass(frozen=True)
class Case:
    """One held-out scan: views or acceleration, and photons or σ of the noise."""

    title: str
    level: float
    noise: float


CASES = {
    "ct": (
        Case("50 views", 50, 1e5),
        Case("20 views", 20, 1e5),
        Case("150 views", 150, 1e5),
        Case("50 views, 3000 photons", 50, 3e3),
    ),
    "mri": (
        Case("R = 5", 5, 0.01),
        Case("R = 3", 3, 0.01),
        Case("R = 15", 15, 0.01),
        Case("R = 5, noise 0.06", 5, 0.06),
    ),
}
"""The first of each is like the scans of the training; the others lie outside its range."""


@dataclass
class Started:
    """A scan with its problem, truth and start; ``start_psnr`` in dB."""

    problem: Problem
    truth: np.ndarray
    start: torch.Tensor
    start_psnr: float


def scanner(modality: str, case: Case) -> Scanner:
    """The scanner of a case."""
    if modality == "ct":
        return cone_beam_scanner(SIZE, int(case.level), Noise(photons=(case.noise, case.noise)))
    noise = Noise(sigma=(case.noise, case.noise))
    return multi_coil_scanner((SIZE // 2, SIZE, SIZE), case.level, noise=noise, setup_seed=SETUP)


def started(modality: str, case: Case) -> Started:
    """Simulate the scan of a case and make the start that all networks share."""
    chosen = scanner(modality, case)
    scan = chosen.simulate(generated(modality)(chosen.object_grid, OBJECT), OBJECT)
    physics = build_physics(scan, "cpu")
    problem = Problem(
        scan=scan, physics=physics, y=measured(scan, "cpu"), normal=fit_now(physics, FitOptions(n_test=0))
    )
    start = result_of(first_estimate(problem, START))
    truth = np.asarray(scan.truth)
    return Started(problem, truth, start, psnr(as_values(start), truth))


def curve(scan: Started, network: Network, params: NetworkParams) -> list[float]:
    """PSNR (dB) after every iteration."""
    scan.problem.state.clear()
    events = reconstruct(scan.problem, params, network, scan.start)
    volumes = (event.values for event in events if isinstance(event, IterationDone))
    return [round(psnr(volume, scan.truth), 2) for volume in volumes if volume is not None]


def as_trained(network: Network) -> NetworkParams:
    """The iterations of the training; without mirror images, which help all alike."""
    if network.config.equilibrium is not None:
        return EquilibriumParams(self_ensemble=False)
    return UnrolledParams(self_ensemble=False)


def beyond(network: Network) -> NetworkParams:
    """Twice the iterations of the training."""
    equilibrium = network.config.equilibrium
    if equilibrium is not None:
        n = 2 * equilibrium.max_evaluations
        return EquilibriumParams(self_ensemble=False, n_iterations=n, tolerance=1e-6)
    return UnrolledParams(self_ensemble=False, n_iterations=2 * network.n_iterations)


def step_memory(modality: str, method: str, folder: Path) -> float:
    """MiB that one step on the training's own patches keeps for its backward pass, besides weights."""
    plan = plan_of(modality, method, 1.0)
    task = task_of(plan, folder)
    network = new_network(plan.network, 0).train()
    return kept_bytes(network, lambda: task.loss(network, False)) / 2**20


def measure(modality: str, scans: dict[str, Started], method: str, given: argparse.Namespace) -> dict[str, Any]:
    """Everything about one method on one scanner."""
    folder = given.work / modality / method
    path = trained(modality, method, 60 * given.minutes, folder)
    card, network = find(str(path)).card, load_network(path)
    begun = time.process_time()
    quality = {title: curve(scan, network, as_trained(network))[-1] for title, scan in scans.items()}
    seconds = (time.process_time() - begun) / len(scans)
    row = {
        "scanner": modality,
        "method": method,
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": card["steps"],
        "cpu_seconds": card["plan"]["options"]["max_seconds"],
        "step_memory_mib": round(step_memory(modality, method, folder), 2),
        "reconstruction_cpu_seconds": round(seconds, 1),
        "psnr": quality,
        "psnr_by_iteration": curve(next(iter(scans.values())), network, beyond(network)),
    }
    print(json.dumps(row), flush=True)
    return row


def table(rows: list[dict[str, Any]], starts: dict[str, dict[str, float]]) -> str:
    """The rows as Markdown, a table per scanner."""
    lines = []
    for modality, cases in starts.items():
        own = [row for row in rows if row["scanner"] == modality]
        heads = ["method", "weights", "steps", "CPU s", "MiB per step", *cases]
        lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        lines.append(f"| start (total variation) | | | | | {' | '.join(f'{v:.2f}' for v in cases.values())} |")
        for row in own:
            figures = [f"{row['psnr'][title]:.2f}" for title in cases]
            cost = [row["parameters"], row["steps"], f"{row['cpu_seconds']:.0f}", f"{row['step_memory_mib']:.1f}"]
            lines.append(f"| `{row['method']}` | {' | '.join(map(str, [*cost, *figures]))} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="processor minutes per training")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "equilibrium")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--scanners", nargs="*", choices=CASES, default=list(CASES), help="others stay as they are")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--untrained", action="store_true", help="convergence and cost of untrained networks instead")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.untrained:
        equilibrium_untrained.main()
        return
    kept = given.out / "equilibrium.json"
    before = json.loads(kept.read_text()) if kept.is_file() else {"starts": {}, "rows": []}
    starts = before["starts"]
    for modality in given.scanners:
        scans = {case.title: started(modality, case) for case in CASES[modality]}
        starts[modality] = {title: round(scan.start_psnr, 2) for title, scan in scans.items()}
        rows = [measure(modality, scans, method, given) for method in given.methods]
        rows = [row for row in before["rows"] if row["scanner"] != modality] + rows
        before = {"machine": machine(), "software": software(), "object": OBJECT, "starts": starts, "rows": rows}
        write_text(kept, json.dumps(before, indent=1) + "\n")
        write_text(given.out / "equilibrium.md", table(rows, starts))


if __name__ == "__main__":
    sys.exit(main())

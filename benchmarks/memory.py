"""The memory that a plan estimates beside what a run really takes, for every registered method.

    python benchmarks/memory.py [--sizes 64 128] [--samples cone-beam multi-coil] [--methods cgls …] [--json FILE]

Every run has a process of its own on the CPU: a small run of the same kind first, which loads libraries and compiles kernels, then
one on ``size``³ voxels (MRI: half as many planes), a few iterations of it. Measured is by how much the process grew, by the
system's own high-water mark (Linux), which misses no moment; freed memory goes back to the system at once
(``give_back_freed``), else what an earlier step has left would hide what a later one takes. The scan itself is there before
and does not count; a fitted normal operator neither.

Rows: sample, size, method, estimate_bytes, measured_bytes and ratio = estimate / measured, which should lie in 0.9 … 1.3. Rows
that an earlier call wrote stay.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_unroll.environment import give_back_freed, machine, software
from napari_unroll.errors import WeightsError
from napari_unroll.events import Finished, Outcome
from napari_unroll.io.atomic import write_text
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.problem import Method, MethodParams
from napari_unroll.methods.registry import METHODS, get
from napari_unroll.methods.steps.resolvent import ResolventStepConfig
from napari_unroll.methods.weights import save_network
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import sample_cone_beam, sample_deblur, sample_multicoil
from napari_unroll.physics.simulate import simulate_ct
from napari_unroll.pipeline.plan import Choices, Plan, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.geometry import ParallelBeam, VolumeGrid
from napari_unroll.scan.phantoms import coil_maps, ellipsoids
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d

HERE = Path(__file__).resolve().parent
WARM_SIZE, N_VIEWS, N_ITERATIONS = 24, 50, 2
LEAST = {
    "start_iterations": 3,
    "n_iterations": N_ITERATIONS,
    "n_priors": 2,
    "max_steps": 3,
    "layers": 3,
    "max_evaluations": 7,
}
"""Of a network: evaluations are one more than the differences that Anderson mixing remembers, and one; a convolution is neither
first nor last."""

BAND = (0.9, 1.3)


def parallel(size: int) -> Scan:
    """A parallel-beam scan of ellipsoids."""
    angles = np.pi * np.arange(N_VIEWS) / N_VIEWS
    geometry = ParallelBeam.circular(angles_rad=angles, detector_shape=(size, size + size // 2))
    return simulate_ct(ellipsoids((size,) * 3, 1), geometry, VolumeGrid(shape=(size,) * 3))


def radial(size: int) -> Scan:
    """One slice along spokes with (4 · size)² voxels; noise, for memory does not ask what is measured."""
    n, n_coils = 4 * size, 8
    sampling = NonCartesianSampling(trajectory=radial_2d(size, 2 * n), shape=(1, n, n), n_coils=n_coils)
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((*sampling.measurement_shape, 2), np.float32).view(np.complex64)[..., 0]
    maps = coil_maps((1, n, n), n_coils, 0)
    return Scan(measurements=samples, geometry=sampling, grid=VolumeGrid(shape=(1, n, n)), csm=maps)


SAMPLES: dict[str, Callable[[int], Scan]] = {
    "cone-beam": lambda size: sample_cone_beam(size, N_VIEWS, oversample=1),
    "parallel-beam": parallel,
    "multi-coil": lambda size: sample_multicoil((size // 2, size, size)),
    "radial": radial,
    "deblur": lambda size: sample_deblur((1, 4 * size, 4 * size)),
}


def plan_for(name: str, scan: Scan, folder: Path) -> Plan:
    """The method's defaults on the CPU, few iterations; untrained weights where none are shipped, or of networks that solve.

    A patch's mirror images take their turns in the same memory, so there are none.
    """
    method = get(name)
    network = None if method.learning is None else own_network(method, scan)
    is_search = network is not None and network.equilibrium is not None
    few = {"n_iterations": LEAST["max_evaluations"] if is_search else N_ITERATIONS, "self_ensemble": False}
    params: dict[str, Any] = {choice: value for choice, value in few.items() if choice in method.params.model_fields}
    if network is not None and (solves(network) or not is_shipped(method, scan)):
        params["weights"] = str(untrained(network, name, folder))
    return resolve(Choices(method=name, params=params, device="cpu"), scan)


def is_shipped(method: Method, scan: Scan) -> bool:
    """Whether the package has weights of the method for such scans."""
    assert method.find_weights is not None
    try:
        method.find_weights(scan, method.params())
    except WeightsError:
        return False
    return True


def own_network(method: Method, scan: Scan) -> NetworkConfig:
    """The method's own architecture."""
    assert method.learning is not None
    config = method.learning.network(scan.modality)
    assert isinstance(config, NetworkConfig)
    return config


def solves(config: NetworkConfig) -> bool:
    """Whether it seeks fixed points, or solves for its data steps: in many steps, which hold as much as a few."""
    return config.seeks_fixed_points or isinstance(config.data_step, ResolventStepConfig)


def untrained(config: NetworkConfig, name: str, folder: Path) -> Path:
    """Random weights of the architecture, shortened."""
    torch.manual_seed(0)
    path = folder / f"{name}.safetensors"
    save_network(Network(shortened(config)), path, name)
    return path


def shortened(config: Any) -> Any:
    """The same record, also within, with loops that run as few times as hold what they hold in the end."""
    fields = {name: getattr(config, name) for name in type(config).model_fields}
    few = {name: min(value, LEAST[name]) for name, value in fields.items() if name in LEAST}
    within = {name: shortened(value) for name, value in fields.items() if isinstance(value, MethodParams)}
    return config.model_copy(update=few | within)


def fitted(plan: Plan, scan: Scan) -> NormalFactors | None:
    """The normal operator where the plan needs it."""
    return fit_now(build_physics(scan, "cpu"), FitOptions(n_probes=2, n_test=0)) if plan.needs_normal else None


def reconstruct(plan: Plan, scan: Scan, factors: NormalFactors | None) -> None:
    """One run; raises SystemExit where it does not complete."""
    for event in run(plan, scan, None, factors):
        if isinstance(event, Finished) and event.outcome is not Outcome.COMPLETED:
            raise SystemExit(event.advice)


def measure(name: str, sample: str, size: int) -> dict[str, Any]:
    """One row, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(name, sample, size, Path(folder))


def _measure(name: str, sample: str, size: int, folder: Path) -> dict[str, Any]:
    for n in (WARM_SIZE, size):
        scan = SAMPLES[sample](n)
        plan = plan_for(name, scan, folder)
        factors = fitted(plan, scan)
        give_back_freed()
        before = held()
        reset_high_water()
        reconstruct(plan, scan, factors)
        after = held()
    grown = after["VmHWM"] - before["VmRSS"] - (after["RssFile"] - before["RssFile"])
    ratio = round(plan.memory_bytes / grown, 3)
    return {"sample": sample, "size": size, "method": name, "estimate_bytes": plan.memory_bytes, "measured_bytes": grown,
            "ratio": ratio}  # fmt: skip


def held() -> dict[str, int]:
    """Bytes of this process now (VmRSS), of files among them (RssFile), and at most since the mark was reset (VmHWM)."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[-1] == "kB"}


def reset_high_water() -> None:
    """From now on (proc_pid_clear_refs(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def in_a_process(name: str, sample: str, size: int) -> dict[str, Any] | None:
    """One row from a fresh process; None where the method does not apply."""
    if get(name).obstacle(SAMPLES[sample](WARM_SIZE)):
        return None
    words = [sys.executable, __file__, "--one", name, sample, "--sizes", str(size)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        return {
            "sample": sample,
            "size": size,
            "method": name,
            "error": (done.stderr or "it ended").strip().splitlines()[-1][:120],
        }
    return dict(json.loads(done.stdout.splitlines()[-1]))


def line(row: dict[str, Any]) -> str:
    """A row of the Markdown table."""
    head = f"| {row['sample']} | {row['size']} | {row['method']} |"
    if "error" in row:
        return f"{head} {row['error']} | | |"
    mib = [f"{row[k] / 2**20:.1f}" for k in ("estimate_bytes", "measured_bytes")]
    outside = "" if BAND[0] <= row["ratio"] <= BAND[1] else " outside"
    return f"{head} {mib[0]} | {mib[1]} | {row['ratio']:.2f}{outside} |"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[64], help="voxels along an edge")
    parser.add_argument("--samples", nargs="*", choices=SAMPLES, default=list(SAMPLES))
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--json", type=Path, default=HERE / "results" / "memory.json")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "SAMPLE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(*given.one, *given.sizes)))
        return
    print("| sample | size | method | estimate / MiB | measured / MiB | ratio |\n|---|---|---|---|---|---|")
    rows = earlier(given.json)
    for sample, size, name in itertools.product(given.samples, given.sizes, given.methods):
        row = in_a_process(name, sample, size)
        if row is not None:
            rows[sample, size, name] = row
            print(line(row), flush=True)
            facts = {"machine": machine(), "software": software(), "rows": [*rows.values()]}
            write_text(given.json, json.dumps(facts, indent=1) + "\n")


def earlier(path: Path) -> dict[tuple[str, int, str], dict[str, Any]]:
    """Rows of an earlier run, which those of this one replace."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return {(row["sample"], row["size"], row["method"]): row for row in rows}


if __name__ == "__main__":
    main()

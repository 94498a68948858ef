"""Time and peak memory of a reconstruction against the size of its volume, and what larger ones would take.

    python benchmarks/scale.py [--sizes 64 96 128] [--methods fdk tv-fista drunet] [--gb 8] [--out scale.md]

Every run has a process of its own on the CPU, one thread: a cone beam of 50 views onto a detector as large as the volume; a small
run first, with a limit also one with volumes on disk, which loads libraries and compiles kernels. Networks are those that ship;
iterations are few, and as many at every size. Peaks are of what is held at once (``give_back_freed``). ``--gb`` limits the memory
that plans may take (beside the scan); the process itself is held to that and the scan by RLIMIT_DATA; where a plan puts whole
volumes on disk, they do not count there, and neither do they in peaks. Slopes are those of logarithms over the sizes; 1024³ is
the largest size times 2 to the slope.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_unroll.environment import PeakMemory, give_back_freed
from napari_unroll.events import Finished
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.geometry import ConeBeam, VolumeGrid
from napari_unroll.scan.scan import Scan

N_VIEWS, WARM, TARGET = 50, 24, 1024
WARM_GB = 0.001
"""Less than any method needs at that size in memory, so that total variation puts its volumes on disk."""
SLACK = 1.3
"""Of a limit: what libraries and the scan's own handling take beside what plans know."""
LOOK_S = 0.001
"""Between looks at the memory: in the smallest runs what a projection of all views takes is there for some milliseconds."""
STACKS = 32 * 2**20
"""Of threads that a run starts: RLIMIT_DATA counts all that they might take."""
PARAMS: dict[str, dict[str, Any]] = {
    "fdk": {},
    "tv-fista": {"n_iterations": 5, "tolerance": 0.0},
    "unrolled-pgd": {"self_ensemble": False, "data_step": "approximated", "final_data_step": "none"},
    "drunet": {"self_ensemble": False},
}


def cone(n: int) -> Scan:
    """Views of noise, for time and memory do not ask what is measured."""
    geometry = ConeBeam.circular(
        angles_rad=2 * np.pi * np.arange(N_VIEWS) / N_VIEWS, source_origin_mm=4.0 * n, source_detector_mm=6.0 * n,
        detector_shape=(n, n), pixel_mm=(1.6, 1.6),
    )  # fmt: skip
    values = np.random.default_rng(0).random((N_VIEWS, n, n), np.float32)
    return Scan(measurements=values, geometry=geometry, grid=VolumeGrid(shape=(n, n, n)))


def one(method: str, n: int, gigabytes: float | None) -> dict[str, Any]:
    """A row, measured in this process."""
    torch.set_num_threads(1)
    _run(method, WARM, None)
    if gigabytes is not None:
        *_, disk = _run("tv-fista", WARM, WARM_GB)
        assert disk
    give_back_freed()
    if gigabytes is not None:
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        most = used + int(SLACK * gigabytes * 1e9) + STACKS + 8 * N_VIEWS * n * n
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    begun = time.process_time()
    with PeakMemory("cpu", LOOK_S) as peak:
        outcome, patch, estimate, disk = _run(method, n, gigabytes)
    return {
        "method": method, "size": n, "seconds": time.process_time() - begun, "bytes": peak.n_bytes, "estimate": estimate,
        "disk": disk, "patch": patch, "outcome": outcome,
    }  # fmt: skip


def _run(method: str, n: int, gigabytes: float | None) -> tuple[str, tuple[int, ...], int, int]:
    scan = cone(n)
    limit: Any = "auto" if gigabytes is None else gigabytes
    plan = resolve(Choices(method=method, params=PARAMS[method], device="cpu", max_memory_gb=limit), scan)
    *_, finished = run(plan, scan)
    assert isinstance(finished, Finished)
    return (
        f"{finished.outcome}: {finished.advice}" if finished.result is None else "",
        plan.patch_size,
        plan.memory_bytes,
        plan.disk_bytes,
    )


def slope(rows: list[dict[str, Any]], what: str) -> float:
    """Of the logarithm of a figure over that of the size."""
    sizes, figures = ([math.log(r[k]) for r in rows] for k in ("size", what))
    return float(np.polyfit(sizes, figures, 1)[0])


def report(rows: list[dict[str, Any]]) -> str:
    """Two tables."""
    heads = ["method", "voxels", "patch", "processor seconds", "estimate, MiB", "peak, MiB", "on disk, MiB"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for r in rows:
        patch = " × ".join(map(str, r["patch"]))
        sizes = " | ".join(f"{r[k] / 2**20:.0f}" for k in ("estimate", "bytes", "disk"))
        lines.append(f"| {r['method']} | {r['size']}³ | {patch} | {r['seconds']:.1f} | {sizes} |")
    lines += [
        "",
        f"| method | slope of time | slope of memory | {TARGET}³, hours | {TARGET}³, GiB |",
        "|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(r["method"] for r in rows):
        mine = [r for r in rows if r["method"] == method]
        if len(mine) > 1:
            time_slope, memory_slope, last = slope(mine, "seconds"), slope(mine, "bytes"), mine[-1]
            grown = TARGET / last["size"]
            hours, gib = last["seconds"] * grown**time_slope / 3600, last["bytes"] * grown**memory_slope / 2**30
            lines.append(f"| {method} | {time_slope:.1f} | {memory_slope:.1f} | {hours:.1f} | {gib:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--methods", nargs="+", default=list(PARAMS), choices=list(PARAMS))
    parser.add_argument("--gb", type=float, default=None)
    parser.add_argument("--out", type=Path, default=Path("scale.md"))
    parser.add_argument("--one", action="store_true", help="measure in this process")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.methods[0], asked.sizes[0], asked.gb)))
        return
    rows: list[dict[str, Any]] = []
    limit = [] if asked.gb is None else ["--gb", str(asked.gb)]
    for method in asked.methods:
        for n in asked.sizes:
            words = [sys.executable, __file__, "--one", "--methods", method, "--sizes", str(n), *limit]
            done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            if done.returncode:
                print(method, n, done.stderr.strip().splitlines()[-1:], flush=True)
                continue
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
            asked.out.write_text(report(rows), encoding="utf-8")


if __name__ == "__main__":
    main()

"""A generated cone-beam scan of 501³ voxels with 50 views, reconstructed whole: processor seconds by stage, peak memory, PSNR.

    python benchmarks/large.py --make scan.npz [--size 501]
    python benchmarks/large.py --run scan.npz [--method unrolled-pgd] [--gb 12] [--json large.json] [--picture large.png]

The object is generated and projected on a grid twice as fine, in slabs, before the clock starts. Stages are those that the run
tells by its events; their processor seconds are of all threads, children excluded, without those of the figures here. Peaks:
what the process's own memory grew by beside the scan, and all that was resident, with libraries, scan, truth and pages of files.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_unroll.environment import PeakMemory
from napari_unroll.events import Event, Finished, IterationDone, Progress
from napari_unroll.physics.samples import cone_beam_setup
from napari_unroll.physics.simulate import Exposure, simulate_ct
from napari_unroll.physics.xray import XRay
from napari_unroll.pipeline.metrics import psnr
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.phantoms import FAMILIES, HELD_OUT_SEED
from napari_unroll.scan.scan import Scan

N_VIEWS, FAMILY, SEED = 50, "walnut", HELD_OUT_SEED
ITERATED = "data steps and network"
"""The stage of a network's iterations; the start is what was there before."""


def make(n: int, file: Path) -> None:
    """Write the scan with its truth."""
    geometry, grid = cone_beam_setup(n, N_VIEWS)
    volume = FAMILIES[FAMILY]((2 * n,) * 3, SEED)
    print("object made", time.process_time(), flush=True)
    projector = XRay(geometry, grid.resample(volume.shape))
    scan = simulate_ct(volume, geometry, grid, Exposure(), SEED, projector=projector)
    np.savez(file, measurements=scan.measurements, truth=scan.truth)
    print("made", time.process_time(), flush=True)


def opened(file: Path) -> Scan:
    """The scan that :func:`make` wrote."""
    with np.load(file) as kept:
        y, truth = kept["measurements"], kept["truth"]
    geometry, grid = cone_beam_setup(len(truth), N_VIEWS)
    return Scan(measurements=y, geometry=geometry, grid=grid, truth=truth, name=f"{FAMILY}, cone beam, {N_VIEWS} views")


class Stages:
    """Processor seconds between the events that tell how far a run is, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.process_time()

    def see(self, event: Event) -> None:
        """What passed since the event before belongs to the stage that this one tells."""
        name = stage_of(event)
        if name:
            now = time.process_time()
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
            self._last = now

    def skip(self) -> None:
        """What passed since then belongs to none."""
        self._last = time.process_time()


def stage_of(event: Event) -> str:
    """The stage that ends with an event, empty where it tells none."""
    if isinstance(event, Progress):
        return re.sub(r" \d+ of \d+", "", event.text.split(",")[0]).replace("iteration", ITERATED)
    if isinstance(event, IterationDone):
        return "residuals"
    return "checks" if isinstance(event, Finished) else ""


def measure(file: Path, method: str, gigabytes: float | None, picture: Path | None) -> dict[str, Any]:
    """A whole run of a scan: a row."""
    scan = opened(file)
    params = {"self_ensemble": False} if method == "unrolled-pgd" else {}
    limit: Any = "auto" if gigabytes is None else gigabytes
    plan = resolve(Choices(method=method, params=params, device="cpu", max_memory_gb=limit), scan)
    stages, wall = Stages(), time.perf_counter()
    finished: Event | None = None
    reached: dict[str, float] = {}
    with PeakMemory("cpu") as peak:
        for event in run(plan, scan):
            stages.see(event)
            finished = event
            if not isinstance(event, IterationDone):
                continue
            if event.values is not None:
                reached[ITERATED if ITERATED in stages.seconds else "start"] = psnr(event.values, scan.truth)
            print(reached, {k: round(v, 1) for k, v in stages.seconds.items()}, flush=True)
            stages.skip()
    assert isinstance(finished, Finished)
    if finished.result is None:
        raise SystemExit(finished.advice)
    if picture is not None:
        save_picture(finished.result, scan, picture)
    return {
        "method": method, "size": scan.grid.shape[0], "views": N_VIEWS, "threads": torch.get_num_threads(),
        "precision": plan.precision, "patch": list(plan.patch_size), "processor_s": sum(stages.seconds.values()),
        "wall_s": time.perf_counter() - wall, "stages": stages.seconds, "peak_bytes": peak.n_bytes,
        "resident_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "estimate_bytes": plan.memory_bytes,
        "disk_bytes": plan.disk_bytes, "psnr": psnr(finished.result, scan.truth), "psnr_of_start": reached.get("start"),
        "outcome": str(finished.outcome),
    }  # fmt: skip


def save_picture(volume: np.ndarray, scan: Scan, file: Path) -> None:
    """The middle slice beside that of the truth."""
    from PIL import Image

    assert scan.truth is not None
    middle, top = len(volume) // 2, float(scan.truth.max())
    both = np.concatenate([volume[middle], scan.truth[middle]], axis=1)
    Image.fromarray((255 * np.clip(both / top, 0, 1)).astype(np.uint8)).save(file)


def main() -> None:
    """Parse, make or measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--make", type=Path, help="write a generated scan")
    parser.add_argument("--size", type=int, default=501, help="voxels along an edge")
    parser.add_argument("--run", type=Path, help="reconstruct a scan that was made")
    parser.add_argument("--method", default="unrolled-pgd")
    parser.add_argument("--gb", type=float, default=None, help="memory that the plan may take")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    if asked.make is not None:
        make(asked.size, asked.make)
    if asked.run is not None:
        row = measure(asked.run, asked.method, asked.gb, asked.picture)
        print(json.dumps(row, indent=1))
        if asked.json is not None:
            asked.json.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

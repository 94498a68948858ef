"""How soon work ends when it is told to, in every method and stage that lasts longer than a second.

Each is run in a thread on a generated cone-beam scan (and MRI where it applies), told to cancel or to finish after some
seconds, and timed until its generator has really ended. ``gap`` is the longest time between two looks at the token: the
longest that it could have taken.

    python benchmarks/stopping.py [--size 128] [--views 180] [--after 3] [--only WORD] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_unroll.events import Event, Finished, Stop
from napari_unroll.gui import jobs, normal_jobs
from napari_unroll.gui.worker import guarded
from napari_unroll.io.scan_file import write_scan
from napari_unroll.methods import registry
from napari_unroll.normal.fit import FitOptions
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import sample_cone_beam, sample_multicoil
from napari_unroll.pipeline import sources
from napari_unroll.pipeline.evaluate import EvaluationPlan, evaluate
from napari_unroll.pipeline.geometry_check import check_geometry
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.scan import Scan
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.session import train

Make = Callable[[Stop], Iterator[Event]]


class Timed(Stop):
    """Notes the longest time between two looks."""

    def __init__(self) -> None:
        self.gap, self._last, self._cancelled = 0.0, time.perf_counter(), False
        super().__init__()

    @property
    def cancelled(self) -> bool:
        now = time.perf_counter()
        self.gap, self._last = max(self.gap, now - self._last), now
        return self._cancelled

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        self._cancelled = value


def measure(make: Make, how: str, after: float) -> dict[str, Any]:
    """One row: seconds from the wish to the end, the longest gap before it, and how it ended."""
    stop, events = Timed(), []
    thread = threading.Thread(target=lambda: events.extend(guarded(make, stop)))
    thread.start()
    thread.join(after)
    was_running, begun, gap = thread.is_alive(), time.perf_counter(), stop.gap
    getattr(stop, how)()
    thread.join()
    took, last = time.perf_counter() - begun, events[-1]
    assert isinstance(last, Finished)
    return {"seconds": round(took, 2), "gap": round(gap, 2), "running": was_running, "outcome": str(last.outcome),
            "result": last.result is not None}  # fmt: skip


def of_method(name: str, scan: Scan) -> Make:
    plan = resolve(Choices(method=name, device="cpu"), scan)
    return lambda stop: run(plan, scan, stop)


def stages(scan: Scan, mri: Scan, folder: Path, size: int, views: int) -> dict[str, Make]:
    """Every method on both scans, and everything else that lasts."""
    works: dict[str, Make] = {}
    for title, given in (("cone", scan), ("MRI", mri)):
        works |= {f"{m.name} ({title})": of_method(m.name, given) for m in registry.for_scan(given)}
    works["fit (cone)"] = normal_jobs.fit(scan, FitOptions())
    works["fit of a sum (cone)"] = normal_jobs.fit(scan, FitOptions(form="sum"))
    works["fit (MRI)"] = normal_jobs.fit(mri, FitOptions())
    sample = partial(sources.sample, "cone-beam", {"n": size, "n_views": views})
    works["sample cone-beam"] = jobs.single("sample", sample)
    works["sample multi-coil"] = jobs.single("sample", partial(sources.sample, "multi-coil", {"shape": (96, 192, 192)}))
    works["operator check"] = jobs.check_pair(scan, "cpu")
    works["geometry check"] = partial(check_geometry, scan)
    bare = sample_multicoil((size // 2, size, size), 8, 3)
    object.__setattr__(bare, "csm", None)
    works["coil maps"] = jobs.single("coil maps", lambda: [build_physics(bare, "cpu") for _ in range(20)])
    path = folder / "scan.h5"
    write_scan(path, scan)
    works["reading a scan file"] = jobs.single("reading", lambda: [jobs.registry.read(path) for _ in range(99)])
    (folder / "views").mkdir()
    for k in range(400):
        tifffile.imwrite(folder / "views" / f"view_{k}.tif", np.random.default_rng(k).random((600, 600), np.float32))
    works["reading TIFF views"] = jobs.load(folder / "views", {"angles": "0:180"})
    network = {"prior": {"channels": (16, 32, 64, 128)}, "start_iterations": 4}
    plan = TrainingPlan(size=64, levels=(30,), n_objects=1, n_held_out=1, network=network)
    works["training"] = lambda stop: train(plan, Path(tempfile.mkdtemp(dir=folder)), "cpu", stop)
    works["evaluation"] = partial(evaluate, EvaluationPlan(task="cone-beam", views=(50,), n=1, size=size, device="cpu"))
    return works


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--views", type=int, default=180)
    parser.add_argument("--after", type=float, nargs="*", default=[3.0])
    parser.add_argument("--only", default="", help="only works whose name holds this word")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    scan, mri = sample_cone_beam(given.size, given.views, oversample=1), sample_multicoil((48, 96, 96))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, make in stages(scan, mri, Path(folder), given.size, given.views).items():
            for how, after in ((how, after) for how in ("cancel", "finish") for after in given.after):
                if given.only not in name:
                    continue
                os.environ["NAPARI_UNROLL_CACHE"] = tempfile.mkdtemp(dir=folder)
                rows.append({"work": name, "told to": how, "after": after, **measure(make, how, after)})
                print(rows[-1], flush=True)
    worst = max(rows, key=lambda row: row["seconds"])
    print(f"Worst: {worst['seconds']} s, {worst['work']}, {worst['told to']}.")
    if given.json:
        given.json.write_text(json.dumps({"size": given.size, "views": given.views, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()

"""``napari-unroll demo``: the main job end to end on a generated scan.

With a display napari opens on the sample and runs it; headless the same numbers, volume and window are written to a
folder, under a virtual screen where there is none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import numpy as np
import typer

from napari_unroll.cli.facts import print_facts
from napari_unroll.cli.progress import run_with_progress
from napari_unroll.errors import DeviceError
from napari_unroll.events import Finished
from napari_unroll.io.atomic import write_text
from napari_unroll.io.writers import write
from napari_unroll.methods.registry import get, has_weights
from napari_unroll.normal.cache import cached_fit
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.physics.build import build_physics
from napari_unroll.pipeline.metrics import psnr, ssim
from napari_unroll.pipeline.plan import Choices, Plan, resolve
from napari_unroll.pipeline.provenance import record
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.sources import sample
from napari_unroll.scan.scan import Scan

METHODS = ("fdk", "tv-fista", "unrolled-pgd")
SCREEN = "1600x1000x24"


@dataclass(frozen=True)
class Row:
    """One line of the metrics table."""

    method: str
    psnr: float
    ssim: float
    seconds: float


def run_demo(out: Path, *, headless: bool, size: int, views: int, window: bool) -> None:
    """Open the window where there is a display and it is wished, else write everything to ``out``."""
    if window and not headless and has_display():
        _window("show", size, views)
        return
    out.mkdir(parents=True, exist_ok=True)
    scan = sample("cone-beam", {"n": size, "n_views": views})
    typer.echo(f"Sample: {scan.name}, {size}³ voxels.")
    factors = _fit(scan)
    rows = [_reconstruct(name, scan, factors, out) for name in METHODS if _ready(name, scan)]
    write_metrics(out / "metrics.json", scan, rows)
    print_facts({row.method: f"PSNR {row.psnr:.2f} dB  SSIM {row.ssim:.3f}  {row.seconds:.1f} s" for row in rows})
    if window:
        with virtual_screen():
            _window("screenshot", size, views, out / "screenshot.png")
    typer.echo(f"Wrote {', '.join(sorted(p.name for p in out.iterdir()))} to {out}.")


def has_display() -> bool:
    """Whether a window can open here."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _fit(scan: Scan) -> NormalFactors:
    physics = build_physics(scan)
    finished = run_with_progress(lambda stop: cached_fit(scan, physics, stop=stop), "fitting the normal operator")
    return finished.result


def _ready(name: str, scan: Scan) -> bool:
    ready = has_weights(get(name), scan)
    if not ready:
        typer.echo(f"{name}: no weights are shipped for this scan; left out.", err=True)
    return ready


def _reconstruct(name: str, scan: Scan, factors: NormalFactors, out: Path) -> Row:
    """Run one method; its volume replaces the one before, so that the last and strongest stays."""
    plan = resolve(Choices(method=name), scan)
    finished = run_with_progress(lambda stop: run(plan, scan, stop, factors), plan.title)
    _write_result(out, plan, scan, finished)
    volume, truth = finished.result, np.asarray(scan.truth)
    return Row(name, round(psnr(volume, truth), 3), round(ssim(volume, truth), 4), round(finished.seconds, 2))


def _write_result(out: Path, plan: Plan, scan: Scan, finished: Finished) -> None:
    write(out / "result.ome.zarr", finished.result, plan.grid, record(plan, scan, finished), overwrite=True)


def write_metrics(path: Path, scan: Scan, rows: list[Row]) -> None:
    """The numbers as JSON."""
    source = {"source": scan.provenance.source, **dict(scan.provenance.options), "seed": scan.provenance.seed}
    write_text(path, json.dumps({"scan": source, "results": [vars(row) for row in rows]}, indent=2) + "\n")


def _window(what: str, size: int, views: int, *more: Path) -> None:
    """The window in a process of its own: whatever a graphics driver does there, the numbers are safe."""
    command = [sys.executable, "-m", "napari_unroll.gui.demo", what, str(size), str(views), *map(str, more)]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise DeviceError(
            f"The window ended with code {done.returncode}; the lines above say why. Numbers need --no-window."
        )


@contextmanager
def virtual_screen() -> Iterator[None]:
    """An X server without a screen for as long as the block runs; nothing where the system needs none.

    Raises DeviceError that says what to install.
    """
    server = which("Xvfb")
    if sys.platform in ("win32", "darwin") or (server is None and has_display()):
        yield
        return
    if server is None:
        raise DeviceError("There is neither a display nor Xvfb; install it (apt-get install xvfb) or use --no-window.")
    with _x_server(server) as number, _display(f":{number}"):
        yield


@contextmanager
def _x_server(server: str) -> Iterator[str]:
    """Xvfb on a display number that it chooses itself."""
    read_end, write_end = os.pipe()
    command = [server, "-displayfd", str(write_end), "-screen", "0", SCREEN, "-nolisten", "tcp", "-noreset"]
    process = subprocess.Popen(command, pass_fds=[write_end], stderr=subprocess.DEVNULL)
    os.close(write_end)
    try:
        with os.fdopen(read_end) as pipe:
            number = pipe.readline().strip()
        if not number:
            raise DeviceError("Xvfb did not start; run `Xvfb :99` to see why, or use --no-window.")
        yield number
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _display(name: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ["DISPLAY"] = name
    os.environ.pop("WAYLAND_DISPLAY", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)

"""Short works of the docks as generators of events, for the worker thread: read, make a sample, build, measure.

Each calls one function of the rooms to the left and ends with Finished(result). Knows no Qt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_unroll.events import Event, Finished, Outcome, Started, Stop
from napari_unroll.gui import libraries_first  # noqa: F401  before what imports deepinv
from napari_unroll.gui.from_layer import LayerImage, scan_from_image
from napari_unroll.interrupt import shielded, stage, stepwise
from napari_unroll.io import registry
from napari_unroll.io.guards import file_hash
from napari_unroll.io.scan_file import READER, write_scan
from napari_unroll.io.writers import write_somewhere
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.laws import adjoint_error
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.pipeline import sources
from napari_unroll.pipeline.geometry_check import check_geometry
from napari_unroll.pipeline.geometry_sweep import Quantity, sweep
from napari_unroll.pipeline.metrics import psnr
from napari_unroll.pipeline.plan import Plan
from napari_unroll.pipeline.provenance import record
from napari_unroll.pipeline.repeat import open_result, run_of
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.telling import told
from napari_unroll.pipeline.unfinished import kept, resumed
from napari_unroll.pipeline.watching import Kept
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.scan import Scan

SAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "Cone beam, 50 views": ("cone-beam", {}),
    "Multi-coil MRI, 8 coils, R = 5": ("multi-coil", {}),
    "Deblurring, 9 × 9 Gaussian": ("deblur", {}),
    "Super-resolution, 3 times": ("super-resolution", {}),
}
"""Title → name and options of the generated samples."""


def single(what: str, work: Callable[[], Any]) -> Callable[[Stop], Iterator[Event]]:
    """A job of one plain function, which tells how far it is and may be stopped inside (see ``interrupt``)."""

    def job(stop: Stop) -> Iterator[Event]:
        begun = time.monotonic()
        yield Started(what)
        result = yield from stepwise(work, what)
        yield Finished(Outcome.COMPLETED, result, seconds=time.monotonic() - begun)

    return job


def load(path: Path, options: Mapping[str, Any]) -> Callable[[Stop], Iterator[Event]]:
    """Read a file; the result is a Scan."""
    return single(f"reading {path.name}", lambda: registry.read(path, **options))


def look(path: Path) -> Callable[[Stop], Iterator[Event]]:
    """The same without options; of a large scan only the header, and the job fails by a sentence that says how large."""
    return single(f"opening {path.name}", lambda: registry.look(path))


def preview_corrections(path: Path, options: Mapping[str, Any]) -> Callable[[Stop], Iterator[Event]]:
    """Correct one sinogram of a file; the result is (before, after)."""
    return single(f"preview of {path.name}", lambda: registry.preview_corrections(path, **options))


def sample(name: str) -> Callable[[Stop], Iterator[Event]]:
    """Generate one of SAMPLES; the result is a Scan."""
    return single(f"generating {name}", lambda: sources.sample(*SAMPLES[name]))


def image_layer(
    data: np.ndarray, grid: VolumeGrid, options: LayerImage, name: str
) -> Callable[[Stop], Iterator[Event]]:
    """Take the pixels of a layer for a true or a measured image; the result is a Scan."""
    return single(f"using {name}", lambda: scan_from_image(data, grid, options, name))


def reconstruction(plan: Plan, scan: Scan, factors: Any = None) -> Callable[[Stop], Iterator[Event]]:
    """Run a plan; where the truth is known, the last sentence says how close the result is."""

    def work(stop: Stop) -> Iterator[Event]:
        for event in run(plan, scan, stop, factors, look=True):
            yield judged(event, scan, plan) if isinstance(event, Finished) else event

    return work


def kept_reconstruction(
    plan: Plan, scan: Scan, factors: Any, store: Path, *, again: bool = False, overwrite: bool = False
) -> Callable[[Stop], Iterator[Event]]:
    """The same, kept in ``store`` while it goes, or gone on with from there; the volume takes its place.

    What is there already is refused, unless ``overwrite``; it then stays until the new volume is complete.
    """

    def work(stop: Stop) -> Iterator[Event]:
        with resumed(store) if again else kept(store, plan, scan, overwrite) as unfinished:
            for event in told(run(plan, scan, stop, factors, look=not again, kept=unfinished), unfinished, stop):
                yield judged(_stored(event, scan, plan, store), scan, plan) if isinstance(event, Finished) else event

    return work


def _stored(finished: Finished, scan: Scan, plan: Plan, store: Path) -> Finished:
    """The end of a kept run; its volume is written, and where in words."""
    if finished.result is None:
        return finished
    with shielded():
        made = record(plan, scan, finished)
        saved, trouble = write_somewhere(store, finished.result, plan.grid, made, overwrite=True)
    return replace(finished, advice=f"{finished.advice} {trouble or f'Saved {saved.name}.'}")


def unfinished_run_at(store: Path) -> tuple[Plan, Scan]:
    """The run that is kept in ``store``, and its scan."""
    with resumed(store) as unfinished:
        return run_of(unfinished.record, store.name)


def judged(finished: Finished, scan: Scan, plan: Plan | Kept) -> Finished:
    """The end of a run with its PSNR in words, where there is a volume and a truth."""
    if finished.result is None or scan.truth is None:
        return finished
    truth = scan.truth if plan.roi is None else scan.truth[plan.roi]
    return replace(finished, advice=f"{finished.advice} PSNR {psnr(finished.result, truth):.2f} dB against the truth.")


def save_scan(path: Path, scan: Scan) -> Callable[[Stop], Iterator[Event]]:
    """Write a scan to a file; the result is the same scan, whose provenance names the file."""

    def work() -> Scan:
        written = write_scan(path, scan, overwrite=True)
        made = replace(scan.provenance, source=str(written), format=READER.name, sha256=file_hash(written), edits=())
        return replace(scan, provenance=made)

    return single(f"saving {path.name}", work)


def restore(path: Path) -> Callable[[Stop], Iterator[Event]]:
    """Read a stored result and its scan; the result is a Stored."""
    return single(f"reading {path.name}", lambda: open_result(path))


@dataclass(frozen=True)
class PairCheck:
    """How well A and Aᴴ are matched, which back end computes them and why."""

    adjoint_error: float
    reason: str
    forward_s: float
    adjoint_s: float
    physics: VolumePhysics


def check_pair(scan: Scan, device: str) -> Callable[[Stop], Iterator[Event]]:
    """Measure the adjoint error and the times of A and Aᴴ; the result is a PairCheck."""
    return single("adjoint error", lambda: _pair_check(scan, device))


def _pair_check(scan: Scan, device: str) -> PairCheck:
    with stage(4) as done:
        done(0)
        physics = build_physics(scan, device)
        done(1)
        x = torch.ones(tuple(physics.x_shape), dtype=physics.dtype, device=physics.device)
        physics.A_adjoint(physics.A(x))  # the first call compiles
        done(2)
        forward, y = timed(lambda: physics.A(x))
        backward, _ = timed(lambda: physics.A_adjoint(y))
        done(3)
        error = adjoint_error(physics, seeds=(0,))
    return PairCheck(error, physics.reason, forward, backward, physics)


def geometry(scan: Scan) -> Callable[[Stop], Iterator[Event]]:
    """Lay a reprojection over the measured views; the result is a GeometryCheck."""
    return lambda stop: check_geometry(scan, stop)


def geometry_sweep(
    scan: Scan, quantity: Quantity, offsets: Sequence[float], plane: float
) -> Callable[[Stop], Iterator[Event]]:
    """Slices for several places of the detector; the result is a GeometrySweep."""
    return lambda stop: sweep(scan, quantity, offsets, plane, stop)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that ``work`` took, and its result."""
    begun = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun, result


def as_array(x: torch.Tensor) -> np.ndarray:
    """A tensor (1, 1, z, y, x) as an array (z, y, x)."""
    return np.asarray(x.detach().reshape(x.shape[-3:]).cpu().numpy())

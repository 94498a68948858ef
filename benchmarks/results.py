"""Every registered method on held-out scans: writes docs/results.md and docs/results.json.

    python benchmarks/results.py [--quick] [--size 64] [--n 3] [--volumes FOLDER] [--out docs]

Generated scans: cone beam with 30, 50 and 100 views of walnuts, foams and fibres; brains in 8-coil k-space at R = 5 and
10. Their seeds start at HELD_OUT_SEED, below which all training seeds lie. ``--volumes`` names a folder of measured
volumes (``*.tif``: scanned as cone beam; ``*.npz``: as MRI) that no network has seen; their scans are simulated. About
a quarter of an hour on two processors without a GPU. The tables are written again after every scan.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from scipy.ndimage import zoom

from napari_unroll.events import Finished
from napari_unroll.methods.registry import for_scan, has_weights
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import cone_beam_setup, sample_cone_beam, sample_multicoil
from napari_unroll.physics.simulate import block_mean, simulate_ct, simulate_mri
from napari_unroll.pipeline.metrics import psnr, ssim
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.provenance import software
from napari_unroll.pipeline.run import run
from napari_unroll.scan.phantoms import HELD_OUT_SEED, coil_maps, poisson_disc_mask
from napari_unroll.scan.scan import Scan

VIEWS = (30, 50, 100)
ACCELERATIONS = (5, 10)
FAMILIES = ("walnut", "foam", "fibres")
FIRST_SEED = HELD_OUT_SEED + 500


@dataclass(frozen=True)
class Case:
    """One held-out scan: which table and column it belongs to, what it shows, and how it is made."""

    task: str
    level: int
    data: str
    make: Callable[[], Scan]

    @property
    def level_name(self) -> str:
        """What the level counts."""
        return "views" if self.task == "cone-beam" else "acceleration"


def generated(size: int, n: int) -> Iterator[Case]:
    """Held-out generated scans."""
    for i in range(n):
        for views in VIEWS:
            yield Case("cone-beam", views, "generated", lambda i=i, v=views: _cone(size, v, i))
        for acceleration in ACCELERATIONS:
            yield Case("multi-coil", acceleration, "generated", lambda i=i, r=acceleration: _multicoil(size, r, i))


def _cone(size: int, views: int, i: int) -> Scan:
    return sample_cone_beam(size, views, seed=FIRST_SEED + i, family=FAMILIES[i % len(FAMILIES)])


def _multicoil(size: int, acceleration: int, i: int) -> Scan:
    return sample_multicoil((size // 2, size, size), acceleration=acceleration, seed=FIRST_SEED + i)


def measured(folder: Path, size: int) -> Iterator[Case]:
    """Simulated scans of measured volumes."""
    for path in sorted(folder.glob("*.tif")):
        for views in VIEWS:
            yield Case("cone-beam", views, path.stem, lambda p=path, v=views: _cone_of(p, size, v))
    for path in sorted(folder.glob("*.npz")):
        for acceleration in ACCELERATIONS:
            yield Case("multi-coil", acceleration, path.stem, lambda p=path, r=acceleration: _multicoil_of(p, size, r))


def _cone_of(path: Path, size: int, views: int) -> Scan:
    """A volume inside the field of view, interpolated to twice the resolution of the grid and projected there."""
    volume = tifffile.imread(path).astype(np.float32)
    volume = zoom(volume, [2 * size / n for n in volume.shape], order=1)
    axis = np.linspace(-1, 1, 2 * size)
    volume *= np.hypot(axis[:, None], axis) < 0.95
    geometry, grid = cone_beam_setup(size, views)
    return simulate_ct(volume / volume.max(), geometry, grid, seed=FIRST_SEED)


def _multicoil_of(path: Path, size: int, acceleration: int) -> Scan:
    """A magnitude volume with a smooth phase, seen by generated coils."""
    magnitude = next(iter(np.load(path).values())).astype(np.float32)
    factor = max(1, max(magnitude.shape) // size)
    kept = [n // factor * factor for n in magnitude.shape]
    image = block_mean(magnitude[tuple(slice(0, n) for n in kept)], tuple(n // factor for n in kept))  # type: ignore[arg-type]
    image = np.moveaxis(image, int(np.argmin(image.shape)), 0)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
    phase = 0.8 * axes[0] + 0.5 * axes[1] ** 2 - 0.6 * axes[2] * axes[1]
    image = (image / image.max() * np.exp(1j * phase)).astype(np.complex64)
    mask = poisson_disc_mask(image.shape[1:], acceleration, max(2, round(0.1 * min(image.shape[1:]))), FIRST_SEED)
    return simulate_mri(image, coil_maps(image.shape, 8, FIRST_SEED), mask, seed=FIRST_SEED)


def measure(case: Case) -> Iterator[dict[str, Any]]:
    """One row per method; the normal operator is fitted once and not counted in the seconds."""
    scan = case.make()
    factors = fit_now(build_physics(scan), FitOptions(n_test=0))
    for method in for_scan(scan):
        if not has_weights(method, scan):
            print(f"  {method.name}: no weights", flush=True)
            continue
        *_, finished = run(resolve(Choices(method=method.name), scan), scan, factors=factors)
        assert isinstance(finished, Finished)
        if finished.result is None:
            raise SystemExit(f"{method.name} failed: {finished.advice}")
        truth = np.asarray(scan.truth)
        row = {"task": case.task, case.level_name: case.level, "method": method.name, "data": case.data}
        row |= {"psnr": psnr(finished.result, truth), "ssim": ssim(finished.result, truth), "seconds": finished.seconds}
        print(f"  {method.name:<14} {row['psnr']:6.2f} dB  {row['ssim']:.3f}  {row['seconds']:.1f} s", flush=True)
        yield row


def averaged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per task, level, method and data, with the number of scans ``n``."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["data"], _level(row), row["method"]), []).append(row)
    mean = {"psnr": 2, "ssim": 4, "seconds": 2}
    return [
        {**g[0], **{k: round(statistics.fmean(r[k] for r in g), digits) for k, digits in mean.items()}, "n": len(g)}
        for g in groups.values()
    ]


def _level(row: dict[str, Any]) -> int:
    return int(row["views"] if row["task"] == "cone-beam" else row["acceleration"])


def page(rows: list[dict[str, Any]], size: int) -> str:
    """The tables as Markdown."""
    lines = [
        "# Results", "",
        "Mean PSNR in dB, SSIM and seconds over held-out scans, written by `python benchmarks/results.py`. "
        f"Generated scans are on {size}³ voxels (MRI: half as many planes); objects are projected on a grid twice as fine, with "
        "10⁵ photons per pixel; k-space has 1 % noise. Seconds without the fit of the normal operator.",
    ]  # fmt: skip
    for task, data in dict.fromkeys((r["task"], r["data"]) for r in rows):
        lines += ["", *table([r for r in rows if (r["task"], r["data"]) == (task, data)], task, data)]
    versions = ", ".join(f"{k} {v}" for k, v in software().items())
    return "\n".join([*lines, "", f"Made with {versions}; {torch.get_num_threads()} threads.", ""])


def table(rows: list[dict[str, Any]], task: str, data: str) -> list[str]:
    """One task on one kind of data: methods by levels."""
    levels = sorted({_level(r) for r in rows})
    n = max(r["n"] for r in rows)
    word = "{} views" if task == "cone-beam" else "R = {}"
    head = [f"## {task}, {data} ({n} scan{'s' if n > 1 else ''} each)", ""]
    head += [
        "| method | " + " | ".join(word.format(level) for level in levels) + " |",
        "|---" * (len(levels) + 1) + "|",
    ]
    cells = {(r["method"], _level(r)): f"{r['psnr']:.2f} / {r['ssim']:.3f} / {r['seconds']:.1f} s" for r in rows}
    methods = list(dict.fromkeys(r["method"] for r in rows))
    body = [f"| {m} | " + " | ".join(cells.get((m, level), "") for level in levels) + " |" for m in methods]
    return head + body + margin(rows, levels, word)


def margin(rows: list[dict[str, Any]], levels: list[int], word: str) -> list[str]:
    """How far the unrolled network is from total variation."""
    found = {(r["method"], _level(r)): r["psnr"] for r in rows}
    gains = [
        f"{found['unrolled-pgd', level] - found['tv-fista', level]:+.2f} dB at {word.format(level)}"
        for level in levels
        if ("unrolled-pgd", level) in found and ("tv-fista", level) in found
    ]
    return ["", f"Unrolled network against total variation: {', '.join(gains)}."] if gains else []


def write(rows: list[dict[str, Any]], out: Path, size: int) -> None:
    """Both files."""
    means = averaged(rows)
    (out / "results.json").write_text(json.dumps({"software": software(), "rows": means}, indent=2) + "\n")
    (out / "results.md").write_text(page(means, size))


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="voxels along an edge")
    parser.add_argument("--n", type=int, default=3, help="generated scans per task and level")
    parser.add_argument("--quick", action="store_true", help="one scan each, on 32³ voxels")
    parser.add_argument("--volumes", type=Path, help="folder of measured volumes")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs")
    given = parser.parse_args()
    size, n = (32, 1) if given.quick else (given.size, given.n)
    cases = list(generated(size, n)) + (list(measured(given.volumes, size)) if given.volumes else [])
    rows: list[dict[str, Any]] = []
    for i, case in enumerate(cases):
        print(f"{i + 1} of {len(cases)}: {case.task}, {case.level} {case.level_name}, {case.data}", flush=True)
        rows += measure(case)
        write(rows, given.out, size)


if __name__ == "__main__":
    main()

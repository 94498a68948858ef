"""Run every method on the samples: the pictures and the figures of docs/methods.

    python docs/make_method_pictures.py [--size 64] [--samples cone-beam …] [--methods cgls …]

Each method runs with its defaults on one scan of every sample that it applies to, on the CPU; the middle slices become
``docs/images/methods_GROUP_SAMPLE.png``; PSNR and seconds of processor time go to ``docs/methods/figures.json`` and from there
into the lines of docs/methods/*.md that begin with "Measured:". What is not asked for stays as it is. A slice has the grey
levels of the truth; PSNR is that of the volume. Run it on one thread (OMP_NUM_THREADS=1), whose time other work hardly changes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from napari_unroll.environment import machine, software
from napari_unroll.events import Finished
from napari_unroll.methods.registry import METHODS, has_weights
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import sample_cone_beam, sample_deblur, sample_multicoil, sample_super_resolution
from napari_unroll.physics.simulate import Exposure, simulate_ct
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.geometry import ParallelBeam, VolumeGrid
from napari_unroll.scan.phantoms import FAMILIES, HELD_OUT_SEED
from napari_unroll.scan.quality import psnr
from napari_unroll.scan.scan import Scan

HERE = Path(__file__).resolve().parent
FIGURES = HERE / "methods" / "figures.json"
N_VIEWS = 50
GROUPS = {
    "classical": (
        "fdk", "fbp", "zero-filled", "interpolation", "cgls", "cg-sense", "sirt", "tikhonov", "wavelet-l1", "tv-pdhg", "tv-fista",
    ),
    "learned": ("drunet", "pnp-pgd", "dpir", "unrolled-pgd"),
    "inr": ("inr",),
}  # fmt: skip
BESIDE = {"classical": (), "learned": ("tv-fista",), "inr": ("fdk", "zero-filled", "interpolation", "tv-fista")}
"""What a group is shown beside, from the same run."""
WARM_SIZE = 24
WIDEST = 5
"""Most slices in a row."""


def parallel_beam(size: int) -> Scan:
    """The walnut of the cone-beam sample in parallel beams, from half a turn."""
    angles = np.pi * np.arange(N_VIEWS) / N_VIEWS
    geometry = ParallelBeam.circular(angles_rad=angles, detector_shape=(size, size + size // 2))
    volume = FAMILIES["walnut"]((2 * size,) * 3, HELD_OUT_SEED)
    return simulate_ct(volume, geometry, VolumeGrid(shape=(size,) * 3), Exposure(photons=1e5), HELD_OUT_SEED)


SAMPLES = {
    "cone-beam": lambda size: sample_cone_beam(size, N_VIEWS),
    "parallel-beam": parallel_beam,
    "multi-coil": lambda size: sample_multicoil((size // 2, size, size)),
    "deblur": lambda size: sample_deblur((1, 3 * size, 3 * size)),
    "super-resolution": lambda size: sample_super_resolution((1, 3 * size, 3 * size)),
}

SPOKEN = {
    "cone-beam": "cone", "parallel-beam": "parallel", "multi-coil": "MRI", "deblur": "blur",
    "super-resolution": "super-resolution",
}  # fmt: skip


def applicable(scan: Scan, sample: str, asked: list[str]) -> list[str]:
    """The asked methods that can run on the scan; of parallel beams those that know no other."""
    able = [m.name for m in METHODS.values() if m.name in asked and not m.obstacle(scan) and has_weights(m, scan)]
    return [name for name in able if name == "fbp"] if sample == "parallel-beam" else able


def reconstruct(name: str, scan: Scan, factors: Any) -> tuple[np.ndarray, float]:
    """The volume of a method with its defaults, and its seconds of processor time. Raises SystemExit where it fails."""
    plan = resolve(Choices(method=name, device="cpu"), scan)
    begun = time.process_time()
    *_, last = run(plan, scan, None, factors if plan.needs_normal else None)
    assert isinstance(last, Finished)
    if last.result is None:
        raise SystemExit(f"{name}: {last.advice}")
    return last.result, time.process_time() - begun


def measured(scan: Scan, sample: str, size: int, names: list[str]) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    """(method, middle slice, row) of every method, after the truth's own slice without a row."""
    truth = np.asarray(scan.truth)
    yield "truth", middle(truth), {}
    for name in names[:1]:  # loads libraries and compiles kernels
        reconstruct(name, SAMPLES[sample](WARM_SIZE), None)
    learned = any(METHODS[name].needs_weights for name in names)
    factors = fit_now(build_physics(scan, "cpu"), FitOptions(n_test=0)) if learned else None
    for name in names:
        volume, seconds = reconstruct(name, scan, factors)
        row = {
            "sample": sample,
            "method": name,
            "size": size,
            "psnr": round(psnr(volume, truth), 2),
            "cpu_seconds": round(seconds, 1),
        }
        print(row, flush=True)
        yield name, middle(volume), row


def middle(volume: np.ndarray) -> np.ndarray:
    """The middle slice along z; the magnitude of complex ones."""
    plane = volume[len(volume) // 2]
    return np.abs(plane) if np.iscomplexobj(plane) else plane


def montage(path: Path, slices: dict[str, np.ndarray], rows: dict[str, dict[str, Any]]) -> None:
    """The slices side by side, each under its name and PSNR."""
    n_rows = -(-len(slices) // WIDEST)
    n_columns = -(-len(slices) // n_rows)
    size = (2 * n_columns, 2.25 * n_rows)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, layout="constrained")
    brightest = float(np.quantile(slices["truth"], 0.998))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, plane) in zip(axes.flat, slices.items(), strict=False):
        figure_of = rows.get(name)
        axis.imshow(plane, cmap="gray", vmin=0, vmax=brightest, interpolation="nearest")
        axis.set_title(name if figure_of is None else f"{name}, {figure_of['psnr']:.1f} dB", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(path, f"{path.stat().st_size / 1000:.0f} kB", flush=True)


def write_figures(rows: list[dict[str, Any]]) -> None:
    """The rows into the file of figures, in place of earlier ones of the same sample and method."""
    old = json.loads(FIGURES.read_text())["rows"] if FIGURES.exists() else []
    new = {(r["sample"], r["method"]) for r in rows}
    kept = [r for r in old if (r["sample"], r["method"]) not in new]
    order = {key: i for i, key in enumerate((s, m) for s in SAMPLES for m in METHODS)}
    merged = sorted(kept + rows, key=lambda r: order[r["sample"], r["method"]])
    FIGURES.write_text(json.dumps({"machine": machine(), "software": software(), "rows": merged}, indent=1) + "\n")


def sentence(rows: list[dict[str, Any]]) -> str:
    """The line of a method's section; sizes and units are said on the page."""
    found = [f"{r['psnr']:.1f} dB, {r['cpu_seconds']:.1f} s ({SPOKEN[r['sample']]})" for r in rows]
    return f"Measured: {'; '.join(found)}." if found else "Measured: not yet."


def fill(page: str, rows: list[dict[str, Any]]) -> str:
    """The page with the lines "Measured: …" of its sections, whose headings are the methods' names, as ``rows`` say."""
    name, lines = "", []
    for line in page.splitlines():
        name = line.strip("# `") if line.startswith("#") else name
        own = [r for r in rows if r["method"] == name]
        lines.append(sentence(own) if line.startswith("Measured:") else line)
    return "\n".join(lines) + "\n"


def fill_pages() -> None:
    """Every page of docs/methods."""
    rows = json.loads(FIGURES.read_text())["rows"]
    for path in (HERE / "methods").glob("*.md"):
        path.write_text(fill(path.read_text(encoding="utf-8"), rows), encoding="utf-8")


def main() -> None:
    """Run, draw, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--size",
        type=int,
        default=64,
        help="voxels along an edge; of images, a third",
    )
    parser.add_argument("--samples", nargs="*", choices=SAMPLES, default=list(SAMPLES))
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(itertools.chain(*GROUPS.values())))
    given = parser.parse_args()
    mpl.use("agg")
    for sample in given.samples:
        scan = SAMPLES[sample](given.size)
        made = list(measured(scan, sample, given.size, applicable(scan, sample, given.methods)))
        slices = {name: plane for name, plane, _ in made}
        rows = {name: row for name, _, row in made if row}
        write_figures(list(rows.values()))
        for group, names in GROUPS.items():
            shown = applicable(scan, sample, [*BESIDE[group], *names])
            if set(shown) & set(names) and set(shown) <= set(slices):
                path = HERE / "images" / f"methods_{group}_{sample}.png"
                montage(path, {name: slices[name] for name in ("truth", *shown)}, rows)
    fill_pages()


if __name__ == "__main__":
    main()

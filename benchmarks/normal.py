"""How well Ñ approximates AᴴA, at what cost: our fits beside the published recipe, the optimum, and the times.

    python benchmarks/normal.py [--quick] [--jobs 2] [--json FILE] [--docs docs/normal_operator.md]

Rows: case, form, fit (ours | paper), exact (whether the form can hold the operator exactly), size (voxels per edge),
error_gaussian and error_image on held-out vectors, error_final (what Ñ in place of N changes in a reconstruction),
operator_calls (exact AᴴA that the fit applied), seconds, and the curve of error_image against operator_calls.
``--docs`` writes the tables into that page; with ``--from FILE`` those of an earlier run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import normal_tables as tables
import numpy as np
import torch

from napari_unroll.environment import machine
from napari_unroll.events import Finished, IterationDone
from napari_unroll.io.atomic import write_text
from napari_unroll.normal import inspect
from napari_unroll.normal.effect import final_image_error
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit, fit_now
from napari_unroll.normal.optimum import optimum
from napari_unroll.normal.precondition import regularised_inverse
from napari_unroll.normal.probes import CountedNormal, HeldOut, relative_error
from napari_unroll.physics.fourier import CartesianMRI
from napari_unroll.physics.imaging import VolumeBlur, VolumeInpainting
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.physics.samples import cone_beam_setup
from napari_unroll.physics.solvers import conjugate_gradient_steps
from napari_unroll.physics.xray import XRay
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.phantoms import coil_maps, poisson_disc_mask
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d

PAPER = FitOptions(recipe="paper", n_steps=2048)
DCD, DC = FitOptions(form="dcd"), FitOptions(form="dc", kernel="circular")
SUM, COILS = FitOptions(form="sum"), FitOptions(form="coils")
VIRTUAL, SINGLE = FitOptions(form="virtual-coils", n_terms=4), FitOptions(form="single-coil")


@dataclass(frozen=True)
class Case:
    """An operator, the forms to fit to it, and which of them can be exact.

    ``hard`` cases are for our fits alone, on larger volumes, where few views and short detectors tell more.
    """

    name: str
    make: Callable[[int], Any]
    forms: tuple[FitOptions, ...]
    exact: frozenset[str] = frozenset()
    hard: bool = False


def cone(n_views: int, arc_rad: float = 2 * np.pi, part: float = 1.0) -> Callable[[int], XRay]:
    """The built-in cone-beam scanner; ``arc_rad`` below 2π is a short scan, ``part`` cuts the detector to its middle."""

    def make(n: int) -> XRay:
        closed, grid = cone_beam_setup(n, n_views)
        geometry = ConeBeam.circular(
            angles_rad=np.arange(n_views) * arc_rad / n_views,
            source_origin_mm=closed.source_origin_mm,
            source_detector_mm=closed.source_detector_mm,
            detector_shape=tuple(round(part * s) for s in closed.detector_shape),
            pixel_mm=closed.pixel_mm,
        )
        return XRay(geometry, grid)

    return make


def wedge(missing_deg: int, n_views: int) -> Callable[[int], XRay]:
    """Parallel views over 180 degrees less a missing wedge."""

    def make(n: int) -> XRay:
        reach = np.deg2rad(90 - missing_deg / 2)
        geometry = ParallelBeam.circular(
            angles_rad=np.linspace(-reach, reach, n_views), detector_shape=(n, int(1.5 * n))
        )
        return XRay(geometry, VolumeGrid(shape=(n, n, n)))

    return make


def cartesian(acceleration: float) -> Callable[[int], CartesianMRI]:
    """8 coils, readout z fully sampled, Poisson disc in (y, x)."""

    def make(n: int) -> CartesianMRI:
        shape = (n // 4, n, n)
        mask = poisson_disc_mask(shape[1:], acceleration, max(2, n // 10), 0)
        return CartesianMRI(np.ascontiguousarray(np.broadcast_to(mask, shape)), coil_maps(shape, 8, 0))

    return make


def radial(n: int) -> NonCartesianMRI:
    """8 coils, one slice, n / 2 golden-angle spokes."""
    sampling = NonCartesianSampling(trajectory=radial_2d(n // 2, 2 * n), shape=(1, n, n), n_coils=8)
    return NonCartesianMRI(sampling, coil_maps((1, n, n), 8, 0))


def blur(n: int) -> VolumeBlur:
    """Circular Gaussian blur, 9 voxels wide."""
    axis = torch.exp(-0.5 * (torch.arange(9.0) - 4) ** 2 / 2.25)
    kernel = axis[:, None, None] * axis[:, None] * axis
    return VolumeBlur(kernel / kernel.sum(), VolumeGrid(shape=(n, n, n)))


def inpainting(n: int) -> VolumeInpainting:
    """60 % of the voxels known."""
    mask = (torch.rand((n, n, n), generator=torch.Generator().manual_seed(0)) < 0.6).float()
    return VolumeInpainting(mask, VolumeGrid(shape=(n, n, n)))


MRI_FORMS = (COILS, VIRTUAL, SINGLE)
CT_FORMS = (DCD, SUM)
CASES = (
    *(Case(f"cone beam, {v} views", cone(v), (DCD, SUM, DC)) for v in (30, 50, 100)),
    Case("parallel beam, missing wedge 60°", wedge(60, 40), CT_FORMS),
    *(Case(f"multi-coil MRI, R = {r}", cartesian(r), MRI_FORMS, frozenset({"coils"})) for r in (5, 10)),
    Case("radial MRI", radial, (COILS, VIRTUAL), frozenset({"coils"})),
    Case("circular blur", blur, (DCD,), frozenset({"dcd", "dc"})),
    Case("inpainting", inpainting, (DCD,), frozenset({"dcd", "dc"})),
    *(Case(f"cone beam, {v} views", cone(v), CT_FORMS, hard=True) for v in (8, 12, 16)),
    Case("cone beam, 50 views, short scan", cone(50, 1.1 * np.pi), CT_FORMS, hard=True),
    Case("cone beam, 50 views, detector 70 %", cone(50, part=0.7), CT_FORMS, hard=True),
    Case("cone beam, 50 views, detector 50 %", cone(50, part=0.5), CT_FORMS, hard=True),
    Case("parallel beam, missing wedge 90°", wedge(90, 30), CT_FORMS, hard=True),
)


def run_case(index: int, n: int) -> list[dict[str, Any]]:
    """Rows of a case: every form of ours, then the published recipe unless the case is hard."""
    return list(_rows(CASES[index], n))


def _rows(case: Case, n: int) -> Iterator[dict[str, Any]]:
    physics = case.make(n)
    for options in case.forms if case.hard else (*case.forms, PAPER):
        curve: list[tuple[float, float]] = []
        for event in fit(physics, options):
            if isinstance(event, IterationDone) and "error_image" in event.metrics:
                curve.append((event.metrics["operator_calls"], event.metrics["error_image"]))
        assert isinstance(event, Finished)
        assert event.result is not None, event.advice
        yield {"size": n} | _row(case, options, event.result, event.seconds, curve)


def _row(case: Case, options: FitOptions, f: NormalFactors, seconds: float, curve: list) -> dict[str, Any]:
    circular = ", circular" if f.circular[-1] and f.form in ("dc", "dcd") else ""
    return {
        "case": case.name,
        "form": f.form + circular,
        "fit": "paper" if options.recipe == "paper" else "ours",
        "exact": f.form in case.exact,
        **{name: value for name, value in f.info.items() if name.startswith("error_")},
        "operator_calls": int(f.info["operator_calls"]),
        "seconds": seconds,
        "curve": curve,
    }


def compare_with_optimum(n: int) -> list[dict[str, Any]]:
    """‖N − Ñ‖_F / ‖N‖_F of our fits and the least possible one, on a problem small enough for its matrix."""
    physics = cone(20)(n)
    normal = CountedNormal(physics)
    eye = torch.eye(n**3).reshape(-1, 1, 1, n, n, n)
    matrix = torch.stack([normal(e).ravel() for e in eye], 1)
    rows = [{"form": f"optimum of {k} D·C", "error": optimum(matrix.double().numpy(), (n, n, n), k)} for k in (1, 2)]
    for form in ("dcd", "sum"):
        f = fit_now(physics, FitOptions(form=form, n_probes=64, n_test=0))
        approximated = torch.stack([f.apply(e).ravel() for e in eye], 1)
        rows.append({"form": f"ours, {form}, 64 probes", "error": relative_error(matrix, approximated)})
    return rows


def speeds(n: int) -> list[dict[str, Any]]:
    """Seconds of one data step on the whole volume and on patches, exact and approximated."""
    cases = (("cone beam, 50 views", cone(50)(n), "dcd"), ("cone beam, 50 views", cone(50)(n), "sum"))
    rows = []
    for name, physics, form in (*cases, ("multi-coil MRI, R = 5", cartesian(5)(n), "coils")):
        f = fit_now(physics, FitOptions(form=form, n_test=0, n_probes=4))
        pair = inspect.compare(physics, f, inspect.probe_volume("noise", physics))
        for size in (16, 32) if n < 64 else (32, 48):
            times = asdict(inspect.time_patches(physics, f, size))
            rows.append({"case": name, "form": form, "whole_approximated": pair.seconds_approximated, **times})
    return rows


def preconditioning(n: int, n_iter: int = 12) -> dict[str, list[float]]:
    """Distance from the truth after each iteration of conjugate gradients, plain and preconditioned by Ñ."""
    physics = cone(50)(n)
    truth = inspect.probe_volume("phantom", physics)
    normal, f = CountedNormal(physics), fit_now(physics, FitOptions(form="dcd", n_test=0))
    b = normal(truth)

    def errors(m: Callable[[torch.Tensor], torch.Tensor] | None) -> list[float]:
        _, *steps = conjugate_gradient_steps(normal, b, precondition=m, tolerance=0, max_steps=n_iter)
        return [relative_error(truth, step.x) for step in steps]

    return {"plain": errors(None), "preconditioned": errors(regularised_inverse(f, 0.05).apply)}


def final_images(n: int) -> list[dict[str, Any]]:
    """What Ñ in place of N does to a refinement of an estimate, in the central region."""
    physics = cone(50)(n)
    truth, box = inspect.probe_volume("phantom", physics), (slice(n // 4, n - n // 4),) * 3
    forms = {form: fit_now(physics, FitOptions(form=form, n_test=0)) for form in ("dcd", "sum")}
    return [{"form": name, **asdict(final_image_error(physics, f, truth, box))} for name, f in forms.items()]


def large_volumes(n: int) -> list[dict[str, Any]]:
    """What the way of fitting large volumes loses, on patches and on the whole volume: few lags, weight from larger voxels."""
    physics = cone(50)(n)
    normal, edge = CountedNormal(physics), n // 3
    patches, whole = HeldOut.make(normal, 4, patch=edge), HeldOut.make(normal, 2)
    kinds = {
        "all lags": FitOptions(n_test=0, form="dcd"),
        f"lags below {edge}": FitOptions(n_test=0, form="dcd", coarse=1, support=edge),
        f"lags below {edge}, weight from voxels of twice the size": FitOptions(
            n_test=0, form="dcd", coarse=2, support=edge
        ),
    }
    rows = []
    for name, options in kinds.items():
        f = fit_now(physics, options)
        on_patches, on_whole = patches.errors(f), whole.errors(f)
        rows.append({"fit": name, "patch_image": on_patches["error_image"], "whole_image": on_whole["error_image"],
                     "patch_gaussian": on_patches["error_gaussian"], "whole_gaussian": on_whole["error_gaussian"]})  # fmt: skip
    return rows


def measure(n: int, large: int, jobs: int) -> dict[str, Any]:
    """Everything, printed as it comes: cases on volumes of edge ``n``, hard ones and times on ``large``."""
    rows = []
    print(tables.header(tables.ROWS), flush=True)
    sizes = [large if case.hard else n for case in CASES]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(run_case, range(len(CASES)), sizes):
            rows += found
            print("\n".join(tables.line(row, tables.ROWS) for row in found), flush=True)
    report: dict[str, Any] = {"rows": rows, "size": n, "machine": machine()}
    works = {
        "optimum": lambda: compare_with_optimum(7),
        "speed": lambda: speeds(large),
        "preconditioning": lambda: preconditioning(n),
        "final_image": lambda: final_images(n),
        "large": lambda: large_volumes(3 * large // 2),
    }
    for name, work in works.items():
        report[name] = work()
        print(f"\n{name}\n{tables.render(name, report[name])}", flush=True)
    return report


def without_nan(text: str) -> dict[str, Any]:
    """A report from its JSON, empty cells (NaN, which is not JSON) as null."""
    found: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return found


def main() -> None:
    """Run everything, print tables, write JSON and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller volumes: minutes on two processors")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--docs", type=Path, help="write the tables into this page")
    parser.add_argument("--from", dest="earlier", type=Path, help="take the numbers of an earlier run's JSON")
    args = parser.parse_args()
    sizes = (16, 24) if args.quick else (24, 64)
    report = without_nan(args.earlier.read_text() if args.earlier else json.dumps(measure(*sizes, args.jobs)))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.json, json.dumps(report, indent=1, allow_nan=False))
    if args.docs:
        write_text(args.docs, tables.fill(args.docs.read_text(), report))


if __name__ == "__main__":
    main()

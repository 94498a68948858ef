"""How well Ñ approximates AᴴA, at what cost: our fits beside the published recipe, the optimum, and the times.

    python benchmarks/normal.py [--quick] [--json FILE]

Rows: case, form, fit (ours | paper), exact (whether the form can hold the operator exactly), error_gaussian and
error_image on held-out vectors, operator_calls (exact AᴴA that the fit applied), seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_unroll.events import Finished, IterationDone
from napari_unroll.normal import inspect
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit, fit_now
from napari_unroll.normal.optimum import optimum
from napari_unroll.normal.probes import CountedNormal, HeldOut, relative_error
from napari_unroll.physics.fourier import CartesianMRI
from napari_unroll.physics.imaging import VolumeBlur, VolumeInpainting
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.physics.samples import cone_beam_setup
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
    """An operator, the forms to fit to it, and which of them can be exact."""

    name: str
    make: Callable[[int], Any]
    forms: tuple[FitOptions, ...]
    exact: frozenset[str] = frozenset()


def cone(n_views: int, arc_rad: float = 2 * np.pi) -> Callable[[int], XRay]:
    """The built-in cone-beam scanner; an ``arc_rad`` below 2π is a short scan."""

    def make(n: int) -> XRay:
        closed, grid = cone_beam_setup(n, n_views)
        geometry = ConeBeam.circular(
            angles_rad=np.arange(n_views) * arc_rad / n_views,
            source_origin_mm=closed.source_origin_mm,
            source_detector_mm=closed.source_detector_mm,
            detector_shape=closed.detector_shape,
            pixel_mm=closed.pixel_mm,
        )
        return XRay(geometry, grid)

    return make


def parallel_wedge(n: int) -> XRay:
    """40 parallel views over 120 degrees: a missing wedge of 60."""
    angles = np.deg2rad(np.linspace(-60, 60, 40))
    geometry = ParallelBeam.circular(angles_rad=angles, detector_shape=(n, int(1.5 * n)))
    return XRay(geometry, VolumeGrid(shape=(n, n, n)))


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
CASES = (
    *(Case(f"cone beam, {v} views", cone(v), (DCD, SUM, DC)) for v in (30, 50, 100)),
    Case("cone beam, 50 views, short scan", cone(50, 1.1 * np.pi), (DCD, SUM)),
    Case("cone beam, 12 views", cone(12), (DCD, SUM)),
    Case("parallel beam, missing wedge", parallel_wedge, (DCD, SUM)),
    *(Case(f"multi-coil MRI, R = {r}", cartesian(r), MRI_FORMS, frozenset({"coils"})) for r in (5, 10)),
    Case("radial MRI", radial, (COILS, VIRTUAL), frozenset({"coils"})),
    Case("circular blur", blur, (DCD,), frozenset({"dcd", "dc"})),
    Case("inpainting", inpainting, (DCD,), frozenset({"dcd", "dc"})),
)


def run_case(case: Case, n: int) -> Iterator[dict[str, Any]]:
    """Every form of ours, then the published recipe."""
    physics = case.make(n)
    for options in (*case.forms, PAPER):
        curve: list[tuple[float, float]] = []
        for event in fit(physics, options):
            if isinstance(event, IterationDone) and "error_image" in event.metrics:
                curve.append((event.metrics["operator_calls"], event.metrics["error_image"]))
        assert isinstance(event, Finished)
        assert event.result is not None, event.advice
        yield _row(case, options, event.result, event.seconds, curve)


def _row(case: Case, options: FitOptions, f: NormalFactors, seconds: float, curve: list) -> dict[str, Any]:
    circular = ", circular" if f.circular[-1] and f.form in ("dc", "dcd") else ""
    return {
        "case": case.name,
        "form": f.form + circular,
        "fit": "paper" if options.recipe == "paper" else "ours",
        "exact": f.form in case.exact,
        "error_gaussian": f.info["error_gaussian"],
        "error_gaussian_sem": f.info["error_gaussian_sem"],
        "error_image": f.info["error_image"],
        "error_image_sem": f.info["error_image_sem"],
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
        steps = range(1, n_iter + 1)
        return [relative_error(truth, inspect.conjugate_gradients(normal, b, k, m)) for k in steps]

    return {"plain": errors(None), "preconditioned": errors(f.inverse(0.05).apply)}


def final_images(n: int) -> list[dict[str, Any]]:
    """What Ñ in place of N does to a refinement of an estimate, in the central region."""
    physics = cone(50)(n)
    truth, box = inspect.probe_volume("phantom", physics), (slice(n // 4, n - n // 4),) * 3
    forms = {form: fit_now(physics, FitOptions(form=form, n_test=0)) for form in ("dcd", "sum")}
    return [{"form": name, **asdict(inspect.final_image_error(physics, f, truth, box))} for name, f in forms.items()]


def coarse_loss(n: int) -> list[dict[str, Any]]:
    """Errors on patches when kernels hold few lags and the weight comes from twice larger voxels."""
    physics = cone(50)(n)
    held_out = HeldOut.make(CountedNormal(physics), 4, patch=n // 3)
    kinds = {
        "whole": FitOptions(n_test=0, form="dcd"),
        "coarse": FitOptions(n_test=0, form="dcd", coarse=2, support=n // 3),
    }
    return [{"fit": name, **held_out.errors(fit_now(physics, options))} for name, options in kinds.items()]


HEADER = ("case", "form", "fit", "exact", "error_gaussian", "error_image", "operator_calls", "seconds")


def show(row: dict[str, Any]) -> str:
    """A row as a line of a Markdown table."""
    cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in (row[h] for h in HEADER)]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Run everything, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller volumes: minutes on two processors")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    n = 24 if args.quick else 48
    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    rows = []
    for case in CASES:
        for row in run_case(case, n):
            rows.append(row)
            print(show(row), flush=True)
    report: dict[str, Any] = {"rows": rows, "size": n, "machine": platform.processor() or platform.machine()}
    extras = {"optimum": compare_with_optimum(7), "speed": speeds(n), "preconditioning": preconditioning(n)}
    extras |= {"final_image": final_images(n), "coarse": coarse_loss(n)}
    for name, value in extras.items():
        print(f"\n{name}")
        for line in value if isinstance(value, list) else [value]:
            print("  ", {k: _short(v) for k, v in line.items()}, flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report | extras, indent=1))


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()

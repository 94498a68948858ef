"""X-rays beside RTK (where ``itk-rtk`` is installed), total variation beside scikit-image, Ñ beside AᴴA, start beside torch's."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle
from speed_row import Row, against, seconds

from napari_unroll.io.scan_file import write_scan
from napari_unroll.methods.classical.total_variation import TotalVariation
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import fit_now
from napari_unroll.patches.context import LocalProblem
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.laws import random_like
from napari_unroll.physics.samples import SOURCE_DETECTOR_MM, SOURCE_ORIGIN_MM, sample_cone_beam
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.scan import Scan

N_STEPS = 50
"""Of total variation."""
TV_WEIGHT = 0.1
"""Of the brightest voxel: of an image with values 0 … 1 as usual."""


@cache
def cone(quick: bool) -> tuple[Scan, VolumePhysics]:
    """A cone beam of 64³ voxels and 50 views."""
    scan = sample_cone_beam(*((16, 10) if quick else (64, 50)))
    return scan, build_physics(scan, "cpu")


@cache
def fitted(quick: bool) -> NormalFactors:
    """Its normal operator."""
    return fit_now(cone(quick)[1])


def size(quick: bool) -> str:
    """Voxels and views."""
    scan, _ = cone(quick)
    return f"cone beam {scan.grid.shape[0]}³, {scan.geometry.n_views} views"


class RTK:
    """RTK's filters for a scan with a circular orbit: its axis is y, which points against our z."""

    def __init__(self, scan: Scan) -> None:
        import itk

        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
        self.itk, self.image = itk, itk.Image[itk.F, 3]
        self.orbit = itk.RTK.ThreeDCircularProjectionGeometry.New()
        for angle in np.degrees(scan.geometry.angles_rad):
            self.orbit.AddProjection(SOURCE_ORIGIN_MM, SOURCE_DETECTOR_MM, float(angle))
        self.voxel = scan.grid.spacing_mm[0]
        self.pixel = float(np.linalg.norm(scan.geometry.vectors[0, 6:9]))

    def volume(self, x: np.ndarray) -> Any:
        """Of (z, y, x)."""
        centre = [-(n - 1) / 2 * self.voxel for n in x.shape]
        return self._of(x.transpose(1, 0, 2)[::-1], (self.voxel,) * 3, centre)

    def views(self, y: np.ndarray) -> Any:
        """Of (view, row, column)."""
        _, rows, columns = y.shape
        corner = [-(columns - 1) / 2 * self.pixel, -(rows - 1) / 2 * self.pixel, 0.0]
        return self._of(y, (self.pixel, self.pixel, 1.0), corner)

    def array(self, x: Any) -> np.ndarray:
        """(z, y, x) of a volume."""
        return np.ascontiguousarray(self.itk.array_from_image(x)[::-1].transpose(1, 0, 2))

    def run(self, name: str, *inputs: Any) -> Any:
        """The output of a filter."""
        filter_ = getattr(self.itk.RTK, name)
        made = filter_[self.image, self.image].New() if "Joseph" in name else filter_[self.image].New()
        for place, given in enumerate(inputs):
            made.SetInput(place, given)
        made.InPlaceOff()
        made.SetGeometry(self.orbit)
        made.Update()
        return made.GetOutput()

    def _of(self, values: np.ndarray, spacing: Any, origin: Any) -> Any:
        made = self.itk.image_from_array(np.ascontiguousarray(values, np.float32))
        made.SetSpacing([float(s) for s in spacing])
        made.SetOrigin([float(o) for o in origin])
        return made


def projection(quick: bool) -> Row:
    """A x."""
    scan, physics = cone(quick)
    rtk = RTK(scan)
    volume, empty = rtk.volume(scan.truth), rtk.views(np.zeros_like(scan.measurements))
    x = torch.from_numpy(scan.truth)[None, None]

    def theirs() -> np.ndarray:
        return np.asarray(rtk.itk.array_from_image(rtk.run("JosephForwardProjectionImageFilter", empty, volume)))

    return against(f"{size(quick)}: A", "RTK, Joseph", lambda: physics.A(x), theirs, 1.1, close=1e-2)


def from_views(quick: bool, title: str, ours: str, theirs: str, close: float) -> Row:
    """A volume from the measured views, by a method of our physics and a filter of RTK."""
    scan, physics = cone(quick)
    rtk = RTK(scan)
    views, empty = rtk.views(scan.measurements), rtk.volume(np.zeros_like(scan.truth))
    y, make = torch.from_numpy(scan.measurements)[None, None], getattr(physics, ours)
    rival = "RTK, Joseph" if "Joseph" in theirs else "RTK"
    filtered = lambda: rtk.array(rtk.run(theirs, empty, views))  # noqa: E731
    return against(f"{size(quick)}: {title}", rival, lambda: make(y), filtered, 1.1, close)


def backprojection(quick: bool) -> Row:
    """Aᴴ y; theirs is not to the digit the adjoint of their A at the border of the volume."""
    return from_views(quick, "Aᴴ", "A_adjoint", "JosephBackProjectionImageFilter", close=0.3)


def fdk(quick: bool) -> Row:
    """FDK."""
    return from_views(quick, "FDK", "A_dagger", "FDKConeBeamReconstructionFilter", close=1e-3)


def total_variation(quick: bool) -> Row:
    """The proximal map; scikit-image takes Chambolle's steps without momentum, so it is less near to the same minimum."""
    scan, _ = cone(quick)
    rng = np.random.default_rng(0)
    image = scan.truth / scan.truth.max() + 0.1 * rng.standard_normal(scan.truth.shape).astype(np.float32)
    b = torch.from_numpy(image.astype(np.float32))
    ours = lambda: TotalVariation().prox(b, TV_WEIGHT, N_STEPS)  # noqa: E731
    theirs = lambda: denoise_tv_chambolle(b.numpy(), weight=TV_WEIGHT, eps=0.0, max_num_iter=N_STEPS)  # noqa: E731
    name = f"TV's proximal map, {scan.grid.shape[0]}³, {N_STEPS} steps"
    return against(name, "scikit-image, as many of Chambolle's", ours, theirs, close=5e-2)


def approximated(quick: bool) -> Row:
    """Ñ x of the fit."""
    scan, physics = cone(quick)
    x, factors = torch.from_numpy(scan.truth)[None, None], fitted(quick)
    return against(f"{size(quick)}: Ñ x", "AᴴA x", lambda: factors.apply(x), lambda: physics.normal(x), 0.5, close=0.2)


def data_step(quick: bool) -> Row:
    """One data step of a patch of half the edge."""
    scan, physics = cone(quick)
    n = scan.grid.shape[0] // 2
    box = (slice(n // 2, n // 2 + n),) * 3
    u = random_like((1, 1, n, n, n), physics.dtype, "cpu", 3)
    normal = fitted(quick).restrict(box)
    local = LocalProblem(normal, torch.zeros_like(u), u)
    padded = normal.convolution.spectrum.shape[-3:-1]
    shape = (*padded, padded[0])
    terms = len(fitted(quick).terms)

    def bare() -> None:
        for _ in range(terms):
            torch.fft.irfftn(torch.fft.rfftn(u, s=shape, dim=(-3, -2, -1)), s=shape, dim=(-3, -2, -1))

    name = f"{size(quick)}: data step of a patch of {n}³, {terms} terms"
    return Row(name, "their Fourier transforms alone", *seconds(lambda: local.step(u, 0.5), bare), None)


def start(quick: bool) -> Row:
    """``napari-unroll info`` of a stored scan, beside Python that imports torch and no more."""
    scan, _ = cone(True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.h5"
        write_scan(path, scan)
        ours = child_seconds("-m", "napari_unroll.cli", "info", str(path))
        return Row(
            "start: `napari-unroll info` of a scan",
            "`import torch`",
            ours,
            child_seconds("-c", "import torch"),
            None,
            1.0,
        )


def child_seconds(*words: str) -> float:
    """Processor seconds of a Python of its own, the least of two."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once(), once())


BESIDE_RTK = {"projection": projection, "backprojection": backprojection, "fdk": fdk}
ROWS: dict[str, Callable[[bool], Row]] = {
    **(BESIDE_RTK if find_spec("itk") else {}),
    "total-variation": total_variation,
    "approximated": approximated,
    "data-step": data_step,
    "start": start,
}
"""Name → row at its size, or ``quick``."""

"""Tiny scans and the loop that drains a method, for the tests of methods and pipeline."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_unroll.events import Event
from napari_unroll.methods.networks.prior import PriorConfig
from napari_unroll.methods.problem import Method, Problem, measured
from napari_unroll.methods.unrolled.checkpoint import save_network
from napari_unroll.methods.unrolled.network import UnrolledConfig, UnrolledPGD
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import sample_cone_beam, sample_multicoil
from napari_unroll.physics.simulate import Exposure, simulate_ct
from napari_unroll.scan.geometry import ParallelBeam, VolumeGrid
from napari_unroll.scan.phantoms import ellipsoids
from napari_unroll.scan.scan import Scan


@cache
def cone(n: int = 20, n_views: int = 12) -> Scan:
    """A noisy cone-beam scan with truth."""
    return sample_cone_beam(n, n_views, oversample=1)


@cache
def parallel(shape: tuple[int, int, int] = (6, 18, 18), n_views: int = 12) -> Scan:
    """A noisy parallel-beam scan with truth."""
    geometry = ParallelBeam.circular(angles_rad=np.pi * np.arange(n_views) / n_views, detector_shape=(shape[0], 28))
    return simulate_ct(ellipsoids(shape, 10_003), geometry, VolumeGrid(shape=shape), Exposure(photons=1e5), seed=1)


@cache
def multicoil(shape: tuple[int, int, int] = (8, 24, 24)) -> Scan:
    """Undersampled multi-coil k-space with truth."""
    return sample_multicoil(shape, n_coils=4, acceleration=3)


@cache
def slice_mri() -> Scan:
    """One slice: z of 1."""
    return sample_multicoil((1, 32, 32), n_coils=4, acceleration=2)


def problem(scan: Scan, **more: Any) -> Problem:
    """The problem of a scan on the CPU."""
    y = measured(scan, "cpu").clone()  # tests may change it; scans are shared
    return Problem(scan=scan, physics=build_physics(scan, "cpu"), y=y, **more)


def drain(method: Method, given: Problem, **params: Any) -> tuple[list[Event], torch.Tensor]:
    """Every event of a method and the volume that it returns."""
    work = method.solve(given, method.params(**params))
    events: list[Event] = []
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return events, end.value


def weights(folder: Path, scan: Scan, data_step: bool = True) -> str:
    """An untrained network small enough for tests, of the right kind for the scan; the path of its checkpoint."""
    prior = PriorConfig(complex_valued=scan.modality == "mri", channels=(4, 4, 4, 4))
    torch.manual_seed(0)
    path = folder / "tiny.safetensors"
    save_network(UnrolledPGD(UnrolledConfig(prior=prior, n_iterations=2, data_step=data_step)), path)
    return str(path)


def quick_params(method: Method, scan: Scan, folder: Path) -> dict[str, Any]:
    """Parameters that make any registered method fast enough for tests."""
    if method.needs_weights:
        both_stages = {"refine": True} if "refine" in method.params.model_fields else {}
        return {"weights": weights(folder, scan, data_step=method.iterative), **both_stages}
    return {"n_iterations": 3} if "n_iterations" in method.params.model_fields else {}

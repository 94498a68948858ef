"""Tiny scans and the loop that drains a method, for the tests of methods and pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deepinv.models import RAM

from napari_unroll.events import Event, Stop
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.problem import Method, Problem, measured
from napari_unroll.methods.networks import ram
from napari_unroll.methods.registry import METHODS, get
from napari_unroll.methods.weights import save_network
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


def problem(scan: Scan, stop: Stop | None = None, **more: Any) -> Problem:
    """The problem of a scan on the CPU."""
    y = measured(scan, "cpu").clone()  # tests may change it; scans are shared
    return Problem(scan=scan, physics=build_physics(scan, "cpu"), y=y, stop=stop or Stop(), **more)


def drain(method: Method, given: Problem, **params: Any) -> tuple[list[Event], torch.Tensor]:
    """Every event of a method and the volume that it returns."""
    work = method.solve(given, method.params(**params))
    events: list[Event] = []
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return events, end.value


def weights(folder: Path, scan: Scan, method: str = "unrolled-pgd") -> str:
    """An untrained network small enough for tests, of the right kind for method and scan; the path of its checkpoint."""
    if method == "dpir-ram":
        return _foundation_model(folder)
    learning = get(method).learning
    assert learning is not None
    own = learning.network(scan.modality).model_dump()
    prior = own["prior"] | {"dim": 3, "neighbours": 0, "channels": (4, 4, 4, 4)}
    few = min(2, own["n_iterations"])
    config = NetworkConfig(**own | {"prior": prior, "n_iterations": few, "n_priors": 1, "start_iterations": 0})
    torch.manual_seed(0)
    path = folder / f"tiny-{method}.safetensors"
    save_network(Network(config), path, method)
    return str(path)


def _foundation_model(folder: Path) -> str:
    path = folder / ram.FILE
    torch.manual_seed(0)
    torch.save(RAM(pretrained=False).state_dict(), path)
    return str(path)


def runs(scans: Mapping[str, Callable[[], Scan]]) -> list[Any]:
    """A parameter (method, scan's maker) for every registered method on every scan that it applies to; slow ones marked."""
    return [
        pytest.param(method, make, id=f"{name}-{title}", marks=[pytest.mark.slow] if name == "dpir-ram" else [])
        for name, method in METHODS.items()
        for title, make in scans.items()
        if make().modality in method.modalities
    ]


def quick_params(method: Method, scan: Scan, folder: Path) -> dict[str, Any]:
    """Parameters that make any registered method fast enough for tests."""
    if method.needs_weights:
        fields = method.params.model_fields
        quick = {"refine": True} if "refine" in fields else {"n_iterations": 2} if "n_iterations" in fields else {}
        return {"weights": weights(folder, scan, method.networks[0]), **quick}
    return {"n_iterations": 3} if "n_iterations" in method.params.model_fields else {}

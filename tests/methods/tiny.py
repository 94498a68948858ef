"""Tiny scans and the loop that drains a method, for the tests of methods and pipeline."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deepinv.models import RAM

from napari_unroll.events import Event
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.networks import ram
from napari_unroll.methods.problem import Method, Problem, measured
from napari_unroll.methods.registry import METHODS, get
from napari_unroll.methods.weights import save_network
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.physics.samples import sample_cone_beam, sample_deblur, sample_multicoil, sample_super_resolution
from napari_unroll.physics.simulate import Exposure, simulate_ct
from napari_unroll.scan.geometry import ParallelBeam, VolumeGrid
from napari_unroll.scan.phantoms import ellipsoids
from napari_unroll.scan.phantoms_mri import coil_maps
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d


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


@cache
def radial(n: int = 21, n_spokes: int = 16) -> Scan:
    """A disc with a hole along spokes, weighted by their density, 3 coils."""
    trajectory = radial_2d(n_spokes, 2 * n)
    weights = np.linalg.norm(trajectory, axis=2) + 1 / (8 * n)
    sampling = NonCartesianSampling(trajectory=trajectory, shape=(1, n, n), n_coils=3, weights=weights)
    maps = coil_maps((1, n, n), 3, 0)
    y, x = np.mgrid[:n, :n] - n / 2
    truth = ((np.hypot(y, x) < 0.4 * n) & ~(np.hypot(y - 3, x + 2) < 0.15 * n)).astype(np.complex64)[None]
    data = NonCartesianMRI(sampling, maps).A(torch.from_numpy(truth)[None, None])[0].numpy()
    return Scan(measurements=data, geometry=sampling, grid=VolumeGrid(shape=(1, n, n)), csm=maps, truth=truth)


@cache
def blurred() -> Scan:
    """One blurred image of odd lengths."""
    return sample_deblur((1, 21, 27))


@cache
def downsampled() -> Scan:
    """Two slices with a ninth of the pixels."""
    return sample_super_resolution((2, 24, 21))


def odd_parallel() -> Scan:
    """Parallel beams on a grid of odd lengths."""
    return parallel((5, 17, 19))


def odd_multicoil() -> Scan:
    """Multi-coil k-space of odd lengths."""
    return multicoil((7, 23, 25))


SCANS = {
    "cone": cone, "parallel": odd_parallel, "multi-coil": odd_multicoil, "one slice": slice_mri, "radial": radial,
    "blurred": blurred, "downsampled": downsampled,
}  # fmt: skip


def applicable() -> list[Any]:
    """(method, what makes the scan) for every registered method and every kind of scan that it applies to."""
    return [
        pytest.param(
            method, make, id=f"{method.name}-{title}", marks=[pytest.mark.slow] if method.name == "dpir-ram" else []
        )
        for method in METHODS.values()
        for title, make in SCANS.items()
        if not method.obstacle(make())
    ]


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


def dense(given: Problem) -> np.ndarray:
    """A as a matrix in double precision: what it makes of every unit volume."""
    n = int(np.prod(given.shape))
    columns = torch.eye(n, dtype=given.physics.dtype).reshape(n, 1, 1, *given.shape)
    matrix = torch.stack([given.physics.A(c).flatten() for c in columns], 1).numpy()
    return matrix.astype(np.complex128 if np.iscomplexobj(matrix) else np.float64)


def data(given: Problem) -> np.ndarray:
    """y as a vector in double precision."""
    y = given.y.flatten().numpy()
    return y.astype(np.complex128 if np.iscomplexobj(y) else np.float64)


def weights(folder: Path, scan: Scan, method: str = "unrolled-pgd") -> str:
    """An untrained network small enough for tests, of the right kind for method and scan; the path of its checkpoint."""
    if method == "dpir-ram":
        return _foundation_model(folder)
    learning = get(method).learning
    assert learning is not None
    own = learning.network(scan.modality).model_dump()
    small = {"channels": (4, 4, 4, 4), "width": 4, "layers": 2, "groups": 2}
    prior = own["prior"] | {"dim": 3, "neighbours": 0} | {n: v for n, v in small.items() if n in own["prior"]}
    if "equilibrium" in prior:
        prior["equilibrium"] = prior["equilibrium"] | {"max_evaluations": 3}
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


def quick_params(method: Method, scan: Scan, folder: Path) -> dict[str, Any]:
    """Parameters that make any registered method fast enough for tests."""
    if method.needs_weights:
        fields = method.params.model_fields
        quick = {"refine": True} if "refine" in fields else {"n_iterations": 2} if "n_iterations" in fields else {}
        return {"weights": weights(folder, scan, method.networks[0]), **quick}
    return {"n_iterations": 3} if "n_iterations" in method.params.model_fields else {}

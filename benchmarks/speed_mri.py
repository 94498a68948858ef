"""Non-Cartesian MRI beside finufft, and beside itself without the closed form of AᴴA."""

from __future__ import annotations

from functools import cache

import finufft
import numpy as np
import torch
from speed_row import Row, against, seconds, solved

from napari_unroll.physics.laws import norm, random_like
from napari_unroll.physics.nufft import TOLERANCE, NonCartesianMRI
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.phantoms import brain, coil_maps
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d, radial_3d


@cache
def radial(quick: bool, is_3d: bool = False) -> NonCartesianMRI:
    """One slice of 256² along 400 spokes, or 64³ along 800; 8 coils."""
    n, spokes = (16, 20) if quick else (64, 800) if is_3d else (256, 400)
    shape = (n, n, n) if is_3d else (1, n, n)
    trajectory = (radial_3d if is_3d else radial_2d)(spokes, 2 * n)
    sampling = NonCartesianSampling(trajectory=trajectory, shape=shape, n_coils=8)
    return NonCartesianMRI(sampling, coil_maps(shape, 8, 0))


def finufft_plan(physics: NonCartesianMRI) -> finufft.Plan:
    """Of all coils at once, made beforehand."""
    axes = [axis for axis, n in enumerate(physics.grid.shape) if n > 1]
    modes, k = tuple(physics.grid.shape[axis] for axis in axes), physics.sampling.trajectory.reshape(-1, 3)
    n_threads = torch.get_num_threads()
    plan = finufft.Plan(2, modes, len(physics.csm), TOLERANCE, -1, "complex128", nthreads=n_threads)
    plan.setpts(*(np.ascontiguousarray(2 * np.pi * k[:, axis]) for axis in axes))
    return plan


def title(physics: NonCartesianMRI) -> str:
    """Voxels and spokes."""
    z, y, x = physics.grid.shape
    voxels = f"{y} × {x}" if z == 1 else f"{z} × {y} × {x}"
    return f"radial {voxels}, {physics.sampling.trajectory.shape[0]} spokes, {len(physics.csm)} coils"


def nufft_forward(quick: bool, is_3d: bool = False) -> Row:
    """A x, beside finufft on coil images that exist already."""
    physics = radial(quick, is_3d)
    x, plan = random_like(physics.x_shape, physics.dtype, "cpu", 0), finufft_plan(physics)
    images = (physics.csm * x)[0].reshape(len(physics.csm), *(n for n in physics.grid.shape if n > 1))
    images = images.numpy().astype(np.complex128) / np.sqrt(images[0].numel())
    rival = "finufft, all coils"
    return against(f"{title(physics)}: A", rival, lambda: physics.A(x), lambda: plan.execute(images), 1.1)


def nufft_adjoint(quick: bool, is_3d: bool = False) -> Row:
    """Aᴴ y, beside finufft without the coils' combination."""
    physics = radial(quick, is_3d)
    y, plan = random_like(physics.y_shape, physics.dtype, "cpu", 1), finufft_plan(physics)
    samples = y.reshape(len(physics.csm), -1).numpy().astype(np.complex128)
    ours, other = (lambda: physics.A_adjoint(y)), (lambda: plan.execute_adjoint(samples))
    scale = physics.csm.shape[1:].numel() ** -0.5
    images = torch.from_numpy(other()).reshape(physics.csm.shape) * scale
    expected = (physics.csm.conj() * images).sum(0)
    difference = norm(ours()[0, 0] - expected) / norm(expected)
    return Row(f"{title(physics)}: Aᴴ", "finufft, all coils", *seconds(ours, other), difference, 1.1)


def toeplitz(quick: bool, is_3d: bool = False) -> Row:
    """AᴴA x, beside A and Aᴴ."""
    physics = radial(quick, is_3d)
    x = random_like(physics.x_shape, physics.dtype, "cpu", 2)
    name = f"{title(physics)}: AᴴA"
    return against(name, "A and Aᴴ", lambda: physics.normal(x), lambda: physics.A_adjoint(physics.A(x)))


class ThroughA(NonCartesianMRI):
    """The same operator without its closed form."""

    has_direct_normal = False

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        return self._adjoint(self._forward(x))


def cg_sense(quick: bool, is_3d: bool = False) -> Row:
    """Ten steps of CG-SENSE on a brain, the spectrum and all plans included, beside steps through A and Aᴴ."""
    fast = radial(quick, is_3d)
    truth = torch.from_numpy(brain(fast.grid.shape, 1))[None, None]
    samples, maps = fast.A(truth)[0].numpy(), fast.csm.numpy()
    grid = VolumeGrid(shape=fast.grid.shape)
    scan = Scan(measurements=samples, geometry=fast.sampling, grid=grid, csm=maps)

    def solve(kind: type[NonCartesianMRI]) -> torch.Tensor:
        return solved(scan, kind(fast.sampling, maps, grid), "cg-sense", n_iterations=10, tolerance=0)

    name = f"{title(fast)}: CG-SENSE, 10 steps"
    return against(name, "steps through A and Aᴴ", lambda: solve(NonCartesianMRI), lambda: solve(ThroughA), close=1e-2)


ROWS = {
    "nufft-forward": nufft_forward,
    "nufft-adjoint": nufft_adjoint,
    "nufft-forward-3d": lambda quick: nufft_forward(quick, True),
    "nufft-adjoint-3d": lambda quick: nufft_adjoint(quick, True),
    "toeplitz": toeplitz,
    "toeplitz-3d": lambda quick: toeplitz(quick, True),
    "cg-sense": cg_sense,
    "cg-sense-3d": lambda quick: cg_sense(quick, True),
}
"""Name → row at its size, or ``quick``."""

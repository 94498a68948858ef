"""Steps of conjugate gradients on (I + τN) u = g, plain and preconditioned by the fitted approximation.

    python benchmarks/resolvent.py [--edge 24]

Rows: case, and steps plain / preconditioned to a relative residual of 1e-4 per τ‖N‖, for g a phantom with noise.
"""

from __future__ import annotations

import argparse

import numpy as np

from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.normal.precondition import resolvent_preconditioner
from napari_unroll.normal.probes import ellipsoids, gaussian
from napari_unroll.physics.fourier import CartesianMRI
from napari_unroll.physics.laws import normal_norm
from napari_unroll.physics.samples import cone_beam_setup, multicoil_setup
from napari_unroll.physics.solvers import conjugate_gradients
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.physics.xray import XRay

STRENGTHS = (1, 10, 100, 1000)


def cone_beam(n: int) -> XRay:
    """The built-in scanner with 60 views."""
    return XRay(*cone_beam_setup(n, 60))


def cartesian(n: int) -> CartesianMRI:
    """8 coils, R = 5, half as many slices."""
    shape = (n // 2, n, n)
    mask, csm, grid = multicoil_setup(shape, 8, 5, 0)
    return CartesianMRI(np.array(np.broadcast_to(mask, shape)), csm, grid)


def steps(physics: VolumePhysics, factors: NormalFactors, strength: float) -> tuple[int, int]:
    """Plain and preconditioned."""
    shape, tau = physics.grid.shape, strength / normal_norm(physics)
    g = ellipsoids(shape, physics.dtype, 0) + 0.3 * gaussian(shape, physics.dtype, 1)
    found = [
        conjugate_gradients(lambda u: u + tau * physics.normal(u), g, precondition=m, max_steps=500)
        for m in (None, resolvent_preconditioner(factors, tau))
    ]
    return found[0].steps, found[1].steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=24)
    n = parser.parse_args().edge
    short = FitOptions(form="dcd", support=max(2, n // 3), n_test=0)
    cases = {
        "cone beam, 60 views": (cone_beam(n), FitOptions(n_test=0)),
        "the same, a third of the lags": (cone_beam(n), short),
        "multi-coil MRI, R = 5": (cartesian(n), FitOptions(n_test=0)),
    }
    print("| case | " + " | ".join(f"{s}" for s in STRENGTHS) + " |\n|---" + "|---" * len(STRENGTHS) + "|")
    for name, (physics, options) in cases.items():
        factors = fit_now(physics, options)
        cells = ["{} / {}".format(*steps(physics, factors, s)) for s in STRENGTHS]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

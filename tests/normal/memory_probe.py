"""Peak memory of a fit and of Ñ on a whole volume, in volumes; a process of its own per measurement.

python -m tests.normal.memory_probe EDGE FORM [SUPPORT]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from napari_unroll.normal import blocks
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.geometry import VolumeGrid


class Weights(VolumePhysics):
    """Multiplication with a ramp along x: the cheapest operator with a grid that can be cut and coarsened."""

    is_periodic = False

    def __init__(self, grid, ramp=None):
        super().__init__(grid)
        self.ramp = torch.linspace(1, 2, grid.shape[2]) if ramp is None else ramp

    @property
    def y_shape(self):
        return self.x_shape

    def _forward(self, x):
        return x * self.ramp

    _adjoint = _forward

    def restrict(self, box):
        return Weights(self.grid.restrict(box), self.ramp[box[2]])

    def coarsen(self, factor):
        return Weights(self.grid.resample([-(-n // factor) for n in self.grid.shape]))


def status(name):
    """Bytes under ``name`` in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def reset_peak():
    """Let the peak start from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def main(edge, form, support=None):
    """Print the peaks of the fit and of one application, the fit's result and the input included."""
    blocks.LARGE = 0  # whatever the edge, as a large volume is
    physics = Weights(VolumeGrid(shape=(edge,) * 3))
    coarse = None if support is None else 6 if form == "sum" else 4
    options = FitOptions(form=form, n_probes=2, n_test=1, support=support, coarse=coarse)
    warm = FitOptions(form=form, n_probes=2, n_test=1, support=6, coarse=2)
    fit_now(Weights(VolumeGrid(shape=(36, 36, 36))), warm).apply(torch.ones(1, 1, 36, 36, 36))
    baseline, volume = status("VmRSS"), 4 * edge**3
    reset_peak()
    factors = fit_now(physics, options)
    peaks = {"fit": (status("VmHWM") - baseline) / volume}
    x = torch.ones(1, 1, edge, edge, edge)
    reset_peak()
    factors.apply(x)
    peaks["apply"] = (status("VmHWM") - baseline) / volume
    print(json.dumps(peaks))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))

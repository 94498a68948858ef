"""Estimates of large runs beside the peaks that were measured of them, which no test could wait for."""

import numpy as np
import pytest

from napari_unroll.physics.samples import cone_beam_setup
from napari_unroll.pipeline.devices import Device
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.scan.scan import Scan

N, N_VIEWS = 288, 16
MEASURED = {
    "fdk": 286896128,
    "cgls": 587350016,
    "sirt": 491225088,
    "tikhonov": 874086400,
    "wavelet-l1": 1134796800,
    "tv-fista": 1059057664,
    "tv-pdhg": 1270956032,
}
"""Bytes that a process grew by in two iterations of a cone beam, one thread: the way of benchmarks/memory.py, three slabs."""


@pytest.mark.parametrize("name", MEASURED)
def test_estimates_hold_where_projections_go_slab_by_slab(name):
    """A slab's copy, with its rim, is not there when a run holds the most: one of the whole volume was not either."""
    geometry, grid = cone_beam_setup(N, N_VIEWS)
    views = np.broadcast_to(np.float32(0), geometry.measurement_shape)
    scan = Scan(measurements=views, geometry=geometry, grid=grid)
    plan = resolve(Choices(method=name), scan, [Device("cpu", "CPU", 10**11)])
    assert 0.9 < plan.memory_bytes / MEASURED[name] < 1.2

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unroll.events import result_of
from napari_unroll.methods.classical.fdk import FDK
from napari_unroll.methods.classical.tv_fista import STOP, TV_FISTA, TVParams
from napari_unroll.methods.classical.tv_objective import DEFAULT_STRENGTH, auto_strength, objective
from napari_unroll.methods.classical.zero_filled import ZERO_FILLED
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.physics.samples import sample_multicoil
from napari_unroll.pipeline.metrics import psnr
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.phantoms import coil_maps
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d
from tests.methods import tiny


@pytest.mark.parametrize(("make", "quick"), [(tiny.cone, FDK), (tiny.multicoil, ZERO_FILLED)], ids=["ct", "mri"])
def test_it_beats_the_quick_reconstruction_with_default_parameters(make, quick):
    scan = make()
    _, start = tiny.drain(quick, tiny.problem(scan))
    _, x = tiny.drain(TV_FISTA, tiny.problem(scan))
    assert psnr(x.numpy(), scan.truth) > psnr(start.numpy(), scan.truth) + 1


def test_it_minimises_its_objective():
    """More steps never end higher, and the end is a minimum against random directions."""
    goal = result_of(objective(tiny.problem(tiny.parallel()), TVParams(strength=0.1)))
    ends = [
        tiny.drain(
            TV_FISTA, tiny.problem(tiny.parallel()), strength=0.1, n_iterations=n, tolerance=0, n_inner=30, subsets=1
        )[1]
        for n in (5, 20, 150)
    ]
    values = [goal.value(x) for x in ends]
    assert values == sorted(values, reverse=True)
    for seed in range(5):
        step = 1e-3 * torch.randn(ends[-1].shape, generator=torch.Generator().manual_seed(seed))
        assert goal.value((ends[-1] + step).clamp(min=0)) > values[-1]


def test_positivity_holds_and_can_be_lifted():
    _, x = tiny.drain(TV_FISTA, tiny.problem(tiny.cone()), n_iterations=5)
    _, free = tiny.drain(TV_FISTA, tiny.problem(tiny.cone()), n_iterations=5, positivity=False)
    assert x.min() >= 0
    assert free.min() < 0


def test_the_strength_follows_the_noise_where_that_is_known():
    scans = [sample_multicoil((16, 32, 32), n_coils=6, acceleration=3, noise=n) for n in (0.01, 0.03)]
    quiet, loud = (auto_strength(scan) for scan in scans)
    assert 0.008 * 0.3**0.5 < quiet < 0.02 * 0.3**0.5  # R = 3
    assert loud == pytest.approx(3 * quiet, rel=0.25)
    assert auto_strength(replace(scans[0], measurements=5 * scans[0].measurements)) == pytest.approx(quiet, rel=1e-3)
    assert auto_strength(tiny.cone()) == DEFAULT_STRENGTH["ct"]


def test_along_trajectories_the_strength_follows_the_noise_of_gridded_images():
    """Twice the spokes halve the variance there; weights that are all alike change nothing."""
    few, many, weighted, loud = (
        auto_strength(spokes(*given)) for given in ((24, 0.01), (48, 0.01), (24, 0.01, 4.0), (24, 0.03))
    )
    assert many == pytest.approx(few / 2**0.5, rel=0.15)
    assert weighted == pytest.approx(few, rel=1e-3)
    assert loud == pytest.approx(3 * few, rel=0.15)


def spokes(n_spokes, noise, weight=1.0, n=32):
    k = radial_2d(n_spokes, 2 * n)
    sampling = NonCartesianSampling(trajectory=k, shape=(1, n, n), n_coils=4, weights=np.full(k.shape[:2], weight))
    image = (np.hypot(*(np.indices((n, n)) - n // 2)) < 10).astype(np.complex64)[None]
    csm = coil_maps((1, n, n), 4, 0)
    y = NonCartesianMRI(sampling, csm).A(torch.from_numpy(image)[None, None])[0].numpy()
    rng = np.random.default_rng(0)
    white = (rng.standard_normal(y.shape) + 1j * rng.standard_normal(y.shape)) * noise * (weight / 2) ** 0.5
    return Scan(
        measurements=(y + white).astype(np.complex64), geometry=sampling, grid=VolumeGrid(shape=(1, n, n)), csm=csm
    )


def test_x_rays_stop_before_they_fit_what_no_voxels_can():
    events, x = tiny.drain(TV_FISTA, tiny.problem(tiny.cone(32, 40)))
    _, long = tiny.drain(TV_FISTA, tiny.problem(tiny.cone(32, 40)), tolerance=0)
    assert events[-1].metrics["change"] < STOP["ct"] < events[-2].metrics["change"]
    assert psnr(x.numpy(), tiny.cone(32, 40).truth) > psnr(long.numpy(), tiny.cone(32, 40).truth) - 0.1


def test_it_stops_when_nothing_changes():
    events, _ = tiny.drain(TV_FISTA, tiny.problem(tiny.multicoil()), n_iterations=2000, tolerance=1e-3)
    assert len(events) < 500
    assert events[-1].metrics["change"] < 1e-3
    assert events[-1].values is not None

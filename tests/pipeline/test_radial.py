"""A scan along a trajectory from file to image: reader, operator, exact fit, solvers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unroll.events import Finished, Outcome
from napari_unroll.io.registry import read
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.normal.inspect import compare, probe_volume
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.laws import adjoint_error
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.phantoms_mri import coil_maps
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d

N = 32


@pytest.fixture(scope="module")
def scan():
    """A disc with a hole, 4 coils, 20 spokes, samples weighted by their density."""
    trajectory = radial_2d(20, 2 * N)
    weights = np.linalg.norm(trajectory, axis=2) + 1 / (8 * N)
    sampling = NonCartesianSampling(trajectory=trajectory, shape=(1, N, N), n_coils=4, weights=weights)
    maps = coil_maps((1, N, N), 4, 0)
    y, x = np.mgrid[:N, :N] - N / 2
    truth = ((np.hypot(y, x) < 12) & ~(np.hypot(y - 3, x + 2) < 4)).astype(np.complex64)[None]
    data = NonCartesianMRI(sampling, maps).A(torch.from_numpy(truth)[None, None])[0].numpy()
    return Scan(measurements=data, geometry=sampling, grid=VolumeGrid(shape=(1, N, N)), csm=maps, truth=truth)


def reconstructed(scan, method, **params):
    *_, last = run(resolve(Choices(method=method, params=params, device="cpu"), scan), scan)
    assert isinstance(last, Finished)
    assert last.outcome is Outcome.COMPLETED, last.advice
    return last.result


def error(scan, image):
    return np.linalg.norm(image - scan.truth) / np.linalg.norm(scan.truth)


def test_the_weighted_operator_is_matched_and_its_fit_exact(scan):
    physics = build_physics(scan, "cpu")
    assert adjoint_error(physics) < 1e-6
    factors = fit_now(physics, FitOptions(n_test=1))
    assert (factors.form, factors.circular) == ("coils", (False, False, False))
    assert compare(physics, factors, probe_volume("phantom", physics)).error < 1e-5
    assert factors.info["error_final"] < 1e-4


def test_solvers_beat_gridding(scan):
    gridded = error(scan, reconstructed(scan, "zero-filled"))
    solved = error(scan, reconstructed(scan, "cgls"))
    smooth = error(scan, reconstructed(scan, "tv-fista", n_iterations=60))
    assert smooth < solved < 0.8 * gridded < 0.4


def test_density_compensation_undoes_the_weights(scan):
    plain = NonCartesianSampling(trajectory=scan.geometry.trajectory, shape=(1, N, N), n_coils=4)
    y = torch.from_numpy(scan.measurements)[None]
    physics = build_physics(scan, "cpu")
    unweighted = NonCartesianMRI(plain, scan.csm)
    root = torch.from_numpy(np.sqrt(scan.geometry.weights)).float()
    assert torch.allclose(physics.A_dagger(y), unweighted.A_dagger(y / root), atol=1e-4)


def test_maps_are_estimated_where_there_are_none(scan):
    bare = Scan(measurements=scan.measurements, geometry=scan.geometry, grid=scan.grid)
    physics = build_physics(bare, "cpu")
    assert "estimated" in physics.reason
    inside = np.abs(scan.truth[0]) > 0
    true = scan.csm / np.linalg.norm(scan.csm, axis=0)
    agreement = np.abs((true.conj() * physics.csm.numpy()).sum(0))[0]
    assert np.median(agreement[inside]) > 0.97


def test_a_measured_radial_brain_is_reconstructed(shared_data):
    scan = read(shared_data / "pyqmri_radial" / "VFA_radial_smalltest.h5", index=4)
    physics = build_physics(scan, "cpu")
    pair = compare(physics, fit_now(physics, FitOptions(n_test=0)), probe_volume("noise", physics))
    assert pair.error < 1e-4
    image = np.abs(reconstructed(scan, "cgls", n_iterations=8))[0]
    inside = image > 0.2 * image.max()
    assert 0.1 < inside.mean() < 0.6
    corners = np.concatenate([image[:40, :40].ravel(), image[-40:, -40:].ravel()])
    assert np.median(corners) < 0.25 * np.median(image[inside])

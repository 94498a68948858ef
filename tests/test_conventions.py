"""What docs/conventions.md says of signs, places and scales, computed."""

import numpy as np
import pytest
import torch

from napari_unroll.gui.placement import placement
from napari_unroll.physics import laws
from napari_unroll.physics.fourier import CartesianMRI
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.physics.simulate import Exposure, simulate_ct, simulate_mri
from napari_unroll.physics.xray import XRay
from napari_unroll.scan import limits
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.phantoms import HELD_OUT_SEED
from napari_unroll.scan.preprocess_mri import estimate_csm
from napari_unroll.scan.trajectories import NonCartesianSampling

ROWS, COLS = 9, 13
GRID = VolumeGrid(shape=(9, 9, 9))


def cone(angles=(0.0,), **changes):
    given = {
        "source_origin_mm": 500.0,
        "source_detector_mm": 1000.0,
        "detector_shape": (ROWS, COLS),
        "pixel_mm": (2.0, 2.0),
    }
    return ConeBeam.circular(angles_rad=angles, **(given | changes))


def parallel(angles=(0.0,), **changes):
    return ParallelBeam.circular(angles_rad=angles, **({"detector_shape": (ROWS, COLS)} | changes))


def point(z, y, x):
    """A volume with one voxel, counted from the middle."""
    volume = torch.zeros(1, 1, *GRID.shape)
    volume[0, 0, 4 + z, 4 + y, 4 + x] = 1
    return volume


def seen(geometry, volume):
    """Mean row and column of each view, from the detector's middle."""
    views = XRay(geometry, GRID).A(volume)[0, 0].numpy()
    rows, cols = np.arange(ROWS) - (ROWS - 1) / 2, np.arange(COLS) - (COLS - 1) / 2
    total = views.sum((1, 2))
    return (views.sum(2) @ rows) / total, (views.sum(1) @ cols) / total


def test_voxels_and_layers_lie_where_the_grid_says():
    grid = VolumeGrid(shape=(2, 3, 4), spacing_mm=(1.0, 2.0, 3.0), center_mm=(5.0, 6.0, 7.0))
    assert grid.origin_mm == (4.5, 4.0, 2.5)
    assert np.allclose(np.array(grid.origin_mm) + np.array([1, 2, 3]) * grid.spacing_mm, (5.5, 8.0, 11.5))
    assert placement(grid)["scale"] == grid.spacing_mm
    assert placement(grid)["translate"] == grid.origin_mm
    assert (limits.SHORTEST_MM, limits.LONGEST_MM, limits.MOST, limits.LARGEST_ANGLE_RAD) == (1e-9, 1e7, 10**6, 1e6)


@pytest.mark.parametrize("theta", [0.0, 0.7, np.pi / 2])
def test_a_circular_orbit(theta):
    s, c = np.sin(theta), np.cos(theta)
    source, centre, u, v = cone([theta]).vectors[0].reshape(4, 3)
    np.testing.assert_allclose(source, [500 * s, -500 * c, 0], atol=1e-9)
    np.testing.assert_allclose(centre, [-500 * s, 500 * c, 0], atol=1e-9)
    np.testing.assert_allclose((u, v), [[2 * c, 2 * s, 0], [0, 0, 2]], atol=1e-12)
    np.testing.assert_allclose(parallel([theta]).vectors[0, :3], [s, -c, 0], atol=1e-12)
    assert cone([theta]).angles_rad[0] == pytest.approx(theta)


@pytest.mark.parametrize("make", [cone, parallel])
def test_columns_count_along_x_rows_along_z_and_the_scanner_turns_counter_clockwise(make):
    rows, cols = seen(make([0.0, np.pi / 2, np.pi]), point(2, 0, 3))
    np.testing.assert_allclose(rows, 2, atol=0.05)
    np.testing.assert_allclose(cols, [3, 0, -3], atol=0.05)
    _, cols = seen(make([np.pi / 2]), point(0, 3, 0))
    np.testing.assert_allclose(cols, 3, atol=0.05)  # u has turned from +x to +y


def test_pixels_lie_about_the_detectors_centre():
    moved = parallel(pixel_mm=(2.0, 0.5), detector_offset_mm=(4.0, 1.0))
    rows, cols = seen(moved, point(2, 0, 2))
    np.testing.assert_allclose((rows[0] * 2 + 4, cols[0] * 0.5 + 1), (2, 2), atol=0.05)


def test_the_sign_of_a_parallel_direction_has_no_effect():
    beam = parallel([0.3, 1.2])
    turned = ParallelBeam(vectors=beam.vectors * ([-1] * 3 + [1] * 9), detector_shape=(ROWS, COLS))
    x = laws.random_like((1, 1, *GRID.shape), torch.float32, "cpu", 0)
    torch.testing.assert_close(XRay(turned, GRID).A(x), XRay(beam, GRID).A(x))


def test_the_axis_at_a_column():
    c = 4.0
    _, cols = seen(parallel([0.0, 1.0, 2.0], detector_offset_mm=(0.0, (COLS - 1) / 2 - c)), point(0, 0, 0))
    np.testing.assert_allclose(cols + (COLS - 1) / 2, c, atol=0.05)


def test_projections_are_attenuation_times_millimetres_and_come_back_as_attenuation():
    n = 24
    grid = VolumeGrid(shape=(n, n, n), spacing_mm=(0.5, 0.5, 0.5))
    z, y, x = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * 0.5] * 3, indexing="ij")
    ball = torch.from_numpy((0.2 * (x**2 + y**2 + z**2 < 16)).astype(np.float32))[None, None]
    beam = parallel(np.linspace(0, np.pi, 90, endpoint=False), detector_shape=(31, 31), pixel_mm=(0.5, 0.5))
    physics = XRay(beam, grid)
    y_ = physics.A(ball)
    assert float(y_[0, 0, 0, 15, 15]) == pytest.approx(0.2 * 8, rel=0.07)
    assert float(physics.A_dagger(y_)[0, 0, 9:15, 9:15, 9:15].mean()) == pytest.approx(0.2, rel=0.05)
    assert laws.adjoint_error(physics) < 1e-6


@pytest.mark.parametrize("n", [6, 7])
def test_the_fft_is_centred_and_orthonormal(n):
    impulse = torch.zeros(1, 1, n, n, n, dtype=torch.complex64)
    impulse[..., n // 2, n // 2, n // 2] = 1
    physics = CartesianMRI(np.ones((n, n, n), bool), np.ones((1, n, n, n)))
    torch.testing.assert_close(physics.A(impulse), torch.full_like(impulse, n**-1.5))
    flat = physics.A(torch.ones_like(impulse))
    assert flat[..., n // 2, n // 2, n // 2].real.item() == pytest.approx(n**1.5, rel=1e-5)
    assert torch.linalg.vector_norm(flat).item() == pytest.approx(n**1.5, rel=1e-5)


@pytest.mark.parametrize("n", [6, 7])
def test_a_trajectory_is_the_sum_that_is_written_and_meets_the_fft(n):
    g = np.random.default_rng(0)
    x = (g.normal(size=(1, n, n)) + 1j * g.normal(size=(1, n, n))).astype(np.complex64)
    m = (np.arange(n) - n // 2) / n
    k = np.stack(np.meshgrid([0.0], m, m, indexing="ij"), -1)[0]
    w = g.uniform(0.5, 2, (n, n))
    sampling = NonCartesianSampling(trajectory=k, shape=(1, n, n), n_coils=1, weights=w)
    y = NonCartesianMRI(sampling, np.ones((1, 1, n, n))).A(torch.from_numpy(x)[None, None])[0, 0].numpy()
    r = np.arange(n) - n // 2
    phase = np.exp(-2j * np.pi * (k[..., 1, None, None] * r[:, None] + k[..., 2, None, None] * r))
    np.testing.assert_allclose(y, np.sqrt(w) * (phase * x[0]).sum((2, 3)) / n, rtol=1e-3, atol=1e-4)
    fully = CartesianMRI(np.ones((1, n, n), bool), np.ones((1, 1, n, n)))
    cartesian = fully.A(torch.from_numpy(x)[None, None])[0, 0, 0].numpy()
    np.testing.assert_allclose(y / np.sqrt(w), cartesian, rtol=1e-3, atol=1e-4)


def test_mri_is_not_larger_than_its_maps():
    g = np.random.default_rng(1)
    kspace = (g.normal(size=(3, 4, 16, 16)) + 1j * g.normal(size=(3, 4, 16, 16))).astype(np.complex64)
    maps = estimate_csm(kspace, np.ones((4, 16, 16), bool))
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(0), 1, rtol=1e-4)
    mask = g.random((4, 16, 16)) < 0.5
    physics = CartesianMRI(mask, maps)
    assert laws.normal_norm(physics, 30) <= 1 + 1e-4
    x = laws.random_like(physics.x_shape, physics.dtype, "cpu", 0)
    assert not physics.A(x)[0][:, torch.from_numpy(~mask)].any()
    torch.testing.assert_close(physics.A_dagger(physics.A(x)), physics.A_adjoint(physics.A(x)))


def test_the_noise_of_x_rays():
    beam = parallel(np.zeros(400))
    volume = np.full(GRID.shape, 0.1, np.float32)
    quiet = simulate_ct(volume, beam, GRID, Exposure(photons=0, thickest=None)).measurements[:, 4, 6]
    noisy = simulate_ct(volume, beam, GRID, Exposure(photons=1000, thickest=None)).measurements[:, 4, 6]
    assert noisy.var() == pytest.approx(np.exp(quiet[0]) / 1000, rel=0.25)
    assert noisy.mean() == pytest.approx(quiet.mean(), abs=0.01)
    dark = simulate_ct(100 * volume, beam, GRID, Exposure(photons=10, thickest=None)).measurements
    assert dark.max() == pytest.approx(np.log(10))
    gaussian = simulate_ct(volume, beam, GRID, Exposure(photons=0, sigma=0.1, thickest=None)).measurements
    clean = simulate_ct(volume, beam, GRID, Exposure(photons=0, thickest=None)).measurements
    assert (gaussian - clean).std() == pytest.approx(0.1 * clean.max(), rel=0.05)


def test_the_noise_of_mri():
    image, maps = np.full((1, 64, 64), 3.0), np.ones((2, 1, 64, 64))
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    clean, noisy = (simulate_mri(image, maps, mask, noise).measurements for noise in (0.0, 0.05))
    noise = (noisy - clean)[:, :, mask]
    assert np.sqrt((np.abs(noise) ** 2).mean()) == pytest.approx(0.15, rel=0.05)
    assert noise.real.std() == pytest.approx(0.15 / np.sqrt(2), rel=0.05)
    assert not noisy[:, :, ~mask].any()
    assert HELD_OUT_SEED == 10_000

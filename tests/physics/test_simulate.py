import numpy as np
import pytest
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.physics.samples import cone_beam_setup
from napari_unroll.physics.simulate import Exposure, count_photons, simulate_ct, simulate_mri
from napari_unroll.physics.xray import XRay
from napari_unroll.scan.phantoms import brain, coil_maps, ellipsoids


def test_photon_noise_has_the_variance_of_poisson_counts() -> None:
    integrals = np.full((1, 200, 200), 2.0, np.float32)
    measured = count_photons(integrals, 1e4, np.random.default_rng(0))
    assert measured.dtype == np.float32
    assert measured.mean() == pytest.approx(2.0, abs=2e-3)
    assert measured.std() == pytest.approx(np.sqrt(np.exp(2.0) / 1e4), rel=0.03)


def test_opaque_pixels_stay_finite() -> None:
    assert np.isfinite(count_photons(np.full((1, 4, 4), 50.0, np.float32), 1e3, np.random.default_rng(0))).all()


def test_noise_free_scans_are_projections_of_the_truth() -> None:
    geometry, grid = cone_beam_setup(16, 5)
    scan = simulate_ct(ellipsoids(grid.shape, 1), geometry, grid, Exposure(photons=0))
    projected = XRay(geometry, grid).A(torch.from_numpy(scan.truth)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(scan.measurements, projected, atol=1e-5)
    assert scan.measurements.max() == pytest.approx(2.5, rel=1e-5)


def test_attenuation_in_millimetres_can_be_kept() -> None:
    geometry, grid = cone_beam_setup(16, 3)
    volume = 0.01 * ellipsoids(grid.shape, 1)
    scan = simulate_ct(volume, geometry, grid, Exposure(photons=0, thickest=None))
    np.testing.assert_array_equal(scan.truth, volume)


def test_a_finer_volume_is_projected_finer_and_averaged_for_the_truth() -> None:
    geometry, grid = cone_beam_setup(16, 5)
    fine = simulate_ct(ellipsoids((32, 32, 32), 1), geometry, grid, Exposure(photons=0))
    coarse = XRay(geometry, grid).A(torch.from_numpy(fine.truth)[None, None])[0, 0].numpy()
    gap = np.linalg.norm(fine.measurements - coarse) / np.linalg.norm(coarse)
    assert 1e-4 < gap < 0.05


def test_ct_noise_is_seeded() -> None:
    geometry, grid = cone_beam_setup(8, 3)
    first, again, other = (simulate_ct(ellipsoids(grid.shape, 1), geometry, grid, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.measurements, again.measurements)
    assert (first.measurements != other.measurements).any()
    assert first.provenance.seed == 1


def test_mri_noise_has_the_asked_level_on_sampled_points_only() -> None:
    shape = (4, 32, 32)
    image, csm = brain(shape, 0), coil_maps(shape, 4)
    mask = np.random.default_rng(0).random((32, 32)) < 0.5
    clean, noisy = (simulate_mri(image, csm, mask, noise, seed=3).measurements for noise in (0, 0.05))
    error = (noisy - clean)[:, :, mask]
    assert not noisy[:, :, ~mask].any()
    assert np.sqrt((np.abs(error) ** 2).mean()) == pytest.approx(0.05 * np.abs(image).max(), rel=0.03)


def test_negative_noise_is_refused() -> None:
    with pytest.raises(ParameterError, match="noise"):
        simulate_mri(brain((1, 8, 8)), coil_maps((1, 8, 8), 2), np.ones((8, 8)), noise=-1)

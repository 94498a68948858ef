"""What a residual says: the true volume fits, a smoothed one misses some of the data, less than its residual is noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import cone_beam_setup, sample_multicoil
from napari_unroll.physics.simulate import Exposure, simulate_ct
from napari_unroll.pipeline.fit_verdict import FITTED, OVERFITTED, UNDERFITTED, UNLESS, grid_share, verdict
from napari_unroll.scan.noise import measured_noise
from napari_unroll.scan.phantoms_wide import WIDE_FAMILIES
from napari_unroll.scan.resample import block_mean


def scan_of(family, oversample=2, photons=1e5):
    geometry, grid = cone_beam_setup(48, 16)
    volume = WIDE_FAMILIES[family]((48 * oversample,) * 3, 3)
    return simulate_ct(volume, geometry, grid, Exposure(photons=photons), 3)


def residual(scan, volume):
    left = build_physics(scan, "cpu").A(torch.from_numpy(volume)[None, None])[0, 0].numpy() - scan.measurements
    return float(np.linalg.norm(left) / np.linalg.norm(scan.measurements))


@pytest.mark.parametrize("family", sorted(WIDE_FAMILIES))
def test_true_volumes_fit_and_smooth_ones_do_not(family):
    scan = scan_of(family)
    smooth = gaussian_filter(scan.truth, 2.0)
    assert FITTED in verdict(scan, scan.truth, residual(scan, scan.truth))
    assert UNDERFITTED in verdict(scan, smooth, residual(scan, smooth))
    assert OVERFITTED in verdict(scan, scan.truth, 0.5 * residual(scan, scan.truth))


@pytest.mark.parametrize("family", ["walnut", "foam", "plates"])
def test_what_voxels_cannot_show_is_foretold(family):
    fine = scan_of(family, photons=0)
    left = residual(fine, fine.truth)
    assert grid_share(fine, fine.truth) == pytest.approx(left, rel=0.35)


def test_noise_alone_is_left_of_data_that_the_grid_itself_cast():
    scan = scan_of("foam", oversample=1, photons=1e3)
    assert residual(scan, scan.truth) == pytest.approx(measured_noise(scan).share, rel=0.2)


def test_odd_volumes_and_single_planes_are_judged():
    geometry, grid = cone_beam_setup(33, 10)
    volume = block_mean(WIDE_FAMILIES["plates"]((66, 66, 66), 1), (33, 33, 33))
    scan = simulate_ct(volume, geometry, grid, Exposure(), 0)
    assert 0 < grid_share(scan, scan.truth) < 0.2
    middle = replace(scan, grid=grid.restrict((slice(16, 17), slice(0, 33), slice(0, 33))), truth=None)
    assert 0 < grid_share(middle, volume[16:17]) < 0.3


def test_k_space_of_an_image_leaves_nothing():
    scan = sample_multicoil((4, 32, 32), n_coils=4)
    assert grid_share(scan, scan.truth) == 0
    assert "by the noise of the scan" in verdict(scan, scan.truth, measured_noise(scan).share)


def test_noise_that_is_a_limit_convicts_nothing():
    scan = sample_multicoil((1, 48, 48), n_coils=4, acceleration=3)
    assert measured_noise(scan).is_limit
    assert verdict(scan, scan.truth, 0.3 * measured_noise(scan).share).endswith(OVERFITTED + UNLESS)
    assert verdict(scan, scan.truth, measured_noise(scan).share).endswith(FITTED)

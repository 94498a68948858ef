"""The noise that is measured is the noise that was put in."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.physics.samples import sample_cone_beam, sample_deblur, sample_multicoil
from napari_unroll.physics.simulate import Exposure, simulate_ct, simulate_mri
from napari_unroll.scan.geometry import ConeBeam, VolumeGrid
from napari_unroll.scan.noise import (
    MOST,
    blurred_deviation,
    measured_noise,
    photons,
    relative_deviation,
    sample_deviation,
)
from napari_unroll.scan.phantoms import coil_maps, poisson_disc_mask
from napari_unroll.scan.scan import Scan


@pytest.mark.parametrize("n", [3e3, 1e5, 1e6])
def test_photons_are_counted(n):
    scan = sample_cone_beam(32, 20, photons=n, oversample=1)
    assert photons(scan) == pytest.approx(n, rel=0.2)


def test_the_share_is_the_residual_of_the_truth():
    geometry = ConeBeam.circular(
        angles_rad=np.linspace(0, 6, 30),
        detector_shape=(32, 48),
        pixel_mm=(1.0, 1.0),
        source_origin_mm=200,
        source_detector_mm=300,
    )
    grid = VolumeGrid(shape=(32, 32, 32))
    volume = np.exp(-((np.indices(grid.shape) - 15.5) ** 2).sum(0) / 72).astype(np.float32)
    clean, noisy = (simulate_ct(volume, geometry, grid, Exposure(photons=n), seed=0) for n in (0.0, 1e4))
    share = np.linalg.norm(noisy.measurements - clean.measurements) / np.linalg.norm(noisy.measurements)
    found = measured_noise(noisy)
    assert found is not None
    assert found.share == pytest.approx(share, rel=0.15)
    assert "photons per pixel" in found.text


def fan(columns: int, n_views: int, n: float) -> Scan:
    """Of plates in a disc 64 mm wide, as sharp as half a pixel."""
    geometry = ConeBeam.circular(
        angles_rad=2 * np.pi * np.arange(n_views) / n_views,
        detector_shape=(1, columns),
        pixel_mm=(2.0, 2.0),
        source_origin_mm=200,
        source_detector_mm=400,
    )
    y, x = np.indices((128, 128)) - 63.5
    volume = (np.hypot(y, x) < 60) * (1 + 2.0 * ((x // 9) % 2 == 0) * ((y // 14) % 2 == 0))
    grid = VolumeGrid(shape=(1, 64, 64))
    return simulate_ct(volume[None].astype(np.float32), geometry, grid, Exposure(photons=n))


@pytest.mark.parametrize("n", [1e3, 1e4, 1e5, 1e6])
def test_one_row_detectors_with_air_beside_the_object_are_measured_there(n):
    assert photons(fan(80, 120, n)) == pytest.approx(n, rel=0.3)


@pytest.mark.parametrize(("n", "least"), [(1e3, 0.7), (1e4, 0.7), (1e5, 0.6), (1e6, 0.3)])
def test_one_row_detectors_that_a_sharp_object_fills_are_measured_between_views_too(n, least):
    """Neighbouring pixels alone say 0.6, 0.18, 0.025 and 0.003 of it."""
    assert least * n < photons(fan(40, 720, n)) < 1.2 * n


def test_pixels_that_saw_next_to_nothing_do_not_count_as_quiet():
    scan = fan(40, 200, 1e5)
    counts = np.random.default_rng(0).poisson(1e3 * np.exp(-4 * scan.measurements.astype(np.float64)))
    assert photons(replace(scan, measurements=-np.log(np.maximum(counts, 1) / 1e3).astype(np.float32))) < 1.3e3


def test_constant_views_have_no_noise():
    scan = sample_cone_beam(16, 4, oversample=1)
    flat = replace(scan, measurements=np.ones_like(scan.measurements))
    assert photons(flat) == MOST
    assert measured_noise(flat).share == 0


def test_of_values_that_are_no_line_integrals_nothing_is_said():
    scan = sample_cone_beam(16, 4, oversample=1)
    assert measured_noise(replace(scan, measurements=1e4 * scan.measurements)) is None


def test_k_space_noise_is_found_from_its_border():
    scan = sample_multicoil((4, 64, 64), n_coils=8, acceleration=5)
    level = relative_deviation(scan)
    assert 0.005 < level < 0.02
    louder = replace(scan, measurements=scan.measurements * 3)
    assert relative_deviation(louder) == pytest.approx(level, rel=1e-4)
    assert sample_deviation(louder) == pytest.approx(3 * sample_deviation(scan), rel=1e-4)
    assert 0 < measured_noise(scan).share < 1


def test_of_pictures_nothing_is_said():
    scan = sample_deblur((1, 32, 32))
    assert (photons(scan), sample_deviation(scan), measured_noise(scan)) == (None, None, None)


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.03])
def test_the_quietest_combination_of_coils_has_hardly_any_signal(noise):
    """Small matrices end within the signal, of which the median of the coils is."""
    scan = sample_multicoil((16, 48, 48), n_coils=8, acceleration=5, noise=noise)
    assert 0.9 * noise < relative_deviation(scan) < 2 * noise
    assert relative_deviation(scan) <= blurred_deviation(scan) < 2 * noise


def test_the_share_of_quiet_k_space_is_the_residual_of_the_truth():
    loud, quiet = (sample_multicoil((8, 64, 64), n_coils=16, acceleration=4, noise=n) for n in (0.003, 0.0))
    noise = np.linalg.norm(loud.measurements - quiet.measurements) / np.linalg.norm(loud.measurements)
    assert measured_noise(loud).share == pytest.approx(noise, rel=0.3)


def test_a_few_bright_voxels_do_not_make_the_rest_loud():
    """A bright ring as thin as a voxel, which a blurred image does not show, is what the noise is compared with."""
    y, x = np.indices((96, 96)) - 47.5
    radius = np.hypot(y, x)
    image = ((radius < 30) + 4.0 * (np.abs(radius - 33) < 1))[None].astype(np.complex64)
    mask = poisson_disc_mask((96, 96), 3, 12, 0)
    scan = simulate_mri(image, coil_maps((1, 96, 96), 12, 0), mask, noise=0.01)
    assert 0.008 < relative_deviation(scan) < 0.02
    assert blurred_deviation(scan) > 1.5 * relative_deviation(scan)


def test_one_coil_and_hardly_any_samples_are_no_trouble():
    one = sample_multicoil((1, 32, 32), n_coils=1, acceleration=2)
    few = sample_multicoil((1, 16, 16), n_coils=32, acceleration=2)
    assert relative_deviation(one) > 0
    assert relative_deviation(few) > 0

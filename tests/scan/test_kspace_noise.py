"""The noise of k-space is found where it holds least signal, and how well is told."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.physics.samples import sample_multicoil
from napari_unroll.physics.simulate import simulate_mri
from napari_unroll.scan.kspace_noise import blurred_deviation, relative_deviation, sample_deviation
from napari_unroll.scan.phantoms import coil_maps, poisson_disc_mask


def test_k_space_noise_is_found_from_its_border():
    scan = sample_multicoil((4, 64, 64), n_coils=8, acceleration=5)
    level = relative_deviation(scan)
    assert 0.005 < level < 0.02
    louder = replace(scan, measurements=scan.measurements * 3)
    assert relative_deviation(louder) == pytest.approx(level, rel=1e-4)
    assert sample_deviation(louder).value == pytest.approx(3 * sample_deviation(scan).value, rel=1e-4)
    assert sample_deviation(louder).relative_error == pytest.approx(sample_deviation(scan).relative_error, rel=1e-3)


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.03])
def test_the_quietest_combination_of_coils_has_hardly_any_signal(noise):
    """Small matrices end within the signal, of which the median of the coils is."""
    scan = sample_multicoil((16, 48, 48), n_coils=8, acceleration=5, noise=noise)
    assert 0.9 * noise < relative_deviation(scan) < 2 * noise
    assert relative_deviation(scan) <= blurred_deviation(scan) < 2 * noise


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


def test_what_is_told_of_chance_is_how_much_repeated_scans_differ():
    """Eight coils of a matrix that ends beyond the signal."""
    rng, scan = np.random.default_rng(0), sample_multicoil((1, 64, 64), n_coils=8, acceleration=3, noise=0)
    smooth = np.exp(-0.01 * ((np.indices((64, 64)) - 32.0) ** 2).sum(0))
    measured = scan.geometry.mask
    found = []
    for _ in range(30):
        white = (rng.standard_normal((8, 1, 64, 64)) + 1j * rng.standard_normal((8, 1, 64, 64))) * 0.1
        noisy = (scan.measurements * smooth + white * measured).astype(np.complex64)
        found.append(sample_deviation(replace(scan, measurements=noisy)))
    assert np.mean([f.error for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.35)
    near = [abs(f.value - 0.1 * np.sqrt(2)) < 2 * f.error for f in found]
    assert np.mean(near) > 0.8

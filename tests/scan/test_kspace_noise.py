"""The noise of k-space is found where it holds least signal, and how well is told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.physics.samples import sample_multicoil
from napari_unroll.physics.simulate import coil_factor, simulate_mri
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.kspace_noise import blurred_deviation, noise_energy, relative_deviation, sample_deviation
from napari_unroll.scan.phantoms import brain, coil_maps, poisson_disc_mask
from napari_unroll.scan.retrospective import line_mask
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d


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


@pytest.mark.parametrize("n_coils", [1, 2, 4])
@pytest.mark.parametrize("n_planes", [1, 6])
def test_few_coils_are_measured_beside_the_object_along_a_fully_sampled_axis(n_planes, n_coils):
    """The border alone says more than twice as much: small matrices end within the signal."""
    shape = (n_planes, 48, 64)
    image, mask = brain((32, *shape[1:]), 5)[16 : 16 + n_planes], line_mask(shape[1:], 2.5)
    scan = simulate_mri(image, coil_maps(shape, n_coils, 5), mask, noise=0.005)
    assert sample_deviation(scan).value == pytest.approx(0.005 * np.abs(image).max(), rel=0.15)


def along(k: np.ndarray, n_coils: int, noise: float, weights: np.ndarray | None = None, n: int = 48) -> Scan:
    """A slice of a brain sampled at ``k``, with noise relative to its brightest voxel before the weights are applied."""
    sampling = NonCartesianSampling(trajectory=k, shape=(1, n, n), n_coils=n_coils, weights=weights)
    image, csm = brain((32, n, n), 5)[16:17], coil_maps((1, n, n), n_coils, 5)
    image = image / np.abs(image).max()
    y = NonCartesianMRI(sampling, csm).A(torch.from_numpy(image)[None, None])[0].numpy()
    rng = np.random.default_rng(0)
    white = (rng.standard_normal(y.shape) + 1j * rng.standard_normal(y.shape)) * noise / np.sqrt(2)
    y = (y + white * np.sqrt(sampling.weights)).astype(np.complex64)
    return Scan(measurements=y, geometry=sampling, grid=VolumeGrid(shape=(1, n, n)), csm=csm, truth=image)


def arms(n_arms: int, n_samples: int) -> np.ndarray:
    t = np.linspace(0, 1, n_samples)
    angle = 2 * np.pi * (3 * t + np.arange(n_arms)[:, None] / n_arms)
    return 0.5 * t[:, None] * np.stack([0 * angle, np.sin(angle), np.cos(angle)], axis=-1)


@pytest.mark.parametrize("noise", [0.002, 0.02])
@pytest.mark.parametrize("n_coils", [1, 8])
@pytest.mark.parametrize("k", [radial_2d(24, 96), arms(8, 600)], ids=["spokes", "spirals"])
def test_along_trajectories_noise_is_found_where_readouts_see_beside_the_object(k, n_coils, noise):
    scan = along(k, n_coils, noise)
    found = sample_deviation(scan)
    assert found.value == pytest.approx(noise, rel=0.12)
    assert found.error < 0.1 * found.value
    assert 0.75 * noise < relative_deviation(scan) < 1.5 * noise


def test_coils_have_the_signal_in_common_where_readouts_are_no_finer_than_need_be():
    assert sample_deviation(along(radial_2d(40, 48), 16, 0.01)).value == pytest.approx(0.01, rel=0.35)


def test_weights_change_nothing_of_the_samples_noise():
    k = radial_2d(24, 96)
    weights = np.linalg.norm(k, axis=2)
    assert (weights == 0).any()
    plain, weighted = along(k, 8, 0.01), along(k, 8, 0.01, weights)
    found = sample_deviation(weighted).value
    assert found == pytest.approx(sample_deviation(plain).value, rel=0.25)
    assert noise_energy(weighted, found) == pytest.approx(8 * weights.sum() * found**2)


def test_what_receivers_filter_away_is_not_taken_for_quiet():
    """The outer half of the frequencies of readouts that are sampled twice as finely as need be, as measured scans have it."""
    scan = along(radial_2d(40, 128), 8, 0.01, n=32)
    spectra = np.fft.fft(scan.measurements)
    spectra[..., np.abs(np.fft.fftfreq(128)) > 0.32] *= 0.3
    filtered = replace(scan, measurements=np.fft.ifft(spectra).astype(np.complex64))
    assert sample_deviation(filtered).value == pytest.approx(0.01, rel=0.15)


def test_readouts_of_a_few_samples_are_measured_at_the_border():
    assert sample_deviation(along(radial_2d(300, 24), 8, 0.02, n=24)).value == pytest.approx(0.02, rel=0.5)


@pytest.mark.parametrize("n_coils", [4, 12])
def test_where_nothing_but_noise_is_coils_may_have_it_in_common(n_coils):
    """The quietest combination of coils alone would say three quarters."""
    quiet, rng = along(radial_2d(40, 96), n_coils, 0.0), np.random.default_rng(0)
    white = rng.standard_normal(quiet.measurements.shape) + 1j * rng.standard_normal(quiet.measurements.shape)
    steps = np.abs(np.subtract.outer(np.arange(n_coils), np.arange(n_coils)))
    noise = np.tensordot(coil_factor(0.4**steps, n_coils), 0.01 / np.sqrt(2) * white, axes=1)
    found = sample_deviation(replace(quiet, measurements=(quiet.measurements + noise).astype(np.complex64)))
    assert found.value == pytest.approx(0.01, rel=0.06)
    assert not found.is_limit


@pytest.mark.parametrize("n_coils", [1, 8])
def test_what_may_hold_signal_is_called_a_limit(n_coils):
    """The border of a small matrix, readouts that are no finer than need be, and gaps that make signal look white."""
    k = radial_2d(24, 96)
    gaps = np.linalg.norm(k, axis=2)
    border = sample_multicoil((1, 64, 64), n_coils=n_coils, acceleration=4)
    scans = [border, along(radial_2d(40, 48), n_coils, 0.01), along(k, n_coils, 0.01, gaps)]
    assert [sample_deviation(scan).is_limit for scan in scans] == [True] * 3
    assert not sample_deviation(along(k, n_coils, 0.01, gaps + 0.005)).is_limit

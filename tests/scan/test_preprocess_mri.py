from pathlib import Path

import numpy as np
import pytest

from napari_unroll.errors import ScanError
from napari_unroll.physics.samples import sample_multicoil
from napari_unroll.scan.preprocess_mri import (
    calibration_radius,
    coil_axes,
    estimate_csm,
    in_axes,
    low_resolution_images,
    prewhitening,
)
from napari_unroll.scan.scan import Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    return sample_multicoil((8, 64, 64), n_coils=6, acceleration=4)


def test_calibration_radius_ignores_fully_sampled_axes() -> None:
    mask = np.zeros((4, 21, 20), bool)
    mask[:, 6:15, 7:14] = True
    assert calibration_radius(mask) == 4
    assert calibration_radius(np.ones((2, 3, 4), bool)) == float("inf")


def test_estimated_maps_agree_with_the_true_ones(scan: Scan) -> None:
    maps = estimate_csm(scan.measurements, scan.geometry.mask)  # type: ignore[union-attr]
    assert maps.dtype == np.complex64
    seen = np.abs(scan.truth) > 0.1  # type: ignore[arg-type]
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(0)[seen], 1, atol=1e-4)
    alignment = np.abs((maps.conj() * scan.csm).sum(0))[seen]
    assert alignment.mean() > 0.998
    assert np.quantile(alignment, 0.05) > 0.99


def test_the_window_of_coil_images_is_that_of_all_axes() -> None:
    """Thick volumes too: the middle of k-space passes, samples further out do not."""
    kspace = np.zeros((1, 41, 44, 45), np.complex64)
    kspace[0, 20, 22, 22] = 1
    flat = low_resolution_images(kspace, 8.0)
    np.testing.assert_allclose(flat, np.full_like(flat, kspace[0].size ** -0.5), rtol=1e-5)
    for place in ((0, 22, 22), (20, 0, 22), (20, 22, 0), (11, 22, 22)):
        kspace[(0, *place)] = 1
    np.testing.assert_array_equal(low_resolution_images(kspace, 8.0), flat)


def test_a_missing_centre_is_said(scan: Scan) -> None:
    mask = scan.geometry.mask.copy()  # type: ignore[union-attr]
    mask[:, 31:34, 31:34] = False
    with pytest.raises(ScanError, match="fully sampled centre"):
        estimate_csm(scan.measurements * mask, mask)


def test_compression_keeps_energy_and_is_a_rotation(scan: Scan) -> None:
    y = scan.measurements
    whole = in_axes(y, coil_axes(y, 6))
    np.testing.assert_allclose(np.linalg.norm(whole), np.linalg.norm(y), rtol=1e-5)
    energy = np.linalg.norm(whole.reshape(6, -1), axis=1)
    assert (np.diff(energy) <= 1e-4 * energy[0]).all()
    few = in_axes(y, coil_axes(y, 4))
    assert few.shape[0] == 4
    np.testing.assert_allclose(few, whole[:4], atol=1e-5)
    with pytest.raises(ScanError, match="virtual coils"):
        coil_axes(y, 7)


def test_whitened_noise_is_independent_and_alike() -> None:
    g = np.random.default_rng(2)
    mixing = g.normal(size=(4, 4)) + 1j * g.normal(size=(4, 4))
    noise = mixing @ (g.normal(size=(4, 5000)) + 1j * g.normal(size=(4, 5000)))
    white = prewhitening(noise) @ noise
    covariance = white @ white.conj().T / 5000
    power = np.mean(np.abs(noise) ** 2)
    np.testing.assert_allclose(covariance / power, np.eye(4), atol=1e-6)
    with pytest.raises(ScanError, match="too few"):
        prewhitening(noise[:, :7])
    with pytest.raises(ScanError, match="without noise"):
        prewhitening(noise * np.array([[1], [1], [0], [1]]))


def test_maps_of_a_measured_brain_make_a_consistent_image(shared_data: Path) -> None:
    kspace = np.load(shared_data / "sigpy_brain_ksp" / "cartesian_ksp.npy")[:, None].astype(np.complex64)
    mask = np.abs(kspace).sum(0) > 0
    maps = estimate_csm(kspace, mask)
    assert calibration_radius(mask) == 12
    bright = np.linalg.norm(maps, axis=0) > 0.99
    assert bright.all()
    centre = maps[:, 0, 60:170, 50:130]
    assert np.abs(np.diff(centre, axis=1)).max() < 0.15

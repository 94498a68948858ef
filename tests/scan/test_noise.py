"""The noise of a scan in words and as the share that the true volume would leave."""

import re
from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.physics.samples import sample_cone_beam, sample_deblur, sample_multicoil
from napari_unroll.physics.simulate import Exposure, simulate_ct, simulate_mri
from napari_unroll.scan.geometry import ConeBeam, VolumeGrid
from napari_unroll.scan.kspace_noise import sample_deviation
from napari_unroll.scan.noise import measured_noise
from napari_unroll.scan.phantoms import brain, coil_maps
from napari_unroll.scan.photon_counts import photons
from napari_unroll.scan.retrospective import line_mask


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
    assert re.match(r"as of at least \d\.\d+e\+03 ± 0\.\d+e\+03 photons per pixel", found.text)
    assert 0 < found.error < 0.1 * found.share


def test_noise_of_views_that_see_no_air_is_a_limit():
    scan = sample_cone_beam(32, 20, photons=1e4, oversample=1)
    inside = np.ascontiguousarray(scan.measurements[:, 12:-12, 12:-12])
    geometry = ConeBeam(vectors=scan.geometry.vectors, detector_shape=inside.shape[1:])
    found = measured_noise(replace(scan, measurements=inside, geometry=geometry))
    assert found.is_limit
    assert found.text.startswith("as of at least")


def test_constant_views_have_no_noise():
    scan = sample_cone_beam(16, 4, oversample=1)
    flat = replace(scan, measurements=np.ones_like(scan.measurements))
    found = measured_noise(flat)
    assert (found.text, found.share, found.error) == ("none that can be measured", 0, 0)


def test_of_values_that_are_no_line_integrals_nothing_is_said():
    scan = sample_cone_beam(16, 4, oversample=1)
    assert measured_noise(replace(scan, measurements=1e4 * scan.measurements)) is None


def test_of_pictures_nothing_is_said():
    scan = sample_deblur((1, 32, 32))
    assert (photons(scan), sample_deviation(scan), measured_noise(scan)) == (None, None, None)


def test_the_share_of_quiet_k_space_is_the_residual_of_the_truth():
    loud, quiet = (sample_multicoil((8, 64, 64), n_coils=16, acceleration=4, noise=n) for n in (0.003, 0.0))
    noise = np.linalg.norm(loud.measurements - quiet.measurements) / np.linalg.norm(loud.measurements)
    assert measured_noise(loud).share == pytest.approx(noise, rel=0.3)
    told = re.match(r"(\d\.\d+)% ± (0\.\d+)% of the brightest zero-filled voxel, or less", measured_noise(loud).text)
    assert float(told[2]) / float(told[1]) == pytest.approx(
        measured_noise(loud).error / measured_noise(loud).share, rel=0.3
    )


def test_noise_beside_the_object_is_a_number_no_limit():
    image = brain((32, 64, 64), 5)[16:17]
    scan = simulate_mri(image, coil_maps(image.shape, 8, 5), line_mask((64, 64), 2.5), noise=0.01)
    told = re.match(r"about (\d\.\d+)% ± 0\.\d+% of the brightest zero-filled voxel", measured_noise(scan).text)
    assert float(told[1]) == pytest.approx(1.0, rel=0.2)

"""Siemens raw data: a file of the published layout, and a measured one."""

import sys

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.preprocess_mri import centred_ifft
from tests.io import mri_samples as mri

pytest.importorskip("mapvbvd")


def close(values, expected):
    np.testing.assert_allclose(values, expected, atol=1e-5 * np.abs(expected).max())


def test_one_slice_without_its_oversampling(tmp_path):
    path = mri.write_siemens(tmp_path / "meas.dat", mri.siemens_readouts())
    assert find_reader(path).name == "siemens"
    scan = read(path)
    close(scan.measurements[:, 0], mri.kspace()[0])
    assert scan.grid.spacing_mm == (5, 2, 2)
    assert scan.geometry.mask.all()


def test_slices_noise_and_readouts_taken_backwards(tmp_path):
    noise = np.random.default_rng(0).normal(size=(20, 3, 32))
    readouts = mri.siemens_readouts(3)
    for k in (25, 30):
        samples, _, line, number, _ = readouts[k]
        readouts[k] = (samples[:, ::-1], (mri.REFLECTED,), line, number, {"centre": 15})
    heard = [(part, (mri.NOISE_SCAN,), 0, 0, {}) for part in noise]
    scan = read(mri.write_siemens(tmp_path / "a.dat", [*heard, *readouts]), slice=2)
    covariance = np.einsum("acn,adn->cd", noise, noise) / (20 * 32)
    whiten = np.sqrt(np.trace(covariance) / 3) * np.linalg.inv(np.linalg.cholesky(covariance))
    close(scan.measurements[:, 0], np.einsum("cd,dyx->cyx", whiten, mri.kspace(3)[2]))


def test_slices_become_a_volume(tmp_path):
    scan = read(mri.write_siemens(tmp_path / "a.dat", mri.siemens_readouts(3)))
    assert scan.grid.shape == (3, 12, 16)
    close(scan.measurements, mri.fft(np.moveaxis(mri.kspace(3), 0, 1), 1))
    with pytest.raises(ParameterError, match="no slice 5"):
        read(tmp_path / "a.dat", slice=5)


def test_images_of_their_own_are_asked_for(tmp_path):
    first = mri.siemens_readouts()
    second = [(2 * samples, *rest, {"echo": 1}) for samples, *rest, _ in first]
    path = mri.write_siemens(tmp_path / "a.dat", first + second)
    with pytest.raises(MissingInformation, match="2 values of contrast"):
        read(path)
    close(read(path, contrast=1).measurements[:, 0], 2 * mri.kspace()[0])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sKSpace.ucTrajectory\t = \t0x2\n", "holds radial readouts.*only Cartesian ones are read"),
        ("sKSpace.ucTrajectory\t = \t0x4\n", "holds spiral readouts"),
        ("sKSpace.ucTrajectory\t = \t0x8\n", "holds BLADE"),
        ("sKSpace.ucTrajectory\t = \t0x40\n", "holds non-Cartesian readouts"),
        ("sFastImaging.lEPIFactor\t = \t64\n", "holds echo-planar readouts.*only plain Cartesian ones are read"),
    ],
)
def test_other_readouts_are_refused_by_name(tmp_path, line, words):
    with pytest.raises(FileFormatError, match=words):
        read(mri.write_siemens(tmp_path / "a.dat", mri.siemens_readouts(), line))


def test_readouts_that_correct_the_phase_are_echo_planar(tmp_path):
    corrects = [(part, (21,), 0, 0, {}) for part in np.ones((3, 3, 32))]
    with pytest.raises(FileFormatError, match="holds echo-planar readouts"):
        read(mri.write_siemens(tmp_path / "a.dat", [*corrects, *mri.siemens_readouts()]))


def test_without_the_library_it_says_how_to_get_it(tmp_path, monkeypatch):
    path = mri.write_siemens(tmp_path / "a.dat", mri.siemens_readouts())
    monkeypatch.setitem(sys.modules, "mapvbvd", None)
    with pytest.raises(FileFormatError, match=r"pip install 'napari-unroll\[formats\]'"):
        read(path)


def test_the_end_is_missing(tmp_path):
    path = mri.write_siemens(tmp_path / "a.dat", mri.siemens_readouts())
    whole = path.read_bytes()
    path.write_bytes(whole[:-1500])
    with pytest.raises(FileFormatError):
        read(path)


def test_a_measured_phantom(shared_data):
    scan = read(shared_data / "mri_siemens_gre" / "gre.dat")
    assert scan.measurements.shape == (2, 1, 160, 160)
    assert scan.grid.spacing_mm == (4, 1.25, 1.25)
    assert scan.geometry.mask.all()
    image = np.sqrt((np.abs(centred_ifft(scan.measurements)) ** 2).sum((0, 1)))
    corners = np.concatenate([image[:20, :20], image[:20, -20:], image[-20:, :20], image[-20:, -20:]])
    assert image[90:130, 80:120].mean() > 10 * corners.mean()

"""Siemens raw data: a file of the published layout, and a measured one."""

import sys

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError
from napari_unroll.events import result_of
from napari_unroll.io.registry import find_reader, read
from napari_unroll.methods.problem import Problem, as_values, measured
from napari_unroll.physics.build import build_physics
from napari_unroll.scan.preprocess_mri import centred_ifft
from napari_unroll.scan.trajectories import radial_2d
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
        ("sKSpace.ucTrajectory\t = \t0x4\n", "holds spiral readouts.*only Cartesian ones and spokes are read"),
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


def spokes_of(image, k):
    """Samples (spoke, coil, sample) of coil images (coil, y, x) at k (spoke, sample, 3), by the Fourier sum itself."""
    n = image.shape[-1]
    y, x = (np.arange(n) - n // 2 for _ in "yx")
    phases = [np.exp(-2j * np.pi * k[..., a, None] * at) for a, at in ((1, y), (2, x))]
    return np.einsum("cyx,sry,srx->scr", image, *phases) / n


@pytest.mark.parametrize(("angles", "golden"), [("half-turn", False), ("golden", True)])
def test_spokes_by_their_line_counters_and_the_angles_that_are_asked_for(tmp_path, angles, golden):
    n = mri.NX
    y, x = np.mgrid[:n, :n] - n // 2
    image = np.stack([(np.hypot(y - 2, x + 1) < 5) * (1 + 0.05 * c * x) for c in range(3)]).astype(complex)
    k = radial_2d(24, 2 * n, golden=golden)
    values = spokes_of(image, k)
    order = np.random.default_rng(0).permutation(24)
    path = mri.write_siemens(tmp_path / "a.dat", [(values[s], (), s, 0, {}) for s in order], mri.RADIAL)
    with pytest.raises(MissingInformation, match="does not say how its spokes turn; set option 'angles'"):
        read(path)
    scan = read(path, angles=angles)
    np.testing.assert_allclose(scan.geometry.trajectory, k[order], atol=1e-9)
    weights = scan.geometry.weights
    close(scan.measurements, np.moveaxis(values[order], 0, 1) * np.sqrt(weights))
    assert scan.grid.shape == (1, n, n)
    assert scan.grid.spacing_mm == (5, 2, 2)
    problem = Problem(scan=scan, physics=build_physics(scan, "cpu"), y=measured(scan, "cpu"))
    found = np.abs(as_values(result_of(problem.find_quick())))[0]
    truth = np.sqrt((np.abs(image) ** 2).sum(0))
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.9


def test_slices_and_stacks_of_spokes(tmp_path):
    k = radial_2d(24, 2 * mri.NX, golden=False)
    ones = np.ones((2, 2 * mri.NX))
    path = mri.write_siemens(
        tmp_path / "a.dat", [(ones, (), s, z, {}) for z in range(2) for s in range(24)], mri.RADIAL
    )
    with pytest.raises(MissingInformation, match="2 slices of spokes"):
        read(path, angles="half-turn")
    assert read(path, angles="half-turn", slice=1).measurements.shape == (2, 24, 2 * mri.NX)
    stack = [(ones, (), s, 0, {"partition": z, "middle": 2}) for z in range(4) for s in range(24)]
    scan = read(mri.write_siemens(tmp_path / "b.dat", stack, mri.RADIAL), angles="half-turn")
    assert scan.grid.shape == (4, mri.NX, mri.NX)
    np.testing.assert_allclose(np.unique(scan.geometry.trajectory[..., 0]), [-0.5, -0.25, 0, 0.25])
    np.testing.assert_allclose(scan.geometry.trajectory[:24, :, 1:], k[..., 1:], atol=1e-9)


def test_spokes_taken_backwards_are_turned_and_others_refused(tmp_path):
    values = np.random.default_rng(0).normal(size=(24, 2, 2 * mri.NX))
    plain = read(
        mri.write_siemens(tmp_path / "a.dat", [(v, (), s, 0, {}) for s, v in enumerate(values)], mri.RADIAL),
        angles="golden",
    )
    turned = [(v[:, ::-1], (mri.REFLECTED,), s, 0, {"centre": mri.NX - 1}) for s, v in enumerate(values)]
    again = read(mri.write_siemens(tmp_path / "b.dat", turned, mri.RADIAL), angles="golden")
    np.testing.assert_array_equal(again.measurements, plain.measurements)
    odd = [(v, (), s, 0, {"centre": mri.NX + s % 2}) for s, v in enumerate(values)]
    with pytest.raises(FileFormatError, match="differ in their centre"):
        read(mri.write_siemens(tmp_path / "c.dat", odd, mri.RADIAL), angles="golden")
    with pytest.raises(ParameterError, match="0:180"):
        read(tmp_path / "a.dat", angles="1e999:3")


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

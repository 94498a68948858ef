"""k-space along a trajectory: pyqmri's HDF5 and archives."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.events import result_of
from napari_unroll.io.registry import describe, find_reader, read
from napari_unroll.io.scan_file import write_scan
from napari_unroll.methods.problem import Problem, as_values, measured
from napari_unroll.physics.build import build_physics
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d

SHOTS, READOUT = 9, 24


def write_pyqmri(path, weighted=None):
    g = np.random.default_rng(0)
    k = radial_2d(SHOTS, READOUT)
    with h5py.File(path, "w") as file:
        for name in ("real_dat", "imag_dat"):
            file[name] = g.normal(size=(2, 3, 1, SHOTS, READOUT))
        file["real_traj"], file["imag_traj"] = np.stack([k[..., 1]] * 2), np.stack([k[..., 2]] * 2)
        file["dcf"] = np.abs(k[..., 2]) + 0.01
        if weighted is not None:
            file.attrs["data_normalized_with_dcf"] = np.array([float(weighted)])
        file["Coils"] = (g.normal(size=(3, 1, 12, 12)) + 0j).astype(np.complex64)
    return path


def archive(path, **more):
    g = np.random.default_rng(1)
    kspace = (g.normal(size=(2, SHOTS, READOUT)) + 0j).astype(np.complex64)
    np.savez(path, kspace=kspace, trajectory=radial_2d(SHOTS, READOUT)[..., 1:], **more)
    return kspace


def test_pyqmri(tmp_path):
    path = write_pyqmri(tmp_path / "a.h5")
    assert find_reader(path).name == "pyqmri"
    scan = read(path, index=1, voxel_mm=2)
    with h5py.File(path) as file:
        samples = file["real_dat"][1, :, 0] + 1j * file["imag_dat"][1, :, 0]
        np.testing.assert_allclose(scan.measurements, samples * np.sqrt(file["dcf"]), rtol=1e-6)
        np.testing.assert_allclose(scan.geometry.weights, file["dcf"])
        np.testing.assert_allclose(scan.geometry.trajectory[..., 1], file["real_traj"][1])
    assert (scan.modality, scan.grid.shape, scan.grid.spacing_mm[0]) == ("mri", (1, 12, 12), 2)
    assert describe(path)["trajectory"] == "9 shots of 24 samples"


def test_pyqmri_says_whether_its_samples_are_weighted(tmp_path):
    bare, not_yet, weighted = (
        read(write_pyqmri(tmp_path / f"{n}.h5", given)) for n, given in enumerate((None, False, True))
    )
    np.testing.assert_array_equal(bare.measurements, not_yet.measurements)
    np.testing.assert_allclose(bare.measurements, weighted.measurements * np.sqrt(weighted.geometry.weights), rtol=1e-6)
    assert any("as they are stored" in note for note in weighted.notes)


def test_a_measured_radial_brain_looks_like_the_picture_in_its_file(shared_data):
    path = shared_data / "pyqmri_radial" / "VFA_radial_smalltest.h5"
    if not path.is_file():
        pytest.skip(f"no {path.name} here")
    scan = read(path, index=4)
    problem = Problem(scan=scan, physics=(physics := build_physics(scan, "cpu")), y=measured(scan, "cpu"))
    image = np.abs(as_values(result_of(problem.find_quick())))[0]
    with h5py.File(path) as file:
        picture = np.abs(file["images"][4, 0])
    assert np.corrcoef(image.ravel(), picture.ravel())[0, 1] > 0.9
    assert physics.grid.shape == (1, *picture.shape)


def test_there_are_only_so_many_scans(tmp_path):
    with pytest.raises(ParameterError, match="2 scans"):
        read(write_pyqmri(tmp_path / "a.h5"), index=2)


def test_an_archive_with_a_trajectory(tmp_path):
    path = tmp_path / "k.npz"
    kspace = archive(path)
    assert find_reader(path).name == "trajectory-npz"
    scan = read(path)
    assert isinstance(scan.geometry, NonCartesianSampling)
    np.testing.assert_array_equal(scan.measurements, kspace)
    assert scan.grid.shape == (1, 12, 12)
    assert read(path, size=20).grid.shape == (1, 20, 20)


def test_density_weighs_the_samples(tmp_path):
    density = np.full((SHOTS, READOUT), 4.0)
    kspace = archive(tmp_path / "k.npz", dcf=density)
    np.testing.assert_allclose(read(tmp_path / "k.npz").measurements, 2 * kspace)


def test_wrong_axes_are_a_sentence(tmp_path):
    np.savez(tmp_path / "k.npz", kspace=np.ones((2, 4, 5), np.complex64), trajectory=np.zeros((3, 5, 2)))
    with pytest.raises(FileFormatError, match="trajectory \\(shot, readout"):
        read(tmp_path / "k.npz")


def test_scan_files_keep_trajectory_and_weights(tmp_path):
    scan = read(write_pyqmri(tmp_path / "a.h5"))
    again = read(write_scan(tmp_path / "b.h5", scan))
    assert again.geometry == scan.geometry
    assert again.fingerprint() == scan.fingerprint()
    np.testing.assert_array_equal(again.measurements, scan.measurements)

"""Spokes in bare arrays: never taken for Cartesian coils, asked about, and read once they are named."""

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.trajectories import radial_2d
from tests.io.mri_samples import spokes

SPOKES, COILS, READOUT = 20, 3, 32


def test_spokes_are_asked_about(tmp_path):
    np.save(tmp_path / "k.npy", spokes())
    assert find_reader(tmp_path / "k.npy").name == "radial-npy"
    known: dict = {}
    for option, value in (("axes", "slice,spoke,coil,readout"), ("angles", "half-turn"), ("slice", 1)):
        with pytest.raises(MissingInformation) as caught:
            read(tmp_path / "k.npy", **known)
        assert caught.value.options == (option,)
        known[option] = value
    scan = read(tmp_path / "k.npy", **known)
    assert scan.grid.shape == (1, 16, 16)
    np.testing.assert_allclose(scan.geometry.trajectory, radial_2d(SPOKES, READOUT, golden=False), atol=1e-12)
    weighted = np.moveaxis(spokes()[1], 1, 0) * np.sqrt(scan.geometry.weights)
    np.testing.assert_allclose(scan.measurements, weighted, rtol=1e-5)


@pytest.mark.parametrize("angles", ["golden", "full-turn", "0:90", "angles.txt"])
def test_angles(tmp_path, angles):
    np.save(tmp_path / "k.npy", spokes(1)[0, :, 0])
    (tmp_path / "angles.txt").write_text("\n".join(str(4.5 * k) for k in range(SPOKES)))
    scan = read(tmp_path / "k.npy", axes="spoke,readout", angles=angles)
    first, last = (
        {"golden": 111.246, "full-turn": 18.0, "angles.txt": 4.5}.get(angles, 90 / 19) * k for k in (1, SPOKES - 1)
    )
    k = scan.geometry.trajectory
    for spoke, degrees in ((1, first), (SPOKES - 1, last)):
        np.testing.assert_allclose(k[spoke, -1] / np.linalg.norm(k[spoke, -1]),
                                   [0, np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))], atol=1e-3)  # fmt: skip
    other = read(tmp_path / "k.npy", axes="spoke,readout", angles=angles, clockwise=True).geometry.trajectory
    np.testing.assert_allclose(other, k * [1, -1, 1])


def test_another_centre(tmp_path):
    np.save(tmp_path / "k.npy", spokes(1)[0])
    scan = read(tmp_path / "k.npy", axes="spoke,coil,readout", angles="golden", centre=12, size=10, virtual_coils=2)
    assert scan.measurements.shape == (2, SPOKES, READOUT)
    np.testing.assert_array_equal(scan.geometry.trajectory[:, 12], 0)
    assert np.abs(scan.geometry.trajectory).max() < 0.5
    with pytest.raises(FileFormatError, match="option 'centre'"):
        read(tmp_path / "k.npy", axes="spoke,coil,readout", angles="golden", centre=32)


def test_cartesian_arrays_stay_cartesian(tmp_path):
    far = 1 / (1 + np.hypot(*np.meshgrid(np.arange(40) - 20, np.arange(36) - 18))) ** 2
    np.save(tmp_path / "a.npy", (np.ones((18, 1, 1)) * far).astype(np.complex64))
    assert find_reader(tmp_path / "a.npy").name == "kspace"
    np.save(tmp_path / "b.npy", spokes())
    assert read(tmp_path / "b.npy", format="kspace").measurements.shape == (2, SPOKES, COILS, READOUT)


def test_the_measured_phantom(shared_data):
    path = shared_data / "mri_radial_phantom" / "cds_radial33.npy"
    with pytest.raises(MissingInformation, match="as spokes have"):
        read(path)
    scan = read(path, axes="slice,spoke,coil,readout", angles="full-turn", slice=1)
    assert scan.measurements.shape == (17, 33, 256)
    with pytest.raises(ParameterError, match="no slice 3"):
        read(path, axes="slice,spoke,coil,readout", angles="full-turn", slice=3)
    assert find_reader(shared_data / "sigpy_brain_ksp" / "cartesian_ksp.npy").name == "kspace"

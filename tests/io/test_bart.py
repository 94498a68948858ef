"""BART's arrays, as its own files are laid out: the first dimension runs fastest."""

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d
from tests.io import mri_samples as mri


def in_bart(kspace):
    """(slice, coil, y, x) as dimensions x, y, z, coil, …, slice."""
    turned = kspace.transpose(3, 2, 1, 0)[:, :, None]
    return turned.reshape(*turned.shape[:4], *[1] * 9, turned.shape[4])


@pytest.mark.parametrize("write", [mri.write_cfl, lambda stem, values: mri.write_ra(stem.with_suffix(".ra"), values)])
def test_one_image(tmp_path, write):
    path = write(tmp_path / "k", in_bart(mri.kspace())[..., 0])
    assert find_reader(path).name == ("bart" if path.suffix == ".cfl" else "rawarray")
    scan = read(path, voxel_mm=2)
    np.testing.assert_array_equal(scan.measurements[:, 0], mri.kspace()[0])
    assert scan.grid.spacing_mm == (2, 2, 2)


def test_the_header_opens_its_samples_and_both_are_hashed(tmp_path):
    path = mri.write_cfl(tmp_path / "k", in_bart(mri.kspace()))
    first = read(path.with_suffix(".hdr")).provenance.sha256
    mri.write_cfl(tmp_path / "k", 2 * in_bart(mri.kspace()))
    assert read(path.with_suffix(".hdr")).provenance.sha256 != first


def test_three_dimensions_undersampled(tmp_path):
    full = mri.fft(np.moveaxis(mri.images(4), 0, 1), 1, 2, 3)
    full[:, :, ::2] = 0
    scan = read(mri.write_cfl(tmp_path / "k", full.transpose(3, 2, 1, 0)))
    np.testing.assert_array_equal(scan.measurements, full)
    assert scan.geometry.acceleration == 2


def test_slices_and_echoes(tmp_path):
    both = np.stack([mri.kspace(3), 2 * mri.kspace(3)])
    values = in_bart(both.reshape(-1, *both.shape[2:])).reshape(16, 12, 1, 3, 1, 1, *[1] * 7, 2, 3)
    values = np.moveaxis(values, 13, 5).reshape(16, 12, 1, 3, 1, 2, *[1] * 7, 3)
    path = mri.write_cfl(tmp_path / "k", values)
    with pytest.raises(MissingInformation, match="2 along echo"):
        read(path)
    scan = read(path, echo=1)
    np.testing.assert_allclose(scan.measurements, 2 * mri.fft(np.moveaxis(mri.kspace(3), 0, 1), 1), atol=1e-5)
    np.testing.assert_array_equal(read(path, echo=0, slice=2).measurements[:, 0], mri.kspace(3)[2])
    with pytest.raises(ParameterError, match="no slice 3"):
        read(path, echo=0, slice=3)


def test_maps_beside_it(tmp_path):
    path = mri.write_cfl(tmp_path / "k", in_bart(mri.kspace()))
    maps = np.random.default_rng(0).normal(size=(16, 12, 1, 3, 2)).astype(np.complex64)
    mri.write_cfl(tmp_path / "sens", maps)
    scan = read(path, sens="sens", virtual_coils=2)
    assert scan.csm.shape == (2, 1, 12, 16)
    np.testing.assert_array_equal(read(path, sens="sens.cfl").csm, maps[..., 0].transpose(3, 2, 1, 0))


def test_a_trajectory(tmp_path):
    k = radial_2d(5, 16, golden=False)
    values = np.random.default_rng(0).normal(size=(1, 16, 5, 2)).astype(np.complex64)
    path = mri.write_cfl(tmp_path / "k", values)
    mri.write_cfl(tmp_path / "t", (16 * k[..., ::-1]).transpose(2, 1, 0))
    with pytest.raises(MissingInformation, match="trajectory") as caught:
        read(path)
    assert caught.value.options == ("traj",)
    scan = read(path, traj="t")
    assert isinstance(scan.geometry, NonCartesianSampling)
    np.testing.assert_allclose(scan.geometry.trajectory, k, atol=1e-6)
    np.testing.assert_array_equal(scan.measurements, values[0].transpose(2, 1, 0))
    assert scan.grid.shape == (1, 16, 16)
    assert read(path, traj="t", size=12).grid.shape == (1, 12, 12)
    mri.write_cfl(tmp_path / "u", k[:4].transpose(2, 1, 0))
    with pytest.raises(FileFormatError, match="trajectory should be"):
        read(path, traj="u")


def test_what_is_wrong_is_said(tmp_path):
    path = mri.write_cfl(tmp_path / "k", in_bart(mri.kspace()))
    header = path.with_suffix(".hdr")
    for sizes, words in (
        ("16 12 1 400", "declares"),
        ("16 12 1 2", "more bytes"),
        ("16 -12", "sizes under"),
        ("", "sizes under"),
    ):
        header.write_text(f"# Dimensions\n{sizes}\n")
        with pytest.raises(FileFormatError, match=words):
            read(path)
    header.unlink()
    with pytest.raises(FileFormatError, match=r"k\.hdr is missing"):
        read(path)
    path = mri.write_cfl(tmp_path / "many", np.ones((16, 12, 1, 1, 1, 1, 3), np.complex64))
    with pytest.raises(FileFormatError, match="along dimension 6"):
        read(path)

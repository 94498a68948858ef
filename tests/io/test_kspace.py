import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.geometry import CartesianSampling
from tests.io import samples


def test_mask_comes_from_the_zeros(tmp_path):
    np.save(tmp_path / "k.npy", samples.kspace())
    scan = read(tmp_path / "k.npy", spacing_mm="2,1,1.5")
    assert find_reader(tmp_path / "k.npy").name == "kspace"
    assert isinstance(scan.geometry, CartesianSampling)
    np.testing.assert_array_equal(scan.measurements, samples.kspace())
    assert scan.measurements.dtype == np.complex64
    np.testing.assert_array_equal(scan.geometry.mask, samples.kspace()[0] != 0)
    assert scan.geometry.acceleration == 2
    assert scan.grid.shape == (4, 10, 12)
    assert scan.grid.spacing_mm == (2, 1, 1.5)
    assert any("estimated from k-space" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((10, 12), "auto", (1, 1, 10, 12)),
        ((3, 10, 12), "auto", (3, 1, 10, 12)),
        ((4, 10, 12), "z,y,x", (1, 4, 10, 12)),
        ((10, 12, 3), "y,x,coil", (3, 1, 10, 12)),
        ((4, 10, 12, 3), "z,y,x,coil", (3, 4, 10, 12)),
    ],
)
def test_axes(tmp_path, shape, axes, expected):
    np.save(tmp_path / "k.npy", np.ones(shape, np.complex128))
    assert read(tmp_path / "k.npy", axes=axes).measurements.shape == expected


@pytest.mark.parametrize("shape", [(80, 70, 4), (80, 70, 66), (80, 4, 4, 3)])
def test_an_axis_that_is_long_for_coils_is_asked_about(tmp_path, shape):
    np.save(tmp_path / "k.npy", np.ones(shape, np.complex64))
    axes = "coil,y,x" if len(shape) == 3 else "coil,z,y,x"
    with pytest.raises(FileFormatError, match=f"80 coils. Set option 'axes' to {axes} if so, else to"):
        read(tmp_path / "k.npy")
    assert len(read(tmp_path / "k.npy", axes=axes).measurements) == 80


def test_archive_with_mask_maps_and_spacing(tmp_path):
    full = np.ones((3, 4, 10, 12), np.complex64)
    mask = np.zeros((10, 12), bool)
    mask[::3] = True
    np.savez(tmp_path / "k.npz", kspace=full, mask=mask, csm=2 * full, spacing_mm=[3.0, 1.0, 1.0])
    scan = read(tmp_path / "k.npz")
    assert find_reader(tmp_path / "k.npz").name == "kspace-npz"
    np.testing.assert_array_equal(scan.geometry.mask, np.broadcast_to(mask, (4, 10, 12)))
    np.testing.assert_array_equal(scan.measurements != 0, np.broadcast_to(mask, full.shape))
    np.testing.assert_array_equal(scan.csm, 2 * full)
    assert scan.grid.spacing_mm == (3, 1, 1)


def test_mask_and_maps_by_option(tmp_path):
    np.save(tmp_path / "k.npy", samples.kspace())
    np.save(tmp_path / "m.npy", samples.kspace()[0] != 0)
    np.save(tmp_path / "c.npy", np.ones((3, 4, 10, 12), np.complex64))
    scan = read(tmp_path / "k.npy", mask="m.npy", csm="c.npy")
    assert scan.csm is not None
    assert any("mask given" in note for note in scan.notes)


def test_corner_convention(tmp_path):
    values = samples.kspace()
    values[:, 2, 5, 6] = 100
    np.save(tmp_path / "k.npy", np.fft.ifftshift(values, axes=(1, 2, 3)))
    assert any("chequered" in note for note in read(tmp_path / "k.npy").notes)
    np.testing.assert_array_equal(read(tmp_path / "k.npy", centred=False).measurements, values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((2, 6, 6), np.complex64), "only zeros"),
        (np.full((2, 6, 6), np.nan + 0j, np.complex64), "NaN"),
        (np.ones((2, 2, 2, 2, 6), np.complex64), "not one that is read here"),
    ],
)
def test_values_without_meaning(tmp_path, values, words):
    np.save(tmp_path / "k.npy", values)
    with pytest.raises(FileFormatError, match=words):
        read(tmp_path / "k.npy")


def test_side_files_that_do_not_fit(tmp_path):
    np.save(tmp_path / "k.npy", samples.kspace())
    np.save(tmp_path / "m.npy", np.ones((5, 5), bool))
    with pytest.raises(FileFormatError, match="mask has shape"):
        read(tmp_path / "k.npy", mask="m.npy")
    with pytest.raises(FileFormatError, match="coil maps should hold complex"):
        read(tmp_path / "k.npy", csm="m.npy")
    with pytest.raises(ParameterError, match="spacing_mm"):
        read(tmp_path / "k.npy", spacing_mm="1,2")
    with pytest.raises(FileFormatError, match="axes"):
        read(tmp_path / "k.npy", axes="y,x")

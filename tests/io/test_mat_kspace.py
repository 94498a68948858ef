"""k-space in MATLAB files: version 5 as scipy writes it, 7.3 in MATLAB's own layout of HDF5."""

import zlib

import h5py
import numpy as np
import pytest
import scipy.io

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.registry import find_reader, read
from tests.io import mri_samples as mri


def write_73(path, **arrays):
    """MATLAB begins such files with 512 bytes of its own."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            file[name] = mri.in_pairs(values)
    with path.open("r+b") as file:
        file.write(mri.MATLAB_73)
    return path


def write_5(path, **arrays):
    scipy.io.savemat(path, arrays, do_compression=True)
    return path


@pytest.mark.parametrize(("write", "name"), [(write_5, "kspace-mat"), (write_73, "kspace-mat-73")])
def test_axes_are_asked_for_and_maps_and_masks_are_found(tmp_path, write, name):
    full = mri.kspace()[0]
    mask = np.ones((16, 12))
    mask[:, ::3] = 0
    maps = mri.images()[0].transpose(2, 1, 0)
    path = write(tmp_path / "a.mat", kData=full.transpose(2, 1, 0), Mask=mask, csm=maps, info=np.ones(3))
    assert find_reader(path).name == name
    with pytest.raises(MissingInformation, match="no usual order") as caught:
        read(path)
    assert caught.value.options == ("axes",)
    scan = read(path, axes="x,y,coil")
    np.testing.assert_allclose(scan.measurements[:, 0], full * (mask.T != 0), atol=1e-6)
    np.testing.assert_allclose(scan.csm[:, 0], mri.images()[0], atol=1e-6)


def test_several_arrays_are_asked_about(tmp_path):
    path = write_5(tmp_path / "a.mat", first=np.ones((4, 5)) + 1j, second=2 * np.ones((4, 5)) + 1j)
    with pytest.raises(MissingInformation, match="2 complex arrays") as caught:
        read(path)
    assert caught.value.options == ("variable",)
    assert (read(path, variable="second").measurements == 2 + 1j).all()
    with pytest.raises(MissingInformation, match="no array 'third'"):
        read(path, variable="third")


def test_a_mask_of_three_axes_in_matlabs_order(tmp_path):
    full = mri.fft(np.moveaxis(mri.images(4), 0, 1), 1, 2, 3)
    mask = np.random.default_rng(0).random((4, 12, 16)) < 0.5
    path = write_5(tmp_path / "a.mat", kspace=full.transpose(3, 2, 1, 0), mask=mask.transpose(2, 1, 0))
    scan = read(path, axes="x,y,z,coil")
    np.testing.assert_array_equal(scan.geometry.mask, mask)
    np.testing.assert_array_equal(scan.measurements, full * mask)


def test_real_arrays_are_no_k_space(tmp_path):
    with pytest.raises(FileFormatError, match="MATLAB file, but not one"):
        read(write_5(tmp_path / "a.mat", sinogram=np.ones((4, 5))))


def test_values_that_are_not_there(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("kspace", (30, 40), [("real", "<f8"), ("imag", "<f8")])
    with pytest.raises(FileFormatError, match="keeps no values"):
        read(tmp_path / "a.mat")


@pytest.mark.parametrize("packed", [False, True])
def test_elements_of_no_known_type_never_reach_the_library(tmp_path, packed):
    """They would end the process."""
    path = tmp_path / "a.mat"
    values = np.random.default_rng(0).normal(size=(4, 5)) + 1j
    scipy.io.savemat(
        path, {"kspace": values, "name": "text", "more": {"a": [1.0, 2.0], "b": values.real}}, do_compression=packed
    )
    np.testing.assert_allclose(read(path).measurements[0, 0], values, rtol=1e-6)
    whole = path.read_bytes()
    if packed:
        n = int.from_bytes(whole[132:136], "little")
        inner = bytearray(zlib.decompress(whole[136 : 136 + n]))
        at = inner.index(bytes([9, 0, 0, 0, 160, 0, 0, 0]))
        inner[at + 1] = 2
        again = zlib.compress(bytes(inner))
        path.write_bytes(whole[:132] + len(again).to_bytes(4, "little") + again + whole[136 + n :])
    else:
        at = whole.index(bytes([9, 0, 0, 0, 160, 0, 0, 0]))
        path.write_bytes(whole[: at + 1] + bytes([2]) + whole[at + 2 :])
    with pytest.raises(FileFormatError, match="element of type 521"):
        read(path)


def test_pairs_of_no_known_type_are_refused(tmp_path):
    """HDF5 writes beyond its memory where it converts them."""
    odd = h5py.h5t.IEEE_F64LE.copy()
    odd.set_ebias(5000)
    pair = h5py.h5t.create(h5py.h5t.COMPOUND, 16)
    pair.insert(b"real", 0, odd)
    pair.insert(b"imag", 8, h5py.h5t.IEEE_F64LE)
    write_73(tmp_path / "a.mat")
    with h5py.File(tmp_path / "a.mat", "r+") as file:
        data = h5py.h5d.create(file.id, b"kspace", pair, h5py.h5s.create_simple((4, 5)))
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros((4, 5), "V16"), mtype=pair)
    with pytest.raises(FileFormatError, match="no known type"):
        read(tmp_path / "a.mat")

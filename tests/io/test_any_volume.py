"""Volumes of every format that training reads are the same array; damaged files are refused in words."""

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile

from napari_unroll.errors import FileFormatError
from napari_unroll.io.any_volume import read_any_volume, volume_files
from napari_unroll.io.writers import write
from napari_unroll.scan.geometry import VolumeGrid

VALUES = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)


def _nifti(path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(VALUES.transpose(2, 1, 0), np.eye(4)), path)


def _mrc(path):
    with mrcfile.new(path) as file:
        file.set_data(VALUES)


def _hdf5(path):
    with h5py.File(path, "w") as file:
        file["volume"] = VALUES


def _slices(path):
    path.mkdir()
    for i, values in enumerate(VALUES):
        tifffile.imwrite(path / f"slice_{i}.tif", values)


def _fits(path):
    pytest.importorskip("astropy.io.fits").PrimaryHDU(VALUES.astype(">f4")).writeto(path)


def _ome_zarr(path):
    write(path, VALUES, VolumeGrid(shape=VALUES.shape))


WRITERS = {
    "v.tif": lambda path: tifffile.imwrite(path, VALUES, photometric="minisblack"),
    "v.npy": lambda path: np.save(path, VALUES),
    "v.npz": lambda path: np.savez(path, volume=VALUES),
    "v.nii": _nifti,
    "v.nii.gz": _nifti,
    "v.mrc": _mrc,
    "v.h5": _hdf5,
    "v.fits": _fits,
    "v.ome.zarr": _ome_zarr,
    "slices": _slices,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_volume(tmp_path, name):
    WRITERS[name](tmp_path / name)
    np.testing.assert_allclose(read_any_volume(tmp_path / name), VALUES, rtol=1e-6)
    assert volume_files(tmp_path) == [tmp_path / name]


@pytest.mark.parametrize("name", ["v.tif", "v.npy", "v.npz", "v.nii", "v.mrc", "v.h5", "v.fits"])
def test_damaged_files_are_refused_in_words(tmp_path, name):
    (tmp_path / name).write_bytes(b"no volume at all" * 20)
    with pytest.raises(FileFormatError, match=name):
        read_any_volume(tmp_path / name)

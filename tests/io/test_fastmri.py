"""Files laid out as fastMRI publishes them: the readout is y, twice oversampled; x is phase-encoded."""

import h5py
import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.io.registry import find_reader, read
from tests.io import mri_samples as mri

pytest.importorskip("ismrmrd")
LAST = (-1, -2)


def test_a_volume_and_a_slice(tmp_path):
    path = mri.write_fastmri(tmp_path / "a.h5", 3)
    assert find_reader(path).name == "fastmri"
    scan, one = read(path), read(path, slice=2)
    turned = np.swapaxes(mri.kspace(3), *LAST)
    assert scan.grid.shape == (3, 16, 12)
    assert scan.grid.spacing_mm == (5, 2, 2)
    np.testing.assert_allclose(scan.measurements, mri.fft(np.moveaxis(turned, 0, 1), 1), atol=1e-5)
    np.testing.assert_allclose(one.measurements[:, 0], turned[2], atol=1e-5)
    assert scan.geometry.mask.all()
    with pytest.raises(ParameterError, match="no slice 3"):
        read(path, slice=3)


def test_one_coil(tmp_path):
    path = mri.write_fastmri(tmp_path / "a.h5", 2)
    with h5py.File(path, "a") as file:
        kspace = file["kspace"][:, 0]
        del file["kspace"]
        file["kspace"] = kspace
    assert read(path).measurements.shape == (1, 2, 16, 12)


def test_masks_of_test_files_and_zeros(tmp_path):
    columns = np.array([1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 0, 1])
    given = read(mri.write_fastmri(tmp_path / "a.h5", 2, columns=columns, masked=True)).geometry.mask
    found = read(mri.write_fastmri(tmp_path / "b.h5", 2, columns=columns, masked=False)).geometry.mask
    np.testing.assert_array_equal(given, np.broadcast_to(columns == 1, (2, 16, 12)))
    np.testing.assert_array_equal(found, given)
    with pytest.raises(FileFormatError, match="mask of"):
        read(mri.write_fastmri(tmp_path / "c.h5", 2, columns=columns[1:], masked=True))


def test_a_truth_from_what_was_sampled_in_full(tmp_path):
    path = mri.write_fastmri(tmp_path / "a.h5", 3)
    scan = read(path, undersample=1.4, pattern="lines-x", calibration=3)
    assert scan.truth.shape == (3, 16, 12)
    assert (scan.geometry.mask == scan.geometry.mask[:1, :1]).all()
    assert not scan.geometry.mask.all()


def test_a_header_that_declares_a_text_beyond_its_file_is_not_read(tmp_path):
    path = mri.write_fastmri(tmp_path / "a.h5", 1)
    with h5py.File(path) as file:
        at = file["ismrmrd_header"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[at : at + 4] = (3 * 10**9).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="text of 3 GB"):
        read(path)

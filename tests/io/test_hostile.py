"""Files that mean harm, and names that are odd: one clear sentence each, at once, and nothing is unpacked or waited for."""

import gzip
import os
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import tifffile

from napari_unroll.errors import LONGEST_TEXT, FileFormatError
from napari_unroll.io.any_volume import read_any_volume
from napari_unroll.io.registry import describe, find_reader, read
from napari_unroll.io.writers import read_volume
from tests.io import samples


def sentence(work, *arguments, **options) -> str:
    with pytest.raises(FileFormatError) as caught:
        work(*arguments, **options)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) <= LONGEST_TEXT
    assert text.endswith((".", ")"))
    return text


@pytest.mark.parametrize("name", ["brain scan.npz", "Schädel 模型.npz", "naïve\u00a0 name.npz", "-o.npz", "#%20?.npz"])
def test_names_with_blanks_and_other_letters_are_read(tmp_path, name):
    folder = tmp_path / f"folder of {name}"
    folder.mkdir()
    scan = read(samples.write_npz(folder / name))
    assert scan.provenance.source.endswith(name)


@pytest.mark.parametrize("name", ["a\x1b[31mred\x07.npz", "two\nlines.npz", "tab\there.h5", "\u202egnp.h5"])
def test_control_characters_of_a_name_reach_no_terminal(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing")
    for work in (find_reader, read, describe, read_volume, read_any_volume):
        if work is read_volume and not name.endswith(".h5"):
            continue
        sentence(work, tmp_path / name)
    scan = read(samples.write_npz(tmp_path / f"{name}.npz"))
    assert scan.name.isprintable()


def test_pipes_devices_and_circles_of_links(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "zero.h5").symlink_to("/dev/zero")
    (tmp_path / "round.h5").symlink_to(tmp_path / "round.h5")
    (tmp_path / "gone.h5").symlink_to(tmp_path / "nowhere.h5")
    assert "neither a file nor a folder" in sentence(read, tmp_path / "pipe.h5")
    assert "neither a file nor a folder" in sentence(read, tmp_path / "zero.h5")
    for name in ("round.h5", "gone.h5"):
        assert "no file" in sentence(read, tmp_path / name)
        sentence(read_volume, tmp_path / name)


def test_a_link_to_a_scan_is_the_scan(tmp_path):
    (tmp_path / "link.npz").symlink_to(samples.write_npz(tmp_path / "a.npz"))
    assert read(tmp_path / "link.npz").measurements.shape[0] == samples.N_VIEWS


def test_hdf5_whose_groups_and_links_go_in_circles(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/data"] = np.zeros((3, 4, 5), np.float32)
        file["group/self"] = file["group"]
        file["group/up"] = h5py.SoftLink("/group/up")
        file["exchange"] = h5py.SoftLink("/exchange")
    sentence(read, tmp_path / "a.h5")


def test_bombs_are_not_unpacked(tmp_path):
    """Little that declares or becomes very much."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "exchange/data", shape=(10**6, 2048, 2048), dtype="f4", chunks=(1, 2048, 2048), compression="gzip"
        )
        file["exchange/data"][0] = 0
        file["exchange/theta"] = np.zeros(3)
    assert "packed into" in sentence(read, tmp_path / "a.h5")
    head = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (4000, 1000, 1000), }"
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("line_integrals.npy", head.ljust(127) + b"\n" + bytes(10_000_000))
    assert "does not fit" in sentence(read, tmp_path / "b.npz")
    picture = zlib.compress(bytes(2**24))
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((2, 4096, 4096), np.uint8), compression="zlib")
    content = bytearray((tmp_path / "c.tif").read_bytes())
    assert len(content) < 2**20 < len(picture) * 2**10
    with tifffile.TiffFile(tmp_path / "c.tif") as tiff:
        at = [tag.valueoffset for page in tiff.pages for tag in page.tags if tag.name == "ImageLength"]
    for place in at:
        content[place : place + 4] = (2**31 - 1).to_bytes(4, "little")
    (tmp_path / "c.tif").write_bytes(content)
    sentence(read, tmp_path / "c.tif", angles="0:180")


def test_a_packed_nifti_that_declares_more_than_the_memory(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    header = nibabel.Nifti1Header()
    header.set_data_shape((30_000, 30_000, 30_000))
    header.set_data_dtype(np.float32)
    with gzip.open(tmp_path / "a.nii.gz", "wb") as stream:
        stream.write(header.binaryblock + bytes(4096))
    sentence(read_volume, tmp_path / "a.nii.gz")
    sentence(read_any_volume, tmp_path / "a.nii.gz")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e38])
def test_numbers_that_are_none(tmp_path, bad):
    values = samples.line_integrals()
    values[:] = bad
    np.save(tmp_path / "a.npy", values)
    sentence(read, tmp_path / "a.npy", angles="0:180", values="line-integrals")


@pytest.mark.parametrize("shape", [(0, 6, 32), (13, 0, 32), (13, 6, 0)])
def test_scans_of_nothing(tmp_path, shape):
    np.savez(tmp_path / "a.npz", line_integrals=np.zeros(shape, np.float32), angles_deg=np.arange(shape[0]))
    sentence(read, tmp_path / "a.npz")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exchange/data"] = np.zeros(shape, np.float32)
        file["exchange/theta"] = np.arange(float(shape[0]))
    sentence(read, tmp_path / "a.h5")


def test_counts_that_do_not_fit(tmp_path):
    np.savez(tmp_path / "a.npz", line_integrals=samples.line_integrals(), angles_deg=np.arange(5.0))
    assert "13 views but 5 angles" in sentence(read, tmp_path / "a.npz")


def test_axes_in_the_wrong_order_are_told(tmp_path):
    """Rows for views: the counts of angles do not fit; where they do, the picture of the axis does not."""
    np.savez(tmp_path / "a.npz", line_integrals=samples.line_integrals().swapaxes(0, 1), angles_deg=samples.ANGLES_DEG)
    assert "6 views but 13 angles" in sentence(read, tmp_path / "a.npz")
    turned = samples.line_integrals().swapaxes(1, 2)
    np.savez(tmp_path / "b.npz", line_integrals=turned, angles_deg=samples.ANGLES_DEG)
    assert any("as if the rotation axis were horizontal" in note for note in read(tmp_path / "b.npz").notes)

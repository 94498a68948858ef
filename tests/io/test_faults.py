"""Hostile files: what they may not do, whatever the format."""

import io
import os
import struct
import zipfile
from contextlib import suppress

import h5py
import mrcfile
import numpy as np
import pytest
import zarr

from napari_unroll.errors import LONGEST_TEXT, FileFormatError, ParameterError, UnrollError
from napari_unroll.io import ome_zarr
from napari_unroll.io.any_volume import read_any_volume
from napari_unroll.io.checksums import digest
from napari_unroll.io.hdf5 import datasets_named, load, open_hdf5
from napari_unroll.io.npy_header import Archive
from napari_unroll.io.registry import read
from napari_unroll.io.volume import checked_volume
from napari_unroll.io.writers import read_volume, write
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.scan import Scan
from tests.io import samples

GRID = VolumeGrid(shape=(2, 3, 5), spacing_mm=(1, 1, 1))


def test_texts_of_errors_are_short_and_plain():
    text = str(UnrollError("bad \x1b[31mname\n\x00 " + "x" * 5000 + " copy it again."))
    assert text.isprintable()
    assert len(text) <= LONGEST_TEXT
    assert text.startswith("bad")
    assert text.endswith("copy it again.")


def test_names_and_notes_of_scans_are_plain(tmp_path):
    scan = read(samples.write_npz(tmp_path / "views.npz"))
    changed = Scan(
        measurements=scan.measurements, geometry=scan.geometry, grid=scan.grid, name="a\x1b[2Jb", notes=("c\x07d",)
    )
    assert changed.name.isprintable()
    assert changed.notes[0].isprintable()


def virtual(path, source_file, source_name, n=13):
    with h5py.File(path, "w") as file:
        file["here"] = np.ones((13, 6, 32), np.float32)
        layout = h5py.VirtualLayout((13, 6, 32), np.float32)
        layout[:n] = h5py.VirtualSource(source_file, source_name, (n, 6, 32))
        file.create_virtual_dataset("exchange/data", layout)
        file["exchange/theta"] = samples.ANGLES_DEG
    return path


def test_virtual_datasets_are_all_there(tmp_path):
    assert np.all(load(open_hdf5(virtual(tmp_path / "a.h5", ".", "here"))["exchange/data"]) == 1)
    for k, (name, n) in enumerate([("gone", 13), ("here", 5)]):
        with pytest.raises(FileFormatError, match="put together"):
            read(virtual(tmp_path / f"b{k}.h5", ".", name, n))
    with pytest.raises(FileFormatError, match="another file"):
        read(virtual(tmp_path / "c.h5", "other.h5", "here"))


@pytest.mark.parametrize("inside", [False, True])
def test_links_into_other_files_are_not_followed(tmp_path, inside):
    samples.write_dxchange(tmp_path / "other.h5")
    os.mkfifo(tmp_path / "pipe.h5")  # opening it would wait for ever
    for target in ("other.h5", "pipe.h5"):
        path = tmp_path / "link.h5"
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as file:
            if inside:
                file.create_group("exchange")["data"] = h5py.ExternalLink(target, "exchange/data")
            else:
                file["far"] = h5py.ExternalLink(target, "exchange")
                file["exchange"] = h5py.SoftLink("/far")
        with pytest.raises(FileFormatError, match="by a link"):
            read(path)
        with open_hdf5(path) as file, pytest.raises(FileFormatError, match="by a link"):
            _ = file["exchange" if inside else "/"]["data" if inside else "far"]


def test_links_are_followed_where_that_is_asked_for(tmp_path):
    samples.write_dxchange(tmp_path / "other.h5")
    os.mkfifo(tmp_path / "pipe.h5")
    for target in ("other.h5", "pipe.h5", "gone.h5"):
        with h5py.File(tmp_path / target.replace(".h5", "-link.h5"), "w") as file:
            file["exchange"] = h5py.ExternalLink(target, "exchange")
    own = read(tmp_path / "other.h5")
    linked = read(tmp_path / "other-link.h5", allow_links="true")
    np.testing.assert_array_equal(linked.measurements, own.measurements)
    assert dict(linked.provenance.options) == {"allow_links": True}
    for target in ("pipe-link.h5", "gone-link.h5"):
        with pytest.raises(FileFormatError, match="not beside it"):
            read(tmp_path / target, allow_links=True)
    with pytest.raises(ParameterError, match="true or false"):
        read(tmp_path / "other-link.h5", allow_links="perhaps")


def test_parts_of_virtual_datasets_in_other_files_are_read_where_that_is_asked_for(tmp_path):
    virtual(tmp_path / "parts.h5", ".", "here")
    path = virtual(tmp_path / "a.h5", "parts.h5", "here")
    assert read(path, allow_links=True).measurements.shape[0] == 13
    with pytest.raises(FileFormatError, match="put together"):
        read(virtual(tmp_path / "b.h5", "gone.h5", "here"), allow_links=True)


def test_soft_links_within_a_file_are_followed(tmp_path):
    path = samples.write_dxchange(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.move("exchange", "kept")
        file["exchange"] = h5py.SoftLink("/kept")
        file["kept/white"] = h5py.SoftLink("data_white")
        file["circle"] = h5py.SoftLink("/circle")
    assert read(path).measurements.shape == (13, 6, 32)
    with open_hdf5(path) as file:
        assert file["exchange"]["white"].shape == (2, 6, 32)
        assert "exchange/data" in file
        assert "gone" not in file
        with pytest.raises((FileFormatError, KeyError)):
            _ = file["circle"]


def test_deep_groups_end_in_words(tmp_path):
    with h5py.File(tmp_path / "deep.h5", "w", libver="latest") as file:
        at = file
        for _ in range(3000):
            at = at.create_group("g")
    with open_hdf5(tmp_path / "deep.h5") as file, pytest.raises(FileFormatError, match="nests"):
        datasets_named(file, "data")
    with pytest.raises(FileFormatError):
        read(tmp_path / "deep.h5")


def test_a_header_in_an_archive_is_not_unpacked_beyond_its_sense(tmp_path):
    head = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", head + b" " * 10_000_000)
    with pytest.raises(FileFormatError, match="declares"):
        Archive(tmp_path / "a.npz")
    plain = io.BytesIO()
    np.lib.format.write_array(plain, np.arange(3.0), version=(2, 0))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("x.npy", plain.getvalue())
    np.testing.assert_array_equal(Archive(tmp_path / "b.npz").load("x"), np.arange(3.0))


@pytest.mark.parametrize("nsymbt", [2**31 - 1, -1, 10**6])
def test_mrc_extended_headers_fit_the_file(tmp_path, nsymbt, monkeypatch):
    path = samples.write_mrc(tmp_path / "a.mrc")
    content = bytearray(path.read_bytes())
    content[92:96] = struct.pack("<i", nsymbt)
    path.write_bytes(content)
    monkeypatch.setattr(mrcfile, "open", lambda *a, **k: pytest.fail("asked for what the file does not have"))
    with pytest.raises(FileFormatError, match="longer MRC header"):
        read(path, angles="0:180")


def stored(tmp_path):
    path = tmp_path / "a.ome.zarr"
    ome_zarr.write(path, checked_volume(np.ones(GRID.shape, np.float32), GRID, {}))
    return path


def test_zarr_stores_hold_files_of_their_own(tmp_path):
    for k, make in enumerate([os.mkfifo, lambda p: p.symlink_to("/dev/zero"), lambda p: p.symlink_to(tmp_path)]):
        (tmp_path / str(k)).mkdir()
        path = stored(tmp_path / str(k))
        chunk = next(p for p in (path / "0").rglob("*") if p.is_file() and p.name != "zarr.json")
        chunk.unlink()
        make(chunk)
        for reading in (read_volume, read_any_volume):
            with pytest.raises(FileFormatError, match="holds 0, "):
                reading(path)


def test_zarr_chunks_fit_the_memory(tmp_path):
    path = stored(tmp_path)
    text = (path / "0" / "zarr.json").read_text()
    (path / "0" / "zarr.json").write_text(
        text.replace("[\n        2,\n        3,\n        5\n      ]", "[2, 3, 999999999999]")
    )
    assert max(zarr.open_group(path, mode="r")["0"].chunks) > 10**9
    with pytest.raises(FileFormatError, match="memory"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.ome.tif", "a.ome.zarr"])
def test_damaged_volumes_are_refused_in_words(tmp_path, name):
    """Whatever bytes of its notes are changed; every fault is a sentence."""
    path = write(tmp_path / name, np.ones(GRID.shape, np.float32), GRID, {"a": 1})
    notes = {"a.npy": path.with_suffix(".json"), "a.ome.zarr": path / "zarr.json"}.get(name, path)
    whole = notes.read_bytes()
    for old, new in [
        (b"grid", b"gril"), (b"spacing_mm", b"spacing_mn"), (b"record", b"recerd"), (b"shape", b"shope"),
        (b"scale", b"scole"), (b"{", b"["), (b"1.0", b"NaN"), (b"1.0", b"-.5"),
    ]:  # fmt: skip
        notes.write_bytes(whole.replace(old, new))
        with suppress(UnrollError):
            read_volume(path)


def test_names_beyond_the_file_system_are_refused_in_words(tmp_path):
    for name in ("n" * 300 + ".npy", "a\0b.npy"):
        for reading in (read, read_volume):
            with pytest.raises(FileFormatError, match="no file"):
                reading(tmp_path / name)


def test_digests_tell_values_names_and_types_apart():
    one = np.arange(4, dtype=np.float32)
    all_ = [
        digest({}, {"a": one}),
        digest({}, {"b": one}),
        digest({}, {"a": one.astype(np.float64)}),
        digest({}, {"a": one.reshape(2, 2)}),
        digest({"x": 1}, {"a": one}),
    ]
    assert len(set(all_)) == len(all_)

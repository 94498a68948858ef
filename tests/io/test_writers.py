import json
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.io import hdf5_volume, ome_zarr, tiff_volume
from napari_unroll.io.atomic import remove
from napari_unroll.io.writers import SUFFIXES, is_result, read_volume, suffix_of, write, write_somewhere
from napari_unroll.scan.geometry import VolumeGrid

GRID = VolumeGrid(shape=(6, 7, 9), spacing_mm=(0.3, 0.2, 0.1), center_mm=(1.0, 0.0, -2.0))
RECORD = {"method": "fdk", "parameters": {"filter": "hann"}, "seeds": [1, 2], "note": "µm"}


def volume(kind="float32"):
    rng = np.random.default_rng(0)
    values = rng.normal(size=GRID.shape)
    return (values + 1j * rng.normal(size=GRID.shape)).astype(kind) if kind == "complex64" else values.astype(kind)


def test_the_command_in_the_record_names_the_file(tmp_path):
    record = RECORD | {"command": "napari-unroll reconstruct scan.h5 --method fdk --out result.ome.zarr"}
    path = write(tmp_path / "my volume.npy", volume(), GRID, record)
    assert shlex.split(read_volume(path).record["command"])[-2:] == ["--out", str(path)]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["float32", "complex64"])
def test_round_trip(tmp_path, suffix, kind):
    path = write(tmp_path / f"result{suffix}", volume(kind), GRID, RECORD)
    back = read_volume(path)
    assert back.values.dtype == kind
    np.testing.assert_allclose(back.values, volume(kind), rtol=1e-5, atol=1e-6)
    if kind == "float32":
        np.testing.assert_array_equal(back.values, volume(kind))
    assert back.grid.shape == GRID.shape
    assert back.grid.spacing_mm == pytest.approx(GRID.spacing_mm)
    assert back.grid.center_mm == pytest.approx(GRID.center_mm, abs=1e-6)
    assert back.record == RECORD
    assert {p.name for p in tmp_path.iterdir()} <= {path.name, "result.json"}


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_nifti_is_read_by_others_in_place_and_those_of_others_are_read(tmp_path, name):
    nibabel = pytest.importorskip("nibabel")
    path = write(tmp_path / name, volume("complex64"), GRID, RECORD)
    image = nibabel.load(path)
    assert image.shape == GRID.shape[::-1]
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], [*reversed(GRID.origin_mm), 1], atol=1e-6)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, volume("complex64"))
    nibabel.Nifti1Image(np.arange(24, dtype=">i2").reshape(2, 3, 4), np.diag([1.0, 2.0, 3.0, 1.0])).to_filename(path)
    back = read_volume(path)
    assert (back.values.shape, back.grid.spacing_mm, back.record) == ((4, 3, 2), (3.0, 2.0, 1.0), {})
    assert back.values[3, 2, 1] == 23
    assert not is_result(path)


def test_zarr_follows_the_standard(tmp_path):
    grid = VolumeGrid(shape=(40, 130, 70), spacing_mm=(0.3, 0.2, 0.1), center_mm=(0.0, 5.0, 0.0))
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    path = write(tmp_path / "r.ome.zarr", values, grid, RECORD, chunk=(16, 32, 32))
    group = zarr.open_group(path, mode="r")
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    image = ome["multiscales"][0]
    assert [a["name"] for a in image["axes"]] == ["z", "y", "x"]
    assert {a["unit"] for a in image["axes"]} == {"millimeter"}
    assert [d["path"] for d in image["datasets"]] == ["0", "1", "2"]
    assert group["0"].chunks == (16, 32, 32)
    assert group["0"].metadata.dimension_names == ("z", "y", "x")
    assert group["1"].shape == (20, 65, 35)
    assert group["2"].shape == (10, 32, 17)
    expected = values.reshape(20, 2, 65, 2, 35, 2).mean((1, 3, 5))
    np.testing.assert_allclose(group["1"][...], expected, atol=1e-6)


def test_zarr_levels_stay_in_place(tmp_path):
    grid = VolumeGrid(shape=(2, 128, 128), spacing_mm=(1.0, 0.5, 0.5))
    path = write(tmp_path / "r.ome.zarr", np.zeros(grid.shape, np.float32), grid)
    for level in zarr.open_group(path, mode="r").attrs["ome"]["multiscales"][0]["datasets"]:
        scale, translation = (t[t["type"]] for t in level["coordinateTransformations"])
        shape = zarr.open_group(path, mode="r")[level["path"]].shape
        centre = [t + 0.5 * (n - 1) * s for t, n, s in zip(translation, shape, scale, strict=True)]
        assert centre == pytest.approx(grid.center_mm)
        assert np.multiply(scale, shape) == pytest.approx(grid.size_mm)


def test_a_zarr_that_declares_more_than_the_memory_is_refused(tmp_path):
    path = write(tmp_path / "r.ome.zarr", volume("float32"), GRID)
    zarr.open_group(path, mode="a").create_array("0", shape=(10**6,) * 3, dtype="f4", chunks=(64,) * 3, overwrite=True)
    with pytest.raises(FileFormatError, match="of memory, but"):
        read_volume(path)


def test_complex_zarr_has_named_channels(tmp_path):
    path = write(tmp_path / "r.ome.zarr", volume("complex64"), GRID)
    group = zarr.open_group(path, mode="r")
    assert [c["label"] for c in group.attrs["ome"]["omero"]["channels"]] == ["magnitude", "phase"]
    assert group["0"].shape == (2, *GRID.shape)
    np.testing.assert_allclose(group["0"][0], np.abs(volume("complex64")), rtol=1e-6)


def test_odd_edges_when_halving():
    values, factors = ome_zarr.halve(np.arange(5 * 1 * 4, dtype=np.float32).reshape(5, 1, 4))
    assert values.shape == (2, 1, 2)
    assert factors == (2, 1, 2)


def test_imagej_sees_spacing_and_record(tmp_path):
    path = write(tmp_path / "r.tif", volume(), GRID, RECORD)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_imagej
        assert tiff.imagej_metadata["spacing"] == pytest.approx(0.3)
        assert tiff.imagej_metadata["unit"] == "mm"
        assert json.loads(tiff.imagej_metadata["Info"])["napari_unroll"]["record"] == RECORD
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert numerator / denominator == pytest.approx(10)


def test_large_tiff_becomes_ome_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_volume, "IMAGEJ_BYTES", 100)
    path = write(tmp_path / "r.tif", volume(), GRID, RECORD)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert tiff.is_bigtiff
    np.testing.assert_array_equal(read_volume(path).values, volume())


def test_other_types_are_stored_sensibly(tmp_path):
    assert read_volume(write(tmp_path / "a.npy", volume("float64"), GRID)).values.dtype == np.float32
    labels = (volume() > 0).astype(np.uint8)
    np.testing.assert_array_equal(read_volume(write(tmp_path / "b.tif", labels, GRID)).values, labels)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_replaced_unless_told(tmp_path, suffix):
    path = write(tmp_path / f"r{suffix}", volume(), GRID)
    with pytest.raises(ParameterError, match="exists already"):
        write(path, 2 * volume(), GRID)
    np.testing.assert_array_equal(read_volume(path).values, volume())
    write(path, 2 * volume(), GRID, overwrite=True)
    np.testing.assert_array_equal(read_volume(path).values, 2 * volume())


@pytest.mark.parametrize("suffix", [".ome.zarr", ".tif", ".npy"])
def test_bad_luck_loses_nothing(tmp_path, suffix, monkeypatch):
    path = write(tmp_path / f"r{suffix}", volume(), GRID, RECORD)
    before = sorted(p.name for p in tmp_path.iterdir())

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("tifffile.imwrite", fail)
    monkeypatch.setattr("numpy.save", fail)
    monkeypatch.setattr(ome_zarr, "_metadata", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, 2 * volume(), GRID, overwrite=True)
    np.testing.assert_array_equal(read_volume(path).values, volume())
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_finished_volume_is_written_somewhere(tmp_path, suffix):
    taken = tmp_path / f"result{suffix}"
    write(taken, volume(), GRID)
    saved, trouble = write_somewhere(taken, 2 * volume(), GRID, RECORD)
    assert str(saved) in trouble
    assert "exists already" in trouble
    np.testing.assert_array_equal(read_volume(saved).values, 2 * volume())
    np.testing.assert_array_equal(read_volume(taken).values, volume())
    remove(saved.parent)
    assert write_somewhere(taken, 3 * volume(), GRID, RECORD, overwrite=True) == (taken, "")


def test_records_of_plain_things(tmp_path):
    record = {"path": Path("a"), "number": np.float32(0.5), "array": np.arange(2), "pair": (1, 2), "grid": GRID}
    back = read_volume(write(tmp_path / "a.npy", volume(), GRID, record)).record
    assert back == {
        "path": "a",
        "number": 0.5,
        "array": [0, 1],
        "pair": [1, 2],
        "grid": {"shape": [6, 7, 9], "spacing_mm": [0.3, 0.2, 0.1], "center_mm": [1.0, 0.0, -2.0]},
    }
    with pytest.raises(ParameterError, match="JSON"):
        write(tmp_path / "b.npy", volume(), GRID, {"bad": object()})


@pytest.mark.parametrize("name", ["r.png", "r", ".npy", "r.zarr"])
def test_unknown_suffixes(tmp_path, name):
    with pytest.raises(ParameterError, match="written as"):
        suffix_of(tmp_path / name)


def test_wrong_calls(tmp_path):
    with pytest.raises(ParameterError, match="shape"):
        write(tmp_path / "a.npy", volume()[1:], GRID)
    with pytest.raises(ParameterError, match="no folder"):
        write(tmp_path / "none" / "a.npy", volume(), GRID)
    with pytest.raises(ParameterError, match="chunk"):
        write(tmp_path / "a.ome.zarr", volume(), GRID, chunk=(0, 1, 1))
    with pytest.raises(ParameterError, match="numbers"):
        write(tmp_path / "a.npy", np.full(GRID.shape, "x"), GRID)


def test_reading_what_is_not_ours(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", volume())
    np.save(tmp_path / "a.npy", volume())
    (tmp_path / "a.ome.zarr").mkdir()
    for name in ("a.tif", "a.npy", "a.ome.zarr", "none.tif"):
        with pytest.raises(FileFormatError):
            read_volume(tmp_path / name)


def test_hdf5_follows_nxtomoproc(tmp_path):
    path = write(tmp_path / "r.nxs", volume(), GRID, RECORD)
    with h5py.File(path) as file:
        entry = file["entry"]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry["definition"][()] == b"NXtomoproc"
        assert {entry[k].attrs["NX_class"] for k in ("reconstruction", "data")} == {"NXprocess", "NXdata"}
        assert list(entry["data"].attrs["axes"]) == ["z", "y", "x"]
        np.testing.assert_array_equal(entry["data/data"], volume())
        np.testing.assert_allclose(entry["data/z"], GRID.origin_mm[0] + GRID.spacing_mm[0] * np.arange(6))
        assert json.loads(file[hdf5_volume.NOTE][()]) == RECORD


@pytest.mark.parametrize("lost", [hdf5_volume.NOTE, hdf5_volume.DATA, "entry/data/y"])
def test_a_damaged_hdf5_volume_is_one_sentence(tmp_path, lost):
    path = write(tmp_path / "r.h5", volume(), GRID, RECORD)
    with h5py.File(path, "a") as file:
        del file[lost]
    with pytest.raises(FileFormatError, match=r"r\.h5"):
        read_volume(path)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(50), b"text"])
def test_a_damaged_file_is_no_result(tmp_path, content):
    (tmp_path / "r.h5").write_bytes(content)
    assert not is_result(tmp_path / "r.h5")

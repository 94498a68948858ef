"""Files larger than the memory open at once, and a slab of them is reconstructed without the rest being read."""

import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from napari_unroll.errors import Cancelled, LargeScan, ParameterError
from napari_unroll.events import Progress, Stop, result_of
from napari_unroll.interrupt import listening, stepwise
from napari_unroll.io import guards
from napari_unroll.io.registry import describe, look, read
from napari_unroll.methods.problem import Problem, as_values, measured
from napari_unroll.physics.build import build_physics
from tests.io import samples

N_VIEWS, N_ROWS, N_COLUMNS = 1310, 2048, 2048
BYTES = 4 * N_VIEWS * N_ROWS * N_COLUMNS
SLAB = {
    "rows": "1000:1015",
    "views": "0:1299",
    "view_step": 20,
    "bin": 8,
    "angles": "0:180",
    "values": "line-integrals",
}


def grow(path: Path, offset: int) -> Path:
    """A file of zeros from ``offset`` on that takes no room on the disk."""
    with path.open("r+b") as stream:
        stream.truncate(offset + BYTES)
    return path


def write_npy(path):
    head = {"descr": "<f4", "fortran_order": False, "shape": (N_VIEWS, N_ROWS, N_COLUMNS)}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_2_0(stream, head)
        offset = stream.tell()
    return grow(path, offset)


def write_mrc(path):
    samples.write_mrc(path)
    header = bytearray(path.read_bytes()[:1024])
    header[:16] = np.array([N_COLUMNS, N_ROWS, N_VIEWS, 2], "<i4").tobytes()
    header[28:40] = np.array([N_COLUMNS, N_ROWS, N_VIEWS], "<i4").tobytes()
    header[92:96] = bytes(4)
    path.write_bytes(header)
    return grow(path, 1024)


def write_hdf5(path):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        group = file.create_group("exchange")
        space = h5py.h5s.create_simple((N_VIEWS, N_ROWS, N_COLUMNS))
        h5py.h5d.create(group.id, b"data", h5py.h5t.IEEE_F32LE, space, plist)
    return path


def write_tiff(path):
    tifffile.imwrite(path, shape=(N_VIEWS, N_ROWS, N_COLUMNS), dtype=np.float32, bigtiff=True)
    return path


def write_raw(path):
    path.with_suffix(".raw").touch()
    grow(path.with_suffix(".raw"), 0)
    path.write_text(f"file: {path.stem}.raw\nshape: [{N_VIEWS}, {N_ROWS}, {N_COLUMNS}]\ndtype: float32\n")
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.npy", write_npy), ("a.mrc", write_mrc), ("a.h5", write_hdf5), ("a.tif", write_tiff), ("a.yaml", write_raw)],
)
def test_twenty_gibibytes_open_at_once_and_give_a_slab(tmp_path, name, write):
    path = write(tmp_path / name)
    begun = time.process_time()
    with pytest.raises(LargeScan, match=r"1310 of 1310 views of 2048 × 2048 pixels takes .* of memory.*'view_step'"):
        look(path, angles="0:180")
    facts = describe(path, angles="0:180")
    opened = time.process_time() - begun
    assert "takes 27" in facts["not loaded"]
    assert opened < 2
    scan = read(path, **SLAB)
    assert time.process_time() - begun < 4
    assert scan.measurements.shape == (65, 2, 256)
    assert scan.provenance.sha256.startswith("sampled-")
    problem = Problem(scan=scan, physics=build_physics(scan, "cpu"), y=measured(scan, "cpu"))
    assert as_values(result_of(problem.find_quick())).shape == (2, 256, 256)


@pytest.mark.parametrize("name", ["views.npy", "dx.h5", "plain.tif", "packed.tif"])
def test_rows_and_views_are_those_of_the_whole_scan(tmp_path, name):
    """A slab has the same numbers and lies where it lies in the whole volume."""
    views = samples.line_integrals()
    path, more = (
        tmp_path / name,
        {"angles": "0:180", "values": "line-integrals", "source_origin_mm": 90, "source_detector_mm": 120},
    )
    if name == "dx.h5":
        more = {key: value for key, value in more.items() if key not in ("angles", "values")}
        samples.write_dxchange(path)
    elif name == "views.npy":
        np.save(path, views)
    else:
        tifffile.imwrite(path, views, compression="zlib" if name == "packed.tif" else None)
    whole, slab = read(path, **more), read(path, rows="2:4", views="1:5", view_step=2, **more)
    np.testing.assert_allclose(slab.measurements, whole.measurements[1:6:2, 2:5], atol=1e-6)
    np.testing.assert_allclose(slab.geometry.angles_rad, whole.geometry.angles_rad[1:6:2])
    rows = np.arange(whole.geometry.detector_shape[0]) - (whole.geometry.detector_shape[0] - 1) / 2
    v, w = whole.geometry.vectors[1], slab.geometry.vectors[0]
    np.testing.assert_allclose(w[3:6], v[3:6] + rows[3] * v[9:12], atol=1e-9)
    assert any("Rows 2 to 4" in note for note in slab.notes)
    assert any("views, one in 2 from 1 on" in note for note in slab.notes)


@pytest.mark.parametrize("option", ["rows", "views"])
@pytest.mark.parametrize("text", ["5", "4:2", "0:1000", "-1:3", "a:b", "0:99999999999"])
def test_ranges_that_are_none(tmp_path, option, text):
    path = samples.write_npz(tmp_path / "a.npz")
    with pytest.raises(ParameterError, match=f"'{option}' is a range first:last within 0:"):
        read(path, **{option: text})


def test_small_scans_are_read_at_once(tmp_path):
    assert look(samples.write_npz(tmp_path / "a.npz")).measurements.size


def test_loading_says_its_memory_and_can_be_cancelled(tmp_path):
    path, told = samples.write_npz(tmp_path / "a.npz"), []
    for event in stepwise(lambda: read(path)):
        told += [event.text] if isinstance(event, Progress) else []
    assert any("of memory" in text for text in told)
    stop = Stop()
    stop.cancel()
    with listening(stop), pytest.raises(Cancelled):
        read(path)


def test_large_files_are_hashed_in_blocks(tmp_path, monkeypatch):
    """The first and the last block count, and those between in even steps."""
    monkeypatch.setattr(guards, "LARGE_BYTES", 1000)
    monkeypatch.setattr(guards, "BLOCK_BYTES", 10)
    monkeypatch.setattr(guards, "MOST_BLOCKS", 11)
    path = tmp_path / "a.bin"
    content = np.random.default_rng(0).bytes(2010)
    path.write_bytes(content)
    known = guards.file_hash(path)
    assert known.startswith("sampled-")
    for at, seen in ((0, True), (2009, True), (200, True), (150, False)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert (guards.file_hash(path) != known) == seen
    path.write_bytes(content[:-1])
    assert guards.file_hash(path) != known

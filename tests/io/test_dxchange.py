import h5py
import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.geometry import ParallelBeam
from tests.io import samples


def test_counts_become_line_integrals(tmp_path):
    scan = read(samples.write_dxchange(tmp_path / "a.h5"))
    assert find_reader(tmp_path / "a.h5").name == "dxchange"
    assert isinstance(scan.geometry, ParallelBeam)
    assert scan.measurements.dtype == np.float32
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=2e-4)
    np.testing.assert_allclose(scan.geometry.angles_rad, np.deg2rad(samples.ANGLES_DEG), atol=1e-7)


def test_axis_is_estimated_and_said_so(tmp_path):
    scan = read(samples.write_dxchange(tmp_path / "a.h5"))
    middle = (samples.COLS - 1) / 2
    found = middle - scan.geometry.vectors[0, 3]
    assert abs(found - samples.AXIS) < 0.2
    assert any("estimated" in note for note in scan.notes)


def test_a_given_axis_is_kept(tmp_path):
    scan = read(samples.write_dxchange(tmp_path / "a.h5"), axis_px=20.0, pixel_mm=0.5)
    assert scan.geometry.vectors[0, 3] == pytest.approx((15.5 - 20) * 0.5)
    assert scan.grid.spacing_mm == pytest.approx((0.5,) * 3)


def test_missing_angles_are_asked_for(tmp_path):
    path = samples.write_dxchange(tmp_path / "a.h5", theta=False)
    with pytest.raises(MissingInformation, match="never invented") as caught:
        read(path)
    assert caught.value.options == ("angles",)
    assert read(path, angles="0:180").geometry.n_views == samples.N_VIEWS


def test_recorded_rotation_replaces_theta(tmp_path):
    path = samples.write_dxchange(tmp_path / "a.h5", theta=False)
    with h5py.File(path, "a") as file:
        rotation = file.create_group("process/acquisition/rotation")
        rotation["rotation_start"], rotation["rotation_step"] = 10.0, 15.0
        rotation["num_angles"] = samples.N_VIEWS
    scan = read(path)
    assert np.rad2deg(scan.geometry.angles_rad[:2]) == pytest.approx([10, 25])
    assert any("process/acquisition/rotation" in note for note in scan.notes)


def test_radians_by_unit_and_by_range(tmp_path):
    for k, unit in enumerate(("rad", None)):
        path = samples.write_dxchange(tmp_path / f"{k}.h5", theta=False)
        with h5py.File(path, "a") as file:
            file["exchange/theta"] = np.deg2rad(samples.ANGLES_DEG)
            if unit:
                file["exchange/theta"].attrs["units"] = unit
        assert np.rad2deg(read(path).geometry.angles_rad[1]) == pytest.approx(15)


def test_wrong_number_of_angles(tmp_path):
    path = samples.write_dxchange(tmp_path / "a.h5", theta=False)
    with h5py.File(path, "a") as file:
        file["exchange/theta"] = np.arange(5.0)
    with pytest.raises(FileFormatError, match="13 views but 5 angles"):
        read(path)


def test_declared_but_never_written(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("exchange/data", shape=(10**6, 10**5, 10**5), dtype="f4", chunks=(1, 64, 64))
        file["exchange/theta"] = np.arange(3.0)
    with pytest.raises(FileFormatError, match="were written"):
        read(tmp_path / "a.h5")


def test_packed_data_is_read(tmp_path):
    scan = read(samples.write_dxchange(tmp_path / "a.h5", compression="gzip", chunks=(1, 6, 32)))
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=2e-4)


@pytest.mark.parametrize("shape", [(4, 5), (0, 4, 5)])
def test_shapes_that_are_no_views(tmp_path, shape):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exchange/data"] = np.zeros(shape, np.float32)
    with pytest.raises(FileFormatError, match=r"axes|empty"):
        read(tmp_path / "a.h5", angles="0:1")


def test_hardly_any_chunk_was_written(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("exchange/data", (10**5, 10**4, 10**4), "f4", chunks=(1, 64, 64), compression="gzip")
        data[0, :64, :64] = 1
    with pytest.raises(FileFormatError, match="no measurement compresses"):
        read(tmp_path / "a.h5", angles="0:180")


@pytest.mark.parametrize("way", ["link", "virtual"])
def test_values_of_other_files_are_refused(tmp_path, way):
    samples.write_dxchange(tmp_path / "other.h5")
    path = samples.write_dxchange(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        shape = file["exchange/data"].shape
        del file["exchange/data"]
        if way == "link":
            file["exchange/data"] = h5py.ExternalLink("other.h5", "exchange/data")
        else:
            layout = h5py.VirtualLayout(shape, "float32")
            layout[...] = h5py.VirtualSource("other.h5", "exchange/data", shape)
            file.create_virtual_dataset("exchange/data", layout)
    with pytest.raises(FileFormatError, match="another file"):
        read(path)

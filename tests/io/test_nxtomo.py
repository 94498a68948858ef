import h5py
import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.registry import find_reader, read
from tests.io import samples


def test_frames_are_sorted_by_their_key(tmp_path):
    scan = read(samples.write_nxtomo(tmp_path / "a.nxs"))
    assert find_reader(tmp_path / "a.nxs").name == "nxtomo"
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=2e-4)
    np.testing.assert_allclose(scan.geometry.angles_rad, np.deg2rad(samples.ANGLES_DEG), atol=1e-7)
    assert scan.geometry.pixel_mm == pytest.approx((0.0065, 0.0065))
    assert "13 projections, 1 flats, 1 darks by image_key." in scan.notes


def test_no_projection_among_the_frames(tmp_path):
    path = samples.write_nxtomo(tmp_path / "a.nxs")
    with h5py.File(path, "a") as file:
        file["entry1/tomo_entry/instrument/detector/image_key"][...] = 1
    with pytest.raises(FileFormatError, match="marks none of its 16 frames"):
        read(path)


def test_key_of_another_length(tmp_path):
    path = samples.write_nxtomo(tmp_path / "a.nxs")
    with h5py.File(path, "a") as file:
        del file["entry1/tomo_entry/instrument/detector/image_key"]
        file["entry1/tomo_entry/instrument/detector/image_key"] = np.zeros(4, int)
    with pytest.raises(FileFormatError, match="no image_key of that length"):
        read(path)


def test_without_angles(tmp_path):
    path = samples.write_nxtomo(tmp_path / "a.nxs")
    with h5py.File(path, "a") as file:
        del file["entry1/tomo_entry/sample/rotation_angle"]
    with pytest.raises(MissingInformation, match="angles"):
        read(path)


def test_cone_beam_by_option(tmp_path):
    scan = read(samples.write_nxtomo(tmp_path / "a.nxs"), source_origin_mm="50", source_detector_mm="200")
    assert scan.geometry.source_origin_mm == pytest.approx(50)
    assert scan.grid.spacing_mm == pytest.approx((0.0065 / 4,) * 3)
    assert any("not estimated for cone beams" in note for note in scan.notes)


def test_flats_before_and_after_are_interpolated_by_time(tmp_path):
    _, flat, dark = samples.counts()
    last = flat * 0.9
    when = np.arange(1, samples.N_VIEWS + 1) / (samples.N_VIEWS + 1)
    drifting = flat + when[:, None, None] * (last - flat)
    views = (drifting - dark) * np.exp(-samples.line_integrals()) + dark
    with h5py.File(samples.write_nxtomo(tmp_path / "a.nxs"), "a") as file:
        detector = file["entry1/tomo_entry/instrument/detector"]
        del detector["data"], detector["image_key"], file["entry1/tomo_entry/sample/rotation_angle"]
        detector["data"] = np.concatenate([dark[None], flat[None], views, last[None]])
        detector["image_key"] = np.r_[2, 1, np.zeros(samples.N_VIEWS, int), 1]
        file["entry1/tomo_entry/sample/rotation_angle"] = np.r_[0, 0, samples.ANGLES_DEG, 0]
    scan = read(tmp_path / "a.nxs", flats="interpolated")
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=1e-4)
    assert np.abs(read(tmp_path / "a.nxs").measurements - samples.line_integrals()).max() > 0.03
    turned = read(tmp_path / "a.nxs", flats="interpolated", rotation_axis="horizontal").measurements
    np.testing.assert_array_equal(turned, scan.measurements.swapaxes(1, 2))

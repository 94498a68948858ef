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

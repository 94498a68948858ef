import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from tests.io import samples

N = samples.N_VIEWS


def test_a_scan_opened_by_its_log_or_its_folder(tmp_path):
    path = samples.write_skyscan(tmp_path / "bone")
    scan = read(path)
    assert find_reader(path).name == "skyscan"
    assert find_reader(tmp_path / "bone").name == "skyscan-folder"
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=2e-3)
    orbit = ConeBeam.circular(
        angles_rad=np.deg2rad(15 * np.arange(N)), source_origin_mm=24.755, source_detector_mm=286,
        detector_shape=(samples.ROWS, samples.COLS), pixel_mm=(0.007 * 286 / 24.755,) * 2,
    )  # fmt: skip
    assert scan.geometry == orbit
    assert scan.grid.spacing_mm == pytest.approx((0.007,) * 3)
    assert read(tmp_path / "bone").geometry == orbit
    assert any("Postalignment" in note for note in scan.notes)
    assert any("has corrected the pictures" in note for note in scan.notes)


def test_the_optical_axis_counts_from_the_bottom(tmp_path):
    """The source's height is that of line 2 of 6 from below, the fifth row."""
    v = read(samples.write_skyscan(tmp_path / "bone", **{"Optical Axis (line)": 2})).geometry.vectors
    row = (v[:, 2] - v[:, 5]) / v[:, 11] + (samples.ROWS - 1) / 2
    assert row == pytest.approx(np.full(N, 4.0))


def test_the_sense_and_the_start(tmp_path):
    changed = {"Rotation Direction": "CW", "Scanning Start Angle": 10}
    scan = read(samples.write_skyscan(tmp_path / "bone", **changed))
    assert np.rad2deg(np.unwrap(scan.geometry.angles_rad)) == pytest.approx(-10 - 15 * np.arange(N))


def test_any_subset_of_the_views(tmp_path):
    path = samples.write_skyscan(tmp_path / "bone")
    whole = read(path)
    (tmp_path / "bone" / "bone~0000000000.tif").unlink()
    some = read(path)
    assert np.rad2deg(np.unwrap(some.geometry.angles_rad)) == pytest.approx(15 * np.arange(1, N))
    assert some.provenance.sha256 != whole.provenance.sha256


def test_a_source_far_away_is_a_parallel_beam(tmp_path):
    far = {"Object to Source (mm)": 1_000_000, "Camera to Source (mm)": None}
    scan = read(samples.write_skyscan(tmp_path / "bone", **far))
    assert isinstance(scan.geometry, ParallelBeam)
    assert scan.geometry.pixel_mm == pytest.approx((0.007, 0.007))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"Rotation Step (deg)": "fast"}, "expected a number"),
        ({"Image Pixel Size (um)": "nan"}, "expected a number"),
        ({"Object to Source (mm)": 0}, "pixel_mm = inf"),
        ({"Number Of Columns": 33}, "the settings say"),
        ({"Number Of Files": -4}, "whole number"),
        ({"Optical Axis (line)": "1e30"}, "shifts"),
    ],
)
def test_senseless_settings(tmp_path, changed, said):
    path = samples.write_skyscan(tmp_path / "bone", **changed)
    with pytest.raises(FileFormatError, match=said) as caught:
        read(path)
    assert len(str(caught.value)) < 280


def test_without_a_distance_it_is_asked_for(tmp_path):
    path = samples.write_skyscan(tmp_path / "bone", **{"Camera to Source (mm)": None})
    with pytest.raises(MissingInformation, match="source_detector_mm"):
        read(path)
    assert read(path, source_detector_mm=286).geometry == read(samples.write_skyscan(tmp_path / "bone")).geometry


def test_other_logs_are_not_scans(tmp_path):
    (tmp_path / "a.log").write_text("[System]\nstarted\n")
    with pytest.raises(FileFormatError, match="text file, but not one"):
        read(tmp_path / "a.log")

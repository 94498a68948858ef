import numpy as np
import pytest

from napari_unroll.errors import FileFormatError
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.geometry import ConeBeam
from tests.io import samples


def seen_at(scan, height_mm):
    """Column and row, from the detector's middle, at which every view sees the point of the axis at this height."""
    v = scan.geometry.vectors
    normal, ray = np.cross(v[:, 6:9], v[:, 9:12]), np.array([0, 0, height_mm]) - v[:, :3]
    hit = v[:, :3] + ray * (((v[:, 3:6] - v[:, :3]) * normal).sum(1) / (ray * normal).sum(1))[:, None] - v[:, 3:6]
    return [(hit * v[:, k : k + 3]).sum(1) / (v[:, k : k + 3] ** 2).sum(1) for k in (6, 9)]


def test_a_scan_opened_by_its_settings_or_its_folder(tmp_path):
    path = samples.write_xtekct(tmp_path / "scan")
    scan = read(path)
    assert find_reader(path).name == "nikon"
    assert find_reader(tmp_path / "scan").name == "nikon-folder"
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=1e-4)
    orbit = ConeBeam.circular(
        angles_rad=np.deg2rad(150 - 15 * np.arange(samples.N_VIEWS)), source_origin_mm=60, source_detector_mm=120,
        detector_shape=(samples.ROWS, samples.COLS), pixel_mm=(0.2, 0.2),
    )  # fmt: skip
    assert scan.geometry == orbit
    folder = read(tmp_path / "scan")
    np.testing.assert_array_equal(folder.measurements, scan.measurements)
    assert any("InitialAngle 30° and AngularStep 15°" in note for note in scan.notes)
    assert any("white level 60000" in note for note in scan.notes)


def test_the_offset_of_the_axis(tmp_path):
    scan = read(samples.write_xtekct(tmp_path / "scan", ObjectOffsetX=0.3))
    column, row = seen_at(scan, 0.0)
    assert column == pytest.approx(np.full(samples.N_VIEWS, 0.3 * 2 / 0.2))
    assert row == pytest.approx(np.zeros(samples.N_VIEWS), abs=1e-9)
    asked = read(tmp_path / "scan" / "part.xtekct", view_step=2, reverse=False, source_origin_mm=60)
    assert asked.geometry.n_views == 7
    assert seen_at(asked, 0.0)[0] == pytest.approx(np.full(7, 3.0))
    assert any("as option source_origin_mm asks" in note for note in asked.notes)


def test_older_settings_say_where_the_axis_is_seen(tmp_path):
    old = {"ObjectOffsetX": None, "CentreOfRotationTop": 0.5, "CentreOfRotationBottom": 0.1}
    scan = read(samples.write_xtekct(tmp_path / "scan", **old))
    columns, rows = np.mean([seen_at(scan, h) for h in (-0.3, 0.3)], axis=2).T
    top = np.polyval(np.polyfit(rows, columns, 1), -samples.ROWS / 2)
    bottom = np.polyval(np.polyfit(rows, columns, 1), samples.ROWS / 2)
    assert (top, bottom) == pytest.approx((0.5 / 0.2, 0.1 / 0.2), abs=0.02)
    assert any("rolled by" in note for note in scan.notes)


def test_a_tilted_axis(tmp_path):
    scan = read(samples.write_xtekct(tmp_path / "scan", ObjectTilt=2.0))
    normal = np.cross(scan.geometry.vectors[:, 6:9], scan.geometry.vectors[:, 9:12])
    lean = np.rad2deg(np.arcsin(np.abs(normal[:, 2]) / np.linalg.norm(normal, axis=1)))
    assert lean == pytest.approx(np.full(samples.N_VIEWS, 2.0))


def test_any_subset_of_the_views(tmp_path):
    path = samples.write_xtekct(tmp_path / "scan")
    for k in (1, 5, 13):
        (tmp_path / "scan" / f"part_{k:04d}.tif").unlink()
    some, whole = read(path), 150 - 15 * np.delete(np.arange(samples.N_VIEWS), [0, 4, 12])
    assert np.rad2deg(np.unwrap(some.geometry.angles_rad)) == pytest.approx(whole)
    assert any("10 views" in note and "of 13 declared" in note for note in some.notes)


def test_views_in_a_folder_beneath(tmp_path):
    (tmp_path / "scan" / "raw").mkdir(parents=True)
    path = samples.write_xtekct(tmp_path / "scan", views=tmp_path / "scan" / "raw", InputFolderName="..\\raw")
    assert read(path).geometry.n_views == samples.N_VIEWS


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"SrcToObject": "far"}, "srctoobject = 'far'; expected a number"),
        ({"SrcToObject": "nan"}, "expected a number"),
        ({"SrcToObject": 0}, "inside the volume|length|rotation axis"),
        ({"AngularStep": None}, "angularstep = ''"),
        ({"Projections": 1e30}, "expected a whole number"),
        ({"Projections": 2.5}, "expected a whole number"),
        ({"DetectorPixelsX": 31}, "the settings say"),
        ({"WhiteLevel": 0}, "no good pixel|air"),
        ({"DetectorPixelSizeX": 0}, "without length"),
    ],
)
def test_senseless_settings(tmp_path, changed, said):
    path = samples.write_xtekct(tmp_path / "scan", **changed)
    with pytest.raises(FileFormatError, match=said) as caught:
        read(path)
    assert len(str(caught.value)) < 280


def test_views_of_another_name_are_taken_where_their_number_fits(tmp_path):
    assert read(samples.write_xtekct(tmp_path / "scan", Name="other")).geometry.n_views == samples.N_VIEWS
    with pytest.raises(FileFormatError, match="no TIFF files named other_0001"):
        read(samples.write_xtekct(tmp_path / "scan", Name="other", Projections=12))


def test_several_scans_in_a_folder(tmp_path):
    path = samples.write_xtekct(tmp_path / "scan")
    path.with_name("second.xtekct").write_bytes(path.read_bytes())
    with pytest.raises(FileFormatError, match=r"several scans \(part\.xtekct, second\.xtekct\)"):
        read(tmp_path / "scan")


def test_without_views(tmp_path):
    path = samples.write_xtekct(tmp_path / "scan")
    for view in path.parent.glob("*.tif"):
        view.unlink()
    with pytest.raises(FileFormatError, match=r"no TIFF files named part_0001"):
        read(path)

import shutil

import numpy as np
import pytest
import tifffile

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.geometry import ConeBeam

ROWS, COLS, N = 6, 8, 24


def orbit() -> ConeBeam:
    """A closed orbit of N + 1 rows."""
    return ConeBeam.circular(
        angles_rad=np.linspace(0, 2 * np.pi, N + 1),
        source_origin_mm=66.0,
        source_detector_mm=199.0,
        detector_shape=(ROWS, COLS),
        pixel_mm=(0.15, 0.15),
    )


@pytest.fixture
def folder(tmp_path):
    """Views 3 and 10, whose transmission is e^-1 but for one marked pixel (row 1, column 2) of the detector."""
    np.savetxt(tmp_path / "scan_geom_corrected.geom", orbit().vectors)
    marked = np.full((ROWS, COLS), 100 + 1000 * np.exp(-1.0))
    marked[1, 2] = 100 + 1000 * np.exp(-2.0)
    stored = np.flipud(marked.T)
    for k in (3, 10):
        tifffile.imwrite(tmp_path / f"scan_{k:06d}.tif", stored.round().astype(np.uint16))
    tifffile.imwrite(tmp_path / "di000000.tif", np.full((COLS, ROWS), 100, np.uint16))
    tifffile.imwrite(tmp_path / "io000000.tif", np.full((COLS, ROWS), 1000, np.uint16))
    tifffile.imwrite(tmp_path / "io000001.tif", np.full((COLS, ROWS), 1200, np.uint16))
    return tmp_path


def test_rows_are_reversed_and_pictures_turned(folder):
    scan = read(folder)
    assert find_reader(folder).name == "walnut"
    np.testing.assert_allclose(scan.geometry.vectors, orbit().vectors[[N - 3, N - 10]], atol=1e-9)
    assert scan.measurements.shape == (2, ROWS, COLS)
    assert scan.measurements[:, 1, 2] == pytest.approx([2, 2], abs=5e-3)
    assert np.median(scan.measurements) == pytest.approx(1, abs=5e-3)
    assert scan.grid.shape == (501, 501, 501)
    assert scan.grid.spacing_mm == pytest.approx((0.1,) * 3)


def test_binned_and_limited(folder):
    scan = read(folder, bin=2, view_step=2, max_size=50)
    assert scan.measurements.shape == (1, 3, 4)
    assert scan.geometry.pixel_mm == pytest.approx((0.3, 0.3))
    assert scan.grid.shape == (50, 50, 50)
    assert scan.grid.size_mm == pytest.approx((50.1,) * 3)


def test_first_and_last_view_coincide(folder):
    for k in (0, N):
        tifffile.imwrite(folder / f"scan_{k:06d}.tif", np.full((COLS, ROWS), 500, np.uint16))
    scan = read(folder)
    assert scan.geometry.n_views == 3
    np.testing.assert_allclose(scan.geometry.vectors[-1], orbit().vectors[0])


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.93])
def test_truncated_geometry(folder, keep):
    file = folder / "scan_geom_corrected.geom"
    raw = file.read_bytes()
    file.write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(FileFormatError, match=r"truncated|geometry rows"):
        read(folder)


def test_geometry_cut_at_a_line(folder):
    file = folder / "scan_geom_corrected.geom"
    file.write_text("\n".join(file.read_text().splitlines()[:-2]))
    with pytest.raises(FileFormatError, match="closed orbit"):
        read(folder)


@pytest.mark.parametrize("name", ["di000000.tif", "io000000.tif"])
def test_missing_fields(folder, name):
    (folder / name).unlink()
    if name.startswith("io"):
        (folder / "io000001.tif").unlink()
    with pytest.raises(FileFormatError, match="copy it from the data set"):
        read(folder)


def test_view_beyond_the_geometry(folder):
    tifffile.imwrite(folder / "scan_000500.tif", np.zeros((COLS, ROWS), np.uint16))
    with pytest.raises(FileFormatError, match="only 25 geometry rows"):
        read(folder)


def test_original_geometry_is_not_there(folder):
    with pytest.raises(FileFormatError, match="no file"):
        read(folder, geometry="original")
    with pytest.raises(ParameterError, match="no option 'angles'"):
        read(folder, angles="0:360")


@pytest.fixture
def all_orbits(folder, tmp_path_factory):
    """A walnut whose three orbits are copies of one but for the height of the source and of the detector."""
    walnut = tmp_path_factory.mktemp("walnut")
    for k in (1, 2, 3):
        place = walnut / "Projections" / f"tubeV{k}"
        shutil.copytree(folder, place)
        rows = np.array(orbit().vectors)
        rows[:, [2, 5]] += k
        np.savetxt(place / "scan_geom_corrected.geom", rows)
    return walnut


def test_all_orbits_are_one_scan(all_orbits, folder):
    one, scan = read(folder), read(all_orbits)
    assert find_reader(all_orbits).name == find_reader(all_orbits / "Projections").name == "walnut-set"
    assert scan.measurements.shape == (6, ROWS, COLS)
    np.testing.assert_array_equal(scan.measurements, np.tile(one.measurements, (3, 1, 1)))
    np.testing.assert_allclose(scan.geometry.vectors[:, 2] - np.tile(one.geometry.vectors[:, 2], 3), [1, 1, 2, 2, 3, 3])
    assert scan.notes[0] == "3 orbits in one scan: tubeV1, tubeV2, tubeV3."
    assert read(all_orbits, view_step=4).geometry.n_views == 2
    first = scan.provenance.sha256
    tifffile.imwrite(all_orbits / "Projections/tubeV2/di000000.tif", np.full((COLS, ROWS), 101, np.uint16))
    assert read(all_orbits).provenance.sha256 != first


def test_orbits_of_other_sizes(all_orbits):
    place = all_orbits / "Projections" / "tubeV2"
    for file in place.glob("*.tif"):
        tifffile.imwrite(file, np.full((COLS, ROWS + 1), 500 if "di" in file.name else 900, np.uint16))
    with pytest.raises(FileFormatError, match="different sizes"):
        read(all_orbits)


def test_flats_before_and_after_are_interpolated_by_time(folder):
    scan = read(folder, flats="interpolated")
    flat = np.array([1000 + 200 * k / N for k in (3, 10)]) - 100
    assert scan.measurements[:, 1, 2] == pytest.approx(-np.log(1000 * np.exp(-2.0) / flat), abs=5e-3)
    assert any("interpolated flat" in note for note in scan.notes)
    (folder / "io000001.tif").unlink()
    assert any("mean flat" in note for note in read(folder, flats="interpolated").notes)


def test_some_rows_give_the_planes_that_they_see(folder):
    whole, slab = read(folder, bin=2), read(folder, bin=2, rows="2:5")
    np.testing.assert_allclose(slab.measurements, whole.measurements[:, 1:3])
    v = whole.geometry.vectors
    away = 0.5  # binned rows from the middle of three to that of the last two
    np.testing.assert_allclose(slab.geometry.vectors[:, 3:6], v[:, 3:6] + away * v[:, 9:12], atol=1e-6)
    assert slab.grid.shape[0] < whole.grid.shape[0]
    planes = (np.array(slab.grid.origin_mm) - np.array(whole.grid.origin_mm)) / whole.grid.spacing_mm
    np.testing.assert_allclose(planes, planes.round(), atol=1e-6)

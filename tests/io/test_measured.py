"""Measured scans, where their folder is at hand."""

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError
from napari_unroll.io.registry import read
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, ParallelBeam


def axis_column(scan) -> float:
    """Column of the rotation axis by the detector's offset, pixels."""
    v, (_, u) = scan.geometry.vectors[0], scan.geometry.pixel_mm
    return (scan.geometry.detector_shape[1] - 1) / 2 - float(v[3:6] @ v[6:9]) / u**2


def test_walnut(shared_data):
    scan = read(shared_data / "walnut_cwi_10view")
    assert isinstance(scan.geometry, ConeBeam)
    assert scan.measurements.shape == (10, 972, 768)
    assert scan.geometry.source_origin_mm == pytest.approx(66.0, abs=0.01)
    assert scan.geometry.source_detector_mm == pytest.approx(199.01, abs=0.01)
    assert scan.geometry.pixel_mm == pytest.approx((0.1496, 0.1496), abs=1e-4)
    assert -0.1 < scan.measurements.min() < np.median(scan.measurements) < scan.measurements.max() < 3
    assert scan.measurements.max() > 1
    assert scan.grid.shape == (501, 501, 501)
    assert scan.grid.spacing_mm == pytest.approx((0.1,) * 3)


def test_walnut_rows_pair_with_file_numbers(shared_data):
    folder = shared_data / "walnut_cwi_10view"
    rows = np.loadtxt(folder / "scan_geom_corrected.geom")
    scan = read(folder, bin=4)
    np.testing.assert_allclose(scan.geometry.vectors[:, :3], rows[[1200 - k for k in range(6, 997, 110)], :3])
    assert np.rad2deg(np.unwrap(scan.geometry.angles_rad)) == pytest.approx(-1.8 - 33.0 * np.arange(10), abs=0.05)


def test_walnut_object_projects_where_the_geometry_says(shared_data):
    """The object's centre, found by least squares from where its mass appears, explains every view to 3 pixels."""
    scan = read(shared_data / "walnut_cwi_10view", bin=4)
    v, y = scan.geometry.vectors, np.clip(scan.measurements, 0.05, None) - 0.05
    rows, cols = scan.geometry.detector_shape
    mass = y.sum((1, 2))
    col = (y.sum(1) * np.arange(cols)).sum(1) / mass - (cols - 1) / 2
    row = (y.sum(2) * np.arange(rows)).sum(1) / mass - (rows - 1) / 2
    point = v[:, 3:6] + col[:, None] * v[:, 6:9] + row[:, None] * v[:, 9:12]
    ray = point - v[:, :3]
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    across = np.eye(3) - ray[:, :, None] * ray[:, None, :]
    centre = np.linalg.solve(across.sum(0), (across @ v[:, :3, None]).sum(0)).ravel()
    distance = np.linalg.norm(np.einsum("vij,vj->vi", across, centre - v[:, :3]), axis=1)
    assert distance.max() < 3 * scan.geometry.pixel_mm[0] / 3.0
    assert np.abs(centre).max() < 15


def test_tooth(shared_data):
    scan = read(shared_data / "tooth_aps" / "tooth.h5")
    assert isinstance(scan.geometry, ParallelBeam)
    assert scan.measurements.shape == (181, 2, 640)
    assert np.rad2deg(scan.geometry.angles_rad[[0, -1]]) == pytest.approx([0, 179.0], abs=0.1)
    assert axis_column(scan) == pytest.approx(296, abs=1)
    assert 1 < scan.measurements.max() < 3
    assert abs(np.median(scan.measurements[..., :10])) < 0.05


@pytest.mark.parametrize(
    ("name", "options"),
    [("dls24737_transmission.npz", {}), ("projections.mrc", {"angles": "0:180"})],
)
def test_diamond_parallel(shared_data, name, options):
    scan = read(shared_data / "dls24737_parallel3d" / name, **options)
    assert isinstance(scan.geometry, ParallelBeam)
    assert scan.measurements.shape == (91, 135, 160)
    assert np.rad2deg(scan.geometry.angles_rad[[1, -1]]) == pytest.approx([2, 180])
    assert axis_column(scan) == pytest.approx(86.5, abs=1)
    assert abs(np.median(scan.measurements[..., :4])) < 0.05
    assert 2 < scan.measurements.max() < 3
    assert any("value of air, 0.69" in note for note in scan.notes)


def test_diamond_with_every_fact_typed(shared_data):
    path = shared_data / "dls24737_parallel3d" / "projections.mrc"
    scan = read(path, angles="0:180", axis_px="86.5", air="0.67", values="transmission", bin="2", view_step="2")
    assert scan.measurements.shape == (46, 67, 80)
    assert 2 * axis_column(scan) + 0.5 == pytest.approx(86.5)


def test_tilt_series(shared_data):
    path = shared_data / "etspy_haadf" / "HAADF.mrc"
    scan = read(path, rotation_axis="horizontal")
    assert scan.measurements.shape == (77, 256, 256)
    assert np.rad2deg(scan.geometry.angles_rad[[0, 1, -1]]) == pytest.approx([-76, -74, 76])
    assert scan.geometry.pixel_mm == pytest.approx((3.36e-6, 3.36e-6))
    assert abs(np.median(scan.measurements)) < 50
    assert any("HAADF.rawtlt beside" in note for note in scan.notes)
    assert any("axis were horizontal" in note for note in read(path).notes)


def test_tilts_of_the_header_alone(shared_data, tmp_path):
    (tmp_path / "a.mrc").write_bytes((shared_data / "etspy_haadf" / "HAADF.mrc").read_bytes())
    scan = read(tmp_path / "a.mrc")
    assert np.rad2deg(scan.geometry.angles_rad[[0, -1]]) == pytest.approx([-76, 76])


def test_brain_kspace(shared_data):
    scan = read(shared_data / "sigpy_brain_ksp" / "cartesian_ksp.npy")
    assert isinstance(scan.geometry, CartesianSampling)
    assert scan.measurements.shape == (8, 1, 230, 180)
    assert scan.geometry.acceleration == pytest.approx(1 / 0.1243, rel=1e-3)
    energy = np.abs(scan.measurements).sum((0, 1))
    peak = np.unravel_index(energy.argmax(), energy.shape)
    assert np.abs(np.subtract(peak, (115, 90))).max() <= 2


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "volumes/studyforrest_t1.npz",
        "volumes/100_fiberform.tif",
        "htc2022_fan/htc2022_ta_full_recon_fbp.mat",
        "volumes",
    ],
)
def test_what_is_not_read_gives_one_sentence(shared_data, name):
    with pytest.raises(FileFormatError) as caught:
        read(shared_data / name)
    assert "\n" not in str(caught.value)

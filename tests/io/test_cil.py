import h5py
import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from tests.io import samples

N = samples.N_VIEWS


def turned(vector, degrees):
    """A vector turned about z."""
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.asarray(vector, float)


def test_a_cone_is_read_as_a_cone(tmp_path):
    scan = read(samples.write_cil(tmp_path / "a.nxs"))
    assert find_reader(tmp_path / "a.nxs").name == "cil"
    assert isinstance(scan.geometry, ConeBeam)
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=1e-5)
    for k, theta in enumerate(samples.ANGLES_DEG):
        expected = [turned(v, -theta) for v in ([0, -60, 0], [0, 40, 0], [0.2, 0, 0], [0, 0, 0.4])]
        np.testing.assert_allclose(scan.geometry.vectors[k], np.concatenate(expected), atol=1e-6)
    assert scan.geometry.source_detector_mm == pytest.approx(100)
    assert any("cone beam; its lengths are taken as mm" in note for note in scan.notes)


def test_positions_pixels_angles_and_origin(tmp_path):
    scan = read(
        samples.write_cil(
            tmp_path / "a.nxs",
            **{
                "source/position": [1, -50, 2], "detector/position": [3, 60, 4], "rotation_axis/position": [0.5, 7, -1],
                ".panel_origin": "top-right", "@angle_unit": "radian", "@initial_angle": 0.3,
                "angles": np.linspace(0, 3, N),
            },
        )
    )  # fmt: skip
    for k, theta in enumerate(np.rad2deg(np.linspace(0, 3, N) + 0.3)):
        parts = ([0.5, -57, 3], [2.5, 53, 5], [-0.2, 0, 0], [0, 0, -0.4])
        np.testing.assert_allclose(scan.geometry.vectors[k], np.r_[*[turned(v, -theta) for v in parts]], atol=1e-5)


def test_an_axis_that_leans_becomes_z(tmp_path):
    scan = read(samples.write_cil(tmp_path / "a.nxs", **{"rotation_axis/direction": [0.1, 0, 1]}))
    heights = scan.geometry.vectors[:, 11]
    assert heights == pytest.approx(np.full(N, 0.4 / np.hypot(0.1, 1)))
    assert np.ptp(scan.geometry.vectors[:, 2]) < 1e-6


def test_a_parallel_beam(tmp_path):
    changed = {"source/position": None, "ray/direction": [0, 3, 0], "detector/position": [0.25, 0, 0]}
    scan = read(samples.write_cil(tmp_path / "a.nxs", **changed))
    assert isinstance(scan.geometry, ParallelBeam)
    offset = (scan.geometry.vectors[:, 3:6] * scan.geometry.vectors[:, 6:9]).sum(1) / 0.2
    assert offset == pytest.approx(np.full(N, 0.25))
    assert any("Parallel beam (from the file)" in note for note in scan.notes)


def test_two_dimensions(tmp_path):
    flat = {
        "source/position": [0, -60], "detector/position": [0, 40], "detector/direction_x": [1, 0],
        "detector/direction_y": None, "rotation_axis/position": [0, 0], "rotation_axis/direction": None,
        ".num_pixels_v": None, ".pixel_size_v": None, ".dimension": "2D",
    }  # fmt: skip
    data = np.exp(-samples.line_integrals()[:, 2])
    scan = read(samples.write_cil(tmp_path / "a.nxs", data, ("angle", "horizontal"), **flat))
    assert scan.measurements.shape == (N, 1, samples.COLS)
    assert scan.geometry.pixel_mm == pytest.approx((0.2, 0.2))
    assert isinstance(scan.geometry, ConeBeam)


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0)])
def test_axes_in_any_order(tmp_path, order):
    labels = [("angle", "vertical", "horizontal")[k] for k in order]
    data = np.exp(-samples.line_integrals()).transpose(order)
    scan = read(samples.write_cil(tmp_path / "a.nxs", data, tuple(labels)))
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=1e-5)


def test_channels_and_compression(tmp_path):
    clear = np.exp(-samples.line_integrals())
    data = (np.stack([np.ones_like(clear), clear]) * 200 + 30).round().astype(np.uint8)
    labels = ("channel", "angle", "vertical", "horizontal")
    path = samples.write_cil(tmp_path / "a.nxs", data, labels, **{".scale": 200.0, ".offset": 30.0})
    scan = read(path, channel=1, air=1)
    np.testing.assert_allclose(np.exp(-scan.measurements), clear, atol=0.003)
    with pytest.raises(FileFormatError, match="2 channels"):
        read(path, channel=2)
    with pytest.raises(ParameterError):
        read(path, channel=-1)


def test_flats_and_darks_by_image_key(tmp_path):
    raw, flat, dark = samples.counts()
    path = samples.write_cil(tmp_path / "a.nxs", np.concatenate([flat[None], dark[None], raw]))
    with h5py.File(path, "a") as file:
        file["entry1/tomo_entry/data/image_key"] = np.r_[1, 2, np.zeros(N, int)]
    np.testing.assert_allclose(read(path).measurements, samples.line_integrals(), atol=2e-4)


def test_files_of_before(tmp_path):
    old = {".geom_type": "cone", ".dist_source_center": 60.0, ".dist_center_detector": 40.0}
    old |= dict.fromkeys(("source/position", "detector/position", "rotation_axis/position", "rotation_axis/direction",
                          "detector/direction_x", "detector/direction_y"))  # fmt: skip
    assert (
        read(samples.write_cil(tmp_path / "a.nxs", **old)).geometry
        == read(samples.write_cil(tmp_path / "b.nxs")).geometry
    )


def test_an_option_asks_for_a_circular_orbit(tmp_path):
    scan = read(samples.write_cil(tmp_path / "a.nxs", **{".pixel_size_v": 0.2}), axis_px=15.5)
    assert scan.geometry == read(samples.write_cil(tmp_path / "b.nxs", **{".pixel_size_v": 0.2})).geometry
    assert any("as option axis_px asks" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({".data_type": "ImageData"}, "holds a volume of CIL"),
        ({".dim0": "energy"}, "names its axes"),
        ({".pixel_size_h": "wide"}, "expected a number"),
        ({".pixel_size_h": None}, "pixel_size_h"),
        ({".pixel_size_h": 0.0}, "without length"),
        ({"source/position": [0, np.nan, 0]}, "finite numbers"),
        ({"source/position": [0, 1, 0, 3]}, "2 or 3 finite numbers"),
        ({"detector/position": None}, "lacks positions"),
        ({"rotation_axis/direction": [0, 0, 0]}, "no direction"),
        ({"detector/direction_x": [0, 0, 0]}, "scanner's u|finite"),
        ({"angles": None}, "no entry1/tomo_entry/config/angles"),
        ({"angles": np.zeros(4)}, "vectors in a.nxs have shape"),
        ({".scale": 0.0}, "NaN|no good pixel"),
    ],
)
def test_senseless_files(tmp_path, changed, said):
    with pytest.raises(FileFormatError, match=said) as caught:
        read(samples.write_cil(tmp_path / "a.nxs", **changed))
    assert len(str(caught.value)) < 300
    assert not isinstance(caught.value, MissingInformation)

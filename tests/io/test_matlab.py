import numpy as np
import pytest
import scipy.io

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from tests.io import samples


def test_a_fan_beam_is_a_cone_of_one_row(tmp_path):
    scan = read(samples.write_mat(tmp_path / "a.mat"))
    assert find_reader(tmp_path / "a.mat").name == "matlab"
    assert isinstance(scan.geometry, ConeBeam)
    np.testing.assert_array_equal(scan.measurements, samples.line_integrals()[:, :1])
    assert np.rad2deg(np.unwrap(scan.geometry.angles_rad)) == pytest.approx(samples.ANGLES_DEG)
    assert (scan.geometry.source_origin_mm, scan.geometry.source_detector_mm) == pytest.approx((410.66, 553.74))
    assert scan.geometry.pixel_mm == pytest.approx((0.2, 0.2))


def test_both_kinds_of_file_hold_the_same(tmp_path):
    first = read(samples.write_mat(tmp_path / "a.mat"))
    second = read(samples.write_mat_73(tmp_path / "b.mat"))
    assert find_reader(tmp_path / "b.mat").name == "matlab-7.3"
    assert first.geometry == second.geometry
    np.testing.assert_array_equal(first.measurements, second.measurements)


def test_a_parallel_beam(tmp_path):
    assert isinstance(read(samples.write_mat(tmp_path / "a.mat", geometryType="Parallel")).geometry, ParallelBeam)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"distanceUnit": "parsec"}, "distances in parsec"),
        ({"pixelSizePost": "wide"}, "no pixel size"),
        ({"distanceSourceOrigin": np.nan}, "source_origin_mm = nan"),
        ({"angles": np.arange(3.0)}, "13 views but 3 angles"),
        ({"angles": "many"}, "holds no angles"),
    ],
)
def test_senseless_parameters(tmp_path, changed, said):
    with pytest.raises(FileFormatError, match=said) as caught:
        read(samples.write_mat(tmp_path / "a.mat", **changed))
    assert len(str(caught.value)) < 280
    with pytest.raises(FileFormatError, match=said):
        read(samples.write_mat_73(tmp_path / "b.mat", **changed))


def test_other_matlab_files(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"x": np.zeros(3)})
    with pytest.raises(FileFormatError, match="is a MATLAB file, but not one that is read here"):
        read(tmp_path / "a.mat")
    scipy.io.savemat(tmp_path / "b.mat", {"CtData": {"sinogram": np.zeros(3)}})
    with pytest.raises(FileFormatError, match="expected numbers"):
        read(tmp_path / "b.mat")


def test_without_a_pixel_size_it_is_asked_for(tmp_path):
    path = samples.write_mat(tmp_path / "a.mat", pixelSizePost=None)
    with pytest.raises(MissingInformation, match="pixel_mm"):
        read(path)
    assert read(path, pixel_mm=0.3).geometry.pixel_mm == pytest.approx((0.3, 0.3))


def test_a_disc_of_the_challenge(shared_data):
    """The ray from θ under the fan angle γ is also one from θ + 180° − 2γ under −γ; the other sense of rotation doubles edges."""
    scan = read(shared_data / "htc2022_fan" / "htc2022_ta_full.mat")
    assert scan.measurements.shape == (721, 1, 560)
    assert scan.grid.spacing_mm == pytest.approx((0.1483223,) * 3, rel=1e-5)
    y = scan.measurements[:720, 0]
    fan = np.rad2deg(np.arctan((np.arange(560) - 279.5) * 0.2 / 553.74))
    views, columns = np.meshgrid(np.arange(0, 720, 40), np.arange(80, 480, 20), indexing="ij")

    def disagreement(sense):
        opposite = np.mod((views / 2 + sense * (180 + 2 * fan[columns])) * 2, 720).round().astype(int) % 720
        return np.abs(y[views, columns] - y[opposite, 559 - columns]).mean()

    assert np.diff(scan.geometry.angles_rad[:2]) > 0
    assert disagreement(-1) < 0.3 * disagreement(1)

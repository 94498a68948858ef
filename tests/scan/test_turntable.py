import numpy as np
import pytest

from napari_unroll.errors import ScanError
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from napari_unroll.scan.turntable import Turntable

ANGLES = np.deg2rad([0, 10, 100, 250])
PIXEL = {"u": np.array([0.1, 0, 0]), "v": np.array([0, 0, 0.2])}
UPRIGHT = {"axis": np.zeros(3), "axis_direction": np.array([0, 0, 5.0])}


def table(**changed):
    return Turntable(
        **{"ray": np.array([0, -60.0, 0]), "detector": np.array([0, 40.0, 0]), **PIXEL, **UPRIGHT, **changed}
    )


def test_an_upright_axis_between_source_and_detector_is_a_circular_orbit():
    orbit = ConeBeam.circular(
        angles_rad=-ANGLES, source_origin_mm=60, source_detector_mm=100, detector_shape=(3, 4), pixel_mm=(0.2, 0.1)
    )
    np.testing.assert_allclose(table().vectors(ANGLES), orbit.vectors, atol=1e-12)
    orbit = ParallelBeam.circular(angles_rad=-ANGLES, detector_shape=(3, 4), pixel_mm=(0.2, 0.1))
    flat = table(ray=np.array([0, -1.0, 0]), detector=np.zeros(3), parallel=True)
    np.testing.assert_allclose(flat.vectors(ANGLES), orbit.vectors, atol=1e-12)


def test_the_place_of_the_whole_scanner_is_of_no_matter():
    moved = table(ray=np.array([3, -57.0, 1]), detector=np.array([3, 43.0, 1]), axis=np.array([3, 3.0, 1]))
    np.testing.assert_allclose(moved.vectors(ANGLES), table().vectors(ANGLES), atol=1e-12)


def test_a_leaning_axis_is_the_scanner_leaning_the_other_way():
    """A point on the axis stays where it was projected, in every view."""
    direction = np.array([0.1, -0.2, 1.0])
    v = table(axis_direction=direction, axis=np.array([1.0, 2.0, 0])).vectors(ANGLES)
    for height in (-5.0, 7.0):
        point = np.array([0, 0, height])
        normal = np.cross(v[:, 6:9], v[:, 9:12])
        ray = point - v[:, :3]
        hit = v[:, :3] + ray * (((v[:, 3:6] - v[:, :3]) * normal).sum(1) / (ray * normal).sum(1))[:, None] - v[:, 3:6]
        column, row = (hit * v[:, 6:9]).sum(1) / 0.01, (hit * v[:, 9:12]).sum(1) / 0.04
        where = np.array([1.0, 2.0, 0]) + height * direction / np.linalg.norm(direction)
        magnified = 100 / (where[1] + 60)
        assert column == pytest.approx(np.full(4, where[0] * magnified / 0.1))
        assert row == pytest.approx(np.full(4, where[2] * magnified / 0.2))


def test_an_axis_upside_down_turns_the_other_way():
    v = table(axis_direction=np.array([0, 0, -1.0])).vectors(ANGLES)
    source = table().vectors(-ANGLES)[:, :3]
    np.testing.assert_allclose(np.abs(v[:, :3]), np.abs(source), atol=1e-12)
    np.testing.assert_allclose(v[:, 9:12], np.tile([0, 0, -0.2], (4, 1)), atol=1e-12)


@pytest.mark.parametrize("changed", [{"axis": np.array([np.nan, 0, 0])}, {"ray": np.array([1e300, 0, 0])}])
def test_positions_are_finite(changed):
    with pytest.raises(ScanError, match="scanner's"):
        table(**changed).vectors(ANGLES)


def test_an_axis_has_a_direction():
    with pytest.raises(ScanError, match="no direction"):
        table(axis_direction=np.zeros(3)).vectors(ANGLES)

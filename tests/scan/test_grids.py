import numpy as np
import pytest

from napari_unroll.errors import ScanError
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.grids import axis_heights_mm, bin_geometry, default_grid, limit_grid, magnification


def cone(**changes):
    given = {
        "angles_rad": np.linspace(0, 6, 7),
        "source_origin_mm": 50.0,
        "source_detector_mm": 200.0,
        "detector_shape": (10, 13),
        "pixel_mm": (0.4, 0.4),
    }
    return ConeBeam.circular(**(given | changes))


def parallel(**changes):
    given = {"angles_rad": np.linspace(0, 3, 7), "detector_shape": (10, 13), "pixel_mm": (0.4, 0.4)}
    return ParallelBeam.circular(**(given | changes))


def test_voxels_are_pixels_at_the_axis():
    grid = default_grid(cone())
    assert magnification(cone()) == pytest.approx(4)
    assert grid.shape == (10, 13, 13)
    assert grid.spacing_mm == pytest.approx((0.1,) * 3)
    assert grid.center_mm == (0, 0, 0)
    assert default_grid(parallel()).spacing_mm == pytest.approx((0.4,) * 3)


def test_height_follows_the_detector():
    assert axis_heights_mm(cone(detector_offset_mm=(8.0, 0.0))).mean() == pytest.approx(2.0)
    assert default_grid(cone(detector_offset_mm=(8.0, 3.0))).center_mm == pytest.approx((2, 0, 0), abs=0.01)
    assert axis_heights_mm(parallel(detector_offset_mm=(8.0, 3.0))).mean() == pytest.approx(8.0)


def test_limit_keeps_the_extent():
    grid = VolumeGrid(shape=(100, 200, 200), spacing_mm=(0.1,) * 3, center_mm=(1, 2, 3))
    small = limit_grid(grid, 50)
    assert small.shape == (25, 50, 50)
    assert small.size_mm == pytest.approx(grid.size_mm)
    assert small.center_mm == grid.center_mm
    assert limit_grid(grid, None) is grid
    assert limit_grid(grid, 200) is grid


@pytest.mark.parametrize("geometry", [cone(), parallel()])
@pytest.mark.parametrize("factor", [2, 3])
def test_binned_pixels_lie_on_their_blocks(geometry, factor):
    binned = bin_geometry(geometry, factor)
    assert binned.detector_shape == (10 // factor, 13 // factor)

    def pixel(g, row, col):
        rows, cols = g.detector_shape
        v = g.vectors
        return v[:, 3:6] + (col - (cols - 1) / 2) * v[:, 6:9] + (row - (rows - 1) / 2) * v[:, 9:12]

    block = np.mean([pixel(geometry, r, c) for r in range(factor) for c in range(factor)], axis=0)
    np.testing.assert_allclose(pixel(binned, 0, 0), block, atol=1e-9)
    assert bin_geometry(geometry, 1) is geometry


def test_too_much_binning():
    with pytest.raises(ScanError, match="leaves nothing"):
        bin_geometry(cone(), 11)

"""What is kept and what is left out make up the scan, in every geometry."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.errors import ParameterError, ScanError
from napari_unroll.scan.geometry import CartesianSampling
from napari_unroll.scan.left_out import leave_out
from napari_unroll.scan.preprocess_mri import calibration_radius
from tests.methods import tiny

SPLITTABLE = {name: make for name, make in tiny.SCANS.items() if name not in ("blurred", "downsampled")}


def lines(shape=(3, 16, 32)):
    """Cartesian lines along x: the mask changes along y only."""
    scan = tiny.multicoil()
    pattern = np.zeros(shape[1], bool)
    pattern[[0, 2, 4, 6, 7, 8, 9, 11, 13, 15]] = True
    mask = np.broadcast_to(pattern[:, None], shape)
    values = np.ones((2, *shape), np.complex64) * mask
    geometry = CartesianSampling(mask=mask, n_coils=2)
    return replace(
        scan, measurements=values, geometry=geometry, grid=replace(scan.grid, shape=shape), csm=None, truth=None
    )


def together(scan, parts):
    """Both parts as one array again, its items in an order of their own."""
    if isinstance(scan.geometry, CartesianSampling):
        return parts.kept.measurements + parts.left_out.measurements
    axis = 0 if scan.modality == "ct" else 1
    return np.concatenate([parts.kept.measurements, parts.left_out.measurements], axis)


@pytest.mark.parametrize("name", SPLITTABLE)
@pytest.mark.parametrize("seed", [0, 1])
def test_both_parts_are_the_scan_and_neither_is_empty(name, seed):
    scan = SPLITTABLE[name]()
    parts = leave_out(scan, seed=seed)
    np.testing.assert_array_equal(np.sort(together(scan, parts), axis=None), np.sort(scan.measurements, axis=None))
    assert np.any(parts.kept.measurements)
    assert np.any(parts.left_out.measurements)
    again = leave_out(scan, seed=seed)
    assert again.left_out.geometry == parts.left_out.geometry


def test_cartesian_samples_are_split_where_they_lie_and_the_centre_is_kept():
    scan = tiny.slice_mri()
    parts = leave_out(scan, 0.1)
    kept, left = parts.kept.geometry.mask, parts.left_out.geometry.mask
    assert not (kept & left).any()
    np.testing.assert_array_equal(kept | left, scan.geometry.mask)
    np.testing.assert_array_equal(together(scan, parts), scan.measurements)
    assert left.sum() == round(0.1 * scan.geometry.mask.sum())
    assert calibration_radius(kept) >= min(calibration_radius(scan.geometry.mask), 8)


def test_of_a_mask_of_lines_whole_lines_are_left_out():
    left = leave_out(lines(), 0.2).left_out.geometry.mask
    assert left.any(axis=(0, 2)).sum() == 2
    assert left.sum() == 2 * left.shape[0] * left.shape[2]


def test_a_mask_that_is_the_same_in_all_planes_loses_the_same_in_all():
    left = leave_out(tiny.multicoil()).left_out.geometry.mask
    np.testing.assert_array_equal(left, np.broadcast_to(left[:1], left.shape))


def test_views_are_drawn_one_from_each_run_of_neighbours():
    scan = tiny.cone(12, 20)
    angles = np.sort(scan.geometry.angles_rad)
    left = leave_out(scan, 0.25).left_out.geometry.angles_rad
    runs = np.searchsorted(angles, np.sort(left)) // 4
    np.testing.assert_array_equal(runs, range(5))


def test_fully_sampled_k_space_can_spare_samples():
    scan = lines()
    full = replace(scan, geometry=CartesianSampling(mask=np.ones((3, 16, 32), bool), n_coils=2))
    left = leave_out(full, 0.1).left_out.geometry.mask
    assert left.sum() == round(0.1 * left.size)
    assert not left[1, 8, 16]


@pytest.mark.parametrize("make", [tiny.blurred, lambda: tiny.cone(12, 8).subset(slice(1))])
def test_where_nothing_can_be_spared_it_says_so(make):
    with pytest.raises(ScanError, match="left out"):
        leave_out(make())


def test_a_centre_alone_can_spare_nothing():
    scan = lines()
    mask = np.zeros((3, 16, 32), bool)
    mask[:, 7:9] = True
    with pytest.raises(ScanError, match="outside its centre"):
        leave_out(replace(scan, geometry=CartesianSampling(mask=mask, n_coils=2)))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 0.6, float("nan")])
def test_senseless_parts_are_refused(fraction):
    with pytest.raises(ParameterError, match="leave out"):
        leave_out(tiny.slice_mri(), fraction)

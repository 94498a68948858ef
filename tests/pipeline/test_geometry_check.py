"""The geometry check finds a shifted axis and a reversed rotation, and says when all is well."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.errors import Cancelled, ScanError
from napari_unroll.events import Finished, Stop
from napari_unroll.physics.samples import cone_beam_setup, sample_multicoil
from napari_unroll.physics.simulate import Exposure, simulate_ct
from napari_unroll.pipeline import geometry_check
from napari_unroll.pipeline.edits import shifted
from napari_unroll.pipeline.geometry_check import check_geometry, reduced, stretched, with_axis
from napari_unroll.scan.geometry import ParallelBeam, VolumeGrid
from napari_unroll.scan.phantoms import random_volume
from napari_unroll.scan.scan import Scan

N = 24


def parallel_setup(n_views: int, turn: float) -> tuple[ParallelBeam, VolumeGrid]:
    angles = np.arange(n_views) / n_views * turn
    geometry = ParallelBeam.circular(angles_rad=angles, detector_shape=(N, N + 4), pixel_mm=(2.0, 2.0))
    return geometry, VolumeGrid(shape=(N, N, N), spacing_mm=(2.0, 2.0, 2.0))


SETUPS = {
    "cone": lambda: cone_beam_setup(N, 24),
    "half turn": lambda: parallel_setup(24, np.pi),
    "full turn": lambda: parallel_setup(30, 2 * np.pi),
}


def scan_with_axis_off(name: str, columns: float):
    """A scan whose geometry leaves out that the detector stood ``columns`` to the side."""
    geometry, grid = SETUPS[name]()
    scan = simulate_ct(random_volume((2 * N,) * 3, 1), shifted(geometry, columns), grid, Exposure(photons=2e4), 1)
    return replace(scan, geometry=geometry)


def check(scan):
    *_, last = check_geometry(scan)
    assert isinstance(last, Finished)
    return last.result


def test_a_wrong_pixel_size_of_a_parallel_beam_is_said_to_be_beyond_it():
    scan = scan_with_axis_off("half turn", 0.0)
    views = np.array(scan.geometry.vectors)
    views[:, 3:] *= 1.4
    grid = VolumeGrid(shape=(N, N, N), spacing_mm=(2.8, 2.8, 2.8))
    wrong = replace(scan, geometry=ParallelBeam(vectors=views, detector_shape=(N, N + 4)), grid=grid, truth=None)
    found = check(wrong)
    assert not found.axis_is_off
    assert "pixel size" in found.verdict
    assert "cannot tell" in found.verdict


@pytest.mark.parametrize("name", list(SETUPS))
@pytest.mark.parametrize("columns", [0.0, -3.3])
def test_the_axis_is_found_within_half_a_pixel(name, columns):
    scan = scan_with_axis_off(name, columns)
    found = check(scan)
    assert abs(found.shift_px - columns) < 0.5
    assert found.axis_is_off == (columns != 0)
    assert ("axis is right" in found.verdict) == (columns == 0)
    assert ("towards higher columns" in found.verdict) == (columns != 0)
    if columns:
        mended = check(with_axis(scan, found))
        assert not mended.axis_is_off
        assert mended.correlation > found.correlation


def test_binned_views_find_it_too(monkeypatch):
    monkeypatch.setattr(geometry_check, "MOST", geometry_check.MOST._replace(columns=16, views=12))
    scan = scan_with_axis_off("cone", 4.0)
    views, small, binning = reduced(scan)
    assert binning == 2
    assert small.measurements.shape[0] == len(views) == 12
    found = check(scan)
    assert abs(found.shift_px - 4.0) < 0.5 * binning


def test_binning_keeps_where_the_rays_run():
    geometry, _ = cone_beam_setup(N, 3)
    odd = type(geometry)(vectors=geometry.vectors, detector_shape=(geometry.detector_shape[0], 25))
    small = geometry_check._binned(odd, 2)
    first = odd.vectors[0, 3:6] + (0.5 - 12) * odd.vectors[0, 6:9]  # middle of columns 0 and 1
    columns = small.detector_shape[1]
    assert np.allclose(small.vectors[0, 3:6] - 0.5 * (columns - 1) * small.vectors[0, 6:9], first)


def test_a_reversed_rotation_is_named():
    scan = scan_with_axis_off("cone", 0.0)
    turned = replace(scan, measurements=np.ascontiguousarray(scan.measurements[::-1]))
    assert "other way" in check(turned).verdict
    assert not check(scan).reversed_


@pytest.mark.parametrize(
    ("name", "told", "words"),
    [*((name, 2.0, "half the range") for name in SETUPS), ("full turn", 0.5, "twice the range")],
)
def test_angles_over_a_wrong_range_are_named_and_not_the_axis(name, told, words):
    scan = scan_with_axis_off(name, 0.0)
    found = check(replace(scan, geometry=stretched(scan.geometry, told)))
    assert words in found.verdict
    assert not found.axis_is_off


def beside_the_axis(n_views: int, turn: float) -> Scan:
    """Parallel views of an object whose centre of mass goes round."""
    geometry, grid = parallel_setup(n_views, turn)
    volume = random_volume((2 * N,) * 3, 1) * (np.arange(2 * N) > N)
    return simulate_ct(volume.astype(np.float32), geometry, grid, Exposure(photons=2e4), 1)


def test_half_a_turn_that_is_said_to_be_a_quarter_is_named():
    scan = beside_the_axis(24, np.pi)
    found = check(replace(scan, geometry=stretched(scan.geometry, 0.5)))
    assert found.range_factor == 2
    assert "twice the range" in found.verdict


@pytest.mark.parametrize("seen_deg", [60, 90, 100, 140])
def test_missing_angles_are_no_wrong_range(seen_deg):
    geometry, grid = parallel_setup(30, np.deg2rad(seen_deg))
    centred = simulate_ct(random_volume((2 * N,) * 3, 1), geometry, grid, Exposure(photons=2e4), 1)
    assert check(centred).range_factor == 1
    assert check(beside_the_axis(30, np.deg2rad(seen_deg))).range_factor == 1


def test_noise_is_no_geometry():
    scan = scan_with_axis_off("cone", 0.0)
    noise = np.random.default_rng(0).normal(size=scan.measurements.shape).astype(np.float32)
    assert "hardly resembles" in check(replace(scan, measurements=noise)).verdict


def test_mri_has_no_views():
    with pytest.raises(ScanError, match="MRI"):
        list(check_geometry(sample_multicoil(shape=(4, 8, 8), n_coils=2, acceleration=2)))


def test_cancel_is_heard():
    stop = Stop()
    events = check_geometry(scan_with_axis_off("cone", 0.0), stop)
    next(events)
    stop.cancel()
    with pytest.raises(Cancelled):
        next(events)

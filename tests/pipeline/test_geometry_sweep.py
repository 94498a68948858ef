"""Slices for several places of the detector: the true one is the sharpest, and can be taken."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.events import Progress
from napari_unroll.physics import fdk, joseph
from napari_unroll.physics.samples import sample_cone_beam
from napari_unroll.pipeline.edits import Edits, edited, edits_of, moved
from napari_unroll.pipeline.geometry_sweep import QUANTITIES, offsets_around, sweep, with_offset
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid

AXIS, HEIGHT, TURN, TILT = QUANTITIES


@pytest.fixture(scope="module")
def scan():
    return sample_cone_beam(n=48, n_views=60, oversample=1)


@pytest.mark.parametrize(
    ("quantity", "off", "plane"), [(AXIS, 3.0, 0.5), (TURN, 4.0, 0.2), (TILT, 8.0, 0.2)], ids=["axis", "turn", "tilt"]
)
def test_the_sharpest_slice_is_that_of_the_true_place(scan, quantity, off, plane):
    wrong = replace(scan, geometry=moved(scan.geometry, Edits(**{quantity.field: off})))
    events = list(sweep(wrong, quantity, [-off, -off / 2, 0.0, off / 2, off], plane))
    found = events[-1].result
    assert found.offsets[found.best] == -off
    assert found.slices.shape == (5, *scan.grid.shape[1:])
    assert [e.step for e in events if isinstance(e, Progress)] == [1, 2, 3, 4, 5]
    mended = with_offset(wrong, found, found.best)
    np.testing.assert_allclose(mended.geometry.vectors, scan.geometry.vectors, atol=1e-9)
    assert quantity.title in mended.notes[-1]


def test_moves_add_up_in_any_order(scan):
    steps = (
        Edits(axis_shift_px=2.0),
        Edits(turn_deg=5.0, row_shift_px=-1.0),
        Edits(axis_shift_px=1.5),
        Edits(turn_deg=-2.0, tilt_deg=4.0),
        Edits(tilt_deg=3.0),
    )
    there = scan
    for step in steps:
        there = edited(there, step)
    assert edits_of(there) == Edits(axis_shift_px=3.5, turn_deg=3.0, row_shift_px=-1.0, tilt_deg=7.0)
    np.testing.assert_allclose(there.geometry.vectors, edited(scan, edits_of(there)).geometry.vectors, atol=1e-9)
    assert there.geometry.pixel_mm == pytest.approx(scan.geometry.pixel_mm)


def test_trials_lie_around_the_present_place():
    assert offsets_around(AXIS, 0.5, 5) == (-1.0, -0.5, 0.0, 0.5, 1.0)
    with pytest.raises(ParameterError, match="larger than 0"):
        offsets_around(TURN, 0.0)


def test_a_sweep_leaves_the_measurements_alone(scan):
    before = np.array(scan.measurements)
    *_, last = sweep(scan, HEIGHT, [0.0, 4.0])
    assert last.result.best is None
    np.testing.assert_array_equal(scan.measurements, before)


@pytest.mark.parametrize("beam", ["cone", "parallel"])
def test_a_tilt_turns_the_whole_scanner(scan, beam):
    """Lengths and angles within a view stay; seen along the axis, the rays rise by the tilt."""
    circle = {"angles_rad": np.linspace(0, 6, 7), "detector_shape": (5, 6), "pixel_mm": (0.5, 0.4)}
    plain = (
        ConeBeam.circular(**circle, source_origin_mm=50, source_detector_mm=200)
        if beam == "cone"
        else ParallelBeam.circular(**circle)
    )
    tilted = moved(plain, Edits(tilt_deg=30.0))
    before, after = (g.vectors.reshape(-1, 4, 3) for g in (plain, tilted))
    np.testing.assert_allclose(after @ after.swapaxes(1, 2), before @ before.swapaxes(1, 2), atol=1e-9)
    np.testing.assert_allclose(after[:, 2], before[:, 2], atol=1e-12)
    rise = tilted.central_rays[:, 2] / np.linalg.norm(tilted.central_rays, axis=1)
    np.testing.assert_allclose(np.abs(rise), 0.5, atol=1e-12)


def test_projector_and_back_projector_of_a_tilted_scan_are_adjoint(scan):
    """⟨Ax, y⟩ = ⟨x, Aᵀy⟩."""
    geometry = moved(scan.geometry, Edits(tilt_deg=35.0))
    rng, shape = np.random.default_rng(0), (8, 9, 10)
    x = rng.normal(size=shape).astype(np.float32)
    y = rng.normal(size=geometry.measurement_shape).astype(np.float32)
    place = np.array([-2.0, -2.2, -2.5]), np.array([0.5, 0.5, 0.5])
    ax = joseph.forward(x, geometry.vectors, True, *place, geometry.detector_shape, 1)
    aty = joseph.adjoint(y, geometry.vectors, True, *place, shape, 1)
    assert np.vdot(ax, y) == pytest.approx(np.vdot(x, aty), rel=1e-4)
    assert np.abs(ax).max() > 0


@pytest.mark.parametrize(("tilt", "most"), [(0.0, 0.1), (5.0, 0.1), (30.0, 0.4)])
def test_filtered_back_projection_of_a_tilted_ball_keeps_its_value(tilt, most):
    """The mean inside is right; what no view tells of a tilted axis is missing, more of it the more it leans."""
    n = 48
    grid = VolumeGrid(shape=(n, n, n))
    radius = np.linalg.norm(np.indices(grid.shape) - (n - 1) / 2, axis=0)
    ball = np.clip(12.5 - radius, 0, 1).astype(np.float32)
    plain = ParallelBeam.circular(angles_rad=np.linspace(0, 2 * np.pi, 90, endpoint=False), detector_shape=(n, n))
    geometry = moved(plain, Edits(tilt_deg=tilt))
    origin, spacing = np.array(grid.origin_mm), np.array(grid.spacing_mm)
    views = joseph.forward(ball, geometry.vectors, False, origin, spacing, (n, n), 1)
    found = fdk.reconstruct(views, geometry, grid, "ram-lak", 1)
    assert abs(found[radius < 8].mean() - 1) < 0.01
    assert np.linalg.norm(found - ball) < most * np.linalg.norm(ball)

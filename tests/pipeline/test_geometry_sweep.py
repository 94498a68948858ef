"""Slices for several places of the detector: the true one is the sharpest, and can be taken."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.events import Progress
from napari_unroll.physics.samples import sample_cone_beam
from napari_unroll.pipeline.edits import Edits, edited, edits_of, moved
from napari_unroll.pipeline.geometry_sweep import QUANTITIES, offsets_around, sweep, with_offset

AXIS, HEIGHT, TURN = QUANTITIES


@pytest.fixture(scope="module")
def scan():
    return sample_cone_beam(n=48, n_views=60, oversample=1)


@pytest.mark.parametrize(("quantity", "off", "plane"), [(AXIS, 3.0, 0.5), (TURN, 4.0, 0.2)], ids=["axis", "turn"])
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
        Edits(turn_deg=-2.0),
    )
    there = scan
    for step in steps:
        there = edited(there, step)
    assert edits_of(there) == Edits(axis_shift_px=3.5, turn_deg=3.0, row_shift_px=-1.0)
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

import tracemalloc

import numpy as np
import pytest

from napari_unroll.errors import ScanError
from napari_unroll.scan import preprocess_ct as ct
from tests.io.samples import line_integrals


def test_flat_dark_and_log_undo_the_detector():
    rng = np.random.default_rng(0)
    flat, dark = rng.uniform(900, 1100, (4, 5)), rng.uniform(5, 10, (4, 5))
    thickness = rng.uniform(0, 3, (2, 4, 5))
    counts = (flat - dark) * np.exp(-thickness) + dark
    np.testing.assert_allclose(ct.minus_log(ct.flat_dark(counts, flat, dark)), thickness, atol=1e-4)


def test_pixels_without_flat_become_nan():
    flat = np.array([[10.0, 2.0]])
    assert np.isnan(ct.flat_dark(np.ones((1, 2)), flat, 2.0)).tolist() == [[False, True]]


def test_log_is_clipped_and_leaves_its_input():
    values = np.array([-1.0, 0.0, 1.0], np.float32)
    np.testing.assert_allclose(ct.minus_log(values, floor=1e-2), [np.log(100), np.log(100), 0], rtol=1e-6)
    assert values[0] == -1


def test_repair_fills_from_the_rim():
    view = np.add.outer(np.arange(8.0), np.arange(9.0)).astype(np.float32)
    broken = view.copy()
    broken[3:6, 3:6] = np.nan
    broken[0, 0] = np.inf
    fixed = ct.repair(broken)
    assert np.isfinite(fixed).all()
    np.testing.assert_allclose(fixed[3:6, 3:6], view[3:6, 3:6], atol=2.1)
    untouched = np.isfinite(broken)
    np.testing.assert_array_equal(fixed[untouched], view[untouched])


def test_repair_leaves_good_views_alone_and_refuses_hopeless_ones():
    view = np.ones((3, 3), np.float32)
    assert ct.repair(view) is view
    with pytest.raises(ScanError, match="no good pixel"):
        ct.repair(np.full((3, 3), np.nan))


def test_hot_pixels_are_found_not_edges():
    view = np.ones((20, 20), np.float32)
    view[:, 10:] = 2
    view += np.random.default_rng(0).normal(0, 0.01, view.shape).astype(np.float32)
    view[4, 5] = 9
    assert np.argwhere(ct.hot_pixels(view, 20)).tolist() == [[4, 5]]


def test_bin_is_a_mean():
    view = np.arange(20.0).reshape(4, 5)
    np.testing.assert_allclose(ct.bin_view(view, 2), view[:, :4].reshape(2, 2, 2, 2).mean((1, 3)))
    with pytest.raises(ScanError, match="leaves nothing"):
        ct.bin_view(view, 6)


def test_air_is_the_brighter_border():
    stack = np.full((3, 4, 80), 0.2)
    stack[..., :3], stack[..., -3:] = 0.6, 0.67
    assert ct.air_level(stack) == pytest.approx(0.67)
    with pytest.raises(ScanError, match="air"):
        ct.air_level(np.zeros((2, 2, 8)))


@pytest.mark.parametrize("axis", [15.5, 12.3, 18.9])
@pytest.mark.parametrize("last", [180.0, 360.0, 180 * 60 / 61])
def test_axis_to_a_fraction_of_a_pixel(axis, last):
    values = line_integrals(axis, n_views=61, last_deg=last)
    values = values + np.random.default_rng(1).normal(0, 0.005, values.shape)
    found = ct.rotation_axis(values, np.deg2rad(np.linspace(0, last, 61)))
    assert found == pytest.approx(axis, abs=0.25)


def test_axis_of_a_truncated_object():
    values = line_integrals(17.0, n_views=61)[..., 8:27]
    assert ct.rotation_axis(values, np.linspace(0, np.pi, 61)) == pytest.approx(9.0, abs=0.4)


def test_no_axis_without_opposite_views():
    assert ct.rotation_axis(line_integrals(n_views=40, last_deg=120.0), np.deg2rad(np.linspace(0, 120, 40))) is None
    assert ct.rotation_axis(line_integrals(n_views=1), np.zeros(1)) is None
    assert ct.rotation_axis(np.zeros((3, 2, 16)), np.array([0.0, np.pi / 2, np.pi])) is None


def test_opposite_views_prefer_exact_pairs():
    pairs, deviation = ct.opposite_views(np.linspace(0, np.pi, 11))
    assert pairs.tolist() == [[0, 10]]
    assert deviation == pytest.approx([0], abs=1e-9)
    pairs, deviation = ct.opposite_views(np.linspace(0, np.pi, 100, endpoint=False))
    assert pairs[0].tolist() == [0, 99]
    assert deviation[0] == pytest.approx(-np.pi / 100)


def test_direction_of_the_axis():
    values = line_integrals()
    along, across = ct.axis_direction(values)
    assert along < 0.1 < across
    assert ct.axis_direction(values.swapaxes(1, 2)) == pytest.approx((across, along))


def all_pairs(angles):
    return np.triu_indices(len(angles), 1)


@pytest.mark.parametrize(
    "angles",
    [
        np.linspace(0, np.pi, 61), np.linspace(0, 2 * np.pi, 90, endpoint=False), np.linspace(0, np.pi, 100, endpoint=False),
        np.linspace(-3, 4, 77), np.random.default_rng(0).uniform(0, 7, 50), np.arange(120) * 2.399, np.array([0.0, 3.1]),
        np.deg2rad(np.arange(0, 721, 5.0)),
    ],
    ids=["0-180", "0-360", "open half turn", "odd range", "random", "golden", "two", "two turns"],
)  # fmt: skip
def test_opposite_views_are_those_of_all_pairs(angles, monkeypatch):
    pairs, miss = ct.opposite_views(angles)
    monkeypatch.setattr(ct, "_nearly_opposite", all_pairs)
    expected, expected_miss = ct.opposite_views(angles)
    np.testing.assert_array_equal(pairs, expected)
    np.testing.assert_array_equal(miss, expected_miss)


def test_opposite_views_of_very_many_take_little_memory():
    tracemalloc.start()
    pairs, _ = ct.opposite_views(np.linspace(0, np.pi, 50_001))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pairs.tolist() == [[0, 50_000]]
    assert peak < 200_000_000

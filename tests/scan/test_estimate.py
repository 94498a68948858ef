"""Standard errors are what repeated measurements vary by, and numbers are written with them."""

import numpy as np
import pytest

from napari_unroll.scan.estimate import Estimate, jackknife, percent, scientific


def mean(values):
    return float(np.mean(values))


def test_of_independent_values_the_error_of_the_mean_is_known():
    found = jackknife(mean, np.random.default_rng(0).standard_normal(20_000))
    assert found.value == pytest.approx(0, abs=0.03)
    assert found.error == pytest.approx(1 / np.sqrt(20_000), rel=0.5)


def test_neighbours_that_agree_count_for_what_they_say_together():
    values = np.repeat(np.random.default_rng(0).standard_normal(2_000), 10)
    assert jackknife(mean, values).error == pytest.approx(1 / np.sqrt(2_000), rel=0.5)


def test_the_error_of_a_median_is_the_spread_of_medians():
    rng = np.random.default_rng(0)
    found = [jackknife(lambda v: float(np.median(v)), rng.standard_normal(2_000)) for _ in range(40)]
    assert np.sqrt(np.mean([f.error**2 for f in found])) == pytest.approx(np.std([f.value for f in found]), rel=0.3)


def test_what_is_left_out_is_a_stretch_of_the_last_axis():
    assert jackknife(lambda v: float(v[0].sum() / v[1].sum()), np.array([[1.0, 2, 3], [2, 4, 6]])) == Estimate(0.5, 0)


def test_single_values_say_nothing_of_chance():
    assert jackknife(mean, np.array([2.0])) == Estimate(2, np.inf)
    assert percent(0.02, np.inf) == "2.00%"
    assert scientific(2e4, np.inf) == "2e+04"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.0081, 0.0003, "0.81% ± 0.03%"),
        (0.0081, 0.0031, "0.81% ± 0.31%"),
        (0.0081, 0.00004, "0.810% ± 0.004%"),
        (0.0, 0.0, "0.000% ± 0.000%"),
    ],
)
def test_per_cents(value, error, text):
    assert percent(value, error) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (98_123, 312, "9.81e+04 ± 0.03e+04"),
        (98_123, 3120, "9.8e+04 ± 0.3e+04"),
        (98_123, 31_200, "9.8e+04 ± 3.1e+04"),
        (12.0, 0.0, "1.200e+01 ± 0.000e+01"),
    ],
)
def test_large_numbers(value, error, text):
    assert scientific(value, error) == text

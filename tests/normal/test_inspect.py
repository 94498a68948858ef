"""What the viewers show: comparisons, profiles, maps, times, the error in the final image."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.normal import inspect
from napari_unroll.normal.fit import FitOptions, fit_now
from tests.normal.toys import circular_blur, coils, cone


@pytest.fixture(scope="module")
def ct():
    physics = cone(12, 16)
    return physics, fit_now(physics)


@pytest.mark.parametrize("kind", ["noise", "phantom", "constant", "impulse"])
def test_comparisons_add_up(ct, kind):
    c = inspect.compare(*ct, inspect.probe_volume(kind, ct[0]))
    assert c.exact.shape == (12, 12, 12)
    assert np.allclose(c.difference, c.exact - c.approximated)
    assert c.error == pytest.approx(np.linalg.norm(c.difference) / np.linalg.norm(c.exact), rel=1e-4)
    assert c.seconds_exact > 0
    assert c.speedup > 0


def test_exact_forms_have_no_error():
    physics = coils()
    c = inspect.compare(physics, fit_now(physics), inspect.probe_volume("noise", physics))
    assert c.error < 1e-6
    assert np.nanmax(inspect.error_against_frequency(c).values) < 1e-5
    assert inspect.error_against_position(c).max() < 1e-4


def test_impulse_goes_where_it_is_asked(ct):
    x = inspect.probe_volume("impulse", ct[0], (1, 2, 3))
    assert float(x[0, 0, 1, 2, 3]) == float(x.sum()) == 1
    with pytest.raises(ParameterError, match="inside"):
        inspect.probe_volume("impulse", ct[0], (1, 2, 12))


def test_radial_profile_of_a_blur_is_its_squared_transfer():
    physics = circular_blur((16, 16, 16), 2.0)
    f = fit_now(physics, FitOptions(n_probes=1, n_test=0))
    profile = inspect.radial_profile(f, 8)
    wanted = np.exp(-((2 * np.pi * 2.0) ** 2) * profile.frequency**2 / 4)
    assert np.allclose(profile.values, wanted, atol=0.08)


def test_maps_show_where_and_at_which_frequency_the_error_is():
    shape = (16, 16, 16)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    wrong = x.copy()
    wrong[:, :, 8:] *= 0.5
    c = inspect.Comparison(x, x, wrong, 0.35, 1.0, 1.0)
    at = inspect.error_against_position(c, 1.0)
    assert at[8, 8, 1] < 0.05
    assert at[8, 8, 14] == pytest.approx(0.5, abs=0.05)
    low = np.broadcast_to(np.cos(2 * np.pi * np.arange(16) / 16), shape).astype(np.float32)
    c = inspect.Comparison(x, x, x + low, 0.0, 1.0, 1.0)
    profile = inspect.error_against_frequency(c, 8)
    assert int(np.nanargmax(profile.values)) == int(0.0625 // 0.0625)


def test_times_of_a_patch(ct):
    times = inspect.time_patches(*ct, 8, 1)
    assert times.patch == (8, 8, 8)
    assert min(times.whole_exact, times.patch_exact, times.patch_approximated, times.bare_transforms) > 0

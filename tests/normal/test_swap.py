"""Ñ in the place of N in one patch: nothing for N itself, the known error for another, and nothing outside the patch."""

import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.normal import inspect
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.normal.swap import patch_around, swap
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import sample_cone_beam, sample_deblur

REGION = (slice(6, 10), slice(4, 10), slice(6, 12))


@pytest.fixture(scope="module")
def cone():
    physics = build_physics(sample_cone_beam(n=16, n_views=12, oversample=1), "cpu")
    forms = [fit_now(physics, FitOptions(n_probes=4, n_test=0, form=form)) for form in ("dc", "dcd")]
    return physics, forms, inspect.compare(physics, forms[0], inspect.probe_volume("phantom", physics))


def test_larger_patches_swap_more(cone):
    physics, forms, found = cone
    errors = [swap(physics, forms, found, REGION, edge).errors for edge in (2, 6, 16)]
    assert errors[0][0] < errors[1][0] < errors[2][0]
    whole = swap(physics, forms, found, (slice(0, 16),) * 3, 16)
    assert whole.errors[0] == pytest.approx(found.error, rel=1e-4)
    np.testing.assert_allclose(whole.volumes[0], found.approximated, atol=1e-4 * np.abs(found.exact).max())


def test_nothing_changes_outside_the_patch(cone):
    physics, forms, found = cone
    made = swap(physics, forms, found, REGION, 6)
    assert made.box == (slice(5, 11), slice(4, 10), slice(6, 12))
    outside = np.ones(found.exact.shape, bool)
    outside[made.box] = False
    for volume in made.volumes:
        np.testing.assert_array_equal(volume[outside], found.exact[outside])


def test_an_exact_approximation_changes_nothing():
    physics = build_physics(sample_deblur(shape=(1, 24, 24)), "cpu")
    factors = fit_now(physics, FitOptions(n_test=0))
    found = inspect.compare(physics, factors, inspect.probe_volume("noise", physics))
    assert swap(physics, [factors], found, (slice(0, 1), slice(4, 9), slice(4, 9)), 12).errors[0] < 1e-5


def test_patches_stay_inside_and_regions_must(cone):
    physics, forms, found = cone
    assert patch_around((slice(0, 2),) * 3, 8, (16, 16, 4)) == (slice(0, 8), slice(0, 8), slice(0, 4))
    with pytest.raises(ParameterError, match="outside"):
        swap(physics, forms, found, (slice(40, 44),) * 3, 4)

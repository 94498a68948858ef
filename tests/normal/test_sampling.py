"""Large volumes: kernels of few lags from local columns, weights from larger voxels."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.events import Warned
from napari_unroll.normal.fit import FitOptions, fit, fit_now
from napari_unroll.normal.probes import CountedNormal, HeldOut
from napari_unroll.normal.sampling import default_support
from napari_unroll.physics.laws import normal_norm
from tests.normal.toys import cone

BOX = (slice(4, 12), slice(3, 11), slice(5, 13))


@pytest.mark.parametrize("form", ["dcd", "sum"])
def test_coarse_weights_lose_little_on_patches(form):
    physics = cone(16, 20)
    held_out = HeldOut.make(CountedNormal(physics), 6, patch=8)
    whole = held_out.errors(fit_now(physics, FitOptions(form=form, n_test=0)))
    large = fit_now(physics, FitOptions(form=form, n_test=0, support=8, coarse=2))
    assert large.kernel.shape[-1] == 16
    assert large.norm_squared >= 0.98 * normal_norm(physics)
    assert held_out.errors(large)["error_image"] < 1.5 * whole["error_image"]


def test_coarse_weights_of_truncated_scans_lose_little_too():
    """Half of the detector: the weight falls steeply where voxels leave it."""
    physics = cone(16, 20, part=0.5)
    held_out = HeldOut.make(CountedNormal(physics), 6, patch=8)
    whole = held_out.errors(fit_now(physics, FitOptions(form="dcd", n_test=0)))
    large = held_out.errors(fit_now(physics, FitOptions(form="dcd", n_test=0, support=8, coarse=2)))
    assert large["error_image"] < 1.6 * whole["error_image"]


def test_the_user_is_told_and_errors_are_those_of_patches():
    events = list(fit(cone(16, 8), FitOptions(n_probes=4, support=8, coarse=2, n_test=2)))
    assert any(isinstance(e, Warned) and "patches up to" in e.text for e in events)
    assert 0 < events[-1].result.info["error_image"] < 1
    assert events[-1].result.info["operator_calls"] == 10


def test_columns_on_boxes_are_columns_of_the_whole():
    physics = cone(16, 8)
    normal = CountedNormal(physics)
    whole = (slice(0, 16),) * 3
    full = normal.column((7, 5, 9), whole)
    assert torch.allclose(full[BOX], normal.column((7, 5, 9), BOX), atol=1e-4 * float(full.max()))
    assert normal.calls == 2


def test_supports():
    assert default_support((64, 64, 64), "dcd", None) == (64, 64, 64)
    assert default_support((512, 40, 512), "dcd", None) == (96, 40, 96)
    assert default_support((64, 64, 64), "sum", 16) == (16, 16, 16)


def test_truncated_scans_get_coloured_probes():
    options = FitOptions(form="dcd", n_probes=8, n_test=0, n_coloured=3)
    f = fit_now(cone(12, 8), options)
    assert f.info["operator_calls"] == 12

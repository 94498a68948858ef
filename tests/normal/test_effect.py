"""The error in the final image: what Ñ in place of N does to a reconstruction."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.normal.effect import Trial, final_image_error, held_out_trial
from napari_unroll.normal.fit import fit_now
from napari_unroll.normal.impulse import assemble
from napari_unroll.normal.inspect import probe_volume
from napari_unroll.normal.probes import CountedNormal
from tests.normal.toys import coils, cone


@pytest.fixture(scope="module")
def ct():
    physics = cone(12)
    return physics, fit_now(physics)


def test_error_in_the_final_image(ct):
    truth = probe_volume("phantom", ct[0])
    box = (slice(3, 9),) * 3
    good = final_image_error(*ct, truth, box, n_start=2, n_iter=4)
    assert 0 < good.caused < 0.5
    assert good.exact < good.start
    poor = assemble(ct[1].kernel, torch.rand(12, 12, 12) + 0.2, (12, 12, 12), (False,) * 3)
    assert final_image_error(ct[0], poor, truth, box, n_start=2, n_iter=4).caused > good.caused


def test_an_exact_operator_causes_no_error():
    physics = coils()
    trial, calls = held_out_trial(physics, 0, None)
    assert trial.error(fit_now(physics)).caused < 1e-4
    assert calls == 8


def test_trials_on_patches_use_the_operator_of_the_patch(ct):
    trial, _ = held_out_trial(ct[0], 3, 8)
    assert trial.truth.shape == (1, 1, 8, 8, 8)
    normal = CountedNormal(ct[0])
    residual = normal.patch(trial.truth - trial.start, trial.patch)
    assert torch.allclose(trial.residual, residual, atol=1e-3 * float(residual.abs().max()))
    assert 0 < trial.error(ct[1]).caused < 0.5


def test_the_estimate_has_an_exact_residual_image(ct):
    normal, truth = CountedNormal(ct[0]), probe_volume("phantom", ct[0])
    trial = Trial.make(normal, truth, None, 3, 2)
    residual = normal(truth - trial.start)
    assert torch.allclose(trial.residual, residual, atol=1e-3 * float(residual.abs().max()))

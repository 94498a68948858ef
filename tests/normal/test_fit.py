"""Fits against exact cases, laws and dense optima."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unroll.errors import UnrollError
from napari_unroll.events import Finished, IterationDone, Outcome, Started, Stop
from napari_unroll.normal.fit import FitOptions, FitState, fit, fit_now
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.scan.trajectories import NonCartesianSampling
from tests.normal.toys import circular_blur, coils, cone, dense, dense_normal, gap, inpainting

SHAPE = (6, 8, 10)


@pytest.fixture(scope="module")
def cone_case():
    physics = cone(12)
    return physics, dense_normal(physics)


def test_circular_blur_is_recovered_exactly():
    physics = circular_blur(SHAPE)
    f = fit_now(physics, FitOptions(kernel="circular", n_probes=2, n_test=0))
    assert gap(dense_normal(physics), dense(f.apply, SHAPE)) < 2e-6


@pytest.mark.parametrize("form", ["dcd", "dc", "cd"])
def test_inpainting_is_recovered_exactly(form):
    physics = inpainting(SHAPE)
    f = fit_now(physics, FitOptions(form=form, n_probes=8, n_test=0))
    assert gap(dense_normal(physics), dense(f.apply, SHAPE)) < 2e-6


@pytest.mark.parametrize("readout", [False, True])
@pytest.mark.parametrize("n_coils", [1, 3])
def test_cartesian_mri_is_exact(readout, n_coils):
    physics = coils(SHAPE, n_coils, readout=readout)
    f = fit_now(physics)
    assert f.form == "coils"
    assert gap(dense_normal(physics), dense(f.apply, SHAPE, torch.complex64)) < 2e-6


def test_readout_axis_needs_no_transform():
    f = fit_now(coils(SHAPE, readout=True))
    assert f.kernel.shape[-1] == 1
    assert f.convolution((4, 4, 4)).axes == (-3, -2)


def test_patches_of_cartesian_mri_are_exact():
    physics = coils(SHAPE)
    whole = dense_normal(physics).reshape(*SHAPE, *SHAPE)
    box = (slice(1, 6), slice(0, 5), slice(3, 9))
    block = whole[box + box].reshape(150, 150)
    assert gap(block, dense(fit_now(physics).restrict(box).apply, (5, 5, 6), torch.complex64)) < 2e-6


@pytest.mark.parametrize("shape", [(1, 8, 10), (4, 6, 5)])
def test_radial_mri_is_exact_with_a_linear_kernel(shape):
    g = np.random.default_rng(0)
    k = g.uniform(-0.5, 0.5, (6, 9, 3)) * (np.array(shape) > 1)
    csm = (g.normal(size=(2, *shape)) + 1j * g.normal(size=(2, *shape))).astype(np.complex64)
    physics = NonCartesianMRI(NonCartesianSampling(trajectory=k, shape=shape, n_coils=2), csm)
    f = fit_now(physics)
    assert (f.form, f.circular) == ("coils", (False, False, False))
    assert gap(dense_normal(physics), dense(f.apply, shape, torch.complex64)) < 1e-5


def test_all_virtual_coils_are_exact_and_fewer_are_worse():
    physics = coils(SHAPE, 4)
    exact = dense_normal(physics)
    errors = [
        gap(exact, dense(fit_now(physics, FitOptions(form=form, n_terms=k, n_test=0)).apply, SHAPE, torch.complex64))
        for form, k in (("virtual-coils", 4), ("virtual-coils", 3), ("virtual-coils", 1))
    ]
    assert errors[0] < 2e-6 < errors[1] < errors[2]


def test_single_coil_form_is_the_best_convolution():
    physics = coils(SHAPE, 3)
    exact = dense_normal(physics)
    f = fit_now(physics, FitOptions(form="single-coil", n_test=0))
    best = gap(exact, dense(f.apply, SHAPE, torch.complex64))
    g = torch.Generator().manual_seed(1)
    for _ in range(3):
        nudge = 0.02 * torch.randn(f.kernel.shape, generator=g) * f.kernel.abs().max()
        f.kernel.add_(nudge)
        f._cache.clear()
        assert gap(exact, dense(f.apply, SHAPE, torch.complex64)) > best
        f.kernel.sub_(nudge)


def test_cone_beam_is_symmetric_positive_and_close(cone_case):
    physics, exact = cone_case
    f = fit_now(physics)
    approx = dense(f.apply, (12, 12, 12))
    assert gap(approx, approx.T) < 1e-6
    assert float(torch.linalg.eigvalsh(approx.double())[0]) > -1e-6 * float(approx.diagonal().max())
    assert gap(exact, approx) < 0.45
    ones = torch.ones(1, 1, 12, 12, 12)
    assert gap(exact @ ones.reshape(-1), f.apply(ones).reshape(-1)) < 0.05


def test_events_and_live_error(cone_case):
    events = list(fit(cone_case[0], FitOptions(n_probes=8)))
    assert isinstance(events[0], Started)
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.outcome == Outcome.COMPLETED
    errors = [e.metrics["error_image"] for e in events if isinstance(e, IterationDone) and "error_image" in e.metrics]
    assert errors == list(last.history)
    assert errors[-1] < errors[0]
    assert last.result.info["operator_calls"] == 9
    info = last.result.info
    assert {f"error_{kind}{end}" for kind in ("gaussian", "image", "final") for end in ("", "_sem")} <= set(info)
    assert 0 < info["error_final"] < 1
    assert info["test_calls"] == 3 * (1 + 1 + 8)
    assert "final image" in last.advice


def test_cancel_then_resume_gives_the_same_factors(cone_case):
    options, state, stop = FitOptions(n_probes=8, n_test=0), FitState(), Stop()
    for event in fit(cone_case[0], options, stop, state):
        if isinstance(event, IterationDone) and event.iteration == 3:
            stop.cancel()
    assert event.outcome == Outcome.CANCELLED
    assert event.result is None
    assert state.sampler.done == 3
    *_, resumed = fit(cone_case[0], options, Stop(), state)
    assert torch.equal(resumed.result.kernel, fit_now(cone_case[0], options).kernel)


def test_finish_now_keeps_what_exists(cone_case):
    stop = Stop()
    for event in fit(cone_case[0], FitOptions(n_probes=8, n_test=0), stop):
        if isinstance(event, IterationDone) and event.iteration == 2:
            stop.finish()
    assert event.outcome == Outcome.FINISHED_EARLY
    assert event.result.info["n_probes"] == 2


def test_a_form_that_does_not_apply_says_so(cone_case):
    *_, last = fit(cone_case[0], FitOptions(form="coils"))
    assert last.outcome == Outcome.FAILED
    assert "choose auto" in last.advice
    with pytest.raises(UnrollError, match="choose auto"):
        fit_now(cone_case[0], FitOptions(form="coils"))

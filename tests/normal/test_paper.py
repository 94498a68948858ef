"""The published recipe: it converges on its own model, counts its calls, and closed forms beat it."""

from __future__ import annotations

import torch

from napari_unroll.events import IterationDone, Outcome, Stop
from napari_unroll.normal.fit import FitOptions, FitState, fit, fit_now
from tests.normal.toys import circular_blur, coils, cone, dense, dense_normal, gap


def test_it_approaches_a_circular_blur_that_the_closed_form_has_exactly():
    physics = circular_blur((6, 8, 10))
    exact = dense_normal(physics)
    errors = [
        gap(exact, dense(fit_now(physics, FitOptions(recipe="paper", n_steps=n, n_test=0)).apply, (6, 8, 10)))
        for n in (10, 300)
    ]
    assert errors[1] < 0.05 < errors[0]


def test_it_counts_every_exact_application():
    f = fit_now(cone(8, 6), FitOptions(recipe="paper", n_steps=20, n_test=2))
    assert f.info["operator_calls"] == 20
    assert f.form == "dc"
    assert all(f.circular)


def test_complex_form_is_symmetric():
    f = fit_now(coils(), FitOptions(recipe="paper", n_steps=5, n_test=0))
    matrix = dense(f.apply, (6, 8, 10), torch.complex64)
    assert gap(matrix, matrix.conj().T) < 1e-5


def test_cancel_and_resume():
    physics, options, state, stop = cone(8, 6), FitOptions(recipe="paper", n_steps=12, n_test=0), FitState(), Stop()
    for event in fit(physics, options, stop, state):
        if isinstance(event, IterationDone) and event.iteration == 5:
            stop.cancel()
    assert event.outcome == Outcome.CANCELLED
    *_, resumed = fit(physics, options, Stop(), state)
    assert torch.allclose(resumed.result.kernel, fit_now(physics, options).kernel, rtol=1e-4, atol=1e-6)

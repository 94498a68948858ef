"""Reconstruction with an unrolled network: as many iterations as trained, or as asked for."""

import numpy as np
import torch

from napari_unroll.events import IterationDone
from napari_unroll.methods.networks.prior import PriorConfig
from napari_unroll.methods.unrolled.network import UnrolledConfig, UnrolledPGD
from napari_unroll.methods.unrolled.pgd import UnrolledParams, unroll
from napari_unroll.normal.fit import FitOptions, fit_now
from tests.methods import tiny


def iterates(given, network, start, **params):
    given.state.clear()
    events = unroll(given, UnrolledParams(refine="no", **params), network, start)
    return [e.values for e in events if isinstance(e, IterationDone)]


def test_more_iterations_than_trained_repeat_the_last():
    torch.manual_seed(0)
    network = UnrolledPGD(UnrolledConfig(prior=PriorConfig(channels=(4, 4, 4, 4)), n_iterations=2, preconditioner=None))
    network = network.eval().requires_grad_(False)
    given = tiny.problem(tiny.cone())
    given = tiny.problem(tiny.cone(), normal=fit_now(given.physics, FitOptions(n_test=0)))
    start = given.physics.A_dagger(given.y)
    trained, longer, shorter = (iterates(given, network, start, n_iterations=n) for n in ("auto", 4, 1))
    assert (len(trained), len(longer), len(shorter)) == (2, 4, 1)
    for a, b in zip(trained, longer, strict=False):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(shorter[0], trained[0])
    assert np.abs(longer[2] - longer[1]).max() > 0

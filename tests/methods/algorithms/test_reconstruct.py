"""Reconstruction with an unrolled network: as many iterations as trained, or as asked for."""

import numpy as np
import pytest
import torch

from napari_unroll.events import IterationDone, result_of
from napari_unroll.methods.algorithms.iterations import State
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.algorithms.reconstruct import UnrolledParams, reconstruct
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.steps.data import Data
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.patches.context import LocalProblem
from tests.methods import tiny


def iterates(given, network, start, **params):
    given.state.clear()
    events = reconstruct(given, UnrolledParams(**{"self_ensemble": False} | params), network, start)
    return [e.values for e in events if isinstance(e, IterationDone)]


def two_iterations(preconditioner=None, **config):
    """A network, a problem with its fitted operator, and the start."""
    torch.manual_seed(0)
    step, prior = GradientStepConfig(preconditioner=preconditioner), DRUNetConfig(channels=(4, 4, 4, 4))
    network = Network(NetworkConfig(prior=prior, data_step=step, n_iterations=2, **config))
    network = network.eval().requires_grad_(False)
    if network.final_step is not None:
        network.final_step.stepsize.fill_(0.5)
    given = tiny.problem(tiny.cone())
    given = tiny.problem(tiny.cone(), normal=fit_now(given.physics, FitOptions(n_test=0)))
    start = given.physics.A_dagger(given.y)
    return network, given, start


class Whole:
    """The data term of the whole volume, exact at every iterate."""

    def __init__(self, given, scale):
        self.given, self.scale = given, scale

    def at(self, x, k):
        residual = (self.given.adjoint / self.scale) - self.given.physics.A_adjoint(self.given.physics.A(x))
        return Data(LocalProblem(self.given.normal, x, residual), self.given.normal)


def test_more_iterations_than_trained_repeat_the_last():
    network, given, start = two_iterations()
    trained, longer, shorter = (iterates(given, network, start, n_iterations=n) for n in ("auto", 4, 1))
    assert (len(trained), len(longer), len(shorter)) == (2, 4, 1)
    for a, b in zip(trained, longer, strict=False):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(shorter[0], trained[0])
    assert np.abs(longer[2] - longer[1]).max() > 0


def test_every_pass_is_the_mean_over_mirror_images():
    network, given, start = two_iterations()
    single, mean = (iterates(given, network, start, self_ensemble=e) for e in (False, True))
    scale = intensity_scale(start)
    before = [start / scale, *(torch.from_numpy(v)[None, None] / scale for v in mean)]
    for k, x in enumerate(before[:2]):
        stepped = network.before(State(x), k, Whole(given, scale).at(x, k))
        passes = [network.denoise(stepped.flip(a), k).flip(a) for a in ((), (-1,), (-2,), (-3,))]
        expected = torch.stack(passes).mean(0)[0, 0] * scale
        np.testing.assert_allclose(mean[k], expected.numpy(), rtol=1e-4, atol=1e-5 * scale)
        assert np.abs(mean[k] - single[k]).max() > 0


@pytest.mark.parametrize("config", [{}, {"final_step": True, "preconditioner": 0.2}])
def test_the_last_iterate_is_the_forward_pass(config):
    network, given, start = two_iterations(**config)
    scale = intensity_scale(start)
    expected = network(start / scale, Whole(given, scale)).iterates[-1] * scale
    found = iterates(given, network, start)[-1]
    np.testing.assert_allclose(found, expected[0, 0].numpy(), rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("final_step", [False, True])
def test_refining_the_only_patch_solves_the_whole_problem_again(final_step):
    network, given, start = two_iterations(final_step=final_step)
    volumes = []
    for params in ({}, {"refine": True, "refine_operator": "exact"}):
        given.state.clear()
        volumes.append(result_of(reconstruct(given, UnrolledParams(**params), network, start)))
    torch.testing.assert_close(volumes[1], volumes[0], rtol=1e-4, atol=1e-4 * float(volumes[0].abs().max()))

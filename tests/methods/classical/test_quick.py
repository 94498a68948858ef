"""Filtered back-projection and the zero-filled image."""

import numpy as np
import torch

from napari_unroll.methods.classical.fdk import FDK
from napari_unroll.methods.classical.zero_filled import ZERO_FILLED
from napari_unroll.pipeline.metrics import psnr
from tests.methods import tiny


def test_many_views_reconstruct_the_object():
    scan = tiny.cone(24, 90)
    _, x = tiny.drain(FDK, tiny.problem(scan))
    assert psnr(x.numpy(), scan.truth) > 20


def test_hann_is_smoother():
    _, sharp = tiny.drain(FDK, tiny.problem(tiny.cone()))
    _, smooth = tiny.drain(FDK, tiny.problem(tiny.cone()), window="hann")
    assert smooth.diff(dim=-1).abs().mean() < sharp.diff(dim=-1).abs().mean()


def test_positivity_is_applied_where_asked():
    _, x = tiny.drain(FDK, tiny.problem(tiny.cone()), positivity=True)
    assert x.min() == 0


def test_zero_filled_is_the_adjoint():
    problem = tiny.problem(tiny.multicoil())
    _, x = tiny.drain(ZERO_FILLED, problem)
    torch.testing.assert_close(x, problem.physics.A_adjoint(problem.y)[0, 0])


def test_root_sum_of_squares_needs_no_maps():
    problem = tiny.problem(tiny.multicoil())
    _, x = tiny.drain(ZERO_FILLED, problem, combine="rss")
    coils = problem.physics.coil_images(problem.y)[0]
    expected = np.sqrt((np.abs(coils.numpy()) ** 2).sum(0))
    np.testing.assert_allclose(x.real.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert x.imag.abs().max() == 0

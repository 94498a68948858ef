"""Filtered back-projection and the zero-filled image."""

import dataclasses

import numpy as np
import pytest
import torch

from napari_unroll.methods.classical.fbp import FBP
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


@pytest.mark.parametrize("window", ["ram-lak", "hann"])
def test_fbp_is_fdk_of_a_parallel_scan(window):
    _, x = tiny.drain(FBP, tiny.problem(tiny.odd_parallel()), window=window)
    _, expected = tiny.drain(FDK, tiny.problem(tiny.odd_parallel()), window=window)
    torch.testing.assert_close(x, expected, rtol=0, atol=0)


def test_zero_filled_is_the_adjoint():
    problem = tiny.problem(tiny.multicoil())
    _, x = tiny.drain(ZERO_FILLED, problem)
    torch.testing.assert_close(x, problem.physics.A_adjoint(problem.y)[0, 0])


@pytest.mark.parametrize("make", [tiny.odd_multicoil, tiny.slice_mri, tiny.radial])
def test_root_sum_of_squares_is_that_of_the_coil_images_and_needs_no_maps(make):
    """Σ_c |x_c|² with x_c the image that one coil alone would give; the maps take no part."""
    scan = make()
    flat = dataclasses.replace(scan, csm=np.ones_like(scan.csm))
    problem = tiny.problem(flat)
    squares = torch.zeros(problem.shape)
    for coil in range(len(scan.measurements)):
        alone = torch.zeros_like(problem.y)
        alone[:, coil] = problem.y[:, coil]
        squares += problem.physics.A_dagger(alone)[0, 0].abs().square()
    _, x = tiny.drain(ZERO_FILLED, tiny.problem(scan), combine="rss")
    torch.testing.assert_close(x.real, squares.sqrt(), rtol=1e-4, atol=1e-5)
    assert x.imag.abs().max() == 0


def test_root_sum_of_squares_of_a_scan_without_maps():
    scan = dataclasses.replace(tiny.odd_multicoil(), csm=None)
    _, x = tiny.drain(ZERO_FILLED, tiny.problem(scan), combine="rss")
    _, expected = tiny.drain(ZERO_FILLED, tiny.problem(tiny.odd_multicoil()), combine="rss")
    torch.testing.assert_close(x, expected)

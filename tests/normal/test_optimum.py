"""The yardstick itself, and how near the fits come to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.normal.optimum import lag_matrix, optimum
from tests.normal.toys import cone, dense, dense_normal, gap

SHAPE = (3, 4, 5)


def factored(circular, k=1, seed=0):
    """A sum of k random D·C as a matrix."""
    rng = np.random.default_rng(seed)
    voxels = np.stack(np.unravel_index(np.arange(60), SHAPE), 1)
    sizes = np.array(SHAPE) if circular else 2 * np.array(SHAPE) - 1
    lags = (voxels[:, None] - voxels[None]) % sizes
    return sum(rng.normal(size=(60, 1)) * rng.normal(size=sizes)[tuple(np.moveaxis(lags, -1, 0))] for _ in range(k))


@pytest.mark.parametrize("circular", [True, False])
@pytest.mark.parametrize("k", [1, 2])
def test_sums_of_k_factors_have_no_residual(circular, k):
    assert optimum(factored(circular, k), SHAPE, k, circular, n_iter=200) < 1e-3


def test_circular_optimum_is_the_singular_value_tail():
    matrix = np.random.default_rng(0).normal(size=(60, 60))
    M, known = lag_matrix(matrix, SHAPE, circular=True)
    values = np.linalg.svd(M, compute_uv=False)
    assert known.all()
    assert optimum(matrix, SHAPE, 2, circular=True) == pytest.approx(
        np.sqrt((values[2:] ** 2).sum() / (values**2).sum()), rel=1e-6
    )


@pytest.mark.parametrize("kernel", ["linear", "circular"])
def test_one_weight_and_kernel_come_near_the_optimum(kernel):
    physics = cone(6, 20)
    exact = dense_normal(physics)
    f = fit_now(physics, FitOptions(kernel=kernel, n_probes=64, n_test=0))
    found = gap(exact, dense(f.apply, (6, 6, 6)))
    best = optimum(exact.double().numpy(), (6, 6, 6), 1, kernel == "circular")
    assert best <= found < 1.15 * best + 1e-3


def test_the_form_sum_goes_below_the_optimum_of_one_factor():
    physics = cone(6, 20)
    exact = dense_normal(physics)
    f = fit_now(physics, FitOptions(form="sum", n_probes=256, n_test=0))
    assert gap(exact, dense(f.apply, (6, 6, 6))) < optimum(exact.double().numpy(), (6, 6, 6))
    assert torch.isfinite(f.kernel).all()

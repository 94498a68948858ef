import numpy as np
import pytest
import torch

from napari_unroll.methods.classical.differences import Differences
from napari_unroll.methods.classical.strength import mean_eigenvalue
from napari_unroll.methods.classical.tikhonov import TIKHONOV
from tests.methods import tiny

SCANS = [tiny.parallel((3, 7, 5), 15), tiny.multicoil((2, 7, 9))]


def roughness(shape, spacing):
    """∇ᵀ∇ as a dense matrix."""
    d, n = Differences(spacing), int(np.prod(shape))
    columns = torch.eye(n, dtype=torch.float64).reshape(n, *shape)
    return np.stack([d.divergence(d.gradient(c)).flatten().numpy() for c in columns], 1)


@pytest.mark.parametrize("penalty", ["gradient", "identity"])
@pytest.mark.parametrize("scan", SCANS, ids=["ct", "mri"])
def test_it_is_the_dense_solution(scan, penalty):
    """(AᴴA + λ μ LᵀL) x = Aᴴ y."""
    problem, strength = tiny.problem(scan), 0.1
    a, n = tiny.dense(problem), int(np.prod(problem.shape))
    square = roughness(problem.shape, scan.grid.spacing_mm) if penalty == "gradient" else np.eye(n)
    matrix = a.conj().T @ a + strength * mean_eigenvalue(problem.physics) * square
    expected = np.linalg.solve(matrix, a.conj().T @ tiny.data(problem)).reshape(problem.shape)
    _, x = tiny.drain(TIKHONOV, problem, strength=strength, penalty=penalty, n_iterations=300, tolerance=1e-6)
    assert np.linalg.norm(x.numpy() - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("penalty", ["gradient", "identity"])
def test_more_strength_fits_less(penalty):
    events = [
        tiny.drain(TIKHONOV, tiny.problem(tiny.odd_multicoil()), strength=s, penalty=penalty, tolerance=1e-4)[0]
        for s in (0.001, 0.1, 10.0)
    ]
    residuals = [e[-1].residual for e in events]
    assert residuals == sorted(residuals)


def test_a_stopped_run_goes_on_to_the_same_minimum():
    given = tiny.problem(SCANS[0])
    tiny.drain(TIKHONOV, given, n_iterations=4, tolerance=0)
    _, resumed = tiny.drain(TIKHONOV, given, n_iterations=200, tolerance=1e-6)
    _, straight = tiny.drain(TIKHONOV, tiny.problem(SCANS[0]), n_iterations=200, tolerance=1e-6)
    torch.testing.assert_close(resumed, straight, rtol=1e-3, atol=1e-5)

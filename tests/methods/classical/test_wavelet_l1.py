import pytest
import torch

from napari_unroll.events import result_of
from napari_unroll.methods.classical.fdk import FDK
from napari_unroll.methods.classical.strength import mean_eigenvalue, volume_scale
from napari_unroll.methods.classical.wavelet_l1 import WAVELET_L1, shift_of
from napari_unroll.methods.classical.wavelets import Wavelets, WaveletSparsity
from napari_unroll.methods.classical.zero_filled import ZERO_FILLED
from napari_unroll.pipeline.metrics import psnr
from tests.methods import tiny

STRENGTH = 0.02
SOLVED = {"strength": STRENGTH, "random_shifts": False, "n_iterations": 120, "tolerance": 0, "wavelet": "haar",
          "show_every": 1000}  # fmt: skip


def data_gradient(problem, x):
    """∇ of ‖A x − y‖² / 2, and the weight of ‖W x‖₁ beside it."""
    quick = problem.physics.A_dagger(problem.y)
    weight = STRENGTH * mean_eigenvalue(problem.physics) * volume_scale(quick)
    return problem.physics.A_adjoint(problem.physics.A(x[None, None]) - problem.y)[0, 0], weight


def test_complex_coefficients_satisfy_the_optimality_condition():
    """W ∇f = −w c / |c| where a coefficient lives and |W ∇f| ≤ w where it is zero; the free approximation has none."""
    scan = tiny.multicoil((8, 8, 16))
    problem = tiny.problem(scan)
    _, x = tiny.drain(WAVELET_L1, problem, **SOLVED)
    gradient, weight = data_gradient(problem, x)
    w = Wavelets(problem.shape, "haar")
    *forces, free = w.analysis(gradient)
    assert free.abs().max() < 0.01 * weight
    for c, g in zip(w.analysis(x), forces, strict=False):
        size, force = torch.hypot(*c), torch.hypot(*g)
        lives = size > 1e-3 * x.abs().max()
        assert force.max() < 1.01 * weight
        assert (g + weight * c / size.clamp(min=1e-30))[:, lives].abs().max() < 0.02 * weight


@pytest.mark.parametrize("make", [tiny.odd_parallel, lambda: tiny.multicoil((5, 15, 13))], ids=["ct", "mri"])
def test_its_minimum_is_a_fixed_point_of_the_proximal_gradient(make):
    problem = tiny.problem(make())
    _, x = tiny.drain(WAVELET_L1, problem, **SOLVED, n_inner=3)
    gradient, weight = data_gradient(problem, x)
    step = 1 / result_of(problem.find_norm())
    sparsity = WaveletSparsity(Wavelets(problem.shape, "haar"), positivity=not x.is_complex())
    again = sparsity.prox(x - step * gradient, step * weight, 50)
    assert torch.linalg.vector_norm(again - x) < 1e-3 * torch.linalg.vector_norm(x)


@pytest.mark.parametrize(("make", "quick"), [(tiny.cone, FDK), (tiny.multicoil, ZERO_FILLED)], ids=["ct", "mri"])
def test_it_beats_the_quick_reconstruction_with_default_parameters(make, quick):
    scan = make()
    _, start = tiny.drain(quick, tiny.problem(scan))
    _, x = tiny.drain(WAVELET_L1, tiny.problem(scan))
    assert psnr(x.numpy(), scan.truth) > psnr(start.numpy(), scan.truth) + 1


def test_shifts_are_the_same_in_every_run_and_differ_between_steps():
    shifts = [shift_of(k, 3) for k in range(20)]
    assert shifts == [shift_of(k, 3) for k in range(20)]
    assert len(set(shifts)) > 15
    assert all(0 <= s < 8 for shift in shifts for s in shift)

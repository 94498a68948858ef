"""Half-quadratic splitting: its schedule is the paper's, its iterates are those of dense algebra."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from deepinv.optim.dpir import get_DPIR_params

from napari_unroll.events import IterationDone, PatchDone, Progress, map_events, result_of
from napari_unroll.methods.algorithms.dpir import DPIR
from napari_unroll.methods.algorithms.half_quadratic import (
    FIRST_NOISE,
    HalfQuadraticParams,
    data_weight,
    half_quadratic,
    noise_levels,
    noise_of,
    strength_of,
)
from napari_unroll.methods.classical.strength import mean_eigenvalue
from napari_unroll.methods.memory import Sizes
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.physics.samples import sample_multicoil
from napari_unroll.scan.kspace_noise import blurred_deviation
from tests.methods import tiny

TIGHT = {"tolerance": 1e-6, "n_inner": 200, "noise": 0.05, "strength": 0.23}


def identity(x, sigma):
    return x


@cache
def small(name):
    return tiny.parallel((2, 8, 8), 6) if name == "ct" else tiny.multicoil((1, 12, 12))


@cache
def dense(name):
    """N (n, n) of a small scan, double precision."""
    physics = tiny.problem(small(name)).physics
    shape, n = physics.x_shape, int(torch.Size(physics.x_shape).numel())
    rows = [physics.A_adjoint(physics.A(e.reshape(shape))).flatten() for e in torch.eye(n, dtype=physics.dtype)]
    return torch.stack(rows, 1).to(torch.complex128 if rows[0].is_complex() else torch.float64)


def volume(given, denoiser, start=None, **params):
    start = given.physics.A_dagger(given.y) if start is None else start
    return result_of(half_quadratic(given, HalfQuadraticParams(**TIGHT | params), denoiser, start))


def relative(x, expected):
    return float((x.flatten() - expected.flatten()).norm() / expected.norm())


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_levels_and_weights_are_those_of_deepinv(noise):
    levels, stepsizes, n = get_DPIR_params(noise)
    ours = noise_levels(n, FIRST_NOISE, noise)
    torch.testing.assert_close(torch.tensor(ours), levels, rtol=1e-5, atol=1e-7)
    weights = torch.tensor([data_weight(0.23, 1.0, noise, level) for level in ours])
    torch.testing.assert_close(1 / weights, stepsizes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 8, 40])
def test_levels_fall_and_weights_rise(n):
    levels = noise_levels(n, 0.2, 0.01)
    assert len(levels) == n
    assert levels[-1] == pytest.approx(0.01)
    assert all(b < a for a, b in pairwise(levels))
    weights = [data_weight(0.23, 3.0, 0.01, level) for level in levels]
    assert all(b > a for a, b in pairwise(weights))
    assert weights[-1] == pytest.approx(0.23 * 3.0)


def test_the_last_level_follows_the_noise_of_k_space_and_the_weight_its_acceleration():
    """w_k = 0.23 μ R (σ_n / σ_k)²: of samples whose AᴴA has eigenvalues 0 and 1, that of the paper."""
    noisy, noisier = (sample_multicoil((1, 32, 32), acceleration=4, noise=noise) for noise in (0.01, 0.04))
    assert 2.5 < noise_of(noisier) / noise_of(noisy) < 4.5
    assert noise_of(noisy) == pytest.approx(0.8 * blurred_deviation(noisy))
    mean = mean_eigenvalue(tiny.problem(noisy).physics)
    assert strength_of(noisy) * mean == pytest.approx(0.23, rel=0.05)
    assert noise_of(tiny.cone()) == 0.02
    assert strength_of(tiny.cone()) == 100


def test_levels_stay_where_denoisers_were_trained():
    quiet, loud = (sample_multicoil((1, 64, 64), acceleration=2, noise=noise) for noise in (0, 1))
    assert [noise_of(quiet), noise_of(loud)] == [0.003, 0.1]


@pytest.mark.parametrize(("weights", "counts"), [("denoiser-ct-3d", False), ("denoiser-mri-2d", True)])
def test_memory_of_a_last_step_is_counted_where_auto_may_make_one(weights, counts):
    sizes = Sizes(volume=8 * 32**3, measurements=8 * 32**3, shape=(32, 32, 32), patch=(32, 32, 32))
    auto = HalfQuadraticParams(weights=weights)
    none, one = (auto.model_copy(update={"final_data_step": step}) for step in ("none", 1.0))
    assert (DPIR.memory(sizes, auto) > DPIR.memory(sizes, none)) is counts
    assert DPIR.memory(sizes, one) > DPIR.memory(sizes, none)


@pytest.mark.parametrize("name", ["ct", "mri"])
def test_an_identity_denoiser_leaves_iterated_tikhonov(name):
    """z ← (N + w_k)⁻¹(Aᴴy + w_k z): in every eigenspace of N the error shrinks by Π w_k / (w_k + λ_i), so z is on its way to
    the least-squares solution nearest to the start."""
    given, n = tiny.problem(small(name)), dense(name)
    start, mean = given.physics.A_dagger(given.y), mean_eigenvalue(given.physics)
    values, vectors = torch.linalg.eigh(n)
    b, z0 = given.adjoint.flatten().to(n), start.flatten().to(n)
    solved = torch.where(values > 1e-5 * values.max(), 1 / values, 0)
    exact = vectors @ (solved * (vectors.mH @ (b - n @ z0))) + z0
    shrunk = torch.ones_like(values)
    for level in noise_levels(5, FIRST_NOISE, TIGHT["noise"]):
        w = data_weight(0.23, mean, TIGHT["noise"], level)
        shrunk = shrunk * w / (w + values.clamp(min=0))
    expected = exact + vectors @ (shrunk * (vectors.mH @ (z0 - exact)))
    x = volume(given, identity, n_iterations=5)
    assert relative(x.to(n), expected) < 5e-3  # sums in float32, eigenvalues over four decades
    assert relative(x.to(n), exact) < relative(z0, exact)


@pytest.mark.parametrize("name", ["ct", "mri"])
def test_a_denoiser_that_knows_nothing_leaves_tikhonov(name):
    """Zero before the last data step, whose weight λμ then is all that holds the volume."""
    given, n = tiny.problem(small(name)), dense(name)
    weight = 0.23 * mean_eigenvalue(given.physics)

    def denoiser(x, sigma):
        return x if sigma == TIGHT["noise"] else torch.zeros_like(x)

    expected = torch.linalg.solve(n + weight * torch.eye(len(n)).to(n), given.adjoint.flatten().to(n))
    assert relative(volume(given, denoiser, n_iterations=4).to(n), expected) < 1e-4


def test_the_denoiser_is_told_falling_levels_of_a_volume_of_size_one():
    given, told = tiny.problem(tiny.multicoil()), []

    def denoiser(x, sigma):
        told.append((sigma, float(x.abs().max())))
        return x

    volume(given, denoiser, n_iterations=3, noise=0.02, first_noise=0.18)
    assert [sigma for sigma, _ in told] == pytest.approx([0.18, 0.06, 0.02])
    assert all(0.5 < largest < 5 for _, largest in told)


def test_scaling_the_data_scales_the_volume():
    scan = tiny.cone()
    scaled = replace(scan, measurements=1000 * scan.measurements)

    def denoiser(x, sigma):
        return x.clamp(0, 1)

    few = {"n_iterations": 2, "n_inner": 5}
    x, scaled_x = (volume(tiny.problem(s), denoiser, **few) for s in (scan, scaled))
    assert relative(scaled_x / 1000, x) < 1e-3


def test_patches_stream_and_finishing_in_a_data_step_keeps_the_last_denoised_volume():
    given = tiny.problem(tiny.cone(), patch_size=(12, 12, 12), overlap=4)
    params = HalfQuadraticParams(**TIGHT | {"n_inner": 5})
    shown, patches = None, []
    work = half_quadratic(given, params, lambda x, sigma: x.clamp(min=0), given.physics.A_dagger(given.y))
    for event in map_events(work, given.estimate.see):
        patches += [event.consistency] if isinstance(event, PatchDone) else []
        if isinstance(event, IterationDone):
            shown = event.values
        elif isinstance(event, Progress) and event.text.startswith("iteration 2") and shown is not None:
            break
    np.testing.assert_array_equal(given.estimate.values(), shown)
    assert len(patches) == 8
    assert all(0 < consistency < 1 for consistency in patches)
    kept = given.state["x"][0, 0] * intensity_scale(given.physics.A_dagger(given.y))
    torch.testing.assert_close(kept, torch.from_numpy(shown))


def test_a_second_attempt_repeats_neither_iterations_nor_the_data_step():
    """The denoiser runs out of memory in the second iteration."""
    given, params = tiny.problem(tiny.parallel()), HalfQuadraticParams(**TIGHT, n_iterations=3)
    start, calls, stepped = given.physics.A_dagger(given.y), [], []

    def denoiser(x, sigma):
        calls.append(sigma)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("no memory")
        return 0.9 * x

    with pytest.raises(torch.OutOfMemoryError):
        list(half_quadratic(given, params, denoiser, start))
    for event in half_quadratic(given, params, denoiser, start):
        stepped += [event.text] if isinstance(event, Progress) and "data step" in event.text else []
    assert not any("iteration 2" in text for text in stepped)
    straight = volume(tiny.problem(tiny.parallel()), lambda x, sigma: 0.9 * x, n_iterations=3)
    torch.testing.assert_close(given.state["x"][0, 0] * intensity_scale(start), straight, rtol=1e-5, atol=1e-6)

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from napari_unroll.events import IterationDone, Stop
from napari_unroll.methods.algorithms import implicit
from napari_unroll.methods.algorithms.implicit import INR, ImplicitParams, batch_of, coarsening, step_size
from napari_unroll.methods.algorithms.implicit_objective import Objective, Penalty, data_parts, resampled
from napari_unroll.methods.classical.differences import Differences
from napari_unroll.methods.classical.total_variation import TotalVariation
from napari_unroll.methods.memory import Sizes
from napari_unroll.methods.networks import feature_grid
from napari_unroll.methods.networks.feature_grid import FeatureGrid, FeatureGridConfig, level_shapes
from napari_unroll.methods.registry import get
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.quality import psnr
from tests.methods import tiny

SCANS = {
    "cone": tiny.cone, "parallel": tiny.odd_parallel, "multi-coil": tiny.odd_multicoil, "radial": tiny.radial,
}  # fmt: skip
every_scan = pytest.mark.parametrize("make", SCANS.values(), ids=SCANS)


def random_volume(problem, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(problem.physics.x_shape, dtype=problem.physics.dtype, generator=generator)


def goal_of(problem, n_batches, **more):
    return Objective(problem.shape, data_parts(problem.physics, problem.y, n_batches), **more)


@every_scan
@pytest.mark.parametrize("n_batches", [1, 5])
def test_the_mean_over_the_batches_is_the_whole_objective(make, n_batches):
    """And so is that of the gradients: batches are unbiased, also where they differ in size."""
    problem = tiny.problem(make())
    x = random_volume(problem).requires_grad_()
    goal = goal_of(problem, n_batches)
    misfit = problem.physics.A(x.detach()) - problem.y
    f = sum(goal.value(x, part.misfit(x)) for part in goal.parts) / len(goal.parts)
    f.backward()
    assert float(f.detach()) == pytest.approx(0.5 * float(misfit.abs().square().sum()), rel=1e-5)
    torch.testing.assert_close(
        x.grad, problem.physics.A_adjoint(misfit), rtol=1e-3, atol=1e-4 * float(x.grad.abs().max())
    )
    assert len(goal.parts) == (n_batches if problem.scan.modality == "ct" else 1)


@pytest.mark.parametrize("make", [tiny.odd_parallel, tiny.odd_multicoil], ids=["real", "complex"])
def test_the_gradient_in_the_weights_is_that_of_finite_differences(make):
    problem = tiny.problem(make())
    config = FeatureGridConfig(level_shapes(problem.shape, 2, 2, 2), 2, 6, is_complex=problem.y.is_complex())
    network = FeatureGrid(config)
    torch.manual_seed(2)
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(0, 0.5)
    goal = goal_of(problem, 3, mean=2.0, penalty=Penalty(Differences((1, 2, 2)), 0.5, 0.1))

    def f():
        x = network(goal.shape)
        return goal.value(x, goal.parts[0].misfit(x))

    f().backward()
    direction = [torch.randn_like(p) for p in network.parameters()]
    expected = sum(float((p.grad * d).sum()) for p, d in zip(network.parameters(), direction, strict=True))
    ahead, step = [], 2e-3
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(network.parameters(), direction, strict=True):
                p += sign * step * d
            ahead.append(float(f().detach()))
    assert (ahead[0] - ahead[1]) / (2 * step) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("is_complex", [False, True])
def test_the_penalty_is_total_variation_but_for_its_rounding(is_complex):
    torch.manual_seed(0)
    x = torch.randn(1, 1, 5, 6, 7, dtype=torch.complex64 if is_complex else torch.float32)
    spacing = (1.0, 2.0, 1.0)
    wanted = TotalVariation(spacing).value(x[0, 0])
    assert float(Penalty(Differences(spacing), 3.0, 1e-6).value(x)) == pytest.approx(3 * wanted, rel=1e-4)
    assert float(Penalty(Differences(spacing), 3.0, 0.1).value(torch.ones_like(x))) == 0


@every_scan
def test_larger_voxels_see_the_same_object(make):
    """A smooth volume on voxels twice as large has nearly the same measurements."""
    problem = tiny.problem(make())
    axes = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in problem.shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    smooth = torch.exp(-3 * (z**2 + y**2 + x**2)).to(problem.physics.dtype)[None, None]
    y = problem.physics.A(smooth)
    coarse = resampled(smooth, tuple(-(-n // 2) for n in problem.shape))
    parts = data_parts(problem.physics, y, 2, coarsening=2)
    misfit = sum(float(part.misfit(coarse).abs().square().sum()) for part in parts)
    assert misfit**0.5 < 0.25 * float(torch.linalg.vector_norm(y))


@pytest.mark.parametrize("make", [tiny.cone, tiny.odd_multicoil], ids=["real", "complex"])
def test_a_volume_that_the_grid_can_represent_is_fitted(make):
    given = tiny.problem(make())
    params = {"n_levels": 2, "n_features": 2, "n_hidden": 8, "n_layers": 1, "finest": 4.0}
    config = FeatureGridConfig(level_shapes(given.shape, 1, 4, 2), 1, 4, 1, is_complex=given.y.is_complex())
    teacher = FeatureGrid(config)
    torch.manual_seed(3)
    with torch.no_grad():
        teacher.linear.weight.fill_(1)
        teacher.features[0].uniform_(0.2, 1)
        y = given.physics.A(teacher(given.shape))
    given = dataclasses.replace(given, y=y)
    _, x = tiny.drain(INR, given, n_iterations=250, n_batches=2, strength=0, show_every=1000, **params)
    assert given.residual(x[None, None]) < 0.02


@pytest.mark.parametrize(("make", "quick"), [(tiny.cone, "fdk"), (tiny.odd_multicoil, "zero-filled")])
def test_it_is_better_than_the_quick_reconstruction(make, quick):
    scan = make()
    _, x = tiny.drain(INR, tiny.problem(scan), show_every=1000)
    _, start = tiny.drain(get(quick), tiny.problem(scan))
    assert psnr(x.numpy(), scan.truth) > psnr(start.numpy(), scan.truth) + 1


@every_scan
def test_the_same_seed_gives_the_same_volume(make):
    first, again, other = (tiny.drain(INR, tiny.problem(make()), n_iterations=6, seed=s)[1] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_second_attempt_repeats_nothing_and_loses_nothing():
    """Weights and Adam's moments are kept."""
    given, params = tiny.problem(tiny.cone()), INR.params(n_iterations=12)
    for event in INR.solve(given, params):
        if isinstance(event, IterationDone) and event.iteration == 5:
            break
    _, resumed = tiny.drain(INR, given, n_iterations=12)
    _, straight = tiny.drain(INR, tiny.problem(tiny.cone()), n_iterations=12)
    torch.testing.assert_close(resumed, straight)


def test_every_batch_has_its_turn():
    for first in (0, 5, 10):
        assert sorted(batch_of(3, k, 5) for k in range(first, first + 5)) == [0, 1, 2, 3, 4]
    assert [batch_of(3, k, 5) for k in range(20)] != [batch_of(4, k, 5) for k in range(20)]


def test_voxels_become_finer_and_steps_shorter():
    params = ImplicitParams(n_iterations=50)
    factors = [coarsening(params, k) for k in range(50)]
    assert factors == sorted(factors, reverse=True)
    assert set(factors) == {1, 2, 4}
    assert all(b < a for a, b in pairwise(step_size(params, k) for k in range(50)))
    assert {coarsening(ImplicitParams(coarse_to_fine=False), k) for k in range(200)} == {1}


def test_attenuation_is_not_negative():
    _, x = tiny.drain(INR, tiny.problem(tiny.cone()), n_iterations=20)
    assert x.min() >= 0
    _, free = tiny.drain(INR, tiny.problem(tiny.cone()), n_iterations=20, positivity=False)
    assert free.min() < 0


@pytest.mark.parametrize("how", ["cancel", "finish"])
def test_it_ends_within_a_step_also_between_slabs(how, monkeypatch):
    """Slabs are made again in the backward pass, where a wish to stop must come through as well."""
    monkeypatch.setattr(feature_grid, "SLAB_VOXELS", 500)
    scan, seen = tiny.cone(), []
    plan = resolve(Choices(device="cpu", method="inr", params={"n_iterations": 1000, "show_every": 1}), scan)
    stop = Stop()
    for event in run(plan, scan, stop):
        seen.append(event)
        if isinstance(event, IterationDone) and event.iteration == 2:
            getattr(stop, how)()
    assert sum(isinstance(e, IterationDone) for e in seen) <= 3
    assert (seen[-1].result is None) == (how == "cancel")
    assert how == "cancel" or np.isfinite(seen[-1].result).all()


def test_the_memory_estimate_knows_the_width():
    sizes = Sizes(4 * 32**3, 4 * 32**3, (32,) * 3, (8,) * 3)
    few, many = (implicit.INR.memory(sizes, ImplicitParams(n_hidden=n)) for n in (8, 64))
    assert few < many

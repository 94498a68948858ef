"""What monotone operator learning and its kin promise, as equations on a network whose Lipschitz constant is known."""

from __future__ import annotations

import math

import pytest
import torch

from napari_unroll.methods.algorithms.iterations import State
from tests.methods.equilibrium.dense import (
    EXACT,
    SHAPE,
    Dense,
    N,
    gap,
    network,
    pointwise,
    positive,
    silenced,
    volume,
    whole,
)

ALPHA, BOUND = 0.5, 0.8
RATE = 1 - ALPHA * (1 - BOUND)
BOX = (slice(0, 2), slice(1, 4), slice(0, 5))


def step(net, x, data):
    with torch.no_grad():
        return net.step(State(x), 0, data).x


def length(x):
    return float(torch.linalg.vector_norm(x))


def indices():
    """Of the voxels in the box."""
    return torch.arange(N).reshape(SHAPE)[BOX].flatten()


def local(data):
    """The patch's data term with the exact operator, around zero."""
    inside = indices()
    return Dense(data.matrix[inside][:, inside], data.residual[(..., *BOX)])


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("where", ["whole", "patch"])
def test_mol_contracts_at_the_promised_rate(is_complex, where):
    """‖T x − T x'‖ ≤ (1 − α(1 − L)) ‖x − x'‖; patches of a positive operator are positive."""
    net, data = network("averaged-resolvent", is_complex, bound=BOUND), whole(is_complex, rank=20)
    data = data if where == "whole" else local(data)
    ratios = []
    for seed in range(5):
        a, b = (volume(s, is_complex, data.residual.shape) for s in (seed, seed + 50))
        for _ in range(6):
            ratios.append(length(step(net, a, data) - step(net, b, data)) / length(a - b))
            a, b = step(net, a, data), step(net, b, data)
    assert max(ratios) <= RATE + 1e-12


def test_the_rate_is_attained_where_the_data_say_nothing():
    """With H = L the part of x that A does not see shrinks by 1 − α(1 − L) exactly."""
    net, data = silenced(network("averaged-resolvent", kind="penalty", bound=BOUND)), whole(rank=20)
    unseen = torch.linalg.svd(data.matrix).Vh[-1].reshape(1, 1, *SHAPE)
    x = volume(0)
    assert length(step(net, x + unseen, data) - step(net, x, data)) == pytest.approx(RATE, rel=1e-10)


@pytest.mark.parametrize("iteration", ["proximal-gradient", "gradient"])
def test_equilibria_with_a_bounded_prior_never_take_points_apart(iteration):
    net, data = network(iteration, bound=BOUND), whole(rank=20)
    rate = {"proximal-gradient": BOUND, "gradient": (1 + BOUND) / 2}[iteration]
    for seed in range(10):
        a, b = volume(seed), volume(seed + 50)
        assert length(step(net, a, data) - step(net, b, data)) <= (rate + 1e-12) * length(a - b)


@pytest.mark.parametrize("iteration", ["proximal-gradient", "gradient", "half-quadratic", "averaged-resolvent"])
@pytest.mark.parametrize("seed", [7, 8])
def test_the_local_fixed_point_is_the_cut_of_the_global_one_for_any_positive_operator(iteration, seed):
    """With x̂∞ as context and its residual image; Ñ has nothing to say where u = P x̂∞."""
    net, data = pointwise(network(iteration, bound=BOUND)), whole()
    with torch.no_grad():
        (found,) = net(volume(3), data).iterates
    residual = data.residual - data.normal(found)
    inside = len(indices())
    wrong = Dense(positive(seed, n=inside), residual[(..., *BOX)], found[(..., *BOX)])
    with torch.no_grad():
        (patch,) = net(volume(9, shape=residual[(..., *BOX)].shape), wrong).iterates
    assert gap(patch, found[(..., *BOX)]) < 1e-9
    truth = Dense(positive(seed, n=inside), residual[(..., *BOX)] + 0.1, found[(..., *BOX)])
    with torch.no_grad():
        assert gap(net(volume(9, shape=patch.shape), truth).iterates[-1], patch) > 1e-4


@pytest.mark.parametrize("is_complex", [False, True])
def test_what_noise_does_to_the_fixed_point_is_bounded(is_complex):
    """‖x*(b + δ) − x*(b)‖ ≤ λ ‖δ‖ / (1 − L), λ = τ/α (MOL, eq. 20, for data that enter as Aᴴy)."""
    net, data = network("averaged-resolvent", is_complex, bound=BOUND), whole(is_complex, rank=20)
    weight = float(net.data_step.log_strength.exp().detach()) / ALPHA
    for seed in range(5):
        noise = 0.1 * volume(20 + seed, is_complex)
        noisy = Dense(data.matrix, data.residual + noise)
        with torch.no_grad():
            clean, moved = (net(volume(3, is_complex), d).iterates[-1] for d in (data, noisy))
        assert 0 < length(moved - clean) <= weight * length(noise) / (1 - BOUND)


@pytest.mark.parametrize("is_complex", [False, True])
def test_a_network_of_zeros_is_tikhonov(is_complex):
    """H = L: λ(N x − b) + (1 − L)x = 0."""
    net, data = silenced(network("averaged-resolvent", is_complex, kind="penalty", bound=BOUND)), whole(is_complex)
    weight = float(net.data_step.log_strength.exp().detach()) / ALPHA
    with torch.no_grad():
        (found,) = net(volume(3, is_complex), data).iterates
    system = weight * data.matrix + (1 - BOUND) * torch.eye(N, dtype=found.dtype)
    expected = torch.linalg.solve(system, weight * data.residual.flatten())
    assert gap(found.flatten(), expected) < 1e-10


def test_averaging_leaves_the_fixed_point_where_it_is():
    """(I + αλN)x = (1 − α)x + αH(x) + αλb is x + λ(N x − b) = H(x) for every α."""
    data, points = whole(), []
    for alpha in (0.3, 1.0):
        net = network("averaged-resolvent", bound=BOUND)
        object.__setattr__(net.iteration, "averaging", alpha)
        with torch.no_grad():
            net.data_step.log_strength += math.log(alpha)
            points.append(net(volume(3), data).iterates[-1])
    assert gap(points[0], points[1]) < 1e-10


def test_admm_has_the_minimiser_of_half_quadratic_splitting_without_a_prior():
    """D = identity: both go to least squares; and the dual variable collects what the data step took away."""
    net = silenced(network("admm", equilibrium=None, kind="free"))
    data, state = whole(), State(volume(3))
    for k in range(3):
        before = state
        state = net.step(before, k, data)
        dual = torch.zeros_like(before.x) if before.dual is None else before.dual
        torch.testing.assert_close(state.z, before.x + dual)
        torch.testing.assert_close(state.dual, dual + state.x - state.z)
    with torch.no_grad():
        for k in range(2000):
            state = net.step(state, min(k, 3), data)
    assert gap(data.normal(state.x), data.residual) < 1e-3


def test_the_settings_of_an_equilibrium_are_its_own():
    assert EXACT.volumes > network("gradient").config.equilibrium.model_copy(update={"solver": "plain"}).volumes

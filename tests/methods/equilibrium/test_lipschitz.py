"""Lipschitz constants: the estimate, the penalty, and layers whose norm is at most one."""

from __future__ import annotations

import math

import pytest
import torch

from napari_unroll.methods.equilibrium.lipschitz import MARGIN, barrier, lipschitz_at
from napari_unroll.methods.networks.convolution import NormalisedConv2d, NormalisedConv3d, convolution, refresh
from tests.methods.equilibrium.dense import network, positive, volume, whole

KINDS = {2: (torch.nn.Conv2d, NormalisedConv2d), 3: (torch.nn.Conv3d, NormalisedConv3d)}


def true_norm(weight, n=24):
    """max_ω ‖Ŵ(ω)‖ on a fine grid, by singular values."""
    dim = weight.ndim - 2
    symbol = torch.fft.fftn(weight.detach().double(), s=(n,) * dim, dim=tuple(range(2, 2 + dim)))
    return float(torch.linalg.matrix_norm(symbol.flatten(2).permute(2, 0, 1), ord=2).max())


def effective(layer):
    return layer.weight / layer.norm


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("sizes", [(1, 6), (6, 6), (6, 1)])
@pytest.mark.parametrize("kind", ["random", "smooth", "alternating"])
def test_normalised_layers_have_a_norm_of_at_most_one(dim, sizes, kind):
    torch.manual_seed(dim)
    layer = KINDS[dim][1](*sizes, 3, padding=1)
    with torch.no_grad():
        if kind == "smooth":
            layer.weight.fill_(1.0)
        if kind == "alternating":
            signs = sum(torch.meshgrid(*[torch.arange(3)] * dim, indexing="ij")) % 2
            layer.weight.copy_((1.0 - 2 * signs).expand_as(layer.weight))
    refresh(layer, 30)
    assert 0.85 < true_norm(effective(layer)) <= 1 + 1e-3


@pytest.mark.parametrize(("dim", "ratio"), [(2, 3.0), (3, math.sqrt(27))])
def test_torchs_spectral_norm_does_not_bound_a_convolution(dim, ratio):
    """The kernel of ones, reshaped to a matrix, has a norm √(3^dim) times too small."""
    layer = KINDS[dim][0](1, 1, 3, padding=1, bias=False)
    torch.nn.init.ones_(layer.weight)
    wrong = torch.nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=20)
    assert true_norm(wrong.weight) == pytest.approx(ratio, rel=1e-3)
    ours = convolution(dim, 1, 1, bias=False, is_normalised=True)
    torch.nn.init.ones_(ours.weight)
    refresh(ours)
    assert true_norm(effective(ours)) <= 1


def test_the_norm_does_not_change_between_refreshes_and_has_a_gradient():
    """σ = ⟨W, G⟩: the normalised weight does not depend on the length of W."""
    layer = NormalisedConv2d(3, 5, 3, padding=1)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), layer(x), rtol=0, atol=0)
    layer(x).square().sum().backward()
    along = float((layer.weight.grad * layer.weight.detach()).sum())
    assert abs(along) < 1e-4 * float(layer.weight.grad.norm() * layer.weight.detach().norm())


def test_loaded_weights_are_normalised_at_once():
    torch.manual_seed(1)
    first, second = NormalisedConv2d(3, 5, 3), NormalisedConv2d(3, 5, 3)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(effective(second), effective(first), rtol=1e-3, atol=1e-4)
    assert set(first.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("prior", [{"dim": 3}, {"dim": 2}, {"dim": 2, "neighbours": 1}, {"dim": 2, "neighbours": 2}])
def test_a_prior_of_normalised_layers_keeps_its_bound(is_complex, prior):
    net = network("averaged-resolvent", is_complex, bound=0.8, **prior)
    for share, least in ((-2.0, 0.5), (8.0, 0.01)):
        with torch.no_grad():
            net.prior(0).share.fill_(share)
        x = volume(0, is_complex, (2, 1, 3, 6, 6))
        probe = torch.Generator().manual_seed(0)
        found = lipschitz_at(lambda u: net.denoise(u, 0), x, 30, generator=probe).detach()
        assert least < float(found.max()) <= 0.8 + 1e-9


@pytest.mark.parametrize("is_complex", [False, True])
def test_the_estimate_for_a_matrix_is_its_norm(is_complex):
    matrix = positive(3, is_complex)
    found = lipschitz_at(
        lambda u: (u.flatten(1) @ matrix.T).reshape(u.shape),
        volume(0, is_complex),
        200,
        generator=torch.Generator().manual_seed(0),
    ).detach()
    assert float(found) == pytest.approx(1.0, rel=1e-4)


def test_the_barrier_is_a_logarithm_that_goes_on_as_its_tangent():
    inside = torch.tensor([0.1, 0.9], dtype=torch.float64)
    torch.testing.assert_close(barrier(inside, 0.98), -torch.log(0.98 - inside))
    edge = torch.tensor(0.98 - MARGIN, dtype=torch.float64, requires_grad=True)
    beyond = barrier(edge + 0.5, 0.98)
    assert float(beyond.detach()) == pytest.approx(-math.log(MARGIN) + 0.5 / MARGIN)
    beyond.backward()
    assert float(edge.grad) == pytest.approx(1 / MARGIN)


def test_the_penalty_brings_the_constant_down():
    net = network("averaged-resolvent", kind="penalty", bound=0.5)
    with torch.no_grad():
        for parameter in net.priors.parameters():
            parameter.mul_(3)
    x = volume(0)

    def constant():
        probe = torch.Generator().manual_seed(0)
        return float(lipschitz_at(lambda u: net.denoise(u, 0), x, 30, generator=probe).detach())

    before, optimiser = constant(), torch.optim.Adam(net.priors.parameters(), 1e-2)
    torch.manual_seed(0)
    for _ in range(60):
        optimiser.zero_grad()
        net.penalty(x).backward()
        optimiser.step()
    assert constant() < 0.55 < before  # the penalty's own estimate is from below


def test_there_is_no_penalty_unless_it_is_asked_for():
    assert float(network("averaged-resolvent").penalty(volume(0))) == 0
    assert whole().norm == 1

"""Architectures of equilibria: published numbers of parameters, what does not fit together, and their words."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.equilibrium.report import hearing
from napari_unroll.methods.networks.dncnn import CNNConfig, DnCNNConfig
from napari_unroll.methods.networks.prior import Prior, PriorConfig
from napari_unroll.methods.networks.shallow import ShallowConfig
from napari_unroll.methods.networks.unet import UNetConfig
from napari_unroll.methods.registry import METHODS
from tests.methods.operators import Plain

FLAT = {"dim": 2}
STEP = {"preconditioner": None, "is_shared": True}
EIGHT = {"data_step": STEP, "n_iterations": 8}


def count(config):
    return sum(p.numel() for p in Network(config).parameters())


@pytest.mark.parametrize(("is_complex", "expected"), [(False, 556_033), (True, 557_185)])
def test_lu_dncnn_and_deq4ip_have_the_published_number_of_parameters(is_complex, expected):
    """LUSER, table 3, CT and MRI (17 layers)."""
    prior = DnCNNConfig(complex_valued=is_complex, batch_norm=True, **FLAT)
    assert count(NetworkConfig(prior=prior, **EIGHT)) == expected
    assert count(NetworkConfig(prior=prior, data_step=STEP, equilibrium={})) == expected


@pytest.mark.parametrize(
    ("is_complex", "shared", "own"), [(False, 93_954, 751_625), (True, 95_107, 760_849)], ids=["CT", "MRI"]
)
def test_luser_has_the_published_number_of_parameters(is_complex, shared, own):
    """LUSER, table 3; the convergent form has one gain per block more."""
    prior = ShallowConfig(complex_valued=is_complex, published=True, **FLAT)
    assert count(NetworkConfig(prior=prior, **EIGHT)) == shared
    assert count(NetworkConfig(prior=prior, n_priors=8, **EIGHT)) == own
    gained = prior.model_copy(update={"published": False})
    assert count(NetworkConfig(prior=gained, n_priors=8, **EIGHT)) == own + 8


COLOURS, BLUR = 3, 3 * 9 * 9
"""Channels of the paper's faces, and the weights of the blur that its networks for them count among their own."""


@pytest.mark.parametrize(
    ("prior", "n_priors", "expected"),
    [
        (DnCNNConfig(batch_norm=True, **FLAT), 1, 558_580 - BLUR),
        (ShallowConfig(published=True, **FLAT), 1, 96_503 - BLUR),
        (ShallowConfig(published=True, **FLAT), 8, 770_073),
    ],
)
def test_architectures_of_three_channels_have_the_published_number_of_parameters(
    prior, n_priors, expected, monkeypatch
):
    """LUSER, table 3, deblurring of colour images; the differences to one channel leave 3 · 9² for two of the three."""
    monkeypatch.setattr(PriorConfig, "parts", COLOURS)
    assert count(NetworkConfig(prior=prior, n_priors=n_priors, **EIGHT)) == expected


def test_equal_blocks_of_their_own_are_the_shared_block():
    torch.manual_seed(0)
    prior = ShallowConfig(width=8, groups=2, **FLAT)
    shared, own = (Network(NetworkConfig(prior=prior, data_step=STEP, n_iterations=3, n_priors=n)) for n in (1, 3))
    for block in own.priors:
        block.load_state_dict(shared.prior(0).state_dict())
    x, data = torch.randn(1, 1, 2, 8, 8), Plain(lambda u: u - 1)
    with torch.no_grad():
        torch.testing.assert_close(own(x, data).iterates, shared(x, data).iterates, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("published", [False, True])
def test_the_block_converges_with_its_gain_and_not_as_published(dim, published):
    torch.manual_seed(0)
    prior = Prior(ShallowConfig(dim=dim, published=published))
    with hearing() as reports, torch.no_grad():
        prior(torch.randn(1, 1, 6, 16, 16), 0.0)
    assert all(report.converged != published for report in reports)


@pytest.mark.parametrize("config", [DnCNNConfig, CNNConfig, ShallowConfig, UNetConfig])
def test_priors_begin_near_the_identity(config):
    """So that training begins at the classical iteration, and gains from there."""
    torch.manual_seed(0)
    x = torch.randn(1, 1, 3, 16, 16)
    with torch.no_grad():
        assert (Prior(config(**FLAT))(x, 0.0) - x).norm() < 0.1 * x.norm()


@pytest.mark.parametrize("config", [DnCNNConfig, CNNConfig, ShallowConfig])
@pytest.mark.parametrize("complex_valued", [False, True])
@pytest.mark.parametrize("shape", [(2, 1, 5, 17, 9), (1, 1, 1, 12, 20)])
@pytest.mark.parametrize("sees", [{"dim": 3}, {"dim": 2}, {"dim": 2, "neighbours": 1}])
def test_priors_keep_shape_and_kind_and_learn(config, complex_valued, shape, sees):
    small = {"width": 4, "groups": 2} if config is ShallowConfig else {"width": 4, "layers": 3}
    prior = Prior(config(complex_valued=complex_valued, **sees, **small))
    x = torch.randn(shape, dtype=torch.complex64 if complex_valued else torch.float32)
    out = prior(x, 0.1)
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    out.abs().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in prior.parameters())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"iteration": "one-pass", "equilibrium": {}}, "not repeated to a fixed point"),
        ({"iteration": "admm", "equilibrium": {}}, "not repeated to a fixed point"),
        ({"equilibrium": {}, "n_iterations": 3}, "n_iterations must be 1"),
        ({"equilibrium": {}, "final_step": True}, "without final_step"),
        ({"equilibrium": {}, "prior": {"kind": "shallow"}}, "an equilibrium itself"),
        ({"lipschitz": {"kind": "layers"}}, "layers of a DRUNet cannot be normalised"),
        ({"lipschitz": {"kind": "layers"}, "prior": {"kind": "dncnn", "batch_norm": True}}, "no batch_norm"),
        ({"prior": {"kind": "shallow", "width": 6, "groups": 4}}, "equal groups"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_words(wrong, said):
    with pytest.raises(ValueError, match=said):
        NetworkConfig(**wrong)


def test_an_equilibrium_says_in_words_what_it_is():
    title = METHODS["mol-sn"].learning.network("ct").title
    for part in ("averaged-resolvent", "CNN 3-D 5×64", "fixed point", "Lipschitz constant below 0.98 by normalised"):
        assert part in title
    assert EquilibriumConfig(solver="plain").volumes < EquilibriumConfig().volumes

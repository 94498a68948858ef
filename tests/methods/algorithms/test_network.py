"""The unrolled network: shapes, complex data, scale equivariance, the recurrence of the paper, gradients."""

from types import SimpleNamespace

import pytest
import torch

from napari_unroll.methods.algorithms.iterations import State
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.networks.dncnn import CNNConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.networks.prior import Prior
from napari_unroll.methods.networks.unet import UNetConfig
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.patches.context import LocalProblem
from tests.methods.operators import Plain

TINY = {"channels": (4, 4, 8, 8), "blocks": 1}


def volume(shape, complex_valued=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.complex64 if complex_valued else torch.float32)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("complex_valued", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 16, 16, 16), (2, 1, 5, 17, 9), (1, 1, 1, 12, 20)])
@pytest.mark.parametrize("kind", [DRUNetConfig, UNetConfig])
def test_prior_keeps_shape_and_kind(dim, complex_valued, shape, kind):
    x = volume(shape, complex_valued)
    out = Prior(kind(dim=dim, complex_valued=complex_valued, channels=(4, 4, 8, 8)))(x, 0.1)
    assert out.shape == x.shape
    assert out.dtype == x.dtype


@pytest.mark.parametrize("depth", [2, 8, 16, 24])
def test_gradients_of_thin_volumes_are_right_in_low_precision(depth):
    prior, x = Prior(DRUNetConfig(channels=(4, 4, 8, 64))), volume((1, 1, depth, 16, 16))
    gradients = []
    for enabled in (False, True):
        prior.zero_grad()
        used = [torch.full((2**n,), torch.nan) for n in range(8, 18)]
        del used  # so that memory that nobody wrote is no zero
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = prior(x, 0.1)
        out[:, :, depth // 2].square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in prior.parameters()]))
    assert torch.isfinite(gradients[1]).all()
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.9


@pytest.mark.parametrize("complex_valued", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_thin_volumes_are_right_in_low_precision(depth, complex_valued):
    x, prior = volume((1, 1, depth, 17, 13), complex_valued), Prior(CNNConfig(complex_valued=complex_valued))
    with torch.no_grad():
        full = prior(x, 0.1)
        with torch.autocast("cpu", torch.bfloat16):
            low = prior(x, 0.1)
    assert float((low - full).abs().max()) < 0.01 * float(full.abs().max())


def test_prior_is_equivariant_to_scale():
    prior, x = Prior(DRUNetConfig(**TINY)), volume((1, 1, 8, 8, 8))
    torch.testing.assert_close(prior(7 * x, 0.7), 7 * prior(x, 0.1), rtol=1e-4, atol=1e-4)


def test_slices_do_not_talk_in_two_dimensions():
    prior, x = Prior(DRUNetConfig(dim=2, **TINY)), volume((1, 1, 4, 16, 16))
    changed = x.clone()
    changed[0, 0, 0] += 1
    torch.testing.assert_close(prior(changed, 0.1)[:, :, 1:], prior(x, 0.1)[:, :, 1:])


def test_neighbouring_slices_are_seen_as_far_as_asked_for():
    prior, x = Prior(DRUNetConfig(dim=2, neighbours=1, **TINY)), volume((1, 1, 5, 16, 16))
    changed = x.clone()
    changed[0, 0, 0] += 1
    with torch.no_grad():
        difference = (prior(changed, 0.1) - prior(x, 0.1)).abs().amax((0, 1, 3, 4))
    assert float(difference[:2].min()) > 0
    assert float(difference[2:].max()) == 0
    assert prior(x[:, :, :1], 0.1).shape == (1, 1, 1, 16, 16)
    with pytest.raises(ValueError, match="3-D prior sees all"):
        DRUNetConfig(dim=3, neighbours=1)


def test_recurrence_is_equation_four():
    net = Network(NetworkConfig(prior=DRUNetConfig(**TINY), n_iterations=3))
    x, target = volume((1, 1, 8, 8, 8)), volume((1, 1, 8, 8, 8), seed=1)
    iterates = net(x, Plain(lambda u: 2 * (u - target), lambda g: g / 4)).iterates
    for k in range(3):
        x = net.prior(k)(x - net.data_step.stepsize[k] * (2 * (x - target)) / 4, net.sigma[k])
        torch.testing.assert_close(iterates[k], x)


@pytest.mark.parametrize("substeps", [1, 2, 3])
def test_a_step_in_parts_shrinks_errors_by_its_power(substeps):
    """On a diagonal N with M = 1: x* + (1 − ηλ/n)ⁿ (x − x*), and the same from the gradient at x alone."""
    step = GradientStepConfig(substeps=substeps).build(1, length=1.7)
    x, truth, eigenvalues = (volume((1, 1, 8, 8, 8), seed=i) for i in range(3))
    expected = truth + (1 - 1.7 * eigenvalues / substeps) ** substeps * (x - truth)
    local = LocalProblem(SimpleNamespace(apply=lambda u: eigenvalues * u), x, eigenvalues * (truth - x))
    for gradient in (lambda u: eigenvalues * (u - truth), local.gradient):
        torch.testing.assert_close(step(x, 0, Plain(gradient)), expected, rtol=1e-4, atol=1e-4)


def test_a_final_step_follows_the_last_prior():
    net = Network(NetworkConfig(prior=DRUNetConfig(**TINY), n_iterations=2, final_step=True))
    x, target = volume((1, 1, 8, 8, 8)), volume((1, 1, 8, 8, 8), seed=1)
    source = Plain(lambda u: 2 * (u - target), lambda g: g / 4)
    untrained = net(x, source).iterates[-1]
    with torch.no_grad():
        net.final_step.stepsize.fill_(0.5)
    torch.testing.assert_close(net(x, source).iterates[-1], untrained - 0.5 * 2 * (untrained - target) / 4)
    with pytest.raises(ValueError, match="leave out final_step"):
        NetworkConfig(iteration="one-pass", final_step=True)


@pytest.mark.parametrize(("n_priors", "groups"), [(1, [0, 0, 0, 0, 0]), (2, [0, 0, 0, 1, 1]), (5, [0, 1, 2, 3, 4])])
def test_iterations_share_priors_in_equal_runs(n_priors, groups):
    net = Network(NetworkConfig(prior=DRUNetConfig(**TINY), n_iterations=5, n_priors=n_priors))
    assert [list(net.priors).index(net.prior(k)) for k in range(5)] == groups
    assert net.prior(7) is net.priors[-1]
    x = volume((1, 1, 8, 8, 8))
    torch.testing.assert_close(net.denoise(x, 3), net.priors[groups[3]](x, net.sigma[3]))


def test_more_priors_than_iterations_are_refused():
    for wrong in ({"n_iterations": 2, "n_priors": 3}, {"iteration": "one-pass", "n_priors": 2}):
        with pytest.raises(ValueError, match="more priors"):
            NetworkConfig(**wrong)


def test_data_steps_and_iterations_must_fit():
    with pytest.raises(ValueError, match="one-pass takes no data steps; got gradient"):
        NetworkConfig(iteration="one-pass", data_step=GradientStepConfig())
    with pytest.raises(ValueError, match="n_iterations must be 1"):
        NetworkConfig(iteration="one-pass", n_iterations=2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "K = 4 iterations that share one DRUNet"),
        ({"n_priors": 4}, "K = 4 iterations, each with its own DRUNet"),
        ({"n_priors": 2}, "K = 4 iterations with 2 times a DRUNet"),
        ({"data_step": {"degree": 3}}, "by a polynomial of degree 3"),
        ({"iteration": "one-pass"}, "one pass of a DRUNet"),
        ({"iteration": "one-pass", "prior": {"kind": "unet"}}, "one pass of a U-Net"),
    ],
)
def test_a_network_says_in_words_what_it_is(changes, said):
    assert said in NetworkConfig(**changes).title


def test_post_processing_never_asks_for_the_data():
    net = Network(NetworkConfig(prior=DRUNetConfig(**TINY), iteration="one-pass"))
    x = volume((1, 1, 8, 8, 8))
    (only,) = net(x, None).iterates
    torch.testing.assert_close(only, net.after(State(x), net.denoise(net.before(State(x), 0, None), 0), 0, None).x)


def test_every_parameter_learns():
    prior = DRUNetConfig(complex_valued=True, **TINY)
    net = Network(NetworkConfig(prior=prior, n_iterations=2, n_priors=2, final_step=True))
    x = volume((1, 1, 8, 8, 8), True)
    net(x, Plain(lambda u: u)).iterates[-1].abs().square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_intensity_scale_follows_the_volume_and_ignores_specks():
    x = torch.zeros(1, 1, 16, 16, 16)
    x[..., 4:12, 4:12, 4:12] = 3.0
    x[..., 0, 0, 0] = 1e3
    assert intensity_scale(x) == pytest.approx(3.0, rel=0.1)
    assert intensity_scale(5 * x * 1j) == pytest.approx(5 * intensity_scale(x))
    assert intensity_scale(torch.zeros(1, 1, 1, 8, 8)) == 1.0

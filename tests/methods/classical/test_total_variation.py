import pytest
import torch

from napari_unroll.methods.classical.total_variation import TotalVariation

CASES = {
    "real": ((5, 6, 7), torch.float64, (1.0, 1.0, 1.0), False),
    "positive": ((5, 6, 7), torch.float64, (1.0, 1.0, 1.0), True),
    "complex": ((4, 6, 5), torch.complex128, (1.0, 1.0, 1.0), False),
    "anisotropic": ((4, 6, 5), torch.float64, (3.0, 1.0, 1.5), False),
    "one slice": ((1, 9, 8), torch.float64, (1.0, 1.0, 1.0), False),
}


def noise(shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("shape", "dtype", "spacing", "positivity"), CASES.values(), ids=CASES)
def test_prox_is_optimal(shape, dtype, spacing, positivity):
    """No small step in a random direction lowers ½‖x − b‖² + w TV(x)."""
    b, weight = noise(shape, dtype), 0.3
    tv = TotalVariation(spacing, positivity)
    x = tv.prox(b, weight, 3000)

    def objective(v):
        return 0.5 * float((v - b).abs().square().sum()) + weight * tv.value(v)

    for seed in range(1, 20):
        for size in (1e-1, 1e-2):
            other = x + size * noise(shape, dtype, seed)
            other = other.clamp(min=0) if positivity else other
            assert objective(other) >= objective(x) - 1e-6
    assert objective(tv.prox(b, weight, 3000)) == pytest.approx(objective(x), rel=1e-6)


@pytest.mark.parametrize(("shape", "dtype", "spacing", "positivity"), CASES.values(), ids=CASES)
def test_divergence_is_the_adjoint_of_the_gradient(shape, dtype, spacing, positivity):
    tv = TotalVariation(spacing)
    x, p = noise(shape, dtype), noise((3, *shape), dtype, 1)
    left = (tv.gradient(x).conj() * p).sum()
    right = (x.conj() * tv.divergence(p)).sum()
    torch.testing.assert_close(left, right)


def test_a_constant_is_left_alone_and_its_mean_is_kept():
    b = noise((6, 6, 6))
    x = TotalVariation().prox(b, 100.0, 500)
    torch.testing.assert_close(x, torch.full_like(x, float(b.mean())), atol=1e-2, rtol=0)
    constant = torch.full((4, 4, 4), 2.0)
    torch.testing.assert_close(TotalVariation().prox(constant, 0.5, 10), constant)


def test_a_warm_start_needs_fewer_steps():
    b, weight = noise((8, 8, 8)), 0.4
    exact = TotalVariation().prox(b, weight, 2000)
    warm = TotalVariation()
    warm.prox(b, weight, 100)
    cold = TotalVariation().prox(b, weight, 5)
    assert (warm.prox(b, weight, 5) - exact).norm() < 0.1 * (cold - exact).norm()


def test_no_weight_only_projects():
    b = noise((3, 3, 3))
    torch.testing.assert_close(TotalVariation(positivity=True).prox(b, 0.0, 5), b.clamp(min=0))


def test_it_agrees_with_deepinv():
    from deepinv.models import TVDenoiser

    b = noise((6, 7, 8)).float()
    theirs = TVDenoiser(n_it_max=5000, crit=1e-9)(b[None, None], 0.2)[0, 0]
    torch.testing.assert_close(TotalVariation().prox(b, 0.2, 2000), theirs, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("shape", "dtype", "spacing", "positivity"), CASES.values(), ids=CASES)
def test_the_kernels_take_the_steps_of_torch(shape, dtype, spacing, positivity):
    """Other devices than the CPU have torch's; both also go on from the same field."""
    ours, theirs = TotalVariation(spacing, positivity), TotalVariation(spacing, positivity)
    for n_steps in (1, 7):
        b = noise(shape, dtype, n_steps)
        wanted = theirs._prox_by_torch(b, theirs._warm_start(b), 0.3, n_steps)
        torch.testing.assert_close(ours.prox(b, 0.3, n_steps), wanted)
        assert ours.dual is not None
        theirs.dual = ours.dual.clone()
    single = TotalVariation(spacing, positivity)
    low = b.to(torch.complex64 if dtype.is_complex else torch.float32)
    x = single.prox(low, 0.3, 7)
    assert x.dtype == low.dtype
    torch.testing.assert_close(x.to(dtype), TotalVariation(spacing, positivity).prox(b, 0.3, 7), rtol=0, atol=1e-5)
